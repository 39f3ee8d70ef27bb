"""Sweeps over what cannot share a process."""

import pytest

from rlop.cli import main
from rlop.logs.history import read_metrics
from rlop.sweep.plan import commands
from rlop.types import InputError

TINY = 'data: "gridworld?size=4&steps=300"\nsteps: 4\nlog_every: 2\nagent: {hidden: [8], batch_size: 8}\n'


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


def test_every_combination_once(config, tmp_path):
    over = {"agent.hidden": ["[8]", "[8,8]"], "agent.backup": ["max", "mc"]}
    jobs = commands(config, over, ["--seeds", "2"], tmp_path)
    assert list(jobs) == [
        "hidden=8,backup=max",
        "hidden=8,backup=mc",
        "hidden=8,8,backup=max",
        "hidden=8,8,backup=mc",
    ]
    assert jobs["hidden=8,backup=mc"][3:-1] == [
        *[
            "train",
            config,
            "--seeds",
            "2",
            "--agent.hidden",
            "[8]",
            "--agent.backup",
            "mc",
            "--logdir",
        ]
    ]


def test_a_mistake_is_found_before_anything_starts(config, tmp_path):
    with pytest.raises(InputError, match="stpes"):
        commands(config, {"stpes": ["1"]}, [], tmp_path)
    with pytest.raises(InputError, match="two combinations"):
        commands(config, {"steps": ["1", "1"]}, [], tmp_path)


def test_trainings_run_and_are_compared(config, tmp_path, capsys):
    logdir = tmp_path / "sweep"
    argv = [
        "sweep",
        config,
        "--over",
        "agent.backup",
        "max",
        "double",
        "--logdir",
        str(logdir),
        "--jobs",
        "2",
    ]
    assert main(argv) == 0
    assert "2 of 2 trainings finished" in capsys.readouterr().out
    for backup in ("max", "double"):
        assert read_metrics(logdir / f"backup={backup}").config["backup"] == backup
    assert main(["report", str(logdir), "--metrics", "loss/td"]) == 0
    assert "double" in capsys.readouterr().out


def test_a_failed_training_is_named_and_the_others_finish(config, tmp_path, capsys):
    over = ["--over", "agent.batch_size", "8", "9999"]
    assert main(["sweep", config, *over, "--logdir", str(tmp_path / "sweep")]) == 2
    captured = capsys.readouterr()
    assert "1 of 2 trainings finished" in captured.out
    assert "batch_size=9999 failed" in captured.err


def test_cluster_without_submitit_names_the_extra(config, tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "submitit", None)
    argv = [
        "sweep",
        config,
        "--over",
        "seeds",
        "1",
        "--logdir",
        str(tmp_path),
        "--cluster",
        "local",
    ]
    assert main(argv) == 2
    assert "rlop[sweep]" in capsys.readouterr().err
