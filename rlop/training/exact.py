"""Exact scores of R runs on a known MDP: no episodes, no noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from rlop.envs import TabularMDP, greedy_policy, optimal_q, policy_return_undiscounted
from rlop.runs import Runs

Scores: TypeAlias = dict[str, np.ndarray]  # metric -> [R]


@runtime_checkable
class Valuing(Protocol):
    """An agent with a value for every action of a finite set."""

    runs: Runs
    device: torch.device

    def q_values(self, obs: Tensor) -> Tensor:
        """Return action values, `[R, n, *obs_shape] -> [R, n, A]`."""
        ...


class TabularEvaluator:
    """Expected return of the greedy policy, and distance of Q to Q*.

    Args:
        mdp: the MDP of the environment.
        gammas: discount factor of each run, `[R]`; Q* is that of the run's own gamma.
        horizon: time limit of the return.
    """

    def __init__(self, mdp: TabularMDP, gammas: Sequence[float], horizon: int) -> None:
        self.mdp = mdp
        self.horizon = horizon
        self.live = ~mdp.terminal
        exact = {gamma: optimal_q(mdp, gamma) for gamma in set(gammas)}
        self.optimal = np.stack([exact[gamma] for gamma in gammas])  # [R, S, A]

    def __call__(self, agent: Valuing) -> Scores:
        """Score the greedy policy and the action values of every run.

        Returns:
            `eval/return`, the expected return within `horizon`; `eval/q_error`, the root mean
            square of Q - Q* over non-terminal pairs, in units of the range of Q*; and
            `eval/q_error_max`, its maximum; `[R]` each.
        """
        obs = torch.from_numpy(self.mdp.observations).to(agent.device)
        obs = obs.expand(len(agent.runs), *obs.shape)
        q = agent.q_values(obs).double().cpu().numpy()

        pairs = (1, 2)  # axes of states and actions
        optimal = self.optimal[:, self.live]
        span = optimal.max(pairs) - optimal.min(pairs)
        error = np.abs(q[:, self.live] - optimal) / span.reshape(-1, 1, 1)

        returns = []
        for table in q:
            policy = greedy_policy(table)
            returns.append(policy_return_undiscounted(self.mdp, policy, self.horizon))

        return {
            "eval/return": np.array(returns),
            "eval/q_error": np.sqrt((error**2).mean(pairs)),
            "eval/q_error_max": error.max(pairs),
        }

    def close(self) -> None:
        """Do nothing: no environment is open."""
