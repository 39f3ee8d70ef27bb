"""Roll out R greedy policies in vectorised Gymnasium environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rlop.config.checks import check_range
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

    Atari is played under the protocol of the DQN Replay Dataset, see `AtariSettings` for `env_kwargs`, in whole
    episodes: the protocol itself plays on until 125,000 steps are full.

    Continuous actions of an agent, as those of data sets, live in [-1, 1]; they are mapped to the environment's bounds.

    Args:
        env_id: Gymnasium id.
        seeds: one per run.
        episodes: per run.
        env_kwargs: for `gymnasium.make`.
        max_envs: environments stepped at once for a run.
        spec: when given, the environment must match its observation and action space, and observations are normalized
            as the data's were.
        reference: D4RL data set or environment whose reference scores normalize the return, where it has any.
        epsilon: probability of a uniformly random action at each step, drawn from a generator of the run's own; None
            is 0.001 for Atari, as in its protocol, and 0 for the others.
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
        reference: str | None = None,
        epsilon: float | None = None,
    ) -> None:
        from rlop.data import check_spaces
        from rlop.envs.atari import EPSILON, PREFIX
        from rlop.envs.make import make_vec_env

        if episodes < 1:
            raise InputError(f"eval_episodes = {episodes}: expected at least 1")
        self.epsilon = (
            (EPSILON if env_id.startswith(PREFIX) else 0.0) if epsilon is None else epsilon
        )
        check_range("eval_epsilon", self.epsilon, low=0, high=1)
        count = min(episodes, max_envs)
        self.quota = np.full(count, episodes // count) + (np.arange(count) < episodes % count)
        self.seeds = list(seeds)
        self.envs: list[gymnasium.vector.VectorEnv] = [
            make_vec_env(env_id, count, **(env_kwargs or {})) for _ in seeds
        ]
        if isinstance(self.envs[0].single_observation_space, gymnasium.spaces.Dict):
            hint = "where D4RL has this task, env_kwargs: {layout: d4rl} gives its observations"
            raise InputError(
                f"env = {env_id!r}: observations are a dictionary, expected an array; {hint}"
            )
        self.spec, self.reference = spec, reference or env_id
        if spec is not None:
            check_spaces(spec, self.envs[0])

    def __call__(self, policy: Policy) -> dict[str, np.ndarray]:
        """Means over the run's episodes, `[R]`: `eval/return`, `eval/length`, and what normalizes the return.

        `eval/normalized_score` for tasks of D4RL, `eval/human_normalized` and `eval/dqn_normalized` for Atari.
        """
        from rlop.data.atari_scores import normalized_scores
        from rlop.data.scores import find_scores, normalized_score

        returns, lengths = self.rollout(policy)
        found = {"eval/return": returns.mean(1), "eval/length": lengths.mean(1)}
        if find_scores(self.reference):
            found["eval/normalized_score"] = normalized_score(found["eval/return"], self.reference)
        atari = normalized_scores(found["eval/return"], self.reference)
        return found | {f"eval/{name}": value for name, value in atari.items()}

    def rollout(self, policy: Policy) -> tuple[np.ndarray, np.ndarray]:
        """Undiscounted return and length of every episode, `[R, episodes]` each, in no particular order."""
        from rlop.collect.acting import random_actions
        from rlop.data.transforms import normalized
        from rlop.envs.layouts import from_unit

        shape = (len(self.envs), len(self.quota))
        # Far apart, since environment i of a run has seed + i, and within what an emulator takes.
        starts = [1_000_003 * (seed + 1) % (2**31 - 1000) for seed in self.seeds]
        rngs = [np.random.default_rng(start) for start in starts]
        obs = np.stack(
            [env.reset(seed=start)[0] for env, start in zip(self.envs, starts, strict=True)]
        )
        obs = obs.astype(np.float32) if obs.dtype == np.float64 else obs  # as data sets hold them
        reward_sum, steps = np.zeros(shape), np.zeros(shape, int)
        fresh = np.zeros(
            shape, bool
        )  # the last step of this slot only reset it (Gymnasium's next-step autoreset)
        done_count = np.zeros(shape, int)
        returns: list[list[float]] = [[] for _ in self.envs]
        lengths: list[list[int]] = [[] for _ in self.envs]
        while (done_count < self.quota).any():
            seen = obs if self.spec is None else normalized(obs, self.spec)
            actions = policy.act(torch.from_numpy(seen).to(policy.device)).cpu().numpy()
            for run, env in enumerate(self.envs):
                if (done_count[run] >= self.quota).all():
                    continue
                played = from_unit(actions[run], env.single_action_space)
                if self.epsilon:
                    wander = rngs[run].random(len(played)) < self.epsilon
                    played[wander] = random_actions(
                        env.single_action_space, len(played), rngs[run]
                    )[wander]
                obs[run], reward, terminated, truncated, _ = env.step(played)
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
        returns = [
            policy_return_undiscounted(self.mdp, greedy_policy(table), self.horizon) for table in q
        ]
        return {
            "eval/return": np.array(returns),
            "eval/q_error": np.sqrt((error**2).mean((1, 2))),
            "eval/q_error_max": error.max((1, 2)),
        }

    def close(self) -> None:
        """Nothing to close."""


def make_evaluator(
    agent: Any,
    env_id: str | None,
    env_kwargs: Mapping[str, Any],
    episodes: int,
    reference: str | None = None,
    epsilon: float | None = None,
) -> Any:
    """Exact evaluation of action values in the embedded environments, rollouts for others, None without environment."""
    if env_id is None or episodes == 0:
        return None
    if not env_id.startswith("rlop/") or not hasattr(agent, "q_values"):
        return Evaluator(
            env_id,
            agent.runs.seeds,
            episodes,
            env_kwargs,
            spec=agent.spec,
            reference=reference,
            epsilon=epsilon,
        )
    from rlop.data import check_spaces
    from rlop.envs.make import make_env

    env = make_env(env_id, **env_kwargs)
    check_spaces(agent.spec, env)
    limit = env.spec.max_episode_steps if env.spec else None
    return TabularEvaluator(env.unwrapped.mdp, agent.runs.values["gamma"], limit or 1000)  # type: ignore[attr-defined]
