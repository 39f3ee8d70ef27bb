"""Reading replay logs: names, subsets, damaged files, tables, and frames beyond memory."""

from __future__ import annotations

import gzip
import io
import os
import shutil

import numpy as np
import pytest
import torch
from helpers.replay import NAME, about, folder_of, log, plain, save, save_three
from rlop.agents import DQN

from rlop.cli import main
from rlop.collect.dqn_replay import write_dqn_replay
from rlop.data import load_dataset, read_dqn_replay
from rlop.data.dqn_replay.files import file_name
from rlop.data.dqn_replay.stacks import DEPTH, FrameTable, Stacks
from rlop.data.dqn_replay.storage import ROW_BYTES
from rlop.data.sampler import Table, probe_batch
from rlop.data.tables import make_table
from rlop.types import InputError


@pytest.fixture
def root(tmp_path):
    save_three(tmp_path)
    return tmp_path


def key_of(data):
    """One number for each transition's file and row."""
    return data.infos["file"] * 1000 + data.infos["row"]


# ---- names and subsets


def test_names_roots_and_suffix_zero(root, monkeypatch):
    monkeypatch.setenv("DQN_REPLAY_DIR", str(root))
    data = load_dataset(NAME)
    assert len(load_dataset("dqn-replay:Pong")) == len(data)
    assert sorted(set(data.infos["file"])) == [0, 1, 2]
    assert set(load_dataset(NAME, files=[0]).infos["file"]) == {0}

    assert data.spec.obs_shape == (4, 4, 5)
    assert data.spec.obs_dtype == "uint8"
    assert data.spec.n_actions == 4
    assert np.abs(data.reward).max() == 1  # clipped
    assert np.abs(load_dataset(NAME, clip_reward=False).reward).max() > 1


def test_a_share_of_every_file(root):
    data = read_dqn_replay(f"{NAME}?subset=10%", root=root)
    # Of 40 rows the last two have no successor in Dopamine's buffer.
    assert data.infos["row"].max() == 37
    assert np.unique(data.infos["file"]).tolist() == [0, 1, 2]


def test_the_first_share_of_the_log(root):
    data = read_dqn_replay(NAME, root=root, subset="first-50%")
    file, row = data.infos["file"], data.infos["row"]
    assert 390 < row[file == 0].max() <= 397
    assert 190 < row[file == 1].max() <= 197
    assert not (file == 2).any()
    assert len(data.obs.frames) < 0.51 * 1200


def test_a_share_drawn_at_random(root):
    drawn = read_dqn_replay(NAME, root=root, subset="iid-10%", seed=3)
    again = read_dqn_replay(NAME, root=root, subset="iid-10%", seed=3)
    other = read_dqn_replay(NAME, root=root, subset="iid-10%", seed=4)
    assert np.array_equal(key_of(drawn), key_of(again))
    assert not np.array_equal(key_of(drawn), key_of(other))

    whole = read_dqn_replay(NAME, root=root)
    assert abs(len(drawn) - 0.1 * len(whole)) <= 1.5
    assert len(drawn.obs.frames) <= 5 * len(drawn)


def test_draws_differ_between_files_of_equal_size(tmp_path):
    columns = log(np.random.default_rng(0), 400, ends=0.0)
    for suffix in (0, 1):
        save(folder_of(tmp_path), suffix, columns, 399, about(399, 400))
    data = read_dqn_replay(NAME, root=tmp_path, subset="iid-20%")
    rows = [data.infos["row"][data.infos["file"] == suffix] for suffix in (0, 1)]
    assert len(rows[0]) == len(rows[1])
    assert not np.array_equal(rows[0], rows[1])


@pytest.mark.parametrize("subset", ["10%", "first-50%", "iid-10%"])
def test_a_subset_holds_transitions_of_the_whole(root, subset):
    whole = read_dqn_replay(NAME, root=root)
    part = read_dqn_replay(NAME, root=root, subset=subset)
    at = np.searchsorted(key_of(whole), key_of(part))
    for key, column in part.columns().items():
        assert np.array_equal(np.asarray(whole.columns()[key])[at], np.asarray(column)), key


