"""Evaluation in environments: whose start states, whose random actions, whose Q*."""

from types import SimpleNamespace

import numpy as np
import torch

from rlop.envs import chain, optimal_q
from rlop.training.evaluate import Evaluator, TabularEvaluator


class Recorder:
    """A policy that takes action 1 and keeps the first observations, `[R, B, *obs_shape]`."""

    device = torch.device("cpu")

    def __init__(self):
        self.first = None

    def act(self, obs):
        if self.first is None:
            self.first = obs.clone()
        return torch.ones(obs.shape[:2], dtype=torch.long)


def test_start_states_of_neighboring_seeds_are_disjoint():
    recorder = Recorder()
    Evaluator("CartPole-v1", [0, 1, 2, 3], episodes=50).rollout(recorder)
    starts = recorder.first.flatten(0, 1)
    assert len(starts.unique(dim=0)) == 4 * 50


def test_each_run_takes_random_actions_from_its_own_stream():
    # The chain has one start state and does not slip: only random actions tell runs apart.
    evaluator = Evaluator("rlop/Chain-v0", [0, 1, 2], episodes=30, epsilon=0.5)
    _, lengths = evaluator.rollout(Recorder())
    assert (lengths[0] != lengths[1]).any()
    assert (lengths[1] != lengths[2]).any()


def test_q_star_is_that_of_each_runs_own_gamma():
    mdp = chain(6)
    q = np.stack([optimal_q(mdp, 0.5), optimal_q(mdp, 0.9)])
    agent = SimpleNamespace(
        device=torch.device("cpu"),
        runs=[0, 1],
        q_values=lambda obs: torch.from_numpy(q),
    )
    errors = TabularEvaluator(mdp, [0.5, 0.9], horizon=20)(agent)
    np.testing.assert_allclose(errors["eval/q_error"], [0, 0], atol=1e-9)

    swapped = TabularEvaluator(mdp, [0.9, 0.5], horizon=20)(agent)
    assert (swapped["eval/q_error"] > 0.1).all()
