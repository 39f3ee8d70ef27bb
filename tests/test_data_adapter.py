"""Environments that fit the data, and the way there and back of observations and actions."""

from __future__ import annotations

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

from rlop import Evaluator
from rlop.data import Dataset, check_spaces
from rlop.data.adapter import adapter_of, flat_obs, obs_keys, parts_of
from rlop.data.units import scale_actions, with_bounds
from rlop.types import InputError, Spec


class Shaped(gymnasium.Env):
    """An environment that has nothing but its spaces."""

    def __init__(self, obs, action):
        self.observation_space = obs
        self.action_space = action


def box(*shape, dtype=np.float32):
    return gymnasium.spaces.Box(0 if dtype == np.bool_ else -1, 1, shape, dtype)


DISCRETE, CONTINUOUS = Spec((4,), 2), Spec((4,), None, (3,))
TWO = gymnasium.spaces.Discrete(2)
BYTES = gymnasium.spaces.Box(0, 255, (4,), np.uint8)


@pytest.mark.parametrize(
    ("spec", "env"),
    [
        (DISCRETE, Shaped(box(4, dtype=np.float64), TWO)),
        (CONTINUOUS, Shaped(box(4), box(3))),
        (Spec((4,), 2, obs_dtype="uint8"), Shaped(BYTES, TWO)),
        (Spec((4,), 2, obs_dtype="bool"), Shaped(box(4, dtype=np.bool_), TWO)),
    ],
)
def test_spaces_that_fit(spec, env):
    check_spaces(spec, env)


def test_spaces_of_a_vector_of_environments_fit():
    envs = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    check_spaces(DISCRETE, envs)


@pytest.mark.parametrize(
    ("spec", "env", "message"),
    [
        (
            Spec((5,), 2),
            gymnasium.make("CartPole-v1"),
            r"CartPole-v1: observations \(4,\) float32, but the data has \(5,\) float32",
        ),
        (
            Spec((4,), 3),
            gymnasium.make("CartPole-v1"),
            r"CartPole-v1: action space Discrete\(2\), but the data has 3 discrete actions",
        ),
        (CONTINUOUS, Shaped(box(4), box(2)), r"but the data has continuous \(3,\) actions"),
        (DISCRETE, Shaped(box(4), box(2)), r"action space Box.*but the data has 2 discrete"),
        (DISCRETE, Shaped(BYTES, TWO), r"\(4,\) uint8, but the data has \(4,\) float32"),
    ],
)
def test_spaces_that_do_not_fit_are_named(spec, env, message):
    with pytest.raises(InputError, match=message):
        check_spaces(spec, env)


# ---- there and back


class Player(gymnasium.Env):
    """An environment that records what is played, and shows one observation."""

    def __init__(self, action_space, obs_space=None, obs=None):
        self.action_space = action_space
        self.observation_space = obs_space or gymnasium.spaces.Box(-1, 1, (2,))
        self.shown = np.zeros(2, np.float32) if obs is None else obs
        self.played = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.shown, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.played.append(action)
        return self.shown, 1.0, len(self.played) == 3, False, {}


class Repeats:
    """A policy that always takes the action of one row of a data set, as it is stored."""

    device = torch.device("cpu")

    def __init__(self, data, row=0):
        self.spec = data.spec
        self.stored = torch.from_numpy(data.action)[row]

    def one_run(self, run):
        return self

    def act(self, obs):
        return self.stored.expand(*obs.shape[:2], *self.stored.shape)


def played(env, data, row=0):
    """Evaluate `Repeats` in an environment, and return the actions that it got."""
    env.played.clear()
    gymnasium.register("test/Player-v0", lambda: env, max_episode_steps=9)
    try:
        Evaluator("test/Player-v0", [0], 1, spec=data.spec).rollout(Repeats(data, row))
    finally:
        del gymnasium.registry["test/Player-v0"]
    return np.array(env.played)


def recorded(action, **options):
    """Rows that hold the actions, each an episode of its own."""
    rows = len(action)
    ends = np.ones(rows, bool)
    obs = np.zeros((rows, 2), np.float32)
    return Dataset.from_arrays(obs, action, ends, ends, ~ends, obs, **options)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-2.0, 2.0), ([-1.0, 0.0], [3.0, 10.0])], ids=str
)
def test_continuous_actions_are_played_in_the_units_in_which_they_were_recorded(low, high):
    space = gymnasium.spaces.Box(np.full(2, low, np.float32), np.full(2, high, np.float32))
    space.seed(0)
    own = np.stack([space.sample() for _ in range(4)])
    data = scale_actions(recorded(own), low, high)
    assert np.abs(data.action).max() <= 1
    for row in range(4):
        np.testing.assert_allclose(played(Player(space), data, row), [own[row]] * 3, atol=1e-6)


