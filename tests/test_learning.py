"""Offline learning with a known answer."""

import numpy as np
import pytest
from rlop.agents import DQN, DiscreteCQL

import rlop
from rlop.data.dataset import Dataset
from rlop.data.formats.generate import full_coverage
from rlop.envs import chain, gridworld
from rlop.training.evaluate import TabularEvaluator


def covered(mdp):
    """Every state-action pair once."""
    d = full_coverage(mdp)
    return Dataset.from_arrays(
        d["observations"],
        d["actions"],
        d["rewards"],
        d["terminals"],
        d["timeouts"],
        d["next_observations"],
        n_actions=mdp.n_actions,
    )


def final_error(mdp, gamma, steps, **options):
    data = covered(mdp)
    agent = DQN(data.spec, gamma=gamma, **options)
    score = TabularEvaluator(mdp, agent.runs.values["gamma"], horizon=50)
    quiet = {"eval_every": steps, "probe_every": 0, "log_every": 0, "progress": False}
    history = rlop.train(agent, data, steps, evaluate=score, **quiet)
    assert (history.get("eval/return")[1][-1] == 1).all()
    return history.get("eval/q_error_max")[1][-1]


@pytest.mark.parametrize("backup", ["max", "double"])
def test_chain_reaches_the_optimal_q(backup):
    options = {
        "hidden": (64, 64),
        "lr": 1e-3,
        "target_period": 25,
        "batch_size": 10,
        "adam_eps": 1e-3,
    }
    error = final_error(chain(6), 0.9, 2500, seeds=2, backup=backup, **options)
    assert error.max() < 1e-3


def test_small_gridworld_reaches_the_optimal_q():
    options = {
        "hidden": (128, 128),
        "lr": 1e-3,
        "target_period": 50,
        "batch_size": 64,
        "adam_eps": 1e-3,
    }
    assert final_error(gridworld(5, slip=0.0, seed=1), 0.9, 3000, seeds=1, **options).max() < 0.02


@pytest.mark.slow
def test_gridworld_reaches_the_optimal_q_to_two_percent_of_its_range():
    options = {
        "hidden": (256, 256),
        "lr": 1e-3,
        "target_period": 100,
        "batch_size": 256,
        "adam_eps": 1e-4,
    }
    assert final_error(gridworld(16, slip=0.0), 0.9, 20_000, seeds=3, **options).max() < 0.02


def test_sarsa_and_behaviour_learn_the_value_of_the_behaviour_policy():
    """On random data of the chain max learns Q*, sarsa and behavior the random policy's value."""
    from rlop.envs import policy_q

    data = rlop.load_dataset("chain?steps=4000&epsilon=1.0&max_episode_steps=200")
    truth = policy_q(chain(6), np.full((6, 2), 0.5), 0.9)[:5]
    options = {"hidden": (64,), "lr": 2e-3, "target_period": 25, "batch_size": 256, "gamma": 0.9}
    for backup in ("sarsa", "behaviour"):
        agent = DQN(data.spec, backup=backup, **options)
        rlop.train(agent, data, 1500, log_every=0, probe_every=0, progress=False)
        import torch

        q = agent.q_values(torch.from_numpy(chain(6).observations)[None])[0, :5].numpy()
        np.testing.assert_allclose(q, truth, atol=0.06)


def test_monte_carlo_regresses_on_the_return():
    data = rlop.load_dataset("chain?steps=2000&epsilon=0.0")
    agent = DQN(data.spec, backup="mc", hidden=(32,), lr=3e-3, gamma=0.9, batch_size=32)
    history = rlop.train(agent, data, 1000, probe_every=0, log_every=100, progress=False)
    assert history.get("loss/td")[1][-1].item() < 1e-3
    assert history.get("q/data")[1][-1].item() == pytest.approx(
        np.mean(0.9 ** np.arange(5)), abs=0.05
    )


def test_cql_stays_with_the_data_where_dqn_overestimates():
    """Half of the actions are unseen: DQN bootstraps from their invented values, CQL does not."""
    data = rlop.load_dataset("gridworld?size=6&steps=3000&epsilon=0.1&observation=random&seed=3")
    scores = {}
    for agent in (
        DQN(data.spec, seeds=2, hidden=(64, 64)),
        DiscreteCQL(data.spec, seeds=2, hidden=(64, 64)),
    ):
        rlop.train(agent, data, 1500, log_every=0, probe_every=0, progress=False)
        score = TabularEvaluator(gridworld(6, observation="random", seed=3), (0.99, 0.99), 50)(
            agent
        )
        scores[type(agent).__name__] = score["eval/return"].mean()
    assert scores["DiscreteCQL"] > 0.9
    assert scores["DiscreteCQL"] > scores["DQN"]
