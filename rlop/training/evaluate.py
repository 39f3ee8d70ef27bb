"""Evaluate the greedy policies of R runs over episodes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, TypeAlias, TypeGuard

import gymnasium
import numpy as np

from rlop.agent import Agent
from rlop.data.adapter import adapter_of, check_spaces, natural_spec
from rlop.data.atari_scores import normalized_scores
from rlop.data.scores import find_scores, normalized_score
from rlop.deploy.acting import Acting, Valuing
from rlop.deploy.policy import Policy, check_epsilon
from rlop.envs import TabularEnv
from rlop.envs.atari import EPSILON, PREFIX
from rlop.envs.given import Given, copies, name_of
from rlop.envs.make import make_env
from rlop.envs.original import PREFIX as ORIGINAL
from rlop.envs.watched import answers_awaited
from rlop.logs.messages import say
from rlop.training.exact import Scores, TabularEvaluator
from rlop.training.tally import Tally
from rlop.types import InputError, Spec

Evaluation: TypeAlias = Callable[[Any], Scores]  # agent -> {metric: [R]}

# Episodes without a time limit end here: ten times the longest time limit of D4RL's tasks.
LONGEST = 10_000
TABULAR_LIMIT = 1000  # horizon of an embedded environment that has no time limit


class Evaluator:
    """Evaluate every run over complete episodes.

    Each run has its own vector environment, seeded only by the run's seed, so that its score does
    not depend on other runs; every evaluation has the same start states. Each environment plays a
    fixed number of episodes: counting the episodes that end first would favor short ones. Without a
    time limit an episode is cut after 10,000 steps.

    Atari is played under the protocol of the DQN Replay Dataset, see `AtariSettings` for
    `env_kwargs`, in whole episodes; the protocol itself continues until 125,000 steps are complete.

    Each run acts as it will when it is deployed, through `rlop.deploy.policy.Policy`, so that a
    policy that is loaded later has the score of the log. One loaded policy is evaluated as a single
    run, with one seed.

    An environment of your own is played in as it is: the episodes of all runs one after another. A
    function that makes a new one at every call is played as an id is.

    Args:
        env_id: Gymnasium id, also `module:Id`, for which the module is imported; an environment; or
            a function that makes one.
        seeds: one per run.
        episodes: episodes of each run.
        env_kwargs: keyword arguments for `gymnasium.make`, for an id.
        max_envs: environments stepped at once for a run.
        spec: when given, the environment must match it when the evaluator is made; without it,
            when a policy is evaluated.
        reference: D4RL data set or environment whose reference scores normalize the return, if it
            has any.
        epsilon: probability of a uniformly random action at each step, drawn from the run's own
            generator; None is 0.001 for Atari, as in its protocol, and 0 for the others. At 0 a
            loaded policy explores by its own epsilon.

    Raises:
        InputError: for an unknown environment, or spaces that do not match.
    """

    def __init__(
        self,
        env_id: Given,
        seeds: Sequence[int],
        episodes: int = 10,
        env_kwargs: Mapping[str, Any] | None = None,
        max_envs: int = 100,
        spec: Spec | None = None,
        reference: str | None = None,
        epsilon: float | None = None,
    ) -> None:
        # Kept for copies, which make environments of their own.
        self.arguments = {
            "env_id": env_id,
            "seeds": list(seeds),
            "episodes": episodes,
            "env_kwargs": env_kwargs,
            "max_envs": max_envs,
            "spec": spec,
            "reference": reference,
            "epsilon": epsilon,
        }
        name = name_of(env_id)
        if episodes < 1:
            raise InputError(f"eval_episodes = {episodes}: expected at least 1")
        if epsilon is None:
            epsilon = EPSILON if name.startswith(PREFIX) else 0.0
        self.env_id = name
        self.env_kwargs = dict(env_kwargs or {})
        self.seeds = list(seeds)
        self.spec = spec
        self.reference = reference or name
        if isinstance(env_id, gymnasium.Env):
            max_envs = 1
        self.quota = _split(episodes, min(episodes, max_envs))
        self.envs, self.shared, self.is_cut = copies(
            env_id, len(self.seeds), len(self.quota), env_kwargs or {}, LONGEST
        )
        space = self.envs[0].single_action_space
        self.epsilon = check_epsilon(f"{name}: eval_epsilon", epsilon, space)
        if spec is not None:
            check_spaces(spec, self.envs[0])

    def __call__(self, policy: Acting | Policy) -> Scores:
        """Average return and length over the episodes of each run, and normalize the return.

        Args:
            policy: an agent with as many runs as there are seeds, or one loaded policy.
        Returns:
            `eval/return` and `eval/length`; `eval/d4rl_score` in D4RL's original environments,
            `eval/normalized_score` for their counterparts on Gymnasium, `eval/human_normalized` and
            `eval/dqn_normalized` for Atari; `[R]` each.
        """
        with answers_awaited():
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

    def rollout(self, policy: Acting | Policy) -> tuple[np.ndarray, np.ndarray]:
        """Play the episodes of every run.

        Args:
            policy: as in a call.
        Returns:
            Undiscounted return and length of every episode, `[R, episodes]` each, in no particular
            order.
        Raises:
            InputError: another number of runs than seeds, or another environment.
        """
        tallies = []
        for run, one in enumerate(self.policies(policy)):
            tallies.append(Tally(self.quota))
            self._play(run, one, tallies[-1])

        returns = np.array([tally.returns for tally in tallies])
        lengths = np.array([tally.lengths for tally in tallies])
        self._report(returns, lengths)
        return returns, lengths

    def policies(self, policy: Acting | Policy) -> list[Policy]:
        """Return what plays in the environments of each run."""
        runs = len(self.seeds)
        if isinstance(policy, Policy):
            if runs != 1:
                raise InputError(f"seeds: {runs}, expected one for a single policy")
            check_spaces(policy.spec, self.envs[0])
            return [policy]

        if isinstance(policy, Agent) and len(policy.runs) != runs:
            raise InputError(f"seeds: {runs}, expected one for each of {len(policy.runs)} runs")
        spec = self.spec or getattr(policy, "spec", None) or natural_spec(self.envs[0])
        adapter = adapter_of(spec, self.envs[0])
        return [Policy(policy.one_run(run), adapter) for run in range(runs)]

    def _play(self, run: int, policy: Policy, tally: Tally) -> None:
        """Play the episodes of one run."""
        env, start = self.envs[run], _start(self.seeds[run])
        rng = np.random.default_rng(start)
        epsilon = self.epsilon or policy.epsilon

        obs, _ = env.reset(seed=start)
        seen, _ = policy.read(obs)
        tally.stop_if_broken(seen)
        while not tally.complete:
            played = policy.play(seen, epsilon, rng)
            obs, reward, terminated, truncated, _ = env.step(played)
            tally.add(reward, terminated | truncated)
            seen, _ = policy.read(obs)
            tally.stop_if_broken(seen, reward)

    def _report(self, returns: np.ndarray, lengths: np.ndarray) -> None:
        """Say which runs met numbers that are none, and whether episodes were cut.

        Args:
            returns: `[R, episodes]`; all those of a broken run become NaN, in place.
            lengths: `[R, episodes]`.
        """
        broken = ~np.isfinite(returns).all(1)
        if broken.any():
            say(
                f"env = {self.env_id!r}: NaN or infinite observations or rewards in run "
                f"{', '.join(map(str, np.flatnonzero(broken)))}: its score is NaN",
                logging.WARNING,
            )
            returns[broken] = np.nan
        if self.is_cut and (lengths >= LONGEST).any():
            say(
                f"env = {self.env_id!r} has no time limit: an episode was cut after {LONGEST:,} "
                f"steps; set one with env_kwargs: {{max_episode_steps: N}}, or the wrapper "
                "TimeLimit",
                logging.WARNING,
            )

    def __reduce__(self) -> tuple[Callable[..., Evaluator], tuple[dict[str, Any]]]:
        """Copy and pickle the arguments: every evaluation begins anew."""
        return _evaluator, (self.arguments,)

    def close(self) -> None:
        """Close the environments that were made here."""
        if self.shared:
            return
        for env in self.envs:
            env.close()


def _evaluator(arguments: dict[str, Any]) -> Evaluator:
    """Make an evaluator again from its arguments."""
    return Evaluator(**arguments)


def make_evaluator(
    agent: Agent,
    env_id: Given | None,
    env_kwargs: Mapping[str, Any],
    episodes: int,
    reference: str | None = None,
    epsilon: float | None = None,
) -> Evaluator | TabularEvaluator | None:
    """Make the evaluator of an agent: exact in embedded environments if it has action values.

    Args:
        agent: the agent to evaluate.
        env_id: see `Evaluator`; None if no environment is known.
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
        if isinstance(env_id, str) and env_id.startswith("rlop/") and isinstance(agent, Valuing):
            return _tabular_evaluator(agent, env_id, env_kwargs)
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