# ---- mistakes


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("dqn-replay:Pnog/1", {}, r"no folder .*Pnog, did you mean 'Pong'\?"),
        ("dqn-replay:Pong/2", {}, "no folder .*Pong/2; one of 1"),
        ("dqn-replay:../1", {}, "expected dqn-replay:GAME/RUN"),
        (NAME, {"files": [5]}, r"observation_ckpt\.5\.gz: no such file"),
        (NAME, {"subset": "1"}, "subset = '1': expected all, or 1%"),
        (NAME, {"subset": "0%"}, "subset = '0%'"),
        (NAME, {"subset": "0.1%"}, "no transition"),
        (NAME, {"memory_gb": 0}, "memory_gb = 0: expected a number > 0"),
        (NAME, {"memory_gb": 1e-6}, "memory_gb = 1e-06: expected at least"),
        (NAME, {"n_actions": 2}, "action: 3 at row|action: 2 at row"),
        (NAME, {"subsets": "1%"}, "no option 'subsets', did you mean 'subset'"),
        (f"{NAME}?sub=1%", {}, "no option 'sub' in a query"),
        (f"{NAME}?seed=x", {}, "seed = 'x': expected a number"),
    ],
)
def test_a_wrong_option_is_named(root, source, options, message):
    with pytest.raises(InputError, match=message) as error:
        load_dataset(source, root=root, **options)
    assert "\n" not in str(error.value)


def test_without_a_root_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("DQN_REPLAY_DIR", raising=False)
    with pytest.raises(InputError, match=r"option root, or \$DQN_REPLAY_DIR"):
        load_dataset(NAME)


def delete(path):
    path.unlink()


def cut(count):
    return lambda path: path.write_bytes(path.read_bytes()[:-count])


def wrong_checksum(path):
    path.write_bytes(path.read_bytes()[:-6] + b"123456")


def content(data):
    return lambda path: path.write_bytes(data)


def array(values):
    def write(path):
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=True)
        path.write_bytes(gzip.compress(buffer.getvalue()))

    return write


def promise_too_much(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-6]))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("reward", delete, "no such file; a checkpoint has six"),
        ("add_count", delete, "no such file; a checkpoint has six"),
        ("observation", cut(600), "damaged or cut short"),
        ("observation", wrong_checksum, "damaged or cut short"),
        ("observation", promise_too_much, "ends before its last frame"),
        ("action", cut(20), "damaged or cut short"),
        ("action", content(b"text"), "damaged or cut short"),
        ("action", content(gzip.compress(b"text" * 9)), "no NumPy array"),
        ("action", array(np.array([{}] * 400)), "no NumPy array free of Python objects"),
        ("action", array(np.zeros(399, np.int32)), "399 rows, expected 400"),
        ("action", array(np.zeros(400)), "float64 of shape .*, expected integers"),
        ("reward", array(np.full(400, np.nan, np.float32)), "400 of 400 rows hold NaN"),
        ("terminal", array(np.zeros((400, 1), np.uint8)), r"shape \(400, 1\), expected flags"),
        ("observation", array(np.zeros((400, 20), np.uint8)), "expected uint8 frames"),
        ("observation", array(np.zeros((400, 4, 5))), "float64 of shape .*, expected uint8 frames"),
        (
            "observation",
            array(np.zeros((400, 3, 3), np.uint8)),
            r"frames of \(3, 3\), expected \(4, 5\)",
        ),
        ("add_count", array(np.zeros(3, int)), "expected one number of transitions"),
    ],
)
def test_a_damaged_file_is_named(root, name, damage, message):
    path = folder_of(root) / file_name(name, 1)
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        read_dqn_replay(NAME, root=root)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


# ---- tables


