"""Evaluation in environments: whose start states, whose random actions."""

import torch

from rlop.training.evaluate import Evaluator


class Recorder:
    """A policy that takes action 1 and keeps the first observations of each run, `[B, *S]`."""

    device = torch.device("cpu")

    def __init__(self, first=None, run=0):
        self.first = {} if first is None else first
        self.run = run

    def one_run(self, run):
        return Recorder(self.first, run)

    def act(self, obs):
        self.first.setdefault(self.run, obs[0].clone())
        return torch.ones(obs.shape[:2], dtype=torch.long)


def test_start_states_of_neighboring_seeds_are_disjoint():
    recorder = Recorder()
    Evaluator("CartPole-v1", [0, 1, 2, 3], episodes=50).rollout(recorder)
    starts = torch.cat(list(recorder.first.values()))
    assert len(starts.unique(dim=0)) == 4 * 50


def test_each_run_takes_random_actions_from_its_own_stream():
    # The chain has one start state and does not slip: only random actions tell runs apart.
    evaluator = Evaluator("rlop/Chain-v0", [0, 1, 2], episodes=30, epsilon=0.5)
    _, lengths = evaluator.rollout(Recorder())
    assert (lengths[0] != lengths[1]).any()
    assert (lengths[1] != lengths[2]).any()
