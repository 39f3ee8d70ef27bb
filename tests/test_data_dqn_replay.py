"""Replay logs: Dopamine's index rules, twice written; frames kept once; files, subsets, errors; training from them."""

import gzip
import io
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rlop.agents import BC, DQN

import rlop
from rlop.cli import main
from rlop.collect.dqn_replay import write_dqn_replay
from rlop.data import load_dataset, read_dqn_replay
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.files import file_name
from rlop.data.dqn_replay.stacks import DEPTH, FrameTable, Stacks, make_table, ring, valid_positions
from rlop.data.dqn_replay.window import RollingWindow
from rlop.data.info import summary
from rlop.data.prefetch import Prefetcher
from rlop.data.sampler import Streams, Table, probe_batch
from rlop.training.loop import Loop, TrainOptions
from rlop.training.run import Experiment, data_of
from rlop.types import InputError

FAST = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAME = "dqn-replay:Pong/1"


# --- the reference's rules, written down index by index from their description ---------------------------------------


def about(cursor, capacity):
    """Rows about the cursor that a buffer of horizon 1 calls invalid: one before it to three behind it."""
    return np.array([(cursor - 1 + i) % capacity for i in range(5)])


def twin_valid(terminal, add_count, invalid_range, capacity):
    """Every index that may be drawn and is then accepted, in the order of drawing from the lowest."""
    cursor, full = add_count % capacity, add_count >= capacity
    accepted = []
    for drawn in range(cursor - capacity + 3 if full else 3, cursor - 1):
        index = drawn % capacity
        too_late = not full and index >= cursor - 1
        reaches_over_an_end = any(terminal[(index - back) % capacity] for back in (1, 2, 3))
        if not too_late and index not in set(invalid_range.tolist()) and not reaches_over_an_end:
            accepted.append(index)
    return accepted


def twin_stack(frames, index, capacity):
    return np.stack([frames[(index - back) % capacity] for back in (3, 2, 1, 0)])


def save(folder, suffix, frames, action, reward, terminal, add_count, invalid_range, skip=()):
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"observation": frames, "action": action, "reward": reward, "terminal": terminal}
    arrays |= {"add_count": np.array(add_count), "invalid_range": invalid_range}
    for name, array in arrays.items():
        if name not in skip:
            with gzip.open(folder / file_name(name, suffix), "wb", compresslevel=1) as file:
                np.save(file, array)


def log(rng, rows, ends=0.1, shape=(4, 5)):
    """Frames, actions, rewards and terminals of `rows` rows, all random."""
    frames = rng.integers(1, 256, (rows, *shape), dtype=np.uint8)
    action = rng.integers(0, 4, rows).astype(np.int32)
    return (
        frames,
        action,
        rng.normal(size=rows).astype(np.float32),
        (rng.random(rows) < ends).astype(np.uint8),
    )


def folder_of(root):
    return root / "Pong" / "1" / "replay_logs"


@pytest.fixture
def root(tmp_path):
    """Three checkpoints of 400 rows as Dopamine's logger leaves them, cursor on the last row."""
    rng = np.random.default_rng(0)
    for suffix in range(3):
        count = 400 * (suffix + 1) - 1
        save(folder_of(tmp_path), suffix, *log(rng, 400, 0.03), count, about(count % 400, 400))
    return tmp_path


@given(st.lists(st.booleans(), min_size=6, max_size=40), st.integers(0, 130), st.booleans())
@FAST
def test_valid_indices_are_the_references(terminal, add_count, fresh):
    terminal, rows = np.array(terminal, np.uint8), len(terminal)
    invalid = about(add_count % rows, rows) if fresh else np.zeros(4)
    first, length = ring(add_count, rows, whole=True)
    found = (first + valid_positions(terminal, first, length, invalid)) % rows
    assert found.tolist() == twin_valid(terminal, add_count, invalid, rows)


