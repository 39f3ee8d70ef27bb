"""Sweeps on Ray, by what can go wrong: the same records as processes, after everything."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.sweeps import sweep_here

from rlop.cli import main
from rlop.logs.history import read_metrics

pytest.importorskip("ray")

# The many checkpoints make it slow enough to be killed half-way.
TINY = """
data: "gridworld?size=4&steps=300"
steps: 300
log_every: 10
probe_every: 0
eval_every: 0
checkpoint_every: 5
agent: {hidden: [8], batch_size: 8}
"""
SWEEP = "config: tiny.yaml\ngrid: {agent.backup: [max, double], agent.lr: [0.1, 0.2]}\n"
# Ray's processes may start slowly on a busy machine.
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_agent_register_timeout_ms": "300000",
}
NAMES = ["backup=max", "backup=double"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a sweep of two launches, and their records by another executor."""
    monkeypatch.chdir(tmp_path)
    sweep_here(monkeypatch)
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "s.yaml").write_text(SWEEP)
    assert main(["sweep", "s.yaml", "--pack", "2", "--logdir", "here"]) == 0
    return tmp_path


def sweep(folder, *options, **settings):
    """Start `rlop sweep` on Ray in a process of its own: Ray changes the one that it is used in.

    `settings` are further environment variables.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "rlop.cli", "sweep", "s.yaml", "--pack", "2", *options],
        cwd=folder,
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def environment(settings):
    """Return the variables of a process that finds this checkout."""
    root = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": paths, **SETTINGS, **settings}


def ended(process, code=0):
    """Wait for a sweep; return what it printed."""
    shown, _ = process.communicate(timeout=600)
    assert process.returncode == code, shown
    return shown


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def writer_of(home):
    """Return the process that trains in a folder; 0 for none."""
    try:
        (name,) = os.listdir(home / ".lock")
    except (OSError, ValueError):
        return 0
    return int(name.partition("-")[0])


def check_equal(folder, other):
    for name in NAMES:
        ours, theirs = read_metrics(folder / name), read_metrics(other / name)
        assert ours.hparams == theirs.hparams
        for metric, (steps, values) in ours.metrics.items():
            if not metric.startswith("time/"):
                assert steps.tolist() == theirs.metrics[metric][0].tolist(), metric
                assert values.tolist() == theirs.metrics[metric][1].tolist(), metric


def test_records_are_those_of_processes_though_a_worker_is_killed(folder):
    process = sweep(folder, "--logdir", "ray", "--address", "local")
    wait_for(folder / "ray" / "backup=max" / "checkpoint.pt", process)
    os.kill(writer_of(folder / "ray" / "backup=max"), signal.SIGKILL)
    shown = ended(process)
    assert "backup=max: waiting: worker crashed, tried again" in shown
    assert "all 2 launches are finished" in shown
    check_equal(folder / "ray", folder / "here")


def test_a_sweep_goes_on_after_it_was_killed_and_after_it_was_interrupted(folder):
    options = ("--logdir", "ray", "--address", "local")
    home = folder / "ray" / "backup=max"
    process = sweep(folder, *options)
    wait_for(home / "checkpoint.pt", process)
    killed = writer_of(home)
    process.kill()
    process.communicate()

    # The workers end by themselves, and the second sweep waits for them.
    process = sweep(folder, *options)
    while writer_of(home) in (0, killed):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    shown = ended(process, code=130)
    assert "every launch writes a checkpoint" in shown

    ended(sweep(folder, *options))
    check_equal(folder / "ray", folder / "here")


def test_a_failure_and_what_fits_on_no_node_are_named(folder):
    text = "config: tiny.yaml\ngrid: {agent.backup: [max], data: [t.npz, chain]}\n"
    (folder / "s.yaml").write_text(text)
    (folder / "t.npz").write_text("no archive")
    shown = ended(sweep(folder, "--address", "local"), code=2)
    assert "1 of 2 trainings failed" in shown
    assert re.search(r"backup=max,data=t.npz: .*t.npz: ", shown)
    assert (folder / "runs" / "s" / "backup=max,data=chain" / "done.json").exists()

    shown = ended(sweep(folder, "--address", "local", "--memory", "9999"), code=2)
    assert "expected --cpus, --gpus and --memory that fit on one" in shown


@pytest.mark.slow
def test_what_runs_out_of_memory_is_tried_three_times_and_named(folder):
    tight = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    shown = ended(sweep(folder, "--address", "local", "--logdir", "ray", **tight), code=2)
    assert "2 of 2 trainings failed" in shown
    assert re.search(r"backup=max: .*memory", shown)


@pytest.fixture
def cluster():
    """Two nodes on loopback, a processor each: address, environment, and the second's process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1"]
    head = ["--head", "--port", address.partition(":")[2], "--include-dashboard", "false"]
    nodes = []
    for options in (head, ["--address", address]):
        nodes.append(
            subprocess.Popen(
                [*command, *options],
                env=environment(token),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        while "Ray runtime started" not in nodes[-1].stdout.readline():
            assert nodes[-1].poll() is None
    yield address, token, nodes[1]
    for node in nodes:
        kill(node)


def kill(node):
    """End all processes of a node at once, as a machine that is switched off."""
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
        node.communicate()


@pytest.mark.slow
def test_a_launch_whose_node_is_lost_goes_on_on_the_other(folder, cluster):
    address, token, second = cluster
    process = sweep(folder, "--address", address, "--logdir", "ray", "--jobs", "2", **token)
    for name in NAMES:
        wait_for(folder / "ray" / name / "checkpoint.pt", process)
    kill(second)
    assert "all 2 launches are finished" in ended(process)
    check_equal(folder / "ray", folder / "here")
