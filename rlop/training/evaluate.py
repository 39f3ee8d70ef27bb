"""Evaluate the greedy policies of R runs over episodes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rlop.collect.acting import Space, random_actions
from rlop.config.checks import check_range
from rlop.data.adapter import adapter_of, check_spaces, natural_spec
from rlop.data.atari_scores import normalized_scores
from rlop.data.scores import find_scores, normalized_score
from rlop.envs import TabularEnv
from rlop.envs.atari import EPSILON, PREFIX
from rlop.envs.make import make_env, make_vec_env
from rlop.envs.original import PREFIX as ORIGINAL
from rlop.logs.messages import say
from rlop.runs import Runs
from rlop.training.exact import Scores, TabularEvaluator, Valuing
from rlop.types import InputError, Spec

VectorEnv: TypeAlias = gymnasium.vector.VectorEnv[Any, Any, Any]

# Episodes without a time limit end here: ten times the longest time limit of D4RL's tasks.
LONGEST = 10_000
TABULAR_LIMIT = 1000  # horizon of an embedded environment that has no time limit


class Acting(Protocol):
    """The part of an agent that evaluation reads."""

    spec: Spec
    runs: Runs
    device: torch.device

    def act(self, obs: Tensor) -> Tensor:
        """Return actions, `[R, n, *obs_shape] -> [R, n, ...]`."""
        ...


class Evaluator:
    """Evaluate every run over complete episodes.

    Each run has its own vector environment, seeded only by the run's seed, so that its score does
    not depend on other runs; every evaluation has the same start states. Each environment plays a
    fixed number of episodes: counting the episodes that end first would favor short ones. Without a
    time limit an episode is cut after 10,000 steps.

    Atari is played under the protocol of the DQN Replay Dataset, see `AtariSettings` for
    `env_kwargs`, in whole episodes; the protocol itself continues until 125,000 steps are complete.

    Observations and actions are translated by `rlop.data.adapter.Adapter`: dictionaries flattened
    and observations normalized as the data's were, actions in the environment's units.

    Args:
        env_id: Gymnasium id.
        seeds: one per run.
        episodes: episodes of each run.
        env_kwargs: keyword arguments for `gymnasium.make`.
        max_envs: environments stepped at once for a run.
        spec: when given, the environment must match it when the evaluator is made; without it,
            when a policy is evaluated.
        reference: D4RL data set or environment whose reference scores normalize the return, if it
            has any.
        epsilon: probability of a uniformly random action at each step, drawn from the run's own
            generator; None is 0.001 for Atari, as in its protocol, and 0 for the others.

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
        spec: Spec | None = None,
        reference: str | None = None,
        epsilon: float | None = None,
    ) -> None:
        if not isinstance(env_id, str):
            raise InputError(
                f"env: found {type(env_id).__name__}, expected a Gymnasium id; give the "
                f"environment one with gymnasium.register"
            )
        if episodes < 1:
            raise InputError(f"eval_episodes = {episodes}: expected at least 1")
        if epsilon is None:
            epsilon = EPSILON if _is_atari(env_id) else 0.0
        check_range("eval_epsilon", epsilon, low=0, high=1)

        self.env_id = env_id
        self.seeds = list(seeds)
        self.epsilon = epsilon
        self.spec = spec
        self.reference = reference or env_id
        self.quota = _split(episodes, min(episodes, max_envs))
        self.envs, self.is_cut = _make_envs(
            env_id, len(self.seeds), len(self.quota), env_kwargs or {}
        )
        if spec is not None:
            check_spaces(spec, self.envs[0])

    def __call__(self, policy: Acting) -> Scores:
        """Average return and length over the episodes of each run, and normalize the return.

        Returns:
            `eval/return` and `eval/length`; `eval/d4rl_score` in D4RL's original environments,
            `eval/normalized_score` for their counterparts on Gymnasium, `eval/human_normalized` and
            `eval/dqn_normalized` for Atari; `[R]` each.
        """
        returns, lengths = self.rollout(policy)
        mean_return = returns.mean(1)
        scores = {"eval/return": mean_return, "eval/length": lengths.mean(1)}
        if self.env_id.startswith(ORIGINAL):
            scores["eval/d4rl_score"] = normalized_score(mean_return, self.env_id)
        elif find_scores(self.reference):
            scores["eval/normalized_score"] = normalized_score(mean_return, self.reference)

        for name, value in normalized_scores(mean_return, self.reference).items():
            scores[f"eval/{name}"] = value
        return scores

    def rollout(self, policy: Acting) -> tuple[np.ndarray, np.ndarray]:
        """Play the episodes of every run.

        Returns:
            Undiscounted return and length of every episode, `[R, episodes]` each, in no particular
            order.
        """
        spec = self.spec or getattr(policy, "spec", None) or natural_spec(self.envs[0])
        adapter = adapter_of(spec, self.envs[0])
        tallies, rngs, first_obs = [], [], []
        for env, seed in zip(self.envs, self.seeds):
            start = _start(seed)
            tallies.append(_Tally(self.quota))
            rngs.append(np.random.default_rng(start))
            run_obs, _ = env.reset(seed=start)
            first_obs.append(adapter.obs(run_obs))

        obs = np.stack(first_obs)
        while not all(tally.complete for tally in tallies):
            actions = policy.act(torch.from_numpy(obs).to(policy.device)).cpu().numpy()
            for run, env in enumerate(self.envs):
                if tallies[run].complete:
                    continue
                space = env.single_action_space
                played = adapter.action(actions[run])
                self._explore(played, space, rngs[run])

                run_obs, reward, terminated, truncated, _ = env.step(played)
                obs[run] = adapter.obs(run_obs)
                tallies[run].add(reward, terminated | truncated)

        returns = np.array([tally.returns for tally in tallies])
        lengths = np.array([tally.lengths for tally in tallies])
        broken = ~np.isfinite(returns).all(1)
        if broken.any():
            say(
                f"env = {self.env_id!r}: NaN or infinite rewards in run "
                f"{', '.join(map(str, np.flatnonzero(broken)))}: its score is NaN",
                logging.WARNING,
            )
            returns[broken] = np.nan
        if self.is_cut and lengths.max() >= LONGEST:
            say(
                f"env = {self.env_id!r} has no time limit: an episode was cut after {LONGEST:,} "
                f"steps; set one with env_kwargs: {{max_episode_steps: N}}",
                logging.WARNING,
            )
        return returns, lengths

    def close(self) -> None:
        """Close all environments."""
        for env in self.envs:
            env.close()

    def _explore(self, actions: np.ndarray, space: Space, rng: np.random.Generator) -> None:
        """Replace each action by a random one with probability `epsilon`, in place."""
        if self.epsilon:
            explores = rng.random(len(actions)) < self.epsilon
            random = random_actions(space, len(actions), rng)
            actions[explores] = random[explores]