@given(st.integers(0, 2**32 - 1), st.integers(6, 30), st.integers(0, 70), st.booleans())
@FAST
def test_whole_files_give_the_references_batches(tmp_path, seed, rows, add_count, fresh):
    frames, action, reward, terminal = log(np.random.default_rng(seed), rows)
    invalid = about(add_count % rows, rows) if fresh else np.zeros(4)
    save(folder_of(tmp_path), 0, frames, action, reward, terminal, add_count, invalid)
    expected = twin_valid(terminal, add_count, invalid, rows)
    if not expected:
        with pytest.raises(InputError, match="no transition"):
            read_dqn_replay(NAME, root=tmp_path)
        return
    data = read_dqn_replay(NAME, root=tmp_path, clip_reward=False)
    assert_like_twin(
        data, np.arange(len(expected)), frames, action, reward, terminal, expected, rows
    )


def assert_like_twin(data, at, frames, action, reward, terminal, expected, capacity):
    assert data.infos["row"][at].tolist() == expected
    batch = make_table(data.columns()).gather(torch.from_numpy(at).unsqueeze(0))
    for k, index in enumerate(expected):
        assert np.array_equal(batch.obs[0, k], twin_stack(frames, index, capacity))
        assert np.array_equal(
            batch.next_obs[0, k], twin_stack(frames, (index + 1) % capacity, capacity)
        )
    for found, column in (
        (batch.action, action),
        (batch.reward, reward),
        (batch.terminated, terminal != 0),
    ):
        assert np.array_equal(found[0].numpy(), column[expected])
    assert (batch.obs.dtype, batch.action.dtype, batch.reward.dtype, batch.terminated.dtype) == (
        torch.uint8,
        torch.int64,
        torch.float32,
        torch.float32,
    )


@given(st.integers(0, 2**32 - 1), st.sampled_from([5, 10, 25]), st.integers(0, 3), st.booleans())
@FAST
def test_the_first_rows_of_a_file_give_the_references_batches(
    tmp_path, seed, percent, suffix, stale
):
    rows, capacity = 200, 2 * percent
    frames, action, reward, terminal = log(np.random.default_rng(seed), rows)
    add_count = (suffix + 1) * rows - stale
    invalid = about(add_count % rows, rows) if stale else np.zeros(4)
    save(folder_of(tmp_path), suffix, frames, action, reward, terminal, add_count, invalid)
    # The reference keeps `capacity` + 4 rows and takes them for a buffer of that capacity.
    expected = twin_valid(terminal[: capacity + 4], add_count, invalid, capacity)
    if expected:
        data = read_dqn_replay(
            f"{NAME}?files={suffix}&subset={percent}%", root=tmp_path, clip_reward=False
        )
        assert_like_twin(
            data, np.arange(len(data)), frames, action, reward, terminal, expected, capacity
        )
        assert len(data.obs.frames) <= capacity


def test_the_published_layout_by_hand():
    """Ten rows, an end at row 4, padding 5 to 7; the second file of a log, with a stale last row."""
    terminal = np.zeros(10, np.uint8)
    terminal[4] = 1
    first, length = ring(19, 10, whole=True)
    position = valid_positions(terminal, first, length, np.array([8, 9, 0, 1, 2]))
    # 3 is whole; 4 is terminal; 5, 6, 7 reach over the end; 8 is beside the cursor, 9 is stale.
    assert (first, length, ((first + position) % 10).tolist()) == (9, 10, [3, 4])