@pytest.mark.parametrize(
    "options",
    [{}, {"n_step": 3}, {"backup": "sarsa"}, {"backup": "sarsa", "n_step": 2}, {"backup": "mc"}],
    ids=str,
)
def test_every_backup_gets_the_batches_of_plain_arrays(root, options):
    data = read_dqn_replay(NAME, root=root)
    agent = DQN(data.spec, hidden=(4, 4), **options)
    of_frames = make_table(agent.prepare(data).columns())
    of_arrays = make_table(agent.prepare(plain(data)).columns())
    assert type(of_frames) is FrameTable
    assert type(of_arrays) is Table
    assert len(of_frames) == len(of_arrays)

    index = torch.randint(len(of_frames), (3, 50), generator=torch.Generator().manual_seed(0))
    batch, expected = of_frames.gather(index), of_arrays.gather(index)
    assert batch.obs.shape == (3, 50, 4, 4, 5)
    assert batch.extra.keys() == expected.extra.keys()
    pairs = zip((*batch[:7], *batch.extra.values()), (*expected[:7], *expected.extra.values()))
    for column, expected_column in pairs:
        assert column.dtype == expected_column.dtype
        assert torch.equal(column, expected_column)

    alone = of_frames.gather(index[1:2])
    assert torch.equal(alone.obs, batch.obs[1:2])


def test_a_million_frames_cost_little_besides_themselves(root):
    data = read_dqn_replay(NAME, root=root)
    table = make_table(data.columns())
    assert table.frames.data_ptr() == data.obs.frames.ctypes.data  # shared, not copied
    assert len(data.obs.frames) <= 1200

    columns = [data.action, data.reward, data.terminated, data.truncated, data.end]
    rows = [data.obs.last, data.next_obs.last, table.first]
    arrays = [*columns, *rows, *data.infos.values(), *table.columns.values()]
    # 7.2 GB less 1e6 frames of 84 x 84.
    assert sum(item.nbytes for item in arrays) / len(data) < 144


def test_stacks_behave_like_an_array():
    frames = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)
    stacks = Stacks(frames, np.array([3, 4, 9]))
    full = np.stack([frames[0:4], frames[1:5], frames[6:10]])
    assert (stacks.shape, stacks.ndim, stacks.dtype, len(stacks)) == (full.shape, 4, np.uint8, 3)
    for rows in (slice(1, 3), [2, 0], np.array([True, False, True]), 1, -1):
        assert np.array_equal(np.asarray(stacks[rows]), full[rows])

    assert np.asarray(stacks, np.float32).dtype == np.float32
    assert stacks.max(0).shape == (2, 3)
    assert DEPTH == 4


@pytest.mark.parametrize("steps", [1, 3])
def test_gathering_compiles_into_one_graph(root, steps):
    data = read_dqn_replay(NAME, root=root).n_step(steps, 0.9)
    table = make_table(data.columns())
    index = torch.arange(6).reshape(2, 3)
    graph = torch.compile(table.gather, fullgraph=True, backend="eager")
    assert torch.equal(graph(index).next_obs, table.gather(index).next_obs)


def test_the_probe_batch_is_rows_of_the_data(root):
    data = read_dqn_replay(NAME, root=root)
    batch = probe_batch(data.columns(), 20, 2)
    rows = batch.index[1].numpy()
    assert np.array_equal(batch.obs[1], np.asarray(data.obs)[rows])
    assert np.array_equal(batch.next_obs[1], np.asarray(data.next_obs)[rows])


# ---- beyond memory

LITTLE = {"memory_gb": 8e-5}  # less than the frames, more than what goes with them


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def mapped(root, cache, **options):
    data = read_dqn_replay(NAME, root=root, cache=cache, **{**LITTLE, **options})
    assert isinstance(data.obs.frames, np.memmap)
    return data


def test_beyond_the_budget_frames_are_mapped_and_used_again(root, cache):
    inside = read_dqn_replay(NAME, root=root, memory_gb=1)
    assert not isinstance(inside.obs.frames, np.memmap)
    assert np.array_equal(mapped(root, cache).obs.frames, inside.obs.frames)

    (file,) = cache.iterdir()
    before = file.stat().st_mtime_ns
    mapped(root, cache)
    assert file.stat().st_mtime_ns == before


