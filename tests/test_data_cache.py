"""Data in mapped files: the numbers of memory, made once, and again when they are not right."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.forks import Fork, in_a_fork, limit_files
from helpers.minari import BOX, UNIT, put

from rlop.data import load_dataset, mapped
from rlop.data.cache import cached
from rlop.data.fingerprint import fingerprint
from rlop.data.mapped import file_of

ROWS, WIDTH = 300, 3


@pytest.fixture(autouse=True)
def every_array_in_a_file(monkeypatch):
    """Let small arrays take the way of large ones."""
    monkeypatch.setattr(mapped, "SMALL", 1)
    monkeypatch.setattr(mapped, "PIECE", 1 << 11)


def columns(seed=0):
    rng = np.random.default_rng(seed)
    obs = rng.standard_normal((ROWS + 1, WIDTH))
    return {
        "observations": obs[:-1],
        "actions": rng.uniform(-1, 1, (ROWS, 2)),
        "rewards": rng.standard_normal(ROWS),
        "next_observations": obs[1:],
        "terminals": np.arange(ROWS) % 90 == 89,
        "timeouts": np.arange(ROWS) % 40 == 39,
    }


def write_hdf5(folder, seed=0):
    path = folder / "x.hdf5"
    with h5py.File(path, "w") as file:
        for key, column in columns(seed).items():
            file.create_dataset(key, data=column, compression="gzip", chunks=True)
        file["infos/height"] = np.arange(ROWS) / 7
    return str(path)


def write_npz(folder):
    made = columns()
    del made["next_observations"]
    np.savez_compressed(folder / "x.npz", **made)
    return str(folder / "x.npz")


def write_stream(folder):
    """One episode without an end, whose next_obs is a view of its obs."""
    made = columns()
    np.savez(
        folder / "one.npz", **{key: made[key] for key in ("observations", "actions", "rewards")}
    )
    return str(folder / "one.npz")


def write_minari(folder):
    made = columns()
    episodes = []
    for first in range(0, ROWS, 40):
        rows = slice(first, min(first + 40, ROWS))
        last = made["next_observations"][rows][-1:]
        episodes.append(
            {
                "observations": np.concatenate([made["observations"][rows], last]),
                "actions": made["actions"][rows].astype(np.float32),
                "rewards": made["rewards"][rows],
                "terminations": np.zeros(len(made["rewards"][rows]), bool),
                "truncations": made["timeouts"][rows],
            }
        )
    obs = {**BOX, "shape": [WIDTH]}
    action = {**UNIT, "shape": [2], "low": [-2.0] * 2, "high": [2.0] * 2}
    put(folder, "x-v0", episodes, obs=obs, action=action, total_steps=ROWS)
    return "minari:x-v0"


def write_ogbench(folder):
    made = columns()
    path = folder / "cube-single-play-v0.npz"
    np.savez(
        path,
        observations=made["observations"],
        actions=made["actions"],
        terminals=made["timeouts"],
    )
    return f"ogbench:{path}"


def same(one, other):
    """Whether two data sets hold the same numbers under the same description."""
    assert (one.name, one.spec, one.keys) == (other.name, other.spec, other.keys)
    for name in ("obs", "action", "reward", "next_obs", "terminated", "truncated", "end"):
        a, b = np.asarray(getattr(one, name)), np.asarray(getattr(other, name))
        assert a.dtype == b.dtype, name
        assert np.array_equal(a, b), name
    assert one.infos.keys() == other.infos.keys()
    assert all(np.array_equal(one.infos[key], other.infos[key]) for key in one.infos)
    return fingerprint(one.columns()) == fingerprint(other.columns())


@pytest.mark.parametrize(
    ("write", "options"),
    [
        (write_hdf5, {"next_obs": "stored", "infos": True}),
        (write_hdf5, {"next_obs": "shifted", "action_low": -2, "action_high": 2}),
        (write_npz, {}),
        (write_stream, {"ends": "none"}),
        (write_minari, {}),
        (write_ogbench, {}),
        (lambda folder: "gridworld?size=4&steps=300", {}),
    ],
)
def test_a_cache_holds_what_the_reader_returns(write, options, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    source = write(tmp_path)
    plain = load_dataset(source, **options)
    first = load_dataset(source, cache=tmp_path / "cache", **options)
    assert same(plain, first)
    assert file_of(first.obs) is not None
    assert file_of(plain.obs) is None

    monkeypatch.setattr(cached, "_make", None)  # nothing is made a second time
    assert same(plain, load_dataset(source, cache=tmp_path / "cache", **options))


def test_successors_that_are_a_view_take_no_room_of_their_own(tmp_path):
    data = load_dataset(write_stream(tmp_path), cache=tmp_path / "cache", ends="none")
    assert file_of(data.obs) == file_of(data.next_obs)


def test_transforms_and_subsets_of_mapped_rows_stay_in_files(tmp_path):
    from rlop.data.transforms import transform

    steps = {
        "normalize_obs": {},
        "scale_reward": {"scale": 0.1},
        "clip_actions": {"limit": 0.5},
        "top_returns": {"fraction": 0.4},
    }
    source = write_hdf5(tmp_path)
    plain = transform(load_dataset(source), steps).n_step(3, 0.9)
    large = transform(load_dataset(source, cache=tmp_path / "cache"), steps).n_step(3, 0.9)
    assert same(plain, large)
    for column in (large.obs, large.next_obs, large.action):
        assert file_of(column) is not None
    assert not list((tmp_path / "cache").rglob(".*.tmp"))  # files without a name


def the_file(folder, name="about.json"):
    """The first file of the only cache in a folder whose name ends so."""
    return sorted((folder / "cache").glob(f"*/*{name}"))[0]


def cut(path):
    os.truncate(path, path.stat().st_size - 5)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def zero_and_hide(path):
    times = path.stat()
    zero(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, zero, zero_and_hide, flip, os.unlink])
@pytest.mark.parametrize("name", ["about.json", ".bin"])
def test_a_damaged_cache_is_made_again(damage, name, tmp_path, caplog):
    source = write_hdf5(tmp_path)
    plain = load_dataset(source)
    load_dataset(source, cache=tmp_path / "cache")
    damage(the_file(tmp_path, name))
    assert same(plain, load_dataset(source, cache=tmp_path / "cache"))
    gone = damage is os.unlink and name == "about.json"
    assert gone or "the cache is made again" in caplog.text
    caplog.clear()
    load_dataset(source, cache=tmp_path / "cache")
    assert not caplog.text


def test_a_copy_of_a_cache_is_compared_in_full_and_its_damage_found(tmp_path):
    source = write_hdf5(tmp_path)
    load_dataset(source, cache=tmp_path / "cache")
    (tmp_path / "cache").rename(tmp_path / "before")
    import shutil

    shutil.copytree(tmp_path / "before", tmp_path / "cache")
    flip(the_file(tmp_path, ".bin"))
    assert same(load_dataset(source), load_dataset(source, cache=tmp_path / "cache"))


def test_a_changed_source_or_option_is_read_again(tmp_path, caplog):
    source = write_hdf5(tmp_path)
    load_dataset(source, cache=tmp_path / "cache")
    write_hdf5(tmp_path, seed=1)
    changed = load_dataset(source, cache=tmp_path / "cache")
    assert same(load_dataset(source), changed)
    assert f"{source}: has changed since" in caplog.text
    other = load_dataset(source, cache=tmp_path / "cache", next_obs="shifted")
    assert same(load_dataset(source, next_obs="shifted"), other)


def test_a_training_reads_on_from_a_cache_that_is_replaced(tmp_path):
    source = write_hdf5(tmp_path)
    before = load_dataset(source, cache=tmp_path / "cache")
    reward = np.array(before.reward)
    write_hdf5(tmp_path, seed=1)
    load_dataset(source, cache=tmp_path / "cache")
    assert np.array_equal(before.reward, reward)


def test_a_description_that_names_a_file_elsewhere_is_not_followed(tmp_path, caplog):
    source = write_hdf5(tmp_path)
    load_dataset(source, cache=tmp_path / "cache")
    path = the_file(tmp_path)
    content = json.loads(path.read_text())["content"]
    content["files"]["../x.bin"] = {"size": 1, "crc32": [0]}
    from rlop.data.cache.entry import _crc, _text

    path.write_text(json.dumps({"crc32": _crc(_text(content)), "content": content}))
    assert same(load_dataset(source), load_dataset(source, cache=tmp_path / "cache"))
    assert "damaged" in caplog.text


def test_what_the_reader_refuses_leaves_nothing(tmp_path):
    source = write_hdf5(tmp_path)
    with h5py.File(source, "r+") as file:
        file["rewards"][7] = np.nan
    with pytest.raises(ValueError, match="NaN") as plain:
        load_dataset(source)
    with pytest.raises(ValueError, match="NaN") as refused:
        load_dataset(source, cache=tmp_path / "cache")
    assert str(plain.value) == str(refused.value)
    assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize("folder", [3, True, None])
def test_a_cache_is_the_path_of_a_folder(folder, tmp_path):
    source = write_hdf5(tmp_path)
    if folder is None:
        folder = source  # a file
    with pytest.raises(ValueError, match=r"cache|cannot be written"):
        load_dataset(source, cache=folder)


# ---- processes


def load_on_a_full_disk(source, folder):
    limit_files(2000)
    with pytest.raises(ValueError, match="cannot be written") as caught:
        load_dataset(source, cache=folder)
    return str(caught.value)


@pytest.mark.parametrize("small", [1, 1 << 20])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, small, monkeypatch):
    pytest.importorskip("resource", reason="limits on the size of files are POSIX's")
    monkeypatch.setattr(mapped, "SMALL", small)
    folder = tmp_path / "cache"
    message = in_a_fork(load_on_a_full_disk, write_hdf5(tmp_path), folder)
    assert "cannot be written (File too large)" in message
    assert [path for path in folder.iterdir() if path.suffix != ".lock"] == []


READER = """
import os, time
from contextlib import contextmanager
from pathlib import Path
import numpy as np
from rlop.data import Dataset