# --- the writer ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.one_of(st.none(), st.integers(6, 30)))
@FAST
def test_what_is_written_is_read_back(tmp_path, monkeypatch, seed, steps, capacity):
    monkeypatch.setattr("os.fsync", lambda file: None)  # what costs the time here
    rng = np.random.default_rng(seed)
    frames, action, reward, terminal = log(rng, steps)
    truncated = (rng.random(steps) < 0.05) & (terminal == 0)
    for old in folder_of(tmp_path).glob("*.gz"):
        old.unlink()
    folder = folder_of(tmp_path)
    count = write_dqn_replay(folder, frames, action, reward, terminal, truncated, capacity=capacity)
    assert len(list(folder.iterdir())) == count * (7 if truncated.any() else 6)
    starts = np.append(True, (terminal[:-1] != 0) | truncated[:-1])
    step = np.repeat(
        np.arange(steps), 1 + 3 * starts
    )  # the step of each stored row; its padding first
    padding = np.concatenate([[True] * 3 + [False] if start else [False] for start in starts])
    begin = np.maximum.accumulate(np.where(starts, np.arange(steps), 0))
    size = len(step) if capacity is None else capacity - 1
    expected = []  # (file, row, step)
    for row, t in enumerate(step):
        inside = row % size
        last = inside + 1 == min(size, len(step) - row + inside)
        if not padding[row] and not truncated[t] and inside >= 3 and not last:
            expected.append((row // size, inside, t))
    if not expected:
        return
    data = read_dqn_replay(NAME, root=tmp_path, clip_reward=False)
    assert list(zip(data.infos["file"], data.infos["row"])) == [
        (file, row) for file, row, _ in expected
    ]
    steps_of = [t for *_, t in expected]
    for obs, t in zip(np.asarray(data.obs), steps_of):
        wanted = [
            frames[t - back] if t - back >= begin[t] else np.zeros((4, 5), np.uint8)
            for back in (3, 2, 1, 0)
        ]
        assert np.array_equal(obs, wanted)
    for obs, t in zip(np.asarray(data.next_obs)[:, -1], steps_of):
        assert terminal[t] or np.array_equal(obs, frames[t + 1])
    assert np.array_equal(data.reward, reward[steps_of])
    assert np.array_equal(data.action, action[steps_of])
    assert np.array_equal(data.terminated, terminal[steps_of] != 0)
    follows = np.diff(data.infos["row"] + 1000 * data.infos["file"], append=0) == 1
    assert np.array_equal(data.end, data.terminated | ~follows)


def test_written_files_hold_what_the_format_says(tmp_path):
    frames, action, reward, _ = log(np.random.default_rng(0), 5)
    assert (
        write_dqn_replay(tmp_path, frames, action, reward, [0, 0, 1, 0, 0], capacity=12, suffix=7)
        == 1
    )
    read = {
        p.name: np.load(io.BytesIO(gzip.decompress(p.read_bytes()))) for p in tmp_path.iterdir()
    }
    assert sorted(read) == [
        "$store$_action_ckpt.7.gz",
        "$store$_observation_ckpt.7.gz",
        "$store$_reward_ckpt.7.gz",
        "$store$_terminal_ckpt.7.gz",
        "add_count_ckpt.7.gz",
        "invalid_range_ckpt.7.gz",
    ]
    obs = read["$store$_observation_ckpt.7.gz"]
    blank = np.zeros((3, 4, 5), np.uint8)
    assert np.array_equal(obs, np.concatenate([blank, frames[:3], blank, frames[3:], blank[:1]]))
    assert read["$store$_terminal_ckpt.7.gz"].tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert read["add_count_ckpt.7.gz"] == 11
    assert read["invalid_range_ckpt.7.gz"].tolist() == [10, 11, 0, 1, 2]
    kinds = [
        read[f"$store$_{name}_ckpt.7.gz"].dtype
        for name in ("observation", "action", "reward", "terminal")
    ]
    assert kinds == [np.uint8, np.int32, np.float32, np.uint8]


def test_the_writer_says_what_does_not_fit(tmp_path):
    frames, action, reward, terminal = log(np.random.default_rng(0), 9)
    for change, message in [
        ({"frames": frames.astype(np.float32)}, "frames: float32"),
        ({"actions": action[:-1]}, r"action: int32 of shape \(8,\)"),
        ({"rewards": reward > 0}, "reward: bool"),
        ({"capacity": 5}, "capacity = 5"),
    ]:
        arrays = {
            "frames": frames,
            "actions": action,
            "rewards": reward,
            "terminals": terminal,
            **change,
        }
        with pytest.raises(InputError, match=message):
            write_dqn_replay(tmp_path, **arrays)
    write_dqn_replay(tmp_path, frames, action, reward, terminal)
    with pytest.raises(InputError, match="exists already"):
        write_dqn_replay(tmp_path, frames, action, reward, terminal)
    write_dqn_replay(tmp_path, frames, action, reward, terminal, overwrite=True)
    assert not list(tmp_path.glob("*.tmp"))


# --- names, subsets, errors ------------------------------------------------------------------------------------------


def test_names_roots_and_suffix_zero(root, monkeypatch):
    monkeypatch.setenv("DQN_REPLAY_DIR", str(root))
    data = load_dataset(NAME)
    assert len(load_dataset("dqn-replay:Pong")) == len(data)
    assert sorted(set(data.infos["file"])) == [0, 1, 2]
    assert set(load_dataset(NAME, files=[0]).infos["file"]) == {0}  # 0 is a number like the others
    assert data.spec.obs_shape == (4, 4, 5)
    assert data.spec.obs_dtype == "uint8"
    assert data.spec.n_actions == 4
    assert np.abs(data.reward).max() == 1  # clipped
    assert np.abs(load_dataset(NAME, clip_reward=False).reward).max() > 1


def test_subsets(root):
    whole = read_dqn_replay(NAME, root=root)
    tenth = read_dqn_replay(f"{NAME}?subset=10%", root=root)
    early = read_dqn_replay(NAME, root=root, subset="first-50%")
    drawn, again, other = (
        read_dqn_replay(NAME, root=root, subset="iid-10%", seed=seed) for seed in (3, 3, 4)
    )
    assert (
        tenth.infos["row"].max() == 37
    )  # of 40 rows the last two have no successor in the reference's buffer
    assert np.unique(tenth.infos["file"]).tolist() == [0, 1, 2]
    assert 390 < early.infos["row"][early.infos["file"] == 0].max() <= 397
    assert 190 < early.infos["row"][early.infos["file"] == 1].max() <= 197
    assert len(early.obs.frames) < 0.51 * 1200
    assert np.array_equal(drawn.infos["row"], again.infos["row"])
    assert not np.array_equal(drawn.infos["row"], other.infos["row"])
    assert abs(len(drawn) - 0.1 * len(whole)) <= 1.5
    assert len(drawn.obs.frames) <= 5 * len(drawn)
    keys = whole.infos["file"] * 1000 + whole.infos["row"]
    for part in (tenth, early, drawn):  # the very transitions of the whole
        at = np.searchsorted(keys, part.infos["file"] * 1000 + part.infos["row"])
        for column in ("obs", "next_obs", "action", "reward", "terminated"):
            there, here = (np.asarray(getattr(data, column)) for data in (whole, part))
            assert np.array_equal(there[at], here)


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


def write(path, array=None, content=None):
    buffer = io.BytesIO()
    if array is not None:
        np.save(buffer, array, allow_pickle=True)
    path.write_bytes(gzip.compress(buffer.getvalue()) if content is None else content)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("reward", lambda p: p.unlink(), "no such file; a checkpoint has six"),
        ("add_count", lambda p: p.unlink(), "no such file; a checkpoint has six"),
        ("observation", lambda p: p.write_bytes(p.read_bytes()[:-600]), "damaged or cut short"),
        (
            "observation",
            lambda p: p.write_bytes(p.read_bytes()[:-6] + b"123456"),
            "damaged or cut short",
        ),
        ("action", lambda p: p.write_bytes(p.read_bytes()[:-20]), "damaged or cut short"),
        ("action", lambda p: write(p, content=b"text"), "damaged or cut short"),
        ("action", lambda p: write(p, content=gzip.compress(b"text" * 9)), "no NumPy array"),
        (
            "action",
            lambda p: write(p, np.array([{}] * 400)),
            "no NumPy array free of Python objects",
        ),
        ("action", lambda p: write(p, np.zeros(399, np.int32)), "399 rows, expected 400"),
        ("action", lambda p: write(p, np.zeros(400)), "float64 of shape .*, expected integers"),
        (
            "reward",
            lambda p: write(p, np.full(400, np.nan, np.float32)),
            "400 of 400 rows hold NaN",
        ),
        (
            "terminal",
            lambda p: write(p, np.zeros((400, 1), np.uint8)),
            r"shape \(400, 1\), expected flags",
        ),
        ("observation", lambda p: write(p, np.zeros((400, 20), np.uint8)), "expected uint8 frames"),
        (
            "observation",
            lambda p: write(p, np.zeros((400, 4, 5))),
            "float64 of shape .*, expected uint8 frames",
        ),
        (
            "observation",
            lambda p: write(p, np.zeros((400, 3, 3), np.uint8)),
            r"frames of \(3, 3\), expected \(4, 5\)",
        ),
        ("add_count", lambda p: write(p, np.zeros(3, int)), "expected one number of transitions"),
    ],
)
def test_a_damaged_file_is_named(root, name, damage, message):
    path = folder_of(root) / file_name(name, 1)
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        read_dqn_replay(NAME, root=root)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_header_that_promises_too_much(root):
    path = folder_of(root) / file_name("observation", 1)
    write(path, content=gzip.compress(gzip.decompress(path.read_bytes())[:-6]))
    with pytest.raises(InputError, match="ends before its last frame"):
        read_dqn_replay(NAME, root=root)