def test_a_data_set_with_an_unsaid_unit_is_asked_about():
    data = recorded(np.full((4, 2), 0.2, np.float32))
    space = gymnasium.spaces.Box(0, 1, (2,))
    with pytest.raises(InputError, match=r"nothing says in which units.*action_low"):
        played(Player(space), data)
    kept = with_bounds(data, 0, 1)  # the same numbers, said to be in [-1, 1]
    np.testing.assert_allclose(played(Player(space), kept), [[0.6, 0.6]] * 3, atol=1e-6)


def test_boxes_of_several_axes_get_their_shape_back():
    space = gymnasium.spaces.Box(-1, 1, (2, 3))
    own = np.linspace(-1, 1, 6, dtype=np.float32)
    data = recorded(own[None])
    expected = [own.reshape(2, 3)] * 3
    np.testing.assert_allclose(played(Player(space), data), expected, rtol=1e-6)


def test_discrete_actions_get_their_start_back():
    data = recorded(np.array([1, 6, 4]), n_actions=6, action_start=1)
    assert data.action.tolist() == [0, 5, 3]
    space = gymnasium.spaces.Discrete(6, start=1)
    assert played(Player(space), data, 1).tolist() == [6] * 3

    counted_from_zero = recorded(np.array([0, 5]), n_actions=6, action_start=1, action_units="unit")
    assert played(Player(space), counted_from_zero, 0).tolist() == [1] * 3
    with pytest.raises(
        InputError, match=r"actions from 1 on, but the data's from 0;.*action_start"
    ):
        played(Player(space), recorded(np.array([1, 5]), n_actions=6))


def test_actions_of_several_parts_are_numbered_jointly():
    space = gymnasium.spaces.MultiDiscrete([2, 3])
    own = np.array([[1, 2], [0, 1], [1, 0]])
    data = recorded(own, n_actions=[2, 3])
    assert data.spec.n_actions == 6
    assert data.action.tolist() == [5, 1, 3]
    for row in range(3):
        assert played(Player(space), data, row).tolist() == [own[row].tolist()] * 3

    joint = recorded(np.array([5, 1]), n_actions=[2, 3])
    assert played(Player(space), joint, 1).tolist() == [[0, 1]] * 3
    with pytest.raises(InputError, match=r"nothing says how.*n_actions: \[2, 3\]"):
        played(Player(space), recorded(np.array([5, 1]), n_actions=6))


@pytest.mark.parametrize(
    ("action", "options", "message"),
    [
        (np.zeros((2, 2), int), {}, r"expected \[N\] or \[N, 1\];.*n_actions = \[choices"),
        ([[0, 3], [0, 0]], {"n_actions": [2, 3]}, r"\[0, 3\] at row 0, expected parts below"),
        ([[0, 0, 0]], {"n_actions": [2, 3]}, r"shape \(1, 3\), expected \[N, 2\]"),
        ([[0, 0]], {"n_actions": [70, 70]}, "4900 joint actions, expected 1 to 4096"),
        ([0, 1], {"action_start": 1}, "action: 0, expected at least action_start = 1"),
        ([0, 1], {"action_low": 0, "action_high": 1}, "expected continuous actions"),
        ([0.5, 0.5], {"action_low": 0}, "expected both, or neither"),
        ([0.5, 0.5], {"action_start": 1}, "action_start = 1: expected discrete actions"),
        ([0.5, 0.5], {"action_units": "radians"}, "action_units"),
    ],
)
def test_actions_that_contradict_what_is_said_of_them_are_refused(action, options, message):
    with pytest.raises(InputError, match=message):
        recorded(np.array(action), **options)


