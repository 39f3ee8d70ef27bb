"""Actions while data are collected: their units, exploration, and what policies may return."""

import json

import gymnasium
import numpy as np
import pytest
from helpers.collect import Scripted, always, read, tickets  # noqa: F401  a fixture
from hypothesis import given
from hypothesis import strategies as st

from rlop.collect.collector import collect
from rlop.envs.layouts import from_unit, to_unit
from rlop.training.evaluate import Evaluator

pytestmark = pytest.mark.usefixtures("tickets")


# ---- units of actions


def test_units_by_hand():
    box = gymnasium.spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))
    actions = np.array([[-2, 0], [1, 5], [2, 10]])
    units = np.array([[-1, -1], [0.5, 0], [1, 1]])
    assert to_unit(actions, box).tolist() == units.tolist()
    assert from_unit(units, box).tolist() == actions.tolist()
    assert from_unit(np.array([[9, 1]]), box).tolist() == [[2, 10]]

    for space in (gymnasium.spaces.Discrete(3), gymnasium.spaces.Box(-np.inf, np.inf, (2,))):
        actions = np.array([[5, 7]])
        assert to_unit(actions, space) is actions
        assert from_unit(actions, space) is actions


@given(st.floats(-100, 100), st.floats(0.1, 100), st.floats(0, 1))
def test_units_there_and_back(low, span, place):
    box = gymnasium.spaces.Box(low, low + span, (1,))
    width = float(box.high[0]) - float(box.low[0])
    action = np.array([[float(box.low[0]) + place * width]])
    unit = to_unit(action, box)
    assert abs(unit[0, 0] - (2 * place - 1)) < 1e-5
    np.testing.assert_allclose(from_unit(unit, box), action, atol=1e-5 * (abs(low) + span))


class Paid(gymnasium.Env):
    """Pays the sum of the action; three steps."""

    def __init__(self):
        self.observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float64)
        low, high = np.float32([-2, 0]), np.float32([2, 10])
        self.action_space = gymnasium.spaces.Box(low, high)

    def reset(self, *, seed=None, options=None):
        self.left = 3
        return np.zeros(1), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.left -= 1
        return np.zeros(1), float(action.sum()), self.left == 0, False, {}


@pytest.fixture
def paid():
    gymnasium.register("test/Paid-v0", Paid, max_episode_steps=10)
    yield
    del gymnasium.registry["test/Paid-v0"]


@pytest.mark.parametrize("action", [[-1.0, -1.0], [0.0, 0.0], [0.5, 1.0], [9.0, 0.0]])
def test_evaluation_maps_an_agents_actions_to_the_environments(paid, action):
    returns, _ = Evaluator("test/Paid-v0", [0], episodes=2).rollout(Scripted(action))
    expected = 3 * (np.clip(action, -1, 1) @ [2, 5] + 5)
    np.testing.assert_allclose(returns, [[expected] * 2])


def test_stored_actions_are_in_an_agents_units(paid, tmp_path):
    arrays, attributes = read(collect("test/Paid-v0", "random", 300, tmp_path / "x.hdf5"))
    # What the actions were paid says what they are.
    np.testing.assert_allclose(arrays["actions"] @ [2, 5] + 5, arrays["rewards"], atol=1e-5)
    assert np.abs(arrays["actions"]).max() <= 1
    assert json.loads(attributes["action_low"]) == [-2, 0]
    assert json.loads(attributes["action_high"]) == [2, 10]


# ---- policies


def test_a_function_acts_on_batches(tmp_path):
    shapes = []

    def ones(obs, rng):
        shapes.append(obs.shape)
        return np.ones(len(obs), int)

    arrays, attributes = read(collect("CartPole-v1", ones, 100, tmp_path / "x.hdf5", n_envs=5))
    assert (arrays["actions"] == 1).all()
    assert shapes[0] == (5, 4)
    assert attributes["policy"] == "ones"


def test_epsilon_is_the_share_of_random_actions(tmp_path):
    path = collect("test/Tickets-v0", always(0), 4000, tmp_path / "x.hdf5", epsilon=0.5)
    arrays, attributes = read(path)
    # A random action is 1 half of the time: 1000 of 4000, give or take 4 standard deviations.
    assert abs(arrays["actions"].sum() - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75)
    assert attributes["epsilon"] == 0.5


def test_continuous_actions_are_clipped_and_stored_in_units_of_the_bounds(tmp_path):
    def far(obs, rng):
        return np.full((len(obs), 3), [9.0, 1.0, -9.0])

    box = {"env_kwargs": {"box": True}}
    arrays, _ = read(collect("test/Tickets-v0", far, 20, tmp_path / "x.hdf5", **box))
    assert arrays["actions"].tolist() == [[1, 0.5, -1]] * 20  # of [-2, 2]

    path = collect("test/Tickets-v0", "random", 2000, tmp_path / "y.hdf5", **box)
    arrays, attributes = read(path)
    assert -1 <= arrays["actions"].min() < -0.95
    assert 0.95 < arrays["actions"].max() <= 1
    # Within 4 standard errors of the mean of 6000 uniform numbers in [-1, 1].
    assert abs(arrays["actions"].mean()) < 4 * 2 / np.sqrt(12 * 6000)
    assert "n_actions" not in attributes
