"""Environments that raise, hang or return NaN in evaluations during a training."""

from __future__ import annotations

import math
import time

import gymnasium
import numpy as np
import pytest
from rlop.agents import DQN

import rlop
from rlop.envs import watched
from rlop.envs.watched import EnvironmentFailed, answers_awaited
from rlop.training.evaluate import Evaluator

STEPS = 3  # of an episode


class Moody(gymnasium.Env):
    """Episodes of three steps with reward 1, of which one step, counted from the start, is bad."""

    observation_space = gymnasium.spaces.Box(-9, 9, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, bad_step, be_bad):
        self.bad_step, self.be_bad = bad_step, be_bad
        self.all_steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self.steps += 1
        self.all_steps += 1
        reward = 1.0
        if self.all_steps == self.bad_step:
            reward = self.be_bad()
        return np.zeros(4, np.float32), reward, False, self.steps == STEPS, {}


def explode():
    raise RuntimeError("simulator\nexploded")


def hang():
    time.sleep(60)
    return 1.0


def trained(tiny, folder, env):
    agent = DQN(tiny.spec, hidden=(8,), batch_size=8)
    evaluator = Evaluator(env, agent.runs.seeds, episodes=1)
    options = {"log_every": 10, "probe_every": 0, "eval_every": 10, "progress": False}
    history = rlop.train(agent, tiny, 40, logdir=folder, evaluate=evaluator, **options)
    steps, values = history.get("eval/return")
    return dict(zip(steps.tolist(), values[:, 0].tolist()))


@pytest.mark.parametrize(
    ("be_bad", "message"),
    [
        (explode, "step failed (RuntimeError: simulator exploded)"),
        (hang, "step failed (TimeoutError: no answer for 0.3 s)"),
        (lambda: math.nan, "NaN or infinite observations or rewards"),
    ],
    ids=["raises", "hangs", "NaN"],
)
def test_a_training_goes_on_and_the_point_is_recorded_as_failed(
    tiny, tmp_path, monkeypatch, caplog, be_bad, message
):
    monkeypatch.setattr(watched, "LONGEST_CALL", 0.3)
    # The second step of the evaluation at step 20.
    returns = trained(tiny, tmp_path, Moody(2 * STEPS + 2, be_bad))
    assert list(returns) == [0, 10, 20, 30, 40]
    assert math.isnan(returns.pop(20))
    assert set(returns.values()) == {float(STEPS)}
    assert message in caplog.text


def test_an_environment_that_never_worked_ends_the_training(tiny, tmp_path):
    with pytest.raises(EnvironmentFailed, match=r"env = 'Moody': step failed"):
        trained(tiny, tmp_path, Moody(1, explode))


def test_the_exception_of_the_environment_is_kept(tiny):
    evaluator = Evaluator(Moody(1, explode), [0], episodes=1)
    with pytest.raises(EnvironmentFailed) as caught:
        evaluator(DQN(tiny.spec, hidden=(8,), batch_size=8))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_time_limit_leaves_no_alarm_behind(monkeypatch):
    monkeypatch.setattr(watched, "LONGEST_CALL", 0.05)
    with answers_awaited():
        pass
    time.sleep(0.1)
    with pytest.raises(TimeoutError), answers_awaited():
        time.sleep(5)
