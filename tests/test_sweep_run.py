"""Running a sweep: what is skipped, retried, refused and interrupted."""

import json
import os
import signal
import subprocess
import sys

import pytest
from helpers.sweeps import Here, sweep_here

from rlop.cli import main
from rlop.logs.history import read_metrics
from rlop.sweep import command, processes
from rlop.sweep.driver import drive
from rlop.sweep.launches import Launch
from rlop.sweep.plan import Plan, read_plan
from rlop.sweep.processes import Processes
from rlop.sweep.table import Board, cells, last_step
from rlop.training import lock
from rlop.types import InputError, Interrupted

TINY = """
data: "gridworld?size=4&steps=300"
steps: 4
log_every: 2
probe_every: 0
eval_every: 0
agent: {hidden: [8], batch_size: 8}
"""
SWEEP = "config: tiny.yaml\ngrid: {agent.backup: [max, double], agent.lr: [0.1, 0.2]}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a sweep of four configurations as two launches, trained in this process."""
    sweep_here(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "s.yaml").write_text(SWEEP)
    return tmp_path / "runs" / "s"


def losses(folder):
    return read_metrics(folder).get("loss/td")[1]


def test_a_sweep_trains_everything_and_can_be_compared(folder, capsys):
    assert main(["sweep", "s.yaml"]) == 0
    assert "all 2 launches are finished" in capsys.readouterr().out
    for backup in ("max", "double"):
        history = read_metrics(folder / f"backup={backup}")
        assert history.config["backup"] == backup
        # As a list of values would: numbers, so that packs of any size are told apart alike.
        assert history.hparams == [{"lr": 0.1, "seed": 0}, {"lr": 0.2, "seed": 0}]

    assert main(["report", str(folder), "--metrics", "loss/td"]) == 0
    shown = capsys.readouterr().out
    assert "lr=0.2, backup=double" in shown
    assert "4 runs of 2 trainings" in shown


def test_a_run_in_a_pack_equals_the_run_alone(folder):
    assert main(["sweep", "s.yaml", "--logdir", "alone", "--pack", "1"]) == 0
    assert main(["sweep", "s.yaml", "--logdir", "packed", "--pack", "2"]) == 0
    packed = losses(folder.parents[1] / "packed" / "backup=max")
    for run, lr in enumerate(("0.1", "0.2")):
        alone = losses(folder.parents[1] / "alone" / f"backup=max,lr={lr}")
        assert alone[:, 0] == pytest.approx(packed[:, run], rel=1e-5)


def test_over_is_a_shorthand(folder, capsys):
    argv = ["sweep", "tiny.yaml", "--over", "agent.backup", "max", "mc", "--seeds", "2"]
    assert main([*argv, "--logdir", "over"]) == 0
    assert "all 2 launches" in capsys.readouterr().out
    assert len(read_metrics(folder.parents[1] / "over" / "backup=mc").labels) == 2


def test_what_is_finished_is_not_trained_again(folder, monkeypatch, capsys):
    assert main(["sweep", "s.yaml"]) == 0
    (folder / "backup=max" / "done.json").unlink()
    started = []
    start = Here.start

    def noted(self, launch):
        started.append(launch.name)
        start(self, launch)

    monkeypatch.setattr(Here, "start", noted)
    assert main(["sweep", "s.yaml"]) == 0
    assert started == ["backup=max"]
    assert "1 of 2 launches are finished already" in capsys.readouterr().err

    # Where nothing is left, nothing is started, on Ray neither.
    monkeypatch.delattr(command, "_executor")
    assert main(["sweep", "s.yaml"]) == 0
    assert "all 2 launches are finished" in capsys.readouterr().out


def test_a_failure_is_named_and_the_others_finish_and_it_is_tried_again(folder, capsys):
    (folder.parents[1] / "s.yaml").write_text(
        "config: tiny.yaml\ngrid: {agent.batch_size: [8], data: [twice.npz, chain]}\n"
    )
    (folder.parents[1] / "twice.npz").write_text("no archive")
    for _ in range(2):
        assert main(["sweep", "s.yaml"]) == 2
        error = capsys.readouterr().err
        assert "1 of 2 trainings failed" in error
        assert "batch_size=8,data=twice.npz: twice.npz: " in error
    assert (folder / "batch_size=8,data=chain" / "done.json").exists()