def evaluation_of(
    agent: Agent, evaluate: Evaluation | Given | None, data_name: str, episodes: int
) -> Evaluation | None:
    """Return the evaluation of a training in Python: a function of the agent.

    An environment is evaluated in as the command line does. It is told from a function of the agent
    by being an id, an environment, a class of environments, or a function without arguments.

    Args:
        agent: the agent to evaluate.
        evaluate: as `rlop.train` takes it.
        data_name: name of the data set, which selects the scores of D4RL.
        episodes: per run, for an environment.
    Raises:
        InputError: as `make_evaluator`.
    """
    if evaluate is None:
        return None
    if not _is_given(evaluate):
        return evaluate  # type: ignore[return-value]  # a function of the agent
    spec = agent.spec
    env_kwargs = spec.env_kwargs if evaluate == spec.env_id else {}
    reference = data_name if find_scores(data_name) else None
    return make_evaluator(agent, evaluate, env_kwargs, episodes, reference)


def _is_given(evaluate: Evaluation | Given) -> TypeGuard[Given]:
    """Return whether this is an environment, or makes one."""
    if isinstance(evaluate, str | gymnasium.Env | gymnasium.vector.VectorEnv):
        return True
    if isinstance(evaluate, type):
        return issubclass(evaluate, gymnasium.Env)
    try:
        parameters = signature(evaluate).parameters.values()
        signature(evaluate).bind()
    except (TypeError, ValueError):
        return False
    return all(parameter.kind is not Parameter.VAR_POSITIONAL for parameter in parameters)


def _tabular_evaluator(
    agent: Agent, env_id: str, env_kwargs: Mapping[str, Any]
) -> TabularEvaluator:
    env = make_env(env_id, **env_kwargs)
    check_spaces(agent.spec, env)
    assert isinstance(env.unwrapped, TabularEnv)
    limit = env.spec.max_episode_steps if env.spec else None
    return TabularEvaluator(
        env.unwrapped.mdp,
        agent.runs.values["gamma"],
        horizon=limit or TABULAR_LIMIT,
        adapter=adapter_of(agent.spec, env),
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
