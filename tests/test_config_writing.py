"""Every writer on a full disk: one line that names the file, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.forks import in_a_fork, limit_files
from rlop.agents import DQN

from rlop.collect.collector import collect
from rlop.collect.convert import convert
from rlop.collect.dqn_replay import write_dqn_replay
from rlop.collect.minari import write_minari
from rlop.config.files import dump_yaml, write_atomic
from rlop.config.writing import LateErrors
from rlop.data import Dataset, load_dataset
from rlop.data.dqn_replay.storage import store_frames
from rlop.data.formats.embedded import write_embedded
from rlop.data.formats.hdf5 import write_hdf5
from rlop.data.formats.hdf5_new import new_hdf5
from rlop.training.checkpoint import save
from rlop.types import InputError

pytest.importorskip("resource", reason="limits on the size of files are POSIX's")

LIMIT = 100_000  # bytes of one file


# Each function writes more than the limit into a folder.


def checkpoint(folder):
    data = load_dataset("gridworld?size=3&steps=60")
    save(folder / "x.pt", DQN(data.spec, hidden=(300, 300)), 0)


def hdf5(folder):
    write_hdf5(folder / "x.hdf5", {"a": np.random.default_rng(0).normal(size=(50, 999))}, {})


def compressed_hdf5(folder):
    noise = np.random.default_rng(0).integers(256, size=(500, 999), dtype=np.uint8)
    write_hdf5(folder / "x.hdf5", {"a": noise}, {"about": "x" * 100})


def generate(folder):
    write_embedded("gridworld?size=5&steps=9000", folder / "x.hdf5")


def collection(folder):
    collect("rlop/GridWorld-v0", "random", 4000, folder / "x.hdf5", chunk=1500)


def npz(folder):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2000, 20)).astype(np.float32)
    flags = np.arange(2000) % 10 == 9
    action = rng.integers(3, size=2000)
    data = Dataset.from_arrays(noise, action, noise[:, 0], flags, 0 * flags)
    convert(data, folder / "x.npz", "npz")


def minari(folder):
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    write_minari(load_dataset("gridworld?size=16&steps=4000"), "big-v0")


def replay_log(folder):
    frames = np.random.default_rng(0).integers(256, size=(300, 40, 40), dtype=np.uint8)
    write_dqn_replay(folder, frames, *np.zeros((3, 300), int))


def mapped_frames(folder):
    shape = (300, 40, 40)
    store_frames(shape, 0, lambda out: out.fill(1), "x", 1e-6, lambda: folder / "x.npy")


def yaml(folder):
    dump_yaml({"a": "x" * 200_000}, folder / "x.yaml")


WRITERS = (
    checkpoint,
    hdf5,
    compressed_hdf5,
    generate,
    collection,
    npz,
    minari,
    replay_log,
    mapped_frames,
    yaml,
)


def write_on_a_full_disk(write, folder):
    """Return what a writer says, and what it leaves in its folder."""
    limit_files(LIMIT)
    with pytest.raises(InputError) as caught:
        write(folder)
    return str(caught.value), sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_full_disk_is_one_line_and_leaves_nothing(write, tmp_path):
    message, left = in_a_fork(write_on_a_full_disk, write, tmp_path)
    assert "cannot be written" in message
    assert "File too large" in message
    assert "\n" not in message
    assert str(tmp_path) in message
    assert left == []


ENDING = """
import sys
import numpy as np
from helpers.forks import limit_files
from rlop.data.formats.hdf5 import write_hdf5
from rlop.types import InputError

limit_files(100_000)
try:
    write_hdf5(sys.argv[1], {"a": np.random.default_rng(0).normal(size=(50, 999))}, {})
except InputError as error:
    print(error)
"""


def test_after_a_full_disk_a_program_ends_quietly(tmp_path):
    """At the end of a process HDF5 tries once more to close what it could not write."""
    command = [sys.executable, "-W", "error", "-c", ENDING, str(tmp_path / "x.hdf5")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "File too large" in done.stdout


def test_after_a_write_that_failed_the_others_are_dropped(tmp_path):
    file = LateErrors(open(tmp_path / "x", "w+b", buffering=0))  # noqa: SIM115
    file.write(b"before ")
    file.error = OSError("full")
    assert file.write(b"after") == 5
    with pytest.raises(OSError, match="full"):
        file.check()
    file.file.close()
    assert (tmp_path / "x").read_bytes() == b"before "


def test_what_is_written_through_python_is_what_hdf5_reads(tmp_path):
    path = tmp_path / "x.hdf5"
    numbers = np.arange(30.0).reshape(5, 6)
    with new_hdf5(path) as file:
        file["a"] = numbers
        file.create_dataset("b", data=np.ones((400, 7), np.uint8), compression="gzip")
        file.attrs["c"] = "text"

    import h5py

    with h5py.File(path) as file:
        assert np.array_equal(file["a"][()], numbers)
        assert file["b"][()].all()
        assert file.attrs["c"] == "text"


def test_a_folder_that_is_none_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/x: cannot be written \(Not a directory\)"):
        write_atomic(Path(tmp_path / "file" / "x"), b"")