def test_a_crash_is_named_with_its_last_line(folder, monkeypatch, capsys):
    def crash(*arguments):
        raise ZeroDivisionError("seven")

    monkeypatch.setattr("rlop.sweep.worker.run", crash)
    assert main(["sweep", "s.yaml"]) == 2
    assert "backup=max: ZeroDivisionError: seven" in capsys.readouterr().err
    assert "Traceback" in (folder / "backup=max.log").read_text()


def test_a_killed_launch_goes_on_with_the_same_numbers(folder, monkeypatch):
    arguments = ["sweep", "s.yaml", "--checkpoint_every", "2", "--steps", "6"]
    assert main([*arguments, "--logdir", "whole"]) == 0

    class Killed(BaseException):
        pass

    def killed(self, step):
        if step == 4:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("rlop.training.callbacks.Callbacks.checkpoint", killed)
        with pytest.raises(Killed):
            main(arguments)
    assert last_step(folder / "backup=max") == 4
    assert not (folder / "backup=max" / "done.json").exists()

    assert main(arguments) == 0
    for name in ("backup=max", "backup=double"):
        whole = folder.parents[1] / "whole" / name
        assert (losses(folder / name) == losses(whole)).all()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (SWEEP.replace("0.2", "0.3"), [], "agent.lr = 0.2 -> 0.3"),
        (SWEEP, ["--steps", "9"], "steps = 4 -> 9"),
        (SWEEP, ["--pack", "1"], "pack = auto -> 1"),
        (SWEEP.replace("0.2", "0.2, 0.3"), [], "of 4 configurations, found 6"),
    ],
)
def test_a_changed_sweep_is_refused_in_an_old_folder(folder, capsys, text, options, message):
    assert main(["sweep", "s.yaml"]) == 0
    (folder.parents[1] / "s.yaml").write_text(text)
    assert main(["sweep", "s.yaml", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", '{"format": 0}', '{"format": 1, "launches": [{}]}'])
def test_a_damaged_plan_is_refused(folder, capsys, text):
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(text)
    assert main(["sweep", "s.yaml"]) == 2
    assert "sweep.json: damaged" in capsys.readouterr().err


def test_two_sweeps_do_not_share_a_folder(folder, capsys):
    folder.mkdir(parents=True)
    held = lock.acquire(folder)
    assert main(["sweep", "s.yaml"]) == 2
    assert "expected another folder" in capsys.readouterr().err
    lock.release(held)


def test_a_dry_run_says_what_would_run_and_writes_nothing(folder, capsys):
    assert main(["sweep", "s.yaml", "--dry-run", "--jobs", "2"]) == 0
    shown = capsys.readouterr().out
    assert "4 configurations, 4 runs, in 2 launches:" in shown
    assert "backup=double holds lr=0.1; lr=0.2" in shown
    assert "2 at a time" in shown
    assert "GiB" in shown
    assert not folder.exists()
    assert "ray" not in sys.modules


def test_a_dry_run_says_why_something_cannot_be_measured(folder, capsys):
    (folder.parents[1] / "s.yaml").write_text("grid: {data: [d4rl:hopper-medium-v2]}")
    assert main(["sweep", "s.yaml", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "not measured: d4rl:hopper-medium-v2" in shown
    assert "total:  unknown" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cluster", "slurm"], "docs/sweeps.md"),
        (["--pack", "some"], "--pack some: expected auto"),
        (["--pack", "0"], "--pack 0: expected"),
        (["--jobs", "0"], "--jobs 0: expected"),
        (["--gpus", "1"], "--gpus: of a cluster, expected --address"),
        (["--address", "local", "--cpus", "-1"], "--cpus -1: expected a number > 0"),
    ],
)
def test_options_that_cannot_be_are_one_line(folder, capsys, options, message):
    assert main(["sweep", "s.yaml", *options]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()


# --- processes: programs that start faster than a training

MEET = """
import pathlib, sys, time
here, there = map(pathlib.Path, sys.argv[1:])
here.touch()
for _ in range(600):
    if there.exists():
        sys.exit(print("met"))
    time.sleep(0.1)
sys.exit(1)
"""
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
WAIT = """
import pathlib, signal, sys, time
def stop(*_):
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
pathlib.Path(sys.argv[2]).touch()
time.sleep(60)
"""


def launch_of(name):
    return Launch(name, {"steps": 10}, (), 1)


def run_programs(tmp_path, monkeypatch, programs, jobs=2, **options):
    """Drive a sweep whose launches are these programs, name -> code and arguments."""

    def program(folder, launch):
        return [sys.executable, "-c", *map(str, programs[launch.name])]

    monkeypatch.setattr(processes, "worker_command", program)
    plan = Plan((), 1, tuple(launch_of(name) for name in programs))
    drive(plan, tmp_path, Processes(tmp_path, jobs), **options)


def test_two_jobs_run_side_by_side_with_a_log_each(tmp_path, monkeypatch):
    a, b = tmp_path / "a.here", tmp_path / "b.here"
    run_programs(tmp_path, monkeypatch, {"a": [MEET, a, b], "b": [MEET, b, a]})
    assert [(tmp_path / f"{name}.log").read_text() for name in "ab"] == ["met\n", "met\n"]


def test_a_launch_that_is_killed_each_time_is_named_after_three_tries(tmp_path, monkeypatch):
    programs = {"a": [KILLED], "b": ["print('fine')"]}
    with pytest.raises(InputError, match=r"a: killed by signal 9.* 3 times") as raised:
        run_programs(tmp_path, monkeypatch, programs)
    assert "1 of 2 trainings failed" in str(raised.value)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_all_launches_and_nothing_else_starts(tmp_path, monkeypatch, number):
    began = tmp_path / "began"
    programs = {"a": [WAIT, tmp_path / "saved", began], "b": ["print('started')"]}
    look = Processes.ended

    def ended(self, seconds):
        if began.exists():
            began.unlink()
            os.kill(os.getpid(), number)
        return look(self, 0.1)

    monkeypatch.setattr(Processes, "ended", ended)
    with pytest.raises(Interrupted) as raised:
        run_programs(tmp_path, monkeypatch, programs, jobs=1)
    assert raised.value.number == number
    assert (tmp_path / "saved").read_text() == "saved"
    assert not (tmp_path / "b.log").exists()


def test_a_worker_ends_when_its_sweep_is_gone():
    code = "import rlop.training.parent as parent, time; parent.end_with_parent(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as worker:
        worker.stdin.close()
        assert worker.wait() == -signal.SIGTERM


# --- the table


def test_the_table_has_a_row_for_each_launch(tmp_path):
    board = Board(tmp_path, [launch_of("a"), launch_of("b")], live=False)
    (tmp_path / "a").mkdir()
    rows = [{"step": step, "time": 0.5, "metrics": {"loss": [1.0]}} for step in (2, 4)]
    record = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a" / "metrics.jsonl").write_text(record + '{"step": 6, "ti')
    assert last_step(tmp_path / "a") == 4

    board.change(launch_of("a"), "training")
    (tmp_path / "a" / "metrics.jsonl").write_text(record.replace('"step": 4', '"step": 8'))
    board.refresh()
    row = cells(board.rows["a"])
    assert row[:4] == ["a", "1", "training", "8"]
    assert row[4].endswith("s")
    assert cells(board.rows["b"]) == ["b", "1", "waiting", "", "", ""]


def test_the_table_is_shown_on_a_terminal(tmp_path, capsys):
    with Board(tmp_path, [launch_of("a"), launch_of("b")], live=True) as board:
        board.change(launch_of("a"), "training")
        board.change(launch_of("a"), "failed", "no memory")
        board.refresh()
    shown = capsys.readouterr().err
    assert "0 of 2 finished" in shown
    assert "no memory" in shown


def test_the_plan_is_read_as_it_was_written(folder):
    assert main(["sweep", "s.yaml"]) == 0
    plan = read_plan(folder)
    assert plan.launches[0].settings == ("lr=0.1", "lr=0.2")
    assert plan.key == read_plan(folder).key
    assert command.Processes is Here