# --- tables ----------------------------------------------------------------------------------------------------------


def plain(data):
    """The same data set with its stacks built."""
    keys = ("action", "reward", "terminated", "truncated", "spec", "name", "infos", "end")
    return Dataset(
        np.asarray(data.obs),
        next_obs=np.asarray(data.next_obs),
        **{k: getattr(data, k) for k in keys},
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"n_step": 3}, {"backup": "sarsa"}, {"backup": "sarsa", "n_step": 2}, {"backup": "mc"}],
    ids=str,
)
def test_every_backup_gets_what_plain_arrays_would_give(root, options):
    data = read_dqn_replay(NAME, root=root)
    agent = DQN(data.spec, hidden=(4, 4), **options)
    tables = [make_table(agent.prepare(d).columns()) for d in (data, plain(data))]
    assert [type(table) for table in tables] == [FrameTable, Table]
    assert len(tables[0]) == len(tables[1])
    index = torch.randint(len(tables[0]), (3, 50), generator=torch.Generator().manual_seed(0))
    here, there = (table.gather(index) for table in tables)
    assert here.obs.shape == (3, 50, 4, 4, 5)
    assert here.extra.keys() == there.extra.keys()
    for a, b in zip((*here[:7], *here.extra.values()), (*there[:7], *there.extra.values())):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    alone = tables[0].gather(index[1:2])
    assert torch.equal(alone.obs, here.obs[1:2])


