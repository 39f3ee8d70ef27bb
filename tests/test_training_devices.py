"""Runs split over devices: the same numbers as in one process, resumable, and said when not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rlop.config.schema import build
from rlop.logs.history import read_metrics
from rlop.training.devices import device_list, parts_of, run_on_devices
from rlop.training.options import Experiment
from rlop.training.run import run
from rlop.types import InputError

# Stacked products of another number of runs differ in their last bits, and 200 updates carry that
# on: at most 2e-7 of a series' largest value was measured.
TOLERANCE = 1e-5

GRIDWORLD = {
    "data": "gridworld?size=4&steps=300",
    "steps": 200,
    "log_every": 50,
    "probe_every": 100,
    "eval_every": 100,
    "compile": False,
    "agent": {"name": "DQN", "hidden": [16], "batch_size": 16, "lr": [1e-3, 3e-4]},
    "device": "cpu",
}


def experiment(**changes):
    return build(Experiment, {**GRIDWORLD, **changes}, where="")


def series(histories):
    """Name of a metric and label of a run -> its values, of all trainings together."""
    found = {}
    for history in histories:
        for name, (_, values) in history.metrics.items():
            if not name.startswith("time/"):
                found |= {(name, label): values[:, i] for i, label in enumerate(history.labels)}
    return found


def check_same(split, whole, tolerance):
    """Both have the same series; those of a run may differ by so much, relative to the largest."""
    assert split.keys() == whole.keys()
    for key, values in whole.items():
        scale = np.nanmax(np.abs(values), initial=0.0)
        np.testing.assert_allclose(
            split[key], values, rtol=0, atol=tolerance * scale, equal_nan=True, err_msg=str(key)
        )


def in_turn(split, home):
    """Train the parts one after another in this process."""
    parts = parts_of(split, home)
    return [run(build(Experiment, part.values, where=""))[1] for part in parts]


@pytest.mark.parametrize(
    "runs",
    [
        {"seeds": 4},
        {"seeds": [5, 2, 9]},
        {"seeds": 1, "variants": {"plain": {}, "slow": {"lr": 1e-4}}},
    ],
)
def test_gridworld_runs_are_those_of_one_process(runs, tmp_path):
    _, whole, _ = run(experiment(**runs, logdir=str(tmp_path / "whole")))
    split = in_turn(experiment(**runs, devices="cpu,cpu"), tmp_path / "split")
    assert len(split) == 2
    check_same(series(split), series([whole]), TOLERANCE)


def test_pendulum_runs_are_those_of_one_process(tmp_path):
    changes = {
        "data": str(tmp_path / "pendulum.hdf5"),
        "collect": {"env": "Pendulum-v1", "policy": "random", "steps": 400},
        "agent": {"name": "CQL", "hidden": [16], "policy_hidden": [16], "batch_size": 16},
        "seeds": 4,
        "eval_episodes": 1,
        "eval_every": 200,
    }
    _, whole, _ = run(experiment(**changes, logdir=str(tmp_path / "whole")))
    split = in_turn(experiment(**changes, devices=["cpu", "cpu"]), tmp_path / "split")
    check_same(series(split), series([whole]), TOLERANCE)


@pytest.mark.parametrize(
    ("devices", "names"),
    [
        ("0,1", ["cuda:0", "cuda:1"]),
        ([0, "cpu"], ["cuda:0", "cpu"]),
        (1, ["cuda:1"]),
        ("cpu, cpu", ["cpu", "cpu"]),
    ],
)
def test_devices_have_short_names(devices, names):
    assert device_list(devices) == names


def test_seeds_or_variants_are_shared_out_evenly():
    variants = {name: {} for name in "abcd"}
    parts = parts_of(experiment(seeds=5, variants=variants, devices="cpu,cpu"), Path("x"))
    assert [list(part.values["variants"]) for part in parts] == [["a", "b"], ["c", "d"]]
    assert all(part.values["seeds"] == 5 for part in parts)
    parts = parts_of(experiment(seeds=5, devices="cpu,cpu,cpu"), Path("x"))
    assert sorted(len(part.values["seeds"]) for part in parts) == [1, 2, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": ""}, "expected devices such as 0,1"),
        ({"devices": []}, "expected devices such as 0,1"),
        ({"devices": "cpu,cpu", "seeds": 1}, "1 seeds, 0 variants"),
        ({"devices": "cpu,cpu", "seeds": 2, "early_stopping": {}}, "looks at all runs"),
        ({"devices": "cpu,nowhere", "seeds": 2}, "nowhere"),
        ({"devices": "cpu,cpu", "seeds": 2, "resume": True, "fork": "y"}, "expected no fork"),
    ],
)
def test_what_cannot_be_split_is_said_before_anything_starts(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_on_devices(experiment(**changes, logdir=str(tmp_path / "x")))
    assert not (tmp_path / "x").exists()


def test_a_single_process_refuses_devices(tmp_path):
    with pytest.raises(InputError, match=r"devices = cpu,cpu: expected `rlop train`"):
        run(experiment(devices="cpu,cpu", logdir=str(tmp_path)))


def test_a_folder_of_more_parts_is_not_mixed_with_fewer(tmp_path):
    in_turn(experiment(steps=2, seeds=3, devices="cpu,cpu,cpu"), tmp_path)
    with pytest.raises(InputError, match="split over more devices"):
        run_on_devices(
            experiment(steps=2, seeds=3, devices="cpu,cpu", logdir=str(tmp_path), resume=True)
        )
    with pytest.raises(InputError, match="already holds device-0"):
        run_on_devices(experiment(steps=2, seeds=3, devices="cpu,cpu", logdir=str(tmp_path)))


# ---- processes


@pytest.mark.slow
def test_processes_are_interrupted_resumed_and_equal_to_one(tmp_path):
    runs = {"seeds": 2, "checkpoint_every": 50, "log_every": 20, "steps": 1000, "eval_every": 0}
    command = [sys.executable, "-m", "rlop.cli", "train", "x.yaml", "--devices", "cpu,cpu"]
    root = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": root}
    from rlop.config.files import dump_yaml

    dump_yaml({**GRIDWORLD, **runs, "logdir": "split"}, tmp_path / "x.yaml")
    first = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    records = [tmp_path / "split" / part / "metrics.jsonl" for part in ("device-0", "device-1")]
    while first.poll() is None and not all(path.exists() for path in records):
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, messages = first.communicate()
    assert first.returncode == 130, messages
    assert "it continues with: rlop train --resume split" in messages

    again = [sys.executable, "-m", "rlop.cli", "train", "--resume", "split"]
    done = subprocess.run(again, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rank/srank" in done.stdout
    _, whole, _ = run(experiment(**runs, logdir=str(tmp_path / "whole")))
    split = [read_metrics(path.parent) for path in records]
    check_same(series(split), series([whole]), TOLERANCE)