def test_boxes_without_a_bound_on_random_actions_are_refused():
    env = Player(gymnasium.spaces.Box(-np.inf, np.inf, (2,)))
    with pytest.raises(InputError, match=r"eval_epsilon = 0\.5.*no bounds to draw random"):
        Evaluator(env, [0], 1, epsilon=0.5)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (1, 1, "expected low < high"),
        (0, np.inf, "action_high = inf"),
        ([0, 0, 0], 1, "action_low = "),
        (0.5, 1, r"actions from 0\.2 to 0\.2, expected them within"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(low, high, message):
    with pytest.raises(InputError, match=message):
        scale_actions(recorded(np.full((3, 2), 0.2, np.float32)), low, high)


def test_dictionaries_are_flattened_as_minaris_are():
    inner = gymnasium.spaces.Dict({"y": gymnasium.spaces.Discrete(3, start=1)})
    space = gymnasium.spaces.Dict({"b": gymnasium.spaces.Box(-9, 9, (2,)), "a": inner})
    obs = {"b": np.array([[5.0, 6.0]]), "a": {"y": np.array([2])}}
    keys = obs_keys(space, (), "E")
    assert keys == ("a/y", "b")
    assert flat_obs(parts_of(space, keys), obs).tolist() == [[0, 1, 0, 5, 6]]
    assert flat_obs(parts_of(space, ("b",)), obs).tolist() == [[5, 6]]
    with pytest.raises(InputError, match=r"E: observations have .*but the data \['c'\]"):
        obs_keys(space, ("c",), "E")


def test_a_policy_sees_a_dictionary_as_its_data_have_it():
    space = gymnasium.spaces.Dict(
        {"goal": gymnasium.spaces.Box(-1, 1, (1,)), "at": gymnasium.spaces.Discrete(2)}
    )
    shown = {"goal": np.array([0.5], np.float32), "at": 1}
    data = recorded(np.zeros(3, int), n_actions=2)
    spec = replace(data.spec, obs_shape=(3,), obs_keys=("goal", "at"))
    data = replace(data, spec=spec)
    env = Player(gymnasium.spaces.Discrete(2), space, shown)
    seen = []

    class Watches(Repeats):
        def act(self, obs):
            seen.append(obs.clone())
            return super().act(obs)

    gymnasium.register("test/Player-v0", lambda: env, max_episode_steps=9)
    try:
        Evaluator("test/Player-v0", [0], 1, spec=spec).rollout(Watches(data))
    finally:
        del gymnasium.registry["test/Player-v0"]
    assert seen[0].tolist() == [[[0.5, 0.0, 1.0]]]


def test_rewards_that_are_no_numbers_make_the_score_nan_and_are_said(caplog):
    class Broken(Player):
        def step(self, action):
            obs, _, over, cut, info = super().step(action)
            return obs, np.nan, over, cut, info

    data = recorded(np.zeros(3, int), n_actions=2)
    env = Broken(gymnasium.spaces.Discrete(2))
    gymnasium.register("test/Broken-v0", lambda: env, max_episode_steps=9)
    try:
        scores = Evaluator("test/Broken-v0", [0], 1, spec=data.spec)(Repeats(data))
    finally:
        del gymnasium.registry["test/Broken-v0"]
    assert np.isnan(scores["eval/return"]).all()
    assert "'test/Broken-v0': NaN or infinite observations or rewards in run 0" in caplog.text


def test_observations_that_are_no_numbers_are_refused():
    text = gymnasium.spaces.Text(4)
    pair = gymnasium.spaces.Tuple([TWO, TWO])
    for space in (text, pair, gymnasium.spaces.Dict({"a": TWO, "b": text})):
        with pytest.raises(InputError, match=r"observations (Text|Tuple).*expected Box, Discrete"):
            check_spaces(DISCRETE, Shaped(space, TWO))

    # A part that the data do not read may be anything.
    spec = replace(DISCRETE, obs_shape=(2,), obs_keys=("a",))
    check_spaces(spec, Shaped(gymnasium.spaces.Dict({"a": TWO, "b": text}), TWO))


def test_what_the_data_leave_open_is_said(caplog):
    caplog.set_level("INFO")
    parts = gymnasium.spaces.Dict({"b": box(1), "a": box(3)})
    check_spaces(DISCRETE, Shaped(parts, TWO))
    assert "Shaped: the parts of an observation are joined in the order ['a', 'b']" in caplog.text

    caplog.clear()
    bounds = {"action_low": (-1.0, -1.0), "action_high": (1.0, 1.0)}
    check_spaces(Spec((4,), None, (2,), **bounds), Shaped(box(4), box(2)))
    assert caplog.text == ""
    bounds["action_high"] = (1.0, 2.0)
    check_spaces(Spec((4,), None, (2,), **bounds), Shaped(box(4), box(2)))
    assert "[-1.0, -1.0] to [1.0, 2.0], lie beyond the environment's" in caplog.text


def test_masked_arrays_are_refused_whatever_is_said_of_them():
    masked = np.ma.masked_array(np.zeros((3, 1), np.float32), [[0], [1], [0]])
    with pytest.raises(InputError, match="action: a masked array"):
        recorded(masked, action_low=0, action_high=1)
    states = np.ma.masked_array([0, 1], [False, True])
    ends = np.ones(2, bool)
    with pytest.raises(InputError, match="obs: a masked array"):
        Dataset.from_arrays(states, [0, 1], ends, ends, ends, n_states=2)


def test_actions_of_integers_are_the_nearest_ones():
    space = gymnasium.spaces.Box(0, 10, (1,), np.int32)
    spec = Spec((4,), None, (1,), action_low=(0.0,), action_high=(10.0,))
    adapter = adapter_of(spec, Shaped(box(4), space))
    played = adapter.action(np.array([[-1.0], [0.19], [0.21], [0.99], [1.0]], np.float32))
    assert played.reshape(-1).tolist() == [0, 6, 6, 10, 10]
    assert played.dtype == np.int32


def test_parts_of_dictionaries_are_looked_up_once(monkeypatch):
    space = gymnasium.spaces.Dict({"b": box(2), "a": gymnasium.spaces.Dict({"c": box(1)})})
    adapter = adapter_of(Spec((3,), 2), Shaped(space, TWO))
    monkeypatch.setattr("rlop.data.adapter.leaves", None)
    obs = adapter.obs({"b": np.ones((1, 2)), "a": {"c": np.zeros((1, 1))}})
    assert obs.tolist() == [[0, 1, 1]]