def test_a_million_frames_cost_little_beside_themselves(root):
    data = read_dqn_replay(NAME, root=root)
    table = make_table(data.columns())
    assert table.frames.data_ptr() == data.obs.frames.ctypes.data  # shared, not copied
    assert len(data.obs.frames) <= 1200
    arrays = [
        data.obs.last,
        data.next_obs.last,
        data.action,
        data.reward,
        data.terminated,
        data.truncated,
        data.end,
    ]
    arrays += [*data.infos.values(), *table.columns.values(), table.first]
    assert (
        sum(array.nbytes for array in arrays) / len(data) < 144
    )  # 7.2 GB less 1e6 frames of 84 x 84


def test_stacks_behave_like_an_array():
    frames = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)
    stacks = Stacks(frames, np.array([3, 4, 9]))
    full = np.stack([frames[k - 3 : k + 1] for k in (3, 4, 9)])
    assert (stacks.shape, stacks.ndim, stacks.dtype, len(stacks)) == (full.shape, 4, np.uint8, 3)
    for rows in (slice(1, 3), [2, 0], np.array([True, False, True]), 1, -1):
        assert np.array_equal(np.asarray(stacks[rows]), full[rows])
    assert np.asarray(stacks, np.float32).dtype == np.float32
    assert stacks.max(0).shape == (2, 3)
    assert DEPTH == 4