class _Tally:
    """Returns and lengths of one run's episodes; every environment plays a fixed number of them.

    Args:
        quota: `[n]`, episodes of each environment.
    """

    def __init__(self, quota: np.ndarray) -> None:
        n = len(quota)
        self.quota = quota
        self.done = np.zeros(n, int)
        self.reward_sum = np.zeros(n)
        self.steps = np.zeros(n, int)
        # Where an episode has just ended: the next step only resets the environment (Gymnasium's
        # next-step autoreset) and belongs to no episode.
        self.fresh = np.zeros(n, bool)
        self.returns: list[float] = []
        self.lengths: list[int] = []

    @property
    def complete(self) -> bool:
        """Whether every environment has played its episodes."""
        return bool((self.done >= self.quota).all())

    def add(self, reward: np.ndarray, over: np.ndarray) -> None:
        """Count one step of all environments.

        Args:
            reward: `[n]`.
            over: `[n]`, whether an episode ended.
        """
        played = ~self.fresh
        self.reward_sum += np.where(played, reward, 0.0)
        self.steps += played

        ended = over & played
        counted = ended & (self.done < self.quota)
        for slot in np.flatnonzero(counted):
            self.returns.append(self.reward_sum[slot])
            self.lengths.append(self.steps[slot])

        self.done += ended
        self.reward_sum[ended] = 0.0
        self.steps[ended] = 0
        self.fresh = ended


