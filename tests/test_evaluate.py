"""Rollouts and exact scores."""

import gymnasium
import numpy as np
import pytest
import torch
from rlop.agents import DQN

from rlop.envs import chain, optimal_q, policy_return_undiscounted
from rlop.training.evaluate import Evaluator, TabularEvaluator, make_evaluator
from rlop.types import InputError, Spec


class Scripted:
    """A policy given as a function of the observations; R = the number of functions."""

    device = torch.device("cpu")

    def __init__(self, *policies):
        self.policies = policies

    def act(self, obs):
        return torch.stack([policy(x) for policy, x in zip(self.policies, obs, strict=True)])


def balance(obs):
    """A good CartPole policy."""
    return (obs[:, 2] + 0.3 * obs[:, 3] > 0).long()


def right(obs):
    return torch.ones(len(obs), dtype=torch.long)


def test_returns_equal_a_plain_loop_over_single_environments():
    returns, lengths = Evaluator(
        "rlop/Chain-v0", [0], episodes=5, env_kwargs={"slip": 0.0}
    ).rollout(Scripted(right))
    assert returns.tolist() == [[1.0] * 5]
    assert lengths.tolist() == [[5] * 5]


def test_time_limit_ends_an_episode_without_its_reward():
    left = Evaluator("rlop/Chain-v0", [0, 1], episodes=3)
    returns, lengths = left.rollout(Scripted(lambda obs: right(obs) * 0, right))
    assert returns.tolist() == [[0.0] * 3, [1.0] * 3]
    assert lengths.tolist() == [[20] * 3, [5] * 3]


def test_cartpole_matches_single_environments():
    evaluator = Evaluator("CartPole-v1", [3], episodes=200)
    returns, lengths = evaluator.rollout(Scripted(right))
    assert np.array_equal(returns, lengths)
    env, singles = gymnasium.make("CartPole-v1"), []
    for seed in range(200):
        env.reset(seed=seed)
        done, steps = False, 0
        while not done:
            _, _, terminated, truncated, _ = env.step(1)
            done, steps = terminated or truncated, steps + 1
        singles.append(steps)
    standard_error = np.hypot(np.std(singles), returns.std()) / 200**0.5
    assert abs(returns.mean() - np.mean(singles)) < 4 * standard_error + 1e-9


def test_a_runs_score_does_not_depend_on_its_neighbours():
    alone = Evaluator("CartPole-v1", [7], episodes=10)(Scripted(balance))
    among = Evaluator("CartPole-v1", [5, 7], episodes=10)(Scripted(right, balance))
    assert alone["eval/return"][0] == among["eval/return"][1]
    assert alone["eval/return"][0] > 400


def test_every_slot_plays_its_own_number_of_episodes():
    evaluator = Evaluator("CartPole-v1", [0], episodes=7, max_envs=3)
    returns, _ = evaluator.rollout(Scripted(right))
    assert returns.shape == (1, 7)
    assert evaluator.quota.tolist() == [3, 2, 2]
    again, _ = evaluator.rollout(Scripted(right))
    assert sorted(again[0]) == sorted(returns[0])  # the same start states come back


def test_exact_scores_of_the_optimal_q():
    mdp = chain(6)
    best = optimal_q(mdp, 0.9)

    class Exact:
        device, runs = torch.device("cpu"), [0, 1]

        def q_values(self, obs):
            assert obs.shape == (2, 6, 6)
            return torch.from_numpy(np.stack([best, best + 0.1]))

    scores = TabularEvaluator(mdp, [0.9, 0.9], horizon=20)(Exact())
    assert scores["eval/return"].tolist() == [1.0, 1.0]
    span = best[:5].max() - best[:5].min()
    np.testing.assert_allclose(scores["eval/q_error"], [0, 0.1 / span], atol=1e-9)
    np.testing.assert_allclose(scores["eval/q_error_max"], [0, 0.1 / span], atol=1e-9)
    assert policy_return_undiscounted(mdp, np.full((6, 2), 0.5), 20) < 1


def test_spaces_that_do_not_match_are_named():
    agent = DQN(Spec((4,), 3), hidden=(8,))
    with pytest.raises(InputError, match=r"CartPole|action"):
        make_evaluator(agent, "CartPole-v1", {}, 5)
    with pytest.raises(InputError, match="CartPole-v1"):
        make_evaluator(agent, "CartPoll-v1", {}, 5)
    with pytest.raises(InputError, match="episodes"):
        Evaluator("CartPole-v1", [0], episodes=0)
    assert make_evaluator(agent, None, {}, 5) is None
    assert make_evaluator(agent, "CartPole-v1", {}, 0) is None


def test_observations_are_normalized_as_the_data_were():
    seen = []

    def look(obs):
        seen.append(obs.clone())
        return right(obs)

    spec = Spec((4,), 2, obs_normalizer=((1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 2.0)))
    Evaluator("CartPole-v1", [0], episodes=2, spec=spec).rollout(Scripted(look))
    plain = []
    Evaluator("CartPole-v1", [0], episodes=2).rollout(
        Scripted(lambda obs: (plain.append(obs.clone()), right(obs))[1])
    )
    torch.testing.assert_close(
        seen[0], (plain[0] - torch.tensor([1.0, 0, 0, 0])) / torch.tensor([1.0, 1, 1, 2])
    )


def test_returns_are_normalized_where_there_are_references():
    plain = Evaluator("CartPole-v1", [0], episodes=2)(Scripted(right))
    assert "eval/normalized_score" not in plain
    scored = Evaluator("CartPole-v1", [0], episodes=2, reference="d4rl:hopper-medium-v2")(
        Scripted(right)
    )
    low, high = -20.272305, 3234.3
    expected = 100 * (scored["eval/return"] - low) / (high - low)
    np.testing.assert_allclose(scored["eval/normalized_score"], expected, rtol=1e-6)