def test_gathering_compiles_into_one_graph(root):
    for steps in (1, 3):
        table = make_table(read_dqn_replay(NAME, root=root).n_step(steps, 0.9).columns())
        index = torch.arange(6).reshape(2, 3)
        graph = torch.compile(table.gather, fullgraph=True, backend="eager")
        assert torch.equal(graph(index).next_obs, table.gather(index).next_obs)


# --- beyond memory ---------------------------------------------------------------------------------------------------


def test_beyond_the_budget_frames_are_mapped_and_kept(root, tmp_path):
    cache = tmp_path / "cache"
    inside = read_dqn_replay(NAME, root=root, memory_gb=1)
    mapped = read_dqn_replay(NAME, root=root, memory_gb=8e-5, cache=cache)
    assert not isinstance(inside.obs.frames, np.memmap)
    assert isinstance(mapped.obs.frames, np.memmap)
    assert np.array_equal(inside.obs.frames, mapped.obs.frames)
    (file,) = cache.iterdir()
    before = file.stat().st_mtime_ns
    read_dqn_replay(NAME, root=root, memory_gb=8e-5, cache=cache)
    assert file.stat().st_mtime_ns == before
    read_dqn_replay(f"{NAME}?subset=90%", root=root, memory_gb=7.4e-5, cache=cache)
    assert len(list(cache.iterdir())) == 2  # other frames, another file


def test_too_little_memory_or_disk_is_said_before_anything_is_read(root, tmp_path, monkeypatch):
    monkeypatch.setattr("rlop.data.dqn_replay.storage.available_bytes", lambda: 1000)
    with pytest.raises(
        InputError,
        match=r"needs .* GB of memory, 1e-06 GB are free: expected a smaller subset, or mem",
    ):
        read_dqn_replay(NAME, root=root)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(InputError, match="expected a folder with room, see option cache"):
        read_dqn_replay(NAME, root=root, memory_gb=8e-5, cache=tmp_path / "cache")


