"""Roll out R greedy policies in vectorised Gymnasium environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rlop.types import InputError


class Policy(Protocol):
    """What an evaluator needs of an agent."""

    device: torch.device

    def act(self, obs: Tensor) -> Tensor:
        """`[R, n, *obs_shape] -> [R, n, ...]`."""
        ...


class Evaluator:
    """Mean return of every run over complete episodes.

    Each run has a vector environment of its own, seeded by the run's seed alone, so that its score does not depend on
    its neighbours; the same start states come back at every evaluation. Each environment plays a fixed number of
    episodes: counting whichever episodes end first would favour short ones.

    Args:
        env_id: Gymnasium id.
        seeds: one per run.
        episodes: per run.
        env_kwargs: for `gymnasium.make`.
        max_envs: environments stepped at once for a run.
        spec: when given, the environment must match its observation and action space.
    Raises:
        InputError: for an unknown environment, or spaces that do not match.
    """

    def __init__(
        self,
        env_id: str,
        seeds: Sequence[int],
        episodes: int = 10,
        env_kwargs: Mapping[str, Any] | None = None,
        max_envs: int = 100,
        spec: Any = None,
    ) -> None:
        from rlop.data import check_spaces
        from rlop.envs.make import make_vec_env

        if episodes < 1:
            raise InputError(f"eval_episodes = {episodes}: expected at least 1")
        count = min(episodes, max_envs)
        self.quota = np.full(count, episodes // count) + (np.arange(count) < episodes % count)
        self.seeds = list(seeds)
        self.envs: list[gymnasium.vector.VectorEnv] = [make_vec_env(env_id, count, **(env_kwargs or {})) for _ in seeds]
        if spec is not None:
            check_spaces(spec, self.envs[0])

    def __call__(self, policy: Policy) -> dict[str, np.ndarray]:
        """`eval/return` and `eval/length`, `[R]` each: means over the run's episodes."""
        returns, lengths = self.rollout(policy)
        return {"eval/return": returns.mean(1), "eval/length": lengths.mean(1)}

    def rollout(self, policy: Policy) -> tuple[np.ndarray, np.ndarray]:
        """Undiscounted return and length of every episode, `[R, episodes]` each, in no particular order."""
        shape = (len(self.envs), len(self.quota))
        obs = np.stack([env.reset(seed=1_000_003 + seed)[0] for env, seed in zip(self.envs, self.seeds, strict=True)])
        reward_sum, steps = np.zeros(shape), np.zeros(shape, int)
        fresh = np.zeros(shape, bool)  # the last step of this slot only reset it (Gymnasium's next-step autoreset)
        done_count = np.zeros(shape, int)
        returns: list[list[float]] = [[] for _ in self.envs]
        lengths: list[list[int]] = [[] for _ in self.envs]
        while (done_count < self.quota).any():
            actions = policy.act(torch.from_numpy(obs).to(policy.device)).cpu().numpy()
            for run, env in enumerate(self.envs):
                if (done_count[run] >= self.quota).all():
                    continue
                obs[run], reward, terminated, truncated, _ = env.step(actions[run])
                reward_sum[run] += np.where(fresh[run], 0.0, reward)
                steps[run] += ~fresh[run]
                ended = (terminated | truncated) & ~fresh[run]
                for slot in np.flatnonzero(ended & (done_count[run] < self.quota)):
                    returns[run].append(reward_sum[run, slot])
                    lengths[run].append(steps[run, slot])
                done_count[run] += ended
                reward_sum[run][ended], steps[run][ended] = 0.0, 0
                fresh[run] = ended
        return np.array(returns), np.array(lengths)

    def close(self) -> None:
        """Close all environments."""
        for env in self.envs:
            env.close()


class TabularEvaluator:
    """Exact scores on an MDP that is known: no episodes, no noise.

    Args:
        mdp: the environment's.
        gammas: discount factor of each run, `[R]`; Q* is that of the run's own gamma.
        horizon: time limit of the return.
    """

    def __init__(self, mdp: Any, gammas: Sequence[float], horizon: int) -> None:
        from rlop.envs import optimal_q

        self.mdp, self.horizon = mdp, horizon
        exact = {gamma: optimal_q(mdp, gamma) for gamma in set(gammas)}
        self.optimal = np.stack([exact[gamma] for gamma in gammas])  # [R, S, A]
        self.live = ~mdp.terminal

    def __call__(self, agent: Any) -> dict[str, np.ndarray]:
        """Expected return of the greedy policy within `horizon`, and distance to Q* over non-terminal pairs.

        `eval/q_error` is the root mean square of Q - Q* in units of the range of Q*; `eval/q_error_max` its maximum.
        """
        from rlop.envs import greedy_policy, policy_return_undiscounted

        obs = torch.from_numpy(self.mdp.observations).to(agent.device)
        q = agent.q_values(obs.expand(len(agent.runs), *obs.shape)).double().cpu().numpy()
        optimal = self.optimal[:, self.live]
        scale = (optimal.max((1, 2)) - optimal.min((1, 2))).reshape(-1, 1, 1)
        error = np.abs(q[:, self.live] - optimal) / scale
        returns = [policy_return_undiscounted(self.mdp, greedy_policy(table), self.horizon) for table in q]
        return {
            "eval/return": np.array(returns),
            "eval/q_error": np.sqrt((error**2).mean((1, 2))),
            "eval/q_error_max": error.max((1, 2)),
        }

    def close(self) -> None:
        """Nothing to close."""


def make_evaluator(agent: Any, env_id: str | None, env_kwargs: Mapping[str, Any], episodes: int) -> Any:
    """Exact evaluation for the embedded environments, rollouts for others, None without an environment."""
    if env_id is None or episodes == 0:
        return None
    if not env_id.startswith("rlop/"):
        return Evaluator(env_id, agent.runs.seeds, episodes, env_kwargs, spec=agent.spec)
    from rlop.data import check_spaces
    from rlop.envs.make import make_env

    env = make_env(env_id, **env_kwargs)
    check_spaces(agent.spec, env)
    limit = env.spec.max_episode_steps if env.spec else None
    return TabularEvaluator(env.unwrapped.mdp, agent.runs.values["gamma"], limit or 1000)  # type: ignore[attr-defined]
