"""Gymnasium environments of an MDP, one copy and many, against exact numbers and each other."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from helpers.envs import random_mdp
from hypothesis import given, settings
from hypothesis import strategies as st

from rlop.envs import (
    TabularEnv,
    TabularMDP,
    TabularVectorEnv,
    chain,
    policy_return,
    policy_return_undiscounted,
)
from rlop.envs.stepping import sample_next, successors
from rlop.types import InputError

# --- successors ---


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_successor_table_holds_every_transition(seed):
    mdp, _ = random_mdp(seed)
    next_state, cumulative = successors(mdp)
    p = np.zeros_like(mdp.transition)
    s, a, _ = np.indices(next_state.shape)
    np.add.at(p, (s, a, next_state), np.diff(cumulative, axis=-1, prepend=0))
    np.testing.assert_allclose(p, mdp.transition, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("state", "action"), [(0, 0), (3, 2)])
def test_sampled_successors_have_their_probabilities(state, action):
    mdp, _ = random_mdp(1)
    n = 20_000
    rng = np.random.default_rng(0)
    drawn = sample_next(successors(mdp), np.full(n, state), np.full(n, action), rng)

    p = mdp.transition[state, action]
    share = np.bincount(drawn, minlength=6) / n
    assert not share[p == 0].any()
    # 2 / n for transitions that are all but impossible.
    bound = 4 * np.sqrt(p * (1 - p) / n) + 2 / n
    assert (np.abs(share - p) <= bound).all()


class LargestDraw:
    """A generator whose uniform numbers are the largest below 1."""

    def random(self, n):
        return np.full(n, np.nextafter(1, 0))


def test_the_largest_uniform_number_still_finds_a_successor():
    # Ten times 0.1 adds up to less than 1 in float64.
    p = np.full((10, 1, 10), 0.1)
    assert p[0, 0].cumsum()[-1] < 1
    first = np.eye(10)[0]
    mdp = TabularMDP(p, np.zeros_like(p), np.zeros(10, bool), first, np.eye(10))
    zero = np.zeros(3, int)
    assert sample_next(successors(mdp), zero, zero, LargestDraw()).tolist() == [9, 9, 9]


# --- registered environments ---


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rlop/GridWorld-v0", {}),
        ("rlop.envs:rlop/GridWorld-v0", {"size": 8, "observation": "smooth"}),
        ("rlop/Chain-v0", {}),
        ("rlop/Chain-v0", {"slip": 0.1, "observation": "random"}),
    ],
)
def test_gymnasium_finds_no_fault(name, options):
    env = gymnasium.make(name, **options)
    check_env(env.unwrapped)  # warnings are errors here
    assert env.unwrapped.mdp.n_actions == env.action_space.n
    assert env.spec.make().spec.kwargs == options


@pytest.mark.parametrize(("name", "limit"), [("rlop/GridWorld-v0", 50), ("rlop/Chain-v0", 20)])
def test_registered_time_limits(name, limit):
    single = gymnasium.make(name)
    several = gymnasium.make_vec(name, num_envs=3)
    single.reset(seed=0)
    several.reset(seed=0)
    away_from_the_goal = 0  # stay, or left
    for step in range(1, limit + 1):
        truncated = single.step(away_from_the_goal)[3]
        assert truncated == (step == limit)
        assert (several.step(np.full(3, away_from_the_goal))[3] == truncated).all()


def test_the_time_limit_of_copies_is_an_option():
    envs = gymnasium.make_vec("rlop/Chain-v0", num_envs=2, max_episode_steps=7)
    assert envs.unwrapped.max_episode_steps == 7


@pytest.mark.parametrize("seed", range(5))
def test_start_states_follow_the_seed(seed):
    mdp, _ = random_mdp(0, s=40)
    starts = TabularVectorEnv(mdp, 50).reset(seed=seed)[1]["state"]
    again = TabularVectorEnv(mdp, 50).reset(seed=seed)[1]["state"]
    neighbor = TabularVectorEnv(mdp, 50).reset(seed=seed + 1)[1]["state"]
    assert (starts == again).all()
    assert (starts != neighbor).any()
    # Nor are they those of the neighbor, shifted by one copy.
    assert (starts[1:] != neighbor[:-1]).any()
    assert (starts[:-1] != neighbor[1:]).any()


# --- returns ---


def discounted_returns(env, policy, gamma, steps):
    """Return of the first episode of each copy."""
    rng = np.random.default_rng(1)
    cumulative = policy.cumsum(1)
    _, info = env.reset(seed=2)
    alive = np.ones(env.num_envs, bool)
    total = np.zeros(env.num_envs)
    for t in range(steps):
        draw = rng.random((env.num_envs, 1))
        action = (draw > cumulative[info["state"]]).sum(1)
        action = np.minimum(action, policy.shape[1] - 1)
        _, reward, terminated, truncated, info = env.step(action)
        total += alive * gamma**t * reward
        alive &= ~(terminated | truncated)
    return total


def assert_mean(returns, expected):
    """The mean is within four standard errors."""
    standard_error = returns.std() / np.sqrt(len(returns))
    assert abs(returns.mean() - expected) < 4 * standard_error


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rollouts_average_to_the_exact_return(seed):
    mdp, policy = random_mdp(seed)
    endless = TabularVectorEnv(mdp, 4000)
    returns = discounted_returns(endless, policy, 0.8, steps=80)  # 0.8^80 = 2e-8
    assert_mean(returns, policy_return(mdp, policy, 0.8))

    limited = TabularVectorEnv(mdp, 4000, max_episode_steps=6)
    returns = discounted_returns(limited, policy, 1.0, steps=6)
    assert_mean(returns, policy_return_undiscounted(mdp, policy, 6))


def test_single_env_rollouts_average_to_the_exact_return():
    mdp = chain(4, slip=0.4)
    env = gymnasium.wrappers.TimeLimit(TabularEnv(mdp), 5)
    env.reset(seed=0)
    returns = np.zeros(800)
    for episode in range(800):
        env.reset()
        over = False
        while not over:
            _, reward, terminated, truncated, _ = env.step(1)
            returns[episode] += reward
            over = terminated or truncated

    always_right = np.tile([0.0, 1.0], (4, 1))
    assert_mean(returns, policy_return_undiscounted(mdp, always_right, 5))


# --- many copies ---


@pytest.mark.parametrize(
    ("name", "options"),
    [("rlop/Chain-v0", {"length": 4}), ("rlop/GridWorld-v0", {"size": 4, "slip": 0.0})],
)
def test_vector_env_steps_like_gymnasiums_own(name, options):
    ours = gymnasium.make_vec(name, num_envs=5, vectorization_mode=None, **options)
    theirs = gymnasium.make_vec(name, num_envs=5, vectorization_mode="sync", **options)
    assert isinstance(ours, TabularVectorEnv)
    assert ours.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert theirs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.single_action_space == theirs.single_action_space
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space

    np.testing.assert_array_equal(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    rng = np.random.default_rng(0)
    terminations = 0
    truncations = 0
    for _ in range(150):
        action = rng.integers(ours.single_action_space.n, size=5)
        action[0] = 0  # stay or left in one copy, so that it runs into the time limit
        *our_step, our_info = ours.step(action)
        *their_step, their_info = theirs.step(action)
        for our_value, their_value in zip(our_step, their_step, strict=True):
            np.testing.assert_array_equal(our_value, their_value)
            assert our_value.dtype == their_value.dtype
        for key in ("state", "_state"):
            np.testing.assert_array_equal(our_info[key], their_info[key])
        terminations += our_step[2].sum()
        truncations += our_step[3].sum()

    # Both kinds of ending were seen.
    assert terminations > 2
    assert truncations > 2


def test_vector_env_autoreset_by_hand():
    env = TabularVectorEnv(chain(3), 2, max_episode_steps=3)
    env.reset(seed=0)
    # Actions of both copies -> states, rewards, terminated, truncated.
    steps = [
        ([1, 0], [1, 0], [0, 0], [0, 0], [0, 0]),
        ([1, 0], [2, 0], [1, 0], [1, 0], [0, 0]),
        ([1, 0], [0, 0], [0, 0], [0, 0], [0, 1]),
        ([1, 1], [1, 0], [0, 0], [0, 0], [0, 0]),
        ([1, 1], [2, 1], [1, 0], [1, 0], [0, 0]),
    ]
    for action, *expected in steps:
        _, reward, terminated, truncated, info = env.step(np.array(action))
        step = [info["state"], reward, terminated, truncated]
        np.testing.assert_array_equal(step, expected)


# --- use and misuse ---


@pytest.mark.parametrize(
    ("env", "action"),
    [(TabularEnv(chain(3)), 0), (TabularVectorEnv(chain(3), 2), np.zeros(2, int))],
    ids=["one", "many"],
)
def test_writing_into_what_is_returned_does_not_change_the_environment(env, action):
    obs, info = env.reset(seed=0)
    obs += 5
    np.testing.assert_array_equal(env.mdp.observations, np.eye(3))

    info["state"] *= 0
    info["state"] += 2
    state = env.step(action)[-1]["state"]
    assert not np.any(state)


def test_a_misused_environment_says_so():
    env = TabularEnv(chain(2))
    with pytest.raises(InputError, match="reset"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(InputError, match="action"):
        env.step(-1)
    env.step(1)
    with pytest.raises(InputError, match="over"):
        env.step(1)


def test_misused_copies_say_so():
    with pytest.raises(InputError, match="num_envs"):
        TabularVectorEnv(chain(2), 0)

    envs = TabularVectorEnv(chain(2), 2)
    with pytest.raises(InputError, match="reset"):
        envs.step(np.zeros(2, int))
    envs.reset()
    for wrong in (np.zeros(3, int), np.array([0, 2]), np.zeros(2)):
        with pytest.raises(InputError, match="actions"):
            envs.step(wrong)