def test_a_file_that_broke_off_is_not_left_behind(root, tmp_path):
    path = folder_of(root) / file_name("observation", 2)
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(InputError, match="cut short"):
        read_dqn_replay(NAME, root=root, memory_gb=8e-5, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_prefetched_batches_are_the_same_numbers(tiny):
    table = Table(tiny.columns())
    noise = {"action": ("uniform", (5,))}
    plain_streams, streams = (Streams([0, 1], 5, len(table), noise) for _ in range(2))
    ahead = Prefetcher(streams, table.gather)
    state = None
    for step in range(70):  # over the ends of two chunks
        index, numbers = plain_streams.next()
        if step == 40:
            state = ahead.state_dict()
        batch, same = ahead.next()
        assert torch.equal(batch.index, index)
        assert torch.equal(same["action"], numbers["action"])
    resumed = Prefetcher(Streams([0, 1], 5, len(table), noise), table.gather)
    resumed.next()
    resumed.load_state_dict(state)
    reference = Streams([0, 1], 5, len(table), noise)
    indices = [reference.next()[0] for _ in range(43)]
    for step in (40, 41, 42):
        assert torch.equal(resumed.next()[0].index, indices[step])


def test_what_gathering_raises_reaches_the_caller(tiny):
    def broken(index):
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        Prefetcher(Streams([0], 5, 10, {}), broken).next()


# --- training and info -----------------------------------------------------------------------------------------------

SMALL = {"hidden": (8, 8), "batch_size": 8, "target_period": 7, "seeds": 2}
OFTEN = {
    "log_every": 10,
    "probe_every": 20,
    "probe_size": 64,
    "checkpoint_every": 30,
    "progress": False,
}


def parameters(agent):
    return torch.cat([p.detach().flatten() for p in agent.main.parameters.values()])


def test_training_is_the_same_from_frames_arrays_and_files(root, tmp_path):
    data = read_dqn_replay(NAME, root=root)
    mapped = read_dqn_replay(NAME, root=root, memory_gb=8e-5, cache=tmp_path / "cache")
    before = parameters(DQN(data.spec, regularizers={"dr3": 0.1}, **SMALL))
    found = []
    for each in (data, plain(data), mapped):
        agent = DQN(data.spec, regularizers={"dr3": 0.1}, **SMALL)
        history = rlop.train(agent, each, 40, **OFTEN)
        found.append((parameters(agent), history.get("rank/srank")[1], history.get("loss/td")[1]))
    assert not torch.equal(found[0][0], before)
    for other in found[1:]:
        assert torch.equal(found[0][0], other[0])
        assert np.array_equal(found[0][1], other[1])
        assert np.array_equal(found[0][2], other[2])


def test_resuming_from_mapped_frames_continues_exactly(root, tmp_path):
    mapped = read_dqn_replay(NAME, root=root, memory_gb=8e-5, cache=tmp_path / "cache")
    straight, resumed = (DQN(mapped.spec, **SMALL) for _ in range(2))
    rlop.train(straight, mapped, 60, **OFTEN)
    rlop.train(DQN(mapped.spec, **SMALL), mapped, 37, logdir=tmp_path / "log", **OFTEN)
    rlop.train(resumed, mapped, 60, logdir=tmp_path / "log", resume=True, **OFTEN)
    assert torch.equal(parameters(straight), parameters(resumed))


def test_behaviour_cloning_and_a_batch_too_large(root):
    data = read_dqn_replay(NAME, root=root)
    rlop.train(
        BC(data.spec, **{k: v for k, v in SMALL.items() if k != "target_period"}),
        data,
        5,
        progress=False,
    )
    with pytest.raises(InputError, match="batch_size = 5000: larger than the data set"):
        Loop(DQN(data.spec, hidden=(4, 4), batch_size=5000), data, TrainOptions(), None)
    with pytest.raises(InputError, match="needs discrete actions and plain arrays"):
        Loop(DQN(data.spec, hidden=(4, 4), backup="behaviour"), data, TrainOptions(), None)


def test_the_probe_batch_is_rows_of_the_data(root):
    data = read_dqn_replay(NAME, root=root)
    batch = probe_batch(data.columns(), 20, 2)
    assert np.array_equal(batch.obs[1], np.asarray(data.obs)[batch.index[1].numpy()])
    assert np.array_equal(batch.next_obs[1], np.asarray(data.next_obs)[batch.index[1].numpy()])


def test_a_rolling_window_draws_other_files(root):
    def draws(seed):
        window = RollingWindow(f"{NAME}?subset=20%", 2, seed=seed, root=root, n_actions=4)
        return [tuple(np.unique(window.draw(number).infos["file"])) for number in range(12)]

    assert draws(0) == draws(0)
    assert set(draws(0)) == {(0, 1), (0, 2), (1, 2)}
    with pytest.raises(InputError, match="n_files = 4: expected 1 to 3"):
        RollingWindow(NAME, 4, root=root)
    with pytest.raises(InputError, match="files: are drawn"):
        RollingWindow(NAME, 2, root=root, files=[1])


def agent_on(window):
    return DQN(window.spec, seeds=2, hidden=(8,), batch_size=8)


@pytest.mark.parametrize("memory", [None, 1e-4])  # in memory, or mapped from a file
@pytest.mark.parametrize("compile", [False, True])
def test_training_on_a_window_holds_one_draw_at_a_time_and_resumes(
    root, tmp_path, monkeypatch, memory, compile
):
    """Frames of one draw are gone when the next is read, and a training cut anywhere goes on with the same numbers."""
    monkeypatch.setattr(
        rlop.training.loop, "compiled", partial(rlop.training.compile.compiled, backend="eager")
    )
    options = {"memory_gb": memory, "cache": tmp_path / "cache"} if memory else {}
    read, held, files = rlop.data.dqn_replay.window.read_dqn_replay, [], []

    def watched(*args, **kwargs):
        assert all(frames() is None for frames in held)
        data = read(*args, **kwargs)
        held.append(weakref.ref(data.obs.frames))
        files.append(kwargs["files"])
        return data

    monkeypatch.setattr(rlop.data.dqn_replay.window, "read_dqn_replay", watched)

    def trained(logdir, *ends):
        for end in ends:
            held.clear()
            files.clear()
            window = RollingWindow(NAME, 1, seed=2, root=root, **options)
            agent = agent_on(window)
            often = {
                "reload_every": 40,
                "log_every": 10,
                "probe_every": 0,
                "progress": False,
                "compile": compile,
            }
            rlop.train(agent, window, end, logdir=tmp_path / logdir, resume=end != ends[0], **often)
        return torch.cat([p.detach().flatten() for p in agent.online.parameters()])

    whole = trained("whole", 100)
    assert files == [window_files(root, number) for number in (0, 1, 2)]
    assert files[0] != files[1] != files[2]
    assert torch.equal(whole, trained("inside", 55, 100))
    assert torch.equal(whole, trained("between", 80, 100))
    assert files == [window_files(root, number) for number in (0, 2)]


def window_files(root, number):
    return RollingWindow(NAME, 1, seed=2, root=root).files(number)


def test_a_window_and_its_interval_go_together(root):
    data = read_dqn_replay(NAME, root=root)
    with pytest.raises(InputError, match="reload_every = 10: expected data with a window"):
        Loop(agent_on(data), data, TrainOptions(reload_every=10), None)
    with pytest.raises(InputError, match="window = 5, reload_every = 0: expected both"):
        Experiment(window=5)
    made = data_of(Experiment(data=NAME, window=2, reload_every=10, data_options={"root": root}))
    assert isinstance(made, RollingWindow)
    assert made.name == "dqn-replay:Pong/1, 2 of 3 checkpoints"
    assert len(made) == len(made.draw(0))


def test_info_counts_whole_episodes(tmp_path, monkeypatch, capsys):
    frames, action, *_ = log(np.random.default_rng(0), 12)
    reward = np.array([1, 0, 1, 0, 0, -1, 0, 0, 1, 0, 0, 0], np.float32)
    terminal = np.isin(np.arange(12), [3, 8])
    write_dqn_replay(folder_of(tmp_path), frames, action, reward, terminal)
    monkeypatch.setenv("DQN_REPLAY_DIR", str(tmp_path))
    assert main(["info", NAME]) == 0
    text = capsys.readouterr().out
    assert "11 transitions in 3 episodes" in text  # the very last row has no successor
    assert "ends: 2 terminated, 1 truncated" in text
    assert "reward counts: -1: 1, 0: 7, 1: 3" in text
    assert "whole episodes: 2 of 3 parts, return mean 1, 0 to 2" in text
    assert "from 1 checkpoints (0 to 0)" in text
    assert "next_obs is not" not in text


def test_the_real_sample(shared_data):
    folder = shared_data / "dqn_replay_sample"
    data = load_dataset("dqn-replay:Breakout/1", root=folder)
    for suffix in (0, 1):
        here = folder / "Breakout" / "1" / "replay_logs"
        read = {}
        for name in ("observation", "action", "reward", "terminal", "add_count", "invalid_range"):
            with gzip.open(here / file_name(name, suffix)) as file:
                read[name] = np.load(file)
        expected = twin_valid(read["terminal"], int(read["add_count"]), read["invalid_range"], 5000)
        at = np.flatnonzero(data.infos["file"] == suffix)
        assert data.infos["row"][at].tolist() == expected
        some = np.random.default_rng(suffix).choice(len(at), 200, replace=False)
        chosen = [expected[k] for k in some]
        columns = [read[name] for name in ("observation", "action", "reward", "terminal")]
        assert_like_twin(data, at[some], *columns, chosen, 5000)
    assert (len(data), data.spec.n_actions, data.spec.obs_shape) == (9974, 4, (4, 84, 84))
    text = summary(data)
    assert "whole episodes: 6 of 8 parts, return mean 34.33, 26 to 43" in text
    assert "reward counts: 0: 9683, 1: 291" in text
