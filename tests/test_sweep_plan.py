"""Sweeps over what cannot share a process."""

import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest

from rlop.cli import main
from rlop.logs.history import read_metrics
from rlop.sweep.plan import commands, run_local
from rlop.types import InputError

TINY = """
data: "gridworld?size=4&steps=300"
steps: 4
log_every: 2
agent: {hidden: [8], batch_size: 8}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


def test_every_combination_is_run_once(config, tmp_path):
    over = {"agent.hidden": ["[8]", "[8,8]"], "agent.backup": ["max", "mc"]}
    jobs = commands(config, over, ["--seeds", "2"], tmp_path)
    assert list(jobs) == [
        "hidden=8,backup=max",
        "hidden=8,backup=mc",
        "hidden=8,8,backup=max",
        "hidden=8,8,backup=mc",
    ]

    command = " ".join(jobs["hidden=8,backup=mc"][3:])
    options = "--seeds 2 --agent.hidden [8] --agent.backup mc"
    logdir = tmp_path / "hidden=8,backup=mc"
    assert command == f"train {config} {options} --logdir {logdir}"


@pytest.mark.parametrize(
    ("over", "message"),
    [({"stpes": ["1"]}, "stpes"), ({"steps": ["1", "1"]}, "two combinations")],
)
def test_a_mistake_is_found_before_anything_starts(config, tmp_path, over, message):
    with pytest.raises(InputError, match=message):
        commands(config, over, [], tmp_path)


@pytest.fixture
def run_here(monkeypatch):
    """Run trainings in this process: in one of its own, each would start PyTorch again."""

    def run(argv, stdout, **_):
        with redirect_stdout(stdout), redirect_stderr(stdout):
            return subprocess.CompletedProcess(argv, main(argv[3:]))

    # In place of the module, which the trainings use too.
    mine = SimpleNamespace(run=run, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr("rlop.sweep.plan.subprocess", mine)


def test_a_training_runs_in_a_process_of_its_own(config, tmp_path, capsys):
    logdir = tmp_path / "sweep"
    argv = ["sweep", config, "--over", "agent.backup", "double", "--logdir", str(logdir)]
    assert main([*argv, "--jobs", "2"]) == 0
    assert "1 of 1 trainings finished" in capsys.readouterr().out
    assert read_metrics(logdir / "backup=double").config["backup"] == "double"


# Writes the first of two files, and waits for the second.
MEETING = """
import pathlib, sys, time
here, there = map(pathlib.Path, sys.argv[1:3])
here.touch()
for _ in range(600):
    if there.exists():
        sys.exit(print("met"))
    time.sleep(0.1)
sys.exit(1)
"""


def test_two_jobs_run_side_by_side_with_a_log_each(tmp_path):
    files = [str(tmp_path / name) for name in ("here", "there")]
    command = [sys.executable, "-c", MEETING]
    jobs = {
        "a": [*command, *files, str(tmp_path / "a")],
        "b": [*command, *reversed(files), str(tmp_path / "b")],
    }
    assert run_local(jobs, 2) == []
    for name in jobs:
        assert (tmp_path / f"{name}.log").read_text() == "met\n"


def test_trainings_run_and_are_compared(config, tmp_path, capsys, run_here):
    logdir = tmp_path / "sweep"
    over = ["--over", "agent.backup", "max", "double"]
    assert main(["sweep", config, *over, "--logdir", str(logdir)]) == 0
    assert "2 of 2 trainings finished" in capsys.readouterr().out
    for backup in ("max", "double"):
        assert read_metrics(logdir / f"backup={backup}").config["backup"] == backup

    assert main(["report", str(logdir), "--metrics", "loss/td"]) == 0
    assert "double" in capsys.readouterr().out


def test_a_failed_training_is_named_and_the_others_finish(config, tmp_path, capsys, run_here):
    over = ["--over", "agent.batch_size", "8", "9999"]
    assert main(["sweep", config, *over, "--logdir", str(tmp_path / "sweep")]) == 2
    shown = capsys.readouterr()
    assert "1 of 2 trainings finished" in shown.out
    assert "batch_size=9999 failed" in shown.err
    assert read_metrics(tmp_path / "sweep" / "batch_size=8").get("loss/td")[0][-1] == 4


def test_a_cluster_without_submitit_names_the_extra(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    argv = ["sweep", config, "--over", "seeds", "1", "--logdir", str(tmp_path)]
    assert main([*argv, "--cluster", "local"]) == 2
    assert "rlop[sweep]" in capsys.readouterr().err
