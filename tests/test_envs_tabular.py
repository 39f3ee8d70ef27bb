"""Exact values of finite MDPs, by hand and by the equations that define them."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.envs import random_mdp, uniform_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from rlop.envs import (
    chain,
    epsilon_greedy,
    greedy_policy,
    gridworld,
    occupancy,
    optimal_q,
    policy_q,
    policy_return,
    policy_return_undiscounted,
    state_index,
)
from rlop.types import InputError

SEEDS = st.integers(0, 10_000)


# --- values ---


def test_chain_q_by_hand():
    g = 0.9
    left = [g**5, g**5, g**4, g**3, g**2, 0]
    right = [g**4, g**3, g**2, g, 1, 0]
    q = optimal_q(chain(6), g)
    np.testing.assert_allclose(q[:, 0], left, rtol=0, atol=1e-12)
    np.testing.assert_allclose(q[:, 1], right, rtol=0, atol=1e-12)


def test_chain_with_slip_by_hand():
    # Two states: right succeeds with probability p = 1 - slip / 2, so V = p + (1 - p) gamma V.
    gamma = 0.9
    p = 0.9
    v = p / (1 - (1 - p) * gamma)
    q = optimal_q(chain(2, slip=0.2), gamma)
    np.testing.assert_allclose(q[0], [0.1 + 0.9 * gamma * v, v], rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([0.0, 0.5, 0.9, 0.99]))
def test_optimal_q_is_the_q_of_its_greedy_policy_and_no_policy_beats_it(seed, gamma):
    mdp, policy = random_mdp(seed)
    q = optimal_q(mdp, gamma)
    np.testing.assert_allclose(q, policy_q(mdp, greedy_policy(q), gamma), rtol=0, atol=1e-9)
    assert (policy_q(mdp, policy, gamma) <= q + 1e-9).all()


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.floats(0, 0.99))
def test_policy_q_satisfies_the_bellman_equation(seed, gamma):
    mdp, policy = random_mdp(seed)
    q = policy_q(mdp, policy, gamma)
    value = (policy * q).sum(1)
    value[mdp.terminal] = 0
    for s in range(mdp.n_states):
        for a in range(mdp.n_actions):
            backup = 0.0
            if not mdp.terminal[s]:
                backup = mdp.transition[s, a] @ (mdp.reward[s, a] + gamma * value)
            np.testing.assert_allclose(q[s, a], backup, rtol=0, atol=1e-10)


@pytest.mark.parametrize("tol", [1.0, 1e-2, 1e-5])
def test_tolerance_bounds_the_distance_to_q_star(tol):
    mdp = gridworld(6, reward="distance")
    error = np.abs(optimal_q(mdp, 0.95, tol) - optimal_q(mdp, 0.95)).max()
    assert 1e-12 < error <= tol


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.floats(0.1, 0.9))
def test_occupancy_weighs_rewards_to_the_return(seed, gamma):
    mdp, policy = random_mdp(seed)
    visits = occupancy(mdp, policy, gamma)
    assert visits.sum() == pytest.approx(1)
    assert not visits[mdp.terminal].any()

    # Visits are scaled by the return of a reward of one.
    of_ones = replace(mdp, reward=np.ones_like(mdp.reward))
    scale = policy_return(of_ones, policy, gamma)
    expected = policy_return(mdp, policy, gamma)
    assert (visits * mdp.expected_reward).sum() * scale == pytest.approx(expected, abs=1e-9)


def test_undiscounted_return_within_a_horizon_by_hand():
    # Coin flips reach the end of a 3-chain in two steps by RR, in three by LRR, in four by LLRR
    # and RLRR.
    mdp = chain(3)
    coin = uniform_policy(mdp)
    for horizon, expected in enumerate([0, 0, 0.25, 0.375, 0.5]):
        assert policy_return_undiscounted(mdp, coin, horizon) == pytest.approx(expected)


def test_policies_by_hand():
    q = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    np.testing.assert_array_equal(greedy_policy(q), [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(epsilon_greedy(q, 0.3), [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])


# --- checks ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transition", np.full((3, 2, 3), 2.0)),
        ("reward", np.zeros((2, 3))),
        ("terminal", np.zeros(2, bool)),
        ("initial", np.array([0.0, 0, 1])),  # on a terminal state
        ("observations", np.zeros(3)),
        ("reward", np.full((3, 2, 3), np.nan)),
    ],
)
def test_parts_that_do_not_fit_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name}.*: expected"):
        replace(chain(3), **{name: value})


def test_policies_and_discounts_are_checked():
    mdp = chain(3)
    with pytest.raises(ValueError, match="policy"):
        policy_q(mdp, np.ones((3, 2)), 0.9)
    with pytest.raises(ValueError, match="policy"):
        policy_q(mdp, np.ones((2, 2)) / 2, 0.9)
    with pytest.raises(ValueError, match="gamma"):
        optimal_q(mdp, 1.0)
    with pytest.raises(ValueError, match="gamma"):
        policy_q(mdp, uniform_policy(mdp), -0.1)


# --- from observations to states ---


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_state_index_inverts_the_table(seed):
    mdp, _ = random_mdp(seed)
    state = np.random.default_rng(seed).integers(mdp.n_states, size=(3, 4))
    np.testing.assert_array_equal(state_index(mdp, mdp.observations[state]), state)
    assert state_index(mdp, mdp.observations[2]) == 2


def test_negative_zero_is_zero():
    mdp = chain(4)
    observations = np.where(mdp.observations == 0, -0.0, mdp.observations)
    np.testing.assert_array_equal(state_index(mdp, observations), np.arange(4))


def test_state_index_refuses_unknown_and_ambiguous_observations():
    mdp = chain(4)
    off_by_a_little = mdp.observations[:2].copy()
    off_by_a_little[1] += 1e-6
    with pytest.raises(InputError, match="1 of 2 are of no state"):
        state_index(mdp, off_by_a_little)
    with pytest.raises(ValueError, match="expected shape"):
        state_index(mdp, np.zeros((2, 3)))

    blind = replace(mdp, observations=np.zeros((4, 2)))
    with pytest.raises(InputError, match="look alike"):
        state_index(blind, np.zeros(2))
