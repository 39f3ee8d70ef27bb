"""Trainings whose disk fills up, whose folder goes away, and that get no more memory."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest
from helpers.forks import in_a_fork, limit_files
from rlop.agents import DQN

import rlop
from rlop.cli import main
from rlop.logs import appended
from rlop.logs.history import read_metrics
from rlop.training.checkpoint import load
from rlop.types import InputError

SMALL = {"hidden": (8,), "batch_size": 8}
QUIET = {"probe_every": 0, "progress": False, "compile": False}
FILE = "checkpoint.pt"


class Acting(DQN):
    """A DQN that does something before one of its updates."""

    at: int
    done = 0

    def update(self, batch, noise):
        self.done += 1
        if self.done == self.at:
            self.act_up()
        return super().update(batch, noise)


def acting(data, at, act_up):
    agent = Acting(data.spec, **SMALL)
    agent.at, agent.act_up = at, act_up
    return agent


class Disk:
    """A disk that takes nothing while it is full."""

    def __init__(self, monkeypatch):
        self.is_full = False
        write = appended.Appended._append

        def append(file, piece):
            if self.is_full:
                raise OSError(28, "No space left on device")
            write(file, piece)

        monkeypatch.setattr(appended.Appended, "_append", append)

    def fill(self):
        self.is_full = True

    def empty(self):
        self.is_full = False


def test_a_disk_that_is_full_for_a_while_costs_nothing(tiny, tmp_path, monkeypatch, caplog):
    disk = Disk(monkeypatch)

    def free_at_the_end(agent):
        if agent.done == 40:
            disk.empty()
        return {"eval/return": [0.0]}

    options = {**QUIET, "log_every": 5, "checkpoint_every": 5, "eval_every": 15}
    agent = acting(tiny, 12, disk.fill)
    rlop.train(agent, tiny, 40, logdir=tmp_path, evaluate=free_at_the_end, **options)
    assert read_metrics(tmp_path).get("loss/td")[0].tolist() == list(range(5, 45, 5))
    assert load(tmp_path / FILE)["step"] == 40
    assert caplog.text.count("what is logged waits in memory") == 1
    assert caplog.text.count("nothing newer is saved") == 1


def test_a_disk_that_stays_full_ends_in_one_line_with_the_last_checkpoint(
    tiny, tmp_path, monkeypatch
):
    disk = Disk(monkeypatch)
    options = {**QUIET, "log_every": 5, "checkpoint_every": 10}
    with pytest.raises(InputError, match=r"metrics\.jsonl: cannot be written \(No space left"):
        rlop.train(acting(tiny, 17, disk.fill), tiny, 40, logdir=tmp_path, **options)
    assert load(tmp_path / FILE)["step"] == 10
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10, 15]
    assert not list(tmp_path.glob(".*"))

    # What was not kept is done again.
    disk.empty()
    history = rlop.train(DQN(tiny.spec, **SMALL), tiny, 40, logdir=tmp_path, resume=True, **options)
    assert history.get("loss/td")[0].tolist() == list(range(5, 45, 5))


def test_a_folder_that_is_removed_ends_the_training_at_the_next_log(tiny, tmp_path):
    folder = tmp_path / "run"
    agent = acting(tiny, 12, lambda: shutil.rmtree(folder))
    with pytest.raises(InputError, match="run: was removed while the training ran"):
        rlop.train(agent, tiny, 100, logdir=folder, log_every=5, **QUIET)
    assert agent.done == 15
    assert not folder.exists()


NOBODY = 65534  # a user who owns nothing


def without_rights(work, folder):
    """Run a function as a user to whom permissions of a folder apply; root has to become one."""
    if os.geteuid() != 0:
        work(folder)
        return

    def as_nobody():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        work(folder)

    os.chown(folder, NOBODY, NOBODY)
    in_a_fork(as_nobody)


@pytest.mark.skipif(os.name != "posix", reason="permissions and users of POSIX")
def test_a_folder_made_read_only_ends_in_one_line(tiny, tmp_path):
    # Trained once before, so that a user who may not read the packages finds them imported.
    rlop.train(acting(tiny, 0, None), tiny, 2, logdir=tmp_path / "first", **QUIET)

    def train(folder):
        agent = acting(tiny, 12, lambda: folder.chmod(0o500))
        with pytest.raises(InputError, match=r"checkpoint\.pt: cannot be written \(Permission"):
            rlop.train(agent, tiny, 20, logdir=folder, log_every=5, **QUIET)
        assert not os.access(folder, os.W_OK)
        folder.chmod(0o700)

    # Not in tmp_path, which is the user's who runs the tests.
    with tempfile.TemporaryDirectory() as made:
        without_rights(train, Path(made))


def test_memory_that_is_refused_is_one_line_and_leaves_the_last_checkpoint(tiny, tmp_path):
    def refuse():
        raise MemoryError

    options = {**QUIET, "log_every": 5, "checkpoint_every": 10}
    with pytest.raises(InputError, match="needs more memory than there is"):
        rlop.train(acting(tiny, 18, refuse), tiny, 40, logdir=tmp_path, **options)
    assert load(tmp_path / FILE)["step"] == 10


CONFIG = """
data: gridworld?size=4&steps=300
steps: 20
log_every: 5
probe_every: 0
eval_every: 0
checkpoint_every: 5
agent: {name: DQN, hidden: [300, 300], batch_size: 8}
"""


def train_on_a_full_disk(folder):
    """Return the exit code of the command line, and what it says."""
    os.chdir(folder)
    limit_files(300_000)
    with redirect_stderr(StringIO()) as said:
        code = main(["train", "c.yaml", "--logdir", "log"])
    return code, said.getvalue()


def test_the_command_line_on_a_full_disk(tmp_path):
    pytest.importorskip("resource", reason="limits on the size of files are POSIX's")
    (tmp_path / "c.yaml").write_text(CONFIG)
    code, said = in_a_fork(train_on_a_full_disk, tmp_path)
    last = said.strip().splitlines()[-1]
    assert last == "rlop: log/checkpoint.pt: cannot be written (File too large)"
    assert code == 2
    assert "Traceback" not in said
    assert not list((tmp_path / "log").glob(".*"))
