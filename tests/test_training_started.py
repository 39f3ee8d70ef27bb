"""`run.json`: what a training was started with."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from rlop.agents import DQN

import rlop
from rlop.training import started
from rlop.training.started import git_state, note_start

QUIET = {"log_every": 5, "probe_every": 0, "progress": False}


def make(tiny, **options):
    return DQN(tiny.spec, seeds=[3, 5], hidden=(8,), batch_size=8, **options)


def starts(folder):
    return json.loads((folder / "run.json").read_text())["starts"]


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_start_and_a_resume_are_recorded(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SERVICE_TOKEN", "hush-hush")
    monkeypatch.setattr(sys, "argv", ["mine.py", "--fast"])
    rlop.train(make(tiny), tiny, 10, logdir=tmp_path, **QUIET)
    rlop.train(make(tiny), tiny, 20, logdir=tmp_path, resume=True, **QUIET)

    first, second = starts(tmp_path)
    assert (first["step"], second["step"]) == (0, 10)
    assert (first["config"]["steps"], second["config"]["steps"]) == (10, 20)
    assert first["config"]["agent"] == "DQN"
    assert first["config"]["gamma"] == make(tiny).config.gamma
    assert first["argv"] == ["mine.py", "--fast"]
    assert first["seeds"] == [3, 5]
    assert first["device"] == "cpu"
    assert first["threads"] == torch.get_num_threads()
    assert first["versions"]["numpy"] == np.__version__
    assert set(first["versions"]) >= {"python", "torch", "gymnasium"}
    assert set(first["data"]) == set(tiny.columns())
    assert first["time"] <= second["time"]
    assert "hush-hush" not in (tmp_path / "run.json").read_text()
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_fork_has_a_file_of_its_own(tiny, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    rlop.train(make(tiny), tiny, 10, logdir=old, **QUIET)
    rlop.train(make(tiny, gamma=0.5), tiny, 20, logdir=new, resume=old, **QUIET)
    assert [start["step"] for start in starts(old)] == [0]
    assert [start["step"] for start in starts(new)] == [10]
    assert starts(new)[0]["config"]["gamma"] == 0.5


@pytest.mark.parametrize("content", ["{", "[]", '{"starts": 3}', "[" * 100_000])
def test_a_damaged_file_is_begun_again(tmp_path, caplog, content):
    caplog.set_level("INFO", "rlop")
    (tmp_path / "run.json").write_text(content)
    note_start(tmp_path, {"step": 7})
    assert [start["step"] for start in starts(tmp_path)] == [7]
    assert "run.json: damaged" in caplog.text


def test_the_state_of_git_is_commit_and_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None  # no checkout
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None  # no commit

    (tmp_path / "a.txt").write_text("one")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "runs.log").write_text("untracked")
    assert git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "a.txt").write_text("two")
    assert git_state(tmp_path) == {"commit": commit, "dirty": True}


def test_a_checkout_in_which_one_works_is_asked_once(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    asked = []
    monkeypatch.setattr(started, "CODE", tmp_path)
    monkeypatch.setattr(started, "git_state", lambda folder: asked.append(folder) or str(folder))
    for folder, states in ((tmp_path, [".", "."]), (tmp_path.parent, [".", str(tmp_path)])):
        monkeypatch.chdir(folder)
        note_start(tmp_path, {})
        assert list(starts(tmp_path)[-1]["git"].values()) == states
    assert asked == [".", ".", tmp_path]


def test_a_training_needs_no_git(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    rlop.train(make(tiny), tiny, 10, logdir=tmp_path, **QUIET)
    assert starts(tmp_path)[0]["git"] == {"folder": None, "rlop": None}
