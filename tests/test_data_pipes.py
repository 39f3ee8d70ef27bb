"""What is no file (a pipe, a folder, a device) is refused at once: its end would never come."""

from __future__ import annotations

import os
import signal

import pytest

import rlop
from rlop.cli import main
from rlop.collect.vecnormalize import read_vecnormalize
from rlop.config.files import read_yaml
from rlop.data.dqn_replay.files import ABOUT, STORED, file_name
from rlop.logs.history import read_metrics
from rlop.training.about import described
from rlop.training.checkpoint import load
from rlop.types import InputError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and devices with names")
PATIENCE = 20  # seconds, on a busy machine


def link_to_zeros(path):
    path.symlink_to("/dev/zero")


KINDS = {"pipe": os.mkfifo, "folder": os.mkdir, "device": link_to_zeros}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def no_file(request):
    """Makes what is no file in place of the path that it is given."""

    def make(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        request.param(path)
        return path

    return make


@pytest.fixture(autouse=True)
def _in_time():
    """End a test that waits for a pipe."""

    def fail(number, frame):
        pytest.fail("still reading")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "source",
    ["a.hdf5", "a.h5", "a.npz", "d3rlpy:a.h5", "robomimic:a.hdf5", "ogbench:a.npz"],
)
def test_as_data(tmp_path, no_file, source):
    prefix, colon, name = source.rpartition(":")
    path = no_file(tmp_path / name)
    with pytest.raises(InputError, match=r"a\.\w+: no such file"):
        rlop.load_dataset(f"{prefix}{colon}{path}")


def test_as_data_of_imitation(tmp_path, no_file):
    path = no_file(tmp_path / "a.npz")
    expected = "folder of Arrow files|no state.json" if path.is_dir() else "no such file"
    with pytest.raises(InputError, match=expected):
        rlop.load_dataset(f"imitation:{path}")


def test_in_a_replay_log(tmp_path, no_file):
    folder = tmp_path / "Pong" / "1" / "replay_logs"
    folder.mkdir(parents=True)
    for name in (*STORED, *ABOUT):
        (folder / file_name(name, 0)).touch()
    path = no_file(folder / file_name("reward", 0))
    with pytest.raises(InputError, match=f"{path.name.replace('$', '.')}: no such file"):
        rlop.load_dataset("dqn-replay:Pong/1", root=tmp_path)


def test_in_minaris_folder(tmp_path, no_file, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = tmp_path / "toy" / "x-v0" / "data"
    path = no_file(data / "metadata.json")
    with pytest.raises(InputError, match="no data set in"):
        rlop.load_dataset("minari:toy/x-v0")

    path.rmdir() if path.is_dir() else path.unlink()
    path.write_text('{"total_episodes": 1, "total_steps": 2, "data_format": "hdf5"}')
    no_file(data / "main_data.hdf5")
    with pytest.raises(InputError, match=r"main_data\.hdf5"):
        rlop.load_dataset("minari:toy/x-v0")


def test_as_configuration(tmp_path, no_file, capsys):
    path = no_file(tmp_path / "c.yaml")
    with pytest.raises(InputError, match=r"c\.yaml: .*found a folder or a device"):
        read_yaml(path)
    assert main(["train", str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_as_checkpoint(tmp_path, no_file):
    path = no_file(tmp_path / "run" / "checkpoint.pt")
    for read in (load, rlop.load_agent, lambda path: rlop.load_policy(path.parent)):
        with pytest.raises(InputError, match=r"checkpoint\.pt: not a checkpoint of rlop, but a f"):
            read(path)
    if not path.is_dir():
        with pytest.raises(InputError, match="not a checkpoint of rlop, but a f"):
            described(str(path))


def test_as_record(tmp_path, no_file):
    record = tmp_path / "metrics.jsonl"
    record.write_text('{"step": 0, "time": 0.1, "metrics": {"loss/td": [1.0]}}\n')
    no_file(tmp_path / "runs.json")
    with pytest.raises(InputError, match=r"found no readable runs\.json"):
        read_metrics(tmp_path)
    no_file(record)
    with pytest.raises(InputError, match=r"found no metrics\.jsonl"):
        read_metrics(tmp_path)


def test_as_statistics_of_observations(tmp_path, no_file):
    path = no_file(tmp_path / "vecnormalize.pkl")
    with pytest.raises(InputError, match="expected the statistics of VecNormalize"):
        read_vecnormalize(path)