def make_evaluator(
    agent: Acting,
    env_id: str | None,
    env_kwargs: Mapping[str, Any],
    episodes: int,
    reference: str | None = None,
    epsilon: float | None = None,
) -> Evaluator | TabularEvaluator | None:
    """Make the evaluator of an agent: exact in embedded environments if it has action values.

    Args:
        agent: the agent to evaluate.
        env_id: Gymnasium id; None if no environment is known.
        env_kwargs: for `gymnasium.make`.
        episodes: per run; 0 for no evaluation.
        reference: see `Evaluator`.
        epsilon: see `Evaluator`.

    Returns:
        None without an environment or without episodes.

    Raises:
        InputError: an unknown environment, or spaces that do not match the agent's.
    """
    if episodes == 0:
        return None

    if env_id is None:
        say("no environment is known for these data: no evaluation; name one with env: ID")
        return None

    try:
        if env_id.startswith("rlop/") and isinstance(agent, Valuing):
            return _tabular_evaluator(agent, agent.spec, env_id, env_kwargs)
        return Evaluator(
            env_id,
            agent.runs.seeds,
            episodes,
            env_kwargs,
            spec=agent.spec,
            reference=reference,
            epsilon=epsilon,
        )
    except InputError as error:
        raise InputError(f"{error}; eval_episodes: 0 trains without evaluation") from error


def _tabular_evaluator(
    agent: Valuing, spec: Spec, env_id: str, env_kwargs: Mapping[str, Any]
) -> TabularEvaluator:
    env = make_env(env_id, **env_kwargs)
    check_spaces(spec, env)
    assert isinstance(env.unwrapped, TabularEnv)
    limit = env.spec.max_episode_steps if env.spec else None
    return TabularEvaluator(
        env.unwrapped.mdp, agent.runs.values["gamma"], horizon=limit or TABULAR_LIMIT
    )


# ---- environments of a run


def _start(seed: int) -> int:
    """Return the first seed of a run's environments; environment i has the i-th seed after it.

    Seeds of neighboring runs are far apart, and all are in the range that emulators accept.
    """
    return 1_000_003 * (seed + 1) % (2**31 - 1000)


def _split(episodes: int, n_envs: int) -> np.ndarray:
    """Share episodes among environments as evenly as possible, `[n_envs]`."""
    each, rest = divmod(episodes, n_envs)
    quota = np.full(n_envs, each)
    quota[:rest] += 1
    return quota


def _make_envs(
    env_id: str, n_runs: int, n_envs: int, env_kwargs: Mapping[str, Any]
) -> tuple[list[VectorEnv], bool]:
    """Make the environments of every run, adding a time limit if there is none.

    Returns:
        The environments, and whether they were given the time limit.
    """
    kwargs = dict(env_kwargs)
    envs = [make_vec_env(env_id, n_envs, **kwargs)]
    spec = envs[0].spec
    may_run_forever = spec is not None and spec.max_episode_steps is None
    # Atari's environments limit their frames themselves.
    is_cut = may_run_forever and "max_episode_steps" not in kwargs and not _is_atari(env_id)
    if is_cut:
        kwargs["max_episode_steps"] = LONGEST
        envs = [make_vec_env(env_id, n_envs, **kwargs)]

    for _ in range(n_runs - 1):
        envs.append(make_vec_env(env_id, n_envs, **kwargs))
    return envs, is_cut


def _is_atari(env_id: str) -> bool:
    return env_id.startswith(PREFIX)
