"""Offline learning with a known answer."""

import numpy as np
import pytest
import torch
from rlop.agents import CQL, DQN, EDAC, IQL, TD3BC, DiscreteCQL, ReBRAC

import rlop
from rlop.data.adapter import adapter_of
from rlop.data.dataset import Dataset
from rlop.data.formats.generate import full_coverage
from rlop.envs import TabularEnv, chain, gridworld, policy_q, policy_return_undiscounted
from rlop.training.evaluate import TabularEvaluator

QUIET = {"log_every": 0, "probe_every": 0, "progress": False}


def exact_evaluator(mdp, agent):
    """Return the exact evaluation of an agent within 50 steps."""
    adapter = adapter_of(agent.spec, TabularEnv(mdp))
    return TabularEvaluator(mdp, agent.runs.values["gamma"], horizon=50, adapter=adapter)


def covered(mdp):
    """Return every state-action pair of an MDP once."""
    rows = full_coverage(mdp)

    return Dataset.from_arrays(
        rows["observations"],
        rows["actions"],
        rows["rewards"],
        rows["terminals"],
        rows["timeouts"],
        rows["next_observations"],
        n_actions=mdp.n_actions,
    )


def final_error(mdp, steps, **options):
    """Train DQN on all transitions, and return max |Q - Q*| of each run.

    The greedy policy must reach the goal.
    """
    data = covered(mdp)
    agent = DQN(data.spec, gamma=0.9, **options)
    evaluate = exact_evaluator(mdp, agent)
    history = rlop.train(agent, data, steps, evaluate=evaluate, eval_every=steps, **QUIET)

    assert (history.get("eval/return")[1][-1] == 1).all()
    return history.get("eval/q_error_max")[1][-1]


SLOW = pytest.mark.slow


@pytest.mark.parametrize("backup", ["max", pytest.param("double", marks=SLOW)])
def test_chain_reaches_the_optimal_q(backup):
    options = {"lr": 2e-3, "adam_eps": 1e-3, "target_period": 20, "batch_size": 10}
    error = final_error(chain(6), 1500, seeds=2, backup=backup, hidden=(64, 64), **options)
    assert error.max() < 1e-3


def test_small_gridworld_reaches_the_optimal_q():
    options = {"lr": 2e-3, "adam_eps": 1e-3, "target_period": 30, "batch_size": 32}
    mdp = gridworld(5, slip=0.0, seed=1)
    assert final_error(mdp, 1500, hidden=(128, 128), **options).max() < 0.02


@SLOW
def test_gridworld_reaches_the_optimal_q_to_two_percent_of_its_range():
    options = {"lr": 1e-3, "adam_eps": 1e-4, "target_period": 100, "batch_size": 256}
    mdp = gridworld(16, slip=0.0)
    assert final_error(mdp, 20_000, seeds=3, hidden=(256, 256), **options).max() < 0.02


@pytest.mark.parametrize("backup", ["sarsa", "behavior"])
def test_the_value_of_the_behavior_policy_is_learned(backup):
    """On uniformly random data of the chain, where `max` learns Q*."""
    data = rlop.load_dataset("chain?steps=4000&epsilon=1.0&max_episode_steps=200")
    options = {"hidden": (64,), "lr": 2e-3, "target_period": 25, "batch_size": 256}
    agent = DQN(data.spec, backup=backup, gamma=0.9, **options)
    rlop.train(agent, data, 1500, **QUIET)

    obs = torch.from_numpy(chain(6).observations)[None]
    q = agent.q_values(obs)[0, :5].numpy()
    expected = policy_q(chain(6), np.full((6, 2), 0.5), 0.9)[:5]
    np.testing.assert_allclose(q, expected, atol=0.06)


def test_monte_carlo_regresses_on_the_return():
    data = rlop.load_dataset("chain?steps=2000&epsilon=0.0")
    agent = DQN(data.spec, backup="mc", hidden=(32,), lr=1e-2, gamma=0.9, batch_size=32)
    history = rlop.train(agent, data, 400, **{**QUIET, "log_every": 100})
    mean_return = np.mean(0.9 ** np.arange(5))

    assert history.get("loss/td")[1][-1].item() < 1e-3
    assert history.get("q/data")[1][-1].item() == pytest.approx(mean_return, abs=0.05)


