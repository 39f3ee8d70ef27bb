"""Fitted Q evaluation: exact values of finite processes, and the run axis."""

import math

import numpy as np
import pytest
import torch
from helpers.envs import random_mdp, uniform_policy
from rlop.agents import BC, DQN

from rlop import ope
from rlop.data.dataset import Dataset
from rlop.data.formats.generate import full_coverage, generate
from rlop.envs import chain, policy_q, policy_return
from rlop.ope.fqe import FQEOptions, fit_q, largest_return
from rlop.ope.policies import answers
from rlop.types import InputError

SMALL = {"hidden": (32,), "batch_size": 64, "lr": 1e-2, "tau": 0.02, "gamma": 0.8}
FEW = {**SMALL, "steps": 5, "batch_size": 8}


def data_of(columns, n_actions):
    return Dataset.from_arrays(
        columns["observations"],
        columns["actions"],
        columns["rewards"],
        columns["terminals"],
        columns["timeouts"],
        columns["next_observations"],
        n_actions=n_actions,
    )


def small_chain():
    """A chain, every pair of which the data hold; its right end pays 1."""
    mdp = chain(5)
    tables = np.stack([uniform_policy(mdp), np.eye(2)[np.full(5, 1)], np.eye(2)[np.full(5, 0)]])
    return mdp, tables, data_of(full_coverage(mdp, repeats=10), mdp.n_actions)


def test_values_are_those_of_the_process():
    mdp, tables, data = small_chain()
    options = FQEOptions(**SMALL, steps=600)
    model = fit_q(ope.policies_of_tables(mdp, tables), data, options)
    live = ~mdp.terminal
    for policy, table in enumerate(tables):
        exact = policy_q(mdp, table, 0.8)[live]
        for action in range(2):
            taken = model.taken(mdp.observations[live], np.full(live.sum(), action))
            np.testing.assert_allclose(taken[policy, 0], exact[:, action], atol=0.03)


def test_the_estimate_is_that_of_first_states_with_an_interval_over_fits():
    mdp, tables, _ = small_chain()
    data = data_of(generate(mdp, 400, epsilon=1.0, max_episode_steps=20), 2)
    policies = ope.policies_of_tables(mdp, tables)
    found = ope.fitted_q(policies, data, resamples=3, steps=600, **SMALL)
    for estimate, table in zip(found, tables):
        assert estimate.value == pytest.approx(policy_return(mdp, table, 0.8), abs=0.05)
        assert estimate.low < estimate.value < estimate.high
        assert estimate.high - estimate.low < 0.5
        assert estimate.value - estimate.low == pytest.approx(estimate.high - estimate.value)
    assert math.isnan(ope.fitted_q(policies, data, resamples=0, **FEW)[0].low)


def test_continuous_actions_of_a_process_with_a_closed_form():
    """r = s - a^2, s' = s / 2 + a / 4: Q is linear in s where the policy is constant."""
    rng = np.random.default_rng(0)
    obs, action = rng.uniform(-1, 1, (2, 3000, 1)).astype(np.float32)
    data = Dataset.from_arrays(
        obs,
        action,
        (obs - action**2)[:, 0],
        np.zeros(3000, bool),
        np.ones(3000, bool),
        obs / 2 + action / 4,
    )
    constants = np.array([0.0, 0.8, -0.8], np.float32)
    found = ope.fitted_q(
        lambda obs: np.tile(constants[:, None, None], (1, len(obs), 1)),
        data,
        resamples=0,
        **{**SMALL, "steps": 500, "gamma": 0.5},
    )
    # V(s) = k s + c: k = 1 + k / 4, and c = -a^2 + (k a / 4 + c) / 2.
    k = 4 / 3
    for constant, estimate in zip(constants, found):
        c = 2 * (-(constant**2) + k * constant / 8)
        assert estimate.value == pytest.approx(k * obs.mean() + c, abs=0.06)


def test_a_policy_alone_equals_itself_among_others_and_weights_are_its_own():
    mdp, tables, data = small_chain()
    weights = np.random.default_rng(0).random((2, data.n_episodes))
    states = mdp.observations[:4]

    def q(tables, weights):
        options = FQEOptions(**FEW)
        model = fit_q(ope.policies_of_tables(mdp, tables), data, options, weights)
        return model.taken(states, np.array([0, 1, 0, 1]))

    together = q(tables, weights)
    assert together.shape == (3, 2, 4)
    np.testing.assert_allclose(q(tables[1:2], weights)[0], together[1], rtol=1e-5)
    np.testing.assert_allclose(q(tables, weights[:1])[:, 0], together[:, 0], rtol=1e-5)
    assert not np.allclose(together[:, 0], together[:, 1], rtol=1e-3)


