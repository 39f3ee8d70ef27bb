"""Exact scores of R runs on a known MDP: no episodes, no noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from rlop.data.adapter import Adapter
from rlop.deploy.acting import Acting
from rlop.deploy.policy import Policy
from rlop.envs import TabularMDP, greedy_policy, optimal_q, policy_return_undiscounted

Scores: TypeAlias = dict[str, np.ndarray]  # metric -> [R]


class TabularEvaluator:
    """Expected return of the greedy policy, and distance of Q to Q*.

    Args:
        mdp: the MDP of the environment.
        gammas: discount factor of each run, `[R]`; Q* is that of the run's own gamma.
        horizon: time limit of the return.
        adapter: of the environment.
    """

    def __init__(
        self, mdp: TabularMDP, gammas: Sequence[float], horizon: int, adapter: Adapter
    ) -> None:
        self.mdp = mdp
        self.adapter = adapter
        self.horizon = horizon
        self.live = ~mdp.terminal
        exact = {gamma: optimal_q(mdp, gamma) for gamma in set(gammas)}
        self.optimal = np.stack([exact[gamma] for gamma in gammas])  # [R, S, A]

    def __call__(self, agent: Acting | Policy) -> Scores:
        """Score the greedy policy and the action values of every run.

        Args:
            agent: with an action value of each action, and as many runs as there are gammas; or one
                loaded policy.
        Returns:
            `eval/return`, the expected return within `horizon`; `eval/q_error`, the root mean
            square of Q - Q* over non-terminal pairs, in units of the range of Q*; and
            `eval/q_error_max`, its maximum; `[R]` each.
        """
        policies = [agent] if isinstance(agent, Policy) else self._policies(agent)
        tables = [policy.q_values(self.mdp.observations) for policy in policies]
        q = np.stack(tables).astype(np.float64)

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

    def _policies(self, agent: Acting) -> list[Policy]:
        """Return the policy of every run."""
        runs = range(len(self.optimal))
        return [Policy(agent.one_run(run), self.adapter) for run in runs]

    def close(self) -> None:
        """Do nothing: no environment is open."""
