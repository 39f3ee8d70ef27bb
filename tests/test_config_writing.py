"""Every writer on a full disk: one line that names the file, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlop.config.files import write_atomic
from rlop.config.writing import LateErrors
from rlop.data.formats.hdf5_new import new_hdf5

resource = pytest.importorskip("resource", reason="limits on the size of files are POSIX's")

LIMIT = 100_000  # bytes of one file

# Each writes more than the limit into the folder FOLDER.
WRITERS = {
    "checkpoint": """
agent = DQN(data.spec, hidden=(300, 300))
save(FOLDER / "x.pt", agent, 0)
""",
    "hdf5": """
write_hdf5(FOLDER / "x.hdf5", {"a": np.random.default_rng(0).normal(size=(50, 999))}, {})
""",
    "compressed hdf5": """
noise = np.random.default_rng(0).integers(256, size=(500, 999), dtype=np.uint8)
write_hdf5(FOLDER / "x.hdf5", {"a": noise}, {"about": "x" * 100})
""",
    "generate": """
write_embedded("gridworld?size=5&steps=9000", FOLDER / "x.hdf5")
""",
    "collect": """
collect("rlop/GridWorld-v0", "random", 4000, FOLDER / "x.hdf5", chunk=1500)
""",
    "npz": """
rng = np.random.default_rng(0)
noise = rng.normal(size=(2000, 20)).astype(np.float32)
flags = np.arange(2000) % 10 == 9
convert(
    Dataset.from_arrays(noise, rng.integers(3, size=2000), noise[:, 0], flags, 0 * flags),
    FOLDER / "x.npz",
    "npz",
)
""",
    "minari": """
os.environ["MINARI_DATASETS_PATH"] = str(FOLDER)
write_minari(load_dataset("gridworld?size=16&steps=4000"), "big-v0")
""",
    "replay log": """
frames = np.random.default_rng(0).integers(256, size=(300, 40, 40), dtype=np.uint8)
write_dqn_replay(FOLDER, frames, *np.zeros((3, 300), int))
""",
    "frames": """
store_frames((300, 40, 40), 0, lambda out: out.fill(1), "x", 1e-6, lambda: FOLDER / "x.npy")
""",
    "yaml": """
dump_yaml({"a": "x" * 200_000}, FOLDER / "x.yaml")
""",
}
CHILD = """
import os, resource, sys
from pathlib import Path
import numpy as np
from rlop.agents import DQN
from rlop.collect.collector import collect
from rlop.collect.convert import convert
from rlop.collect.dqn_replay import write_dqn_replay
from rlop.collect.minari import write_minari
from rlop.config.files import dump_yaml
from rlop.data import Dataset, load_dataset
from rlop.data.dqn_replay.storage import store_frames
from rlop.data.formats.embedded import write_embedded
from rlop.data.formats.hdf5 import write_hdf5
from rlop.training.checkpoint import save
from rlop.types import InputError

data = load_dataset("gridworld?size=3&steps=60")
folders = [Path(name) for name in sys.argv[2::2]]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
for FOLDER, code in zip(folders, sys.argv[3::2]):
    try:
        exec(code)
    except InputError as error:
        left = sorted(path.name for path in FOLDER.rglob("*"))
        print(f"{FOLDER.name}|{left}|{error}", flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Writer -> what it left in its folder, and its message, of one child with little disk."""
    top = tmp_path_factory.mktemp("disk")
    arguments = []
    for name, code in WRITERS.items():
        (top / name).mkdir()
        arguments += [str(top / name), code]
    command = [sys.executable, "-W", "error", "-c", CHILD, str(LIMIT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr[-1000:]
    assert "Traceback" not in done.stderr
    lines = [line.split("|", 2) for line in done.stdout.splitlines() if "|" in line]
    return {name: (left, message) for name, left, message in lines}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_nothing(outcomes, name):
    left, message = outcomes[name]
    assert "cannot be written" in message
    assert "File too large" in message
    assert f"/{name}" in message
    assert left == "[]"


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
