"""Policies that are trained before or while data are collected."""

import json
import os
import signal

import numpy as np
import pytest
from helpers.collect import Tickets, check_ends, check_rows, read, tickets  # noqa: F401  a fixture

from rlop.cli import main
from rlop.collect.collector import collect
from rlop.types import InputError

pytest.importorskip("stable_baselines3")
pytestmark = pytest.mark.usefixtures("tickets")


def test_ppo_is_trained_first(tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "x.hdf5"
    arrays, attributes = read(
        collect("rlop/Chain-v0", "ppo:4096", 500, path, env_kwargs={"length": 4})
    )
    assert "training PPO for 4,096 steps" in caplog.text
    assert attributes["policy"] == "ppo:4096"
    assert "stable_baselines3" in json.loads(attributes["versions"])
    # The chain pays for walking right without a break, and a random walk would often not arrive.
    assert attributes["return_mean"] == 1.0
    assert arrays["actions"].mean() == 1.0


def test_policies_for_continuous_actions_are_trained(tmp_path):
    options = {"env_kwargs": {"box": True}, "n_envs": 2}
    path = tmp_path / "x.hdf5"
    arrays, attributes = read(
        collect("test/Tickets-v0", "stochastic:ppo:300", 200, path, **options)
    )
    assert attributes["policy"] == "ppo:300"
    assert attributes["stochastic"]
    # Of a standard deviation of 1 in [-2, 2], cut at the ends.
    assert 0.3 < arrays["actions"].std() < 0.7


def test_a_replay_stream_is_the_trainings_own_in_order(tmp_path):
    path = collect("test/Tickets-v0", "replay:ppo:1100", 1100, tmp_path / "x.hdf5")
    arrays, attributes = read(path)
    check_rows(arrays, 1100)
    check_ends(arrays)
    assert attributes["policy"] == "replay:ppo:1100"
    assert 0.1 < arrays["actions"].mean() < 0.9  # it explores

    # The same training, of which the last rows are kept.
    Tickets.issued = 0
    path = collect("test/Tickets-v0", "replay:ppo:1100", 150, tmp_path / "y.hdf5")
    end, attributes = read(path)
    for key, column in end.items():
        np.testing.assert_array_equal(column, arrays[key][-150:])
    assert attributes["steps"] == 150


def test_a_replay_stream_of_continuous_actions(tmp_path):
    options = {"env_kwargs": {"box": True}, "chunk": 50}
    path = collect("test/Tickets-v0", "replay:sac:110", 110, tmp_path / "x.hdf5", **options)
    arrays, _ = read(path)
    check_rows(arrays, 110)
    assert np.abs(arrays["actions"]).max() <= 1
    assert arrays["actions"].min() < -0.9  # drawn uniformly at first


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("replay:sac:110", {}, "policy sac: needs continuous actions"),
        ("replay:ppo:110", {"epsilon": 0.1}, "explores in its own way"),
    ],
)
def test_impossible_replay_streams(tmp_path, policy, options, message):
    with pytest.raises(InputError, match=message):
        collect("CartPole-v1", policy, 110, tmp_path / "x.hdf5", **options)


def test_an_interrupted_replay_stream_keeps_its_rows(tmp_path, monkeypatch):
    step = Tickets.step
    calls = []

    def interrupting_step(self, action):
        calls.append(action)
        if len(calls) == 70:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, action)

    monkeypatch.setattr(Tickets, "step", interrupting_step)
    path = tmp_path / "x.hdf5"
    with pytest.raises(KeyboardInterrupt):
        collect("test/Tickets-v0", "replay:ppo:9999", 5000, path)
    arrays, _ = read(path)
    check_rows(arrays, 70)


# ---- command line


def test_the_command_line_mixes_policies(tmp_path):
    path = tmp_path / "x.hdf5"
    options = ["--steps", "200", "--shuffle", "--stochastic"]
    mix = ["--mix", "random:0.75", "ppo:64:0.25"]
    assert main(["collect", str(path), "--env", "CartPole-v1", *options, *mix]) == 0

    arrays, attributes = read(path)
    assert np.bincount(arrays["infos/policy"]).tolist() == [150, 50]
    assert json.loads(attributes["policies"])[1]["stochastic"] is True


def test_the_command_line_refuses_a_mixture_without_shares(tmp_path, capsys):
    argv = ["collect", str(tmp_path / "x.hdf5"), "--env", "CartPole-v1", "--mix", "random"]
    assert main(argv) == 2
    assert "--mix random: could not convert" in capsys.readouterr().err