def test_two_selections_of_a_file_never_share_a_cache(root, cache):
    selections = [
        {"files": [1]},
        {"files": [1], "subset": "50%"},
        {"files": [1], "subset": "iid-50%", "seed": 3},
        {"files": [1], "subset": "iid-50%", "seed": 4},
    ]
    for options in selections:
        inside = read_dqn_replay(NAME, root=root, **options)
        enough_for_rows = (ROW_BYTES * len(inside) + 1) / 1e9
        data = mapped(root, cache, memory_gb=enough_for_rows, **options)
        assert np.array_equal(np.asarray(data.obs), np.asarray(inside.obs))
    assert len(list(cache.iterdir())) == len(selections)


def test_frames_in_another_order_of_time_never_share_a_cache(tmp_path, cache):
    # One file of frames, and the cursor on row 100 or 200.
    folder = folder_of(tmp_path)
    columns = log(np.random.default_rng(0), 400, ends=0.0)
    save(folder, 0, columns, 500, np.zeros(4))
    for add_count in (500, 600):
        array(np.array(add_count))(folder / file_name("add_count", 0))
        inside = read_dqn_replay(NAME, root=tmp_path)
        data = mapped(tmp_path, cache, memory_gb=3e-5)
        assert np.array_equal(data.obs.frames, inside.obs.frames)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_file_replaced_by_another_of_equal_size_never_shares_a_cache(root, cache, keep_time):
    mapped(root, cache)
    path = folder_of(root) / file_name("observation", 1)
    before = path.stat()

    # Stored without compression, files of other frames have the same size.
    frames = np.random.default_rng(1).integers(1, 256, (400, 4, 5), dtype=np.uint8)
    for values in (frames, frames[::-1].copy()):
        buffer = io.BytesIO()
        np.save(buffer, values)
        path.write_bytes(gzip.compress(buffer.getvalue(), compresslevel=0))
        if keep_time:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        inside = read_dqn_replay(NAME, root=root)
        assert np.array_equal(mapped(root, cache).obs.frames, inside.obs.frames)
    assert len(list(cache.iterdir())) == 3


def test_too_little_memory_or_disk_is_said_before_anything_is_read(root, cache, monkeypatch):
    monkeypatch.setattr("rlop.data.dqn_replay.storage.available_bytes", lambda: 1000)
    message = r"needs .* GB of memory, 1e-06 GB are free: expected a smaller subset, or memory_gb"
    with pytest.raises(InputError, match=message):
        read_dqn_replay(NAME, root=root)

    usage = shutil.disk_usage(root)._replace(free=10)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="expected a folder with room, see option cache"):
        mapped(root, cache)


def test_a_cache_that_broke_off_is_not_left_on_disk(root, cache):
    cut(600)(folder_of(root) / file_name("observation", 2))
    with pytest.raises(InputError, match="cut short"):
        mapped(root, cache)
    assert list(cache.iterdir()) == []


# ---- summary


def test_info_counts_whole_episodes(tmp_path, monkeypatch, capsys):
    columns = log(np.random.default_rng(0), 12)
    reward = np.array([1, 0, 1, 0, 0, -1, 0, 0, 1, 0, 0, 0], np.float32)
    terminal = np.isin(np.arange(12), [3, 8])
    folder = folder_of(tmp_path)
    write_dqn_replay(folder, columns["observation"], columns["action"], reward, terminal)
    monkeypatch.setenv("DQN_REPLAY_DIR", str(tmp_path))
    assert main(["info", NAME]) == 0

    text = capsys.readouterr().out
    assert "11 transitions in 3 episodes" in text  # the very last row has no successor
    assert "ends: 2 terminated, 1 truncated" in text
    assert "reward counts: -1: 1, 0: 7, 1: 3" in text
    assert "whole episodes: 2 of 3 parts, return mean 1, 0 to 2" in text
    assert "from 1 checkpoints (0 to 0)" in text
    assert "next_obs is not" not in text
