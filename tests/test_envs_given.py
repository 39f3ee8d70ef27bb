"""Environments of one's own: objects, functions that make them, and ids that name a module."""

from __future__ import annotations

import sys
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit
from rlop.agents import BC, DQN

import rlop
from rlop.data import Dataset
from rlop.envs.make import time_limit
from rlop.training.evaluate import Evaluator
from rlop.types import InputError

KINDS = ["object", "class", "function"]


class Countdown(gymnasium.Env):
    """Pays the action taken, 0 or 1; ends after `steps` steps, or never."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, steps=4, broken_at=None):
        self.steps = steps
        self.broken_at = broken_at
        self.seeds = []

    def seen(self):
        value = np.nan if self.now == self.broken_at else 0.5
        return np.full(2, value, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.now = 0
        return self.seen(), {}

    def step(self, action):
        self.now += 1
        return self.seen(), float(action), self.now == self.steps, False, {}


class Constant:
    """Run i takes action i."""

    device = torch.device("cpu")

    def __init__(self, action=0):
        self.action = action

    def one_run(self, run):
        return Constant(run)

    def act(self, obs):
        return torch.full(obs.shape[:2], self.action)


class Endless(Countdown):
    """A class that is made without arguments."""

    def __init__(self):
        super().__init__(steps=None)


@pytest.fixture
def paid():
    """Rows in which only action 1 is taken."""
    ends = np.arange(40) % 4 == 3
    obs = np.full((40, 2), 0.5, np.float32)
    return Dataset.from_arrays(obs, np.ones(40, int), np.ones(40), ends, ~ends & False, n_actions=2)


def test_an_object_is_played_in_as_it_is_by_all_runs_in_turn():
    env = Countdown()
    returns, lengths = Evaluator(env, [0, 1], episodes=3).rollout(Constant())
    assert returns.tolist() == [[0] * 3, [4] * 3]
    assert lengths.tolist() == [[4] * 3] * 2
    # Each run begins at its own seed, and both play in this very object.
    assert [seed for seed in env.seeds if seed is not None] == [1_000_003, 2_000_006]


def test_an_object_scores_as_its_id_does():
    seeds = [3, 5]
    by_id = Evaluator("CartPole-v1", seeds, episodes=4, max_envs=1)(Constant())
    by_object = Evaluator(gymnasium.make("CartPole-v1"), seeds, episodes=4)(Constant())
    assert by_id["eval/return"].tolist() == by_object["eval/return"].tolist()


@pytest.mark.parametrize("make", [Countdown, partial(Countdown, steps=4), lambda: Countdown()])
def test_functions_make_an_environment_for_every_run_and_episode(make):
    returns, _ = Evaluator(make, [0, 1], episodes=3).rollout(Constant())
    assert returns.tolist() == [[0] * 3, [4] * 3]


def test_an_object_is_not_closed_by_others():
    class Closing(Countdown):
        is_closed = False

        def close(self):
            self.is_closed = True

    env = Closing()
    evaluator = Evaluator(env, [0], episodes=1)
    evaluator(Constant())
    evaluator.close()
    assert not env.is_closed


@pytest.mark.parametrize(
    "given", [Endless(), Endless, gymnasium.Wrapper(Endless())], ids=["object", "class", "wrapper"]
)
def test_endless_environments_of_ones_own_are_cut_with_a_message(given, monkeypatch, caplog):
    monkeypatch.setattr("rlop.training.evaluate.LONGEST", 7)
    scores = Evaluator(given, [0], episodes=2)(Constant())
    assert scores["eval/length"].tolist() == [7]
    assert "has no time limit: an episode was cut after 7 steps" in caplog.text


def test_a_limit_of_ones_own_is_kept(monkeypatch, caplog):
    monkeypatch.setattr("rlop.training.evaluate.LONGEST", 7)
    env = gymnasium.Wrapper(TimeLimit(Endless(), 12))
    assert Evaluator(env, [0], episodes=1)(Constant())["eval/length"].tolist() == [12]
    assert caplog.text == ""


def test_observations_that_are_no_numbers_end_a_run_and_make_its_score_nan(caplog):
    evaluator = Evaluator(partial(Countdown, broken_at=2), [0, 1], episodes=3)
    scores = evaluator(Constant())
    assert np.isnan(scores["eval/return"]).all()
    assert caplog.text.count("NaN or infinite observations or rewards in run 0, 1") == 1

    class OnlyOne(Countdown):
        def step(self, action):
            obs, *rest = super().step(action)
            return obs * (np.nan if action else 1), *rest

    scores = Evaluator(OnlyOne, [0, 1], episodes=3)(Constant())
    assert np.isnan(scores["eval/return"]).tolist() == [False, True]


same = Countdown()


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (lambda: 3, {}, "returned int, expected a Gymnasium environment"),
        (lambda: same, {}, "returns the same environment every time"),
        (Countdown, {"env_kwargs": {"steps": 2}}, r"env_kwargs: expected none .*\['steps'\]"),
        (None, {}, "env: found NoneType"),
        ("no_such_module_of_anyone:X-v0", {}, "No module named 'no_such_module_of_anyone'"),
    ],
)
def test_what_is_no_environment_is_refused(given, options, message):
    with pytest.raises(InputError, match=message):
        Evaluator(given, [0], episodes=2, **options)


def test_a_vector_of_environments_is_refused_by_name():
    vector = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    with pytest.raises(InputError, match="SyncVectorEnv, a vector of environments; expected one"):
        Evaluator(vector, [0])


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that registers an environment when it is imported."""
    (tmp_path / "registers_one.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gymnasium.register('Mine-v0', CartPoleEnv, max_episode_steps=11)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "registers_one:Mine-v0"
    sys.modules.pop("registers_one", None)
    gymnasium.registry.pop("Mine-v0", None)


def test_an_id_may_name_the_module_that_registers_it(module):
    assert time_limit(module) == 11
    assert Evaluator(module, [0], episodes=1)(Constant())["eval/length"] <= 11
    with pytest.raises(InputError, match="No module named 'absent_one'"):
        time_limit("absent_one:Mine-v0")


# ---- training


@pytest.mark.parametrize("given", [Countdown(), Countdown, lambda: Countdown()], ids=KINDS)
def test_training_evaluates_in_an_environment(paid, given):
    agent = BC(paid.spec, hidden=(8,), batch_size=8, lr=1e-2)
    history = rlop.train(
        agent, paid, steps=60, log_every=60, probe_every=0, progress=False, evaluate=given
    )
    assert history.get("eval/return")[1][-1] == [4]


def test_training_evaluates_by_id_as_the_command_line_does():
    data = rlop.load_dataset("chain?steps=200&length=4")
    agent = DQN(data.spec, hidden=(8,), batch_size=8)
    options = {"steps": 2, "log_every": 1, "probe_every": 0, "progress": False}
    history = rlop.train(agent, data, evaluate="rlop/Chain-v0", **options)
    assert "eval/q_error" in history.metrics  # exact, with the data's own arguments
    assert len(history.get("eval/return")[0]) == 2


def test_a_function_of_the_agent_is_called_with_it(paid):
    seen = []

    def score(agent):
        seen.append(agent)
        return {"eval/own": np.zeros(1)}

    agent = BC(paid.spec, hidden=(8,), batch_size=8)
    options = {"steps": 1, "log_every": 1, "probe_every": 0, "progress": False}
    rlop.train(agent, paid, evaluate=score, **options)
    rlop.train(agent, paid, evaluate=lambda *args: score(*args), **options)
    assert seen == [agent] * len(seen)
    assert len(seen) > 2


def test_a_wrong_environment_is_refused_before_training(paid):
    agent = BC(paid.spec, hidden=(8,), batch_size=8)
    with pytest.raises(InputError, match=r"observations \(4,\) float32, but the data has \(2,\)"):
        rlop.train(agent, paid, steps=1, evaluate="CartPole-v1")


def test_data_in_other_units_than_the_agents_are_refused():
    def moves(low):
        ends = np.ones(9, bool)
        obs, action = np.zeros((9, 2)), np.full((9, 1), 0.5)
        arrays = (obs, action, ends * 1.0, ends, ends, obs)
        return Dataset.from_arrays(*arrays, action_low=low, action_high=2)

    agent = BC(moves(0).spec, hidden=(8,), batch_size=4)
    with pytest.raises(InputError, match=r"action_low = \(-2\.0,\) is not what the agent was made"):
        rlop.train(agent, moves(-2), steps=1, progress=False)
