"""A deployed policy scores what its training logged, to the bit: one path acts for both."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from helpers import echo
from rlop.agents import BC, DQN, DiscreteCQL, NeuralTD

import rlop
from rlop.training.evaluate import make_evaluator
from rlop.types import InputError

TRAINING = {"steps": 6, "log_every": 3, "probe_every": 0, "eval_every": 6, "progress": False}


@pytest.fixture(autouse=True)
def _echo():
    echo.register()
    yield
    del gymnasium.registry[echo.ENV_ID]


def score(policy, seed, kind):
    """Evaluate as the training did."""
    evaluator = rlop.Evaluator(echo.ENV_ID, [seed], 20, env_kwargs={"kind": kind})
    return evaluator(policy)["eval/return"][0]


@pytest.mark.parametrize(("kind", "cls"), echo.PAIRS, ids=echo.IDS)
def test_the_loaded_policy_scores_what_was_logged(kind, cls, tmp_path):
    agent, data = echo.agent_of(kind, cls)
    history = rlop.train(agent, data, logdir=tmp_path, evaluate=echo.ENV_ID, **TRAINING)
    logged = history.get("eval/return")[1][-1]
    assert len(set(logged)) == 2  # runs tell each other apart

    for run, seed in enumerate(agent.runs.seeds):
        assert score(rlop.load_policy(tmp_path, run), seed, kind) == logged[run]
        assert score(agent.policy(run), seed, kind) == logged[run]
    best = int(np.argmax(logged))
    assert score(rlop.load_policy(tmp_path), agent.runs.seeds[best], kind) == logged[best]


@pytest.mark.parametrize("cls", [BC, DQN])
def test_a_run_scores_the_same_alone_and_among_others(cls):
    agent, _ = echo.agent_of("normalized", cls, seeds=[1, 2, 3])
    alone, _ = echo.agent_of("normalized", cls, seeds=[2])
    evaluator = rlop.Evaluator(echo.ENV_ID, [1, 2, 3], 5, env_kwargs={"kind": "normalized"})
    one = rlop.Evaluator(echo.ENV_ID, [2], 5, env_kwargs={"kind": "normalized"})
    assert evaluator(agent)["eval/return"][1] == one(alone)["eval/return"][0]


def test_a_plain_loop_of_gymnasium_gets_the_same_return():
    """Without any of our evaluation: one environment, one observation at a time."""
    agent, _ = echo.agent_of("bounds", BC)
    policy = agent.policy(1)
    evaluator = rlop.Evaluator(echo.ENV_ID, [0], 1, env_kwargs={"kind": "bounds"})
    expected, _ = evaluator.rollout(policy)

    env = gymnasium.make(echo.ENV_ID, kind="bounds")
    obs, _ = env.reset(seed=1_000_003)  # the first seed of run seed 0
    total, over = 0.0, False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(policy(obs))
        total += reward
        over = terminated or truncated
    assert total == expected[0, 0]


def test_exact_scores_read_observations_as_the_data_were(tmp_path):
    data = rlop.load_dataset("gridworld?size=4&steps=300")
    data, _, _ = rlop.data.transforms.normalize_obs(data)
    agent = DiscreteCQL(data.spec, hidden=(16,), batch_size=16, seeds=2)
    history = rlop.train(agent, data, logdir=tmp_path, evaluate=data.spec.env_id, **TRAINING)
    logged = history.get("eval/q_error")[1][-1]

    again, _ = rlop.load_agent(tmp_path / "checkpoint.pt")
    exact = make_evaluator(again, data.spec.env_id, data.spec.env_kwargs, 20)
    assert np.array_equal(exact(again)["eval/q_error"], logged)

    # A policy that reads other observations has other values.
    plain = rlop.load_dataset("gridworld?size=4&steps=300")
    raw = again.one_run(0)
    raw.spec = plain.spec
    unread = make_evaluator(raw, data.spec.env_id, data.spec.env_kwargs, 20)
    assert unread(raw)["eval/q_error"][0] != logged[0]


def test_a_policy_is_one_run_and_an_agent_all_of_its_runs():
    agent, _ = echo.agent_of("normalized", DQN)
    evaluator = rlop.Evaluator(echo.ENV_ID, [0, 1, 2], 1, env_kwargs={"kind": "normalized"})
    with pytest.raises(InputError, match="seeds: 3, expected one for each of 2 runs"):
        evaluator(agent)
    with pytest.raises(InputError, match="seeds: 3, expected one for a single policy"):
        evaluator(agent.policy(0))


def test_a_policys_own_exploration_is_played_where_the_evaluator_has_none():
    agent, _ = echo.agent_of("normalized", DQN)
    kwargs = {"kind": "normalized"}
    calm, wild = agent.policy(0), agent.policy(0, epsilon=0.9)
    evaluator = rlop.Evaluator(echo.ENV_ID, [0], 20, env_kwargs=kwargs)
    exploring = rlop.Evaluator(echo.ENV_ID, [0], 20, env_kwargs=kwargs, epsilon=0.9)
    assert evaluator(wild) != evaluator(calm)
    assert evaluator(wild) == exploring(calm)


def test_a_value_function_has_no_policy(tmp_path):
    data = echo.data_of("normalized")
    agent = NeuralTD(data.spec, width=16, batch_size=8, seeds=2)
    rlop.train(agent, data, logdir=tmp_path, **TRAINING)
    for ask in (lambda: agent.policy(0), lambda: rlop.load_policy(tmp_path, 0)):
        with pytest.raises(InputError, match=r"NeuralTD: .* has none to act by"):
            ask()