def load():
    with open(os.environ["READS"], "a") as file:
        file.write("read\\n")
    time.sleep(0.3)
    rows = np.arange(60.0)
    return Dataset.from_arrays(rows[:, None], rows[:, None] / 60, rows, rows > 58, rows > 70)
"""


def load_slowly(folder):
    return load_dataset("slow_reader:load", cache=folder).reward.sum().item()


def test_of_two_processes_one_makes_the_cache_and_both_read_it(tmp_path, monkeypatch):
    pytest.importorskip("fcntl", reason="locks of files are POSIX's")
    (tmp_path / "slow_reader.py").write_text(READER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("READS", str(tmp_path / "reads.txt"))
    children = [Fork(load_slowly, tmp_path / "cache") for _ in range(2)]
    assert [child.end() for child in children] == [sum(range(60))] * 2
    assert (tmp_path / "reads.txt").read_text() == "read\n"


def test_what_a_killed_process_left_is_removed(tmp_path):
    source = write_hdf5(tmp_path)
    load_dataset(source, cache=tmp_path / "cache")
    entry = the_file(tmp_path).parent
    left = entry.with_name(f".{entry.name}.1.tmp")
    entry.rename(left)
    load_dataset(source, cache=tmp_path / "cache")
    assert entry.is_dir()
    assert not left.exists()


# ---- the command line


def test_a_dry_run_makes_no_cache_and_uses_one_that_is_there(tmp_path):
    from rlop.training.options import Experiment
    from rlop.training.plan import data_on_disk

    source, folder = write_hdf5(tmp_path), str(tmp_path / "cache")
    plain = Experiment(data=source, data_options={"cache": folder})
    both = Experiment(data="mix", data_options={"cache": folder, "sources": [{"source": source}]})
    for experiment in (plain, both):
        assert "has no cache yet" in data_on_disk(experiment)
    assert not Path(folder).exists()
    load_dataset(source, cache=folder)
    for experiment in (plain, both):
        assert len(data_on_disk(experiment)) == ROWS


def test_the_help_of_a_configuration_names_the_option():
    from rlop.training.options import Experiment
    from rlop.training.pages import page_of

    assert "data_options.cache" in page_of(Experiment())


def test_the_bar_of_a_conversion_ends_full(tmp_path, monkeypatch):
    seen = []

    @contextmanager
    def recorded(label):
        yield lambda new, total: seen.append((new, total))

    monkeypatch.setattr(cached, "transfer", recorded)
    load_dataset(write_npz(tmp_path), cache=tmp_path / "cache")
    assert len(seen) > 10
    assert sum(new for new, _ in seen) == seen[-1][1] > 0
    assert all(new >= 0 for new, _ in seen)