def test_an_episode_without_weight_has_no_part_in_the_fit():
    mdp, tables, data = small_chain()
    policies = ope.policies_of_tables(mdp, tables)
    changed = Dataset.from_arrays(
        data.obs,
        data.action,
        np.where(np.arange(len(data)) == 3, -0.7, data.reward),
        data.terminated,
        data.truncated,
        data.next_obs,
        n_actions=2,
    )
    weights = (np.arange(data.n_episodes) != 3).astype(float)[None]
    fits = [
        fit_q(policies, one, FQEOptions(**FEW), weights).taken(data.obs, data.action)
        for one in (data, changed)
    ]
    np.testing.assert_array_equal(*fits)


def test_a_network_that_diverged_has_no_value():
    mdp, tables, data = small_chain()
    policies = ope.policies_of_tables(mdp, tables[:1])
    model = fit_q(policies, data, FQEOptions(**FEW))
    model.active[0] = False
    assert np.isnan(model.taken(data.obs, data.action)).all()


def test_the_unit_is_the_largest_return():
    _, _, data = small_chain()
    assert largest_return(data, 0.8) == 1
    silent = Dataset.from_arrays(
        data.obs, data.action, 0 * data.reward, data.terminated, data.truncated, data.next_obs
    )
    assert largest_return(silent, 0.8) == 1


# ---- policies


@pytest.mark.parametrize("epsilon", [0.0, 0.4])
def test_policies_of_an_agent_are_its_actions(epsilon):
    mdp, _, data = small_chain()
    agent = DQN(data.spec, hidden=(8,), lr=[1e-3, 1e-2], seeds=2)
    chances = answers(ope.policies_of(agent, epsilon), mdp.observations, data.spec)
    obs = torch.from_numpy(mdp.observations).expand(4, *mdp.observations.shape)
    chosen = agent.act(obs).numpy()
    assert (chances.argmax(-1) == chosen).all()
    assert chances.max(-1) == pytest.approx(np.full(chosen.shape, 1 - epsilon / 2))

    both = ope.stacked([ope.policies_of(agent), ope.policies_of(agent)])
    assert answers(both, mdp.observations, data.spec).shape == (8, 5, 2)


def test_policies_of_tables_know_observations_by_their_states():
    mdp, policy = random_mdp(0)
    tables = np.stack([policy, uniform_policy(mdp)])
    found = ope.policies_of_tables(mdp, tables)(mdp.observations[[4, 0]])
    np.testing.assert_allclose(found, tables[:, [4, 0]], rtol=1e-6)


# ---- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 3}, "fitted_q: unknown key 'step', did you mean 'steps'?"),
        ({"gamma": 1.0}, "fitted_q: gamma = 1.0: expected"),
        ({"hidden": ()}, "fitted_q: hidden"),
    ],
)
def test_options_are_checked(options, message):
    mdp, tables, data = small_chain()
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        ope.fitted_q(ope.policies_of_tables(mdp, tables), data, **options)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda obs: np.ones((1, len(obs), 3)) / 3, r"shape \(1, \d+, 3\), expected \[P, \d+, 2\]"),
        (lambda obs: np.ones((len(obs), 2)) / 2, r"expected \[P, \d+, 2\]"),
        (lambda obs: np.full((1, len(obs), 2), np.nan), "not finite"),
        (lambda obs: np.full((2, len(obs), 2), 0.7), "policy 0 answers .*, expected probabilities"),
    ],
)
def test_answers_that_do_not_fit_are_refused(answer, message):
    _, _, data = small_chain()
    with pytest.raises(InputError, match=message):
        ope.fitted_q(answer, data, **FEW)


def test_data_that_cannot_be_used_are_refused():
    mdp, tables, data = small_chain()
    policies = ope.policies_of_tables(mdp, tables)
    with pytest.raises(InputError, match="one-step rows"):
        ope.fitted_q(policies, data.n_step(2, 0.8), **FEW)
    agent = BC(data.spec, hidden=(8,))
    with pytest.raises(InputError, match="epsilon"):
        ope.policies_of(agent, epsilon=2.0)