def test_cql_stays_with_the_data_where_dqn_overestimates():
    """Half of the actions are never seen: DQN bootstraps from their invented values."""
    data = rlop.load_dataset("gridworld?size=6&steps=3000&epsilon=0.1&observation=random&seed=3")
    mdp = gridworld(6, observation="random", seed=3)
    returns = {}
    for make in (DQN, DiscreteCQL):
        agent = make(data.spec, seeds=2, hidden=(64, 64))
        rlop.train(agent, data, 500, **QUIET)
        scores = exact_evaluator(mdp, agent)(agent)
        returns[make] = scores["eval/return"].mean()

    assert returns[DiscreteCQL] > 0.9
    assert returns[DiscreteCQL] > returns[DQN]


def test_iql_finds_the_goal_in_transitions_that_lead_everywhere():
    mdp = gridworld(4, slip=0.0, seed=1)
    data = covered(mdp)
    rates = {"lr": 3e-3, "policy_lr": 3e-3, "value_lr": 3e-3, "tau": 0.05}
    sizes = {"hidden": (64, 64), "policy_hidden": (64,), "batch_size": 32}
    options = {"expectile": 0.9, "inverse_temperature": 30.0, **rates, **sizes}
    agent = IQL(data.spec, seeds=2, gamma=0.9, **options)
    rlop.train(agent, data, 600, **QUIET)

    obs = torch.from_numpy(mdp.observations).expand(2, -1, -1)
    for action in agent.act(obs).numpy():
        policy = np.eye(mdp.n_actions)[action]
        assert policy_return_undiscounted(mdp, policy, 50) == 1


def bandit(rows=2000):
    """Return single steps with the reward -(a - s/2)^2, and actions drawn without regard to s."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (rows, 1)).astype(np.float32)
    action = rng.uniform(-1, 1, (rows, 1)).astype(np.float32)
    reward = -((action - obs / 2) ** 2)[:, 0]
    ends = np.ones(rows, bool)
    return Dataset.from_arrays(obs, action, reward, ends, ~ends, obs)


SOFT = {"entropy_coef": 1e-3, "entropy_lr": 0.0}
BANDITS = {
    "CQL": (CQL, {"alpha": 0.0, "action_samples": 2, **SOFT}),
    "EDAC": (EDAC, {"n_critics": 3, "eta": 0.01, **SOFT}),
    "ReBRAC": (ReBRAC, {"policy_bc": 0.0, "normalize_q": False}),
    "TD3BC": (TD3BC, {"policy_bc": 0.0, "normalize_q": False}),
    "ReBRAC hl_gauss": (
        ReBRAC,
        {
            "policy_bc": 0.0,
            "normalize_q": False,
            "head": {"hl_gauss": {"v_min": -3.0, "v_max": 0.5}},
        },
    ),
    "EDAC quantile": (
        EDAC,
        {"n_critics": 3, "eta": 0.01, "head": {"quantile": {"n": 8}}, **SOFT},
    ),
}


# The others differ from these in one term.
QUICK = ("CQL", "ReBRAC", "EDAC quantile")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else SLOW) for name in BANDITS]
)
def test_the_best_action_of_a_bandit_is_found(name):
    make, options = BANDITS[name]
    data = bandit()
    rates = {"lr": 3e-3, "policy_lr": 3e-3, "tau": 0.05}
    sizes = {"hidden": (32, 32), "policy_hidden": (16,), "batch_size": 64}
    agent = make(data.spec, **rates, **sizes, **options)
    rlop.train(agent, data, 500, compile=False, **QUIET)

    obs = torch.linspace(-1, 1, 21).view(1, -1, 1)
    error = (agent.act(obs) - obs / 2).abs()
    assert error.max() < 0.15
    assert error.mean() < 0.07
