"""Environments as a user gives them: an id, an environment, or a function that makes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import gymnasium
from gymnasium.wrappers import TimeLimit

from rlop.envs.atari import PREFIX as ATARI
from rlop.envs.make import make_vec_env
from rlop.envs.spaces import Env, Space, VectorEnv
from rlop.envs.watched import Watched
from rlop.types import InputError

Given: TypeAlias = str | Env | Callable[[], Env]


class Copies(NamedTuple):
    """The environments of R runs.

    Args:
        of_run: a vector of environments for each run; one and the same where `shared`.
        shared: whether all runs play in a single environment, one after another.
        is_cut: whether episodes were given the time limit.
    """

    of_run: list[VectorEnv]
    shared: bool
    is_cut: bool


def name_of(given: Given) -> str:
    """Return the id of an environment, or what messages call it.

    Raises:
        InputError: anything that is no environment.
    """
    if isinstance(given, str):
        return given
    if isinstance(given, gymnasium.vector.VectorEnv):
        raise InputError(
            f"env: found {type(given).__name__}, a vector of environments; expected one, or a "
            "function that makes one"
        )
    if isinstance(given, gymnasium.Env):
        return type(given.unwrapped).__name__ if given.spec is None else given.spec.id
    if callable(given):
        return getattr(given, "__name__", type(given).__name__)
    raise InputError(
        f"env: found {type(given).__name__}, expected a Gymnasium id, an environment, or a "
        "function that makes one"
    )


def copies(
    given: Given, n_runs: int, n_envs: int, kwargs: Mapping[str, Any], longest: int
) -> Copies:
    """Make the environments of every run, adding a time limit where there is none.

    Args:
        given: an environment is used as it is, not copied, so that n_envs must be 1.
        n_runs: R.
        n_envs: environments of each run.
        kwargs: of `gymnasium.make`, for an id only.
        longest: the time limit, in steps.
    Raises:
        InputError: an unknown id, arguments for something else than an id, or a function that
            makes no new environment.
    """
    made = _copies(given, n_runs, n_envs, kwargs, longest)
    return made._replace(of_run=[Watched(envs, name_of(given)) for envs in made.of_run])


def _copies(
    given: Given, n_runs: int, n_envs: int, kwargs: Mapping[str, Any], longest: int
) -> Copies:
    """Make the environments, whose faults have no name yet."""
    if isinstance(given, str):
        return _by_id(given, n_runs, n_envs, kwargs, longest)
    if kwargs:
        raise InputError(
            f"env_kwargs: expected none with an environment of your own, found {sorted(kwargs)}"
        )

    if isinstance(given, gymnasium.Env):
        env = _limited(given, longest)
        vector = gymnasium.vector.SyncVectorEnv([lambda: env])
        return Copies([vector] * n_runs, True, env is not given)

    made = [_made(given) for _ in range(n_runs * n_envs)]
    if len({id(env.unwrapped) for env in made}) < len(made):
        raise InputError(
            f"env: {name_of(given)} returns the same environment every time; give the "
            "environment itself, or a function that makes a new one"
        )
    limited = [_limited(env, longest) for env in made]
    vectors: list[VectorEnv] = []
    for run in range(n_runs):
        own = limited[run * n_envs : (run + 1) * n_envs]
        vectors.append(gymnasium.vector.SyncVectorEnv([_returns(env) for env in own]))
    return Copies(vectors, False, limited[0] is not made[0])


def spaces_of(given: Given, kwargs: Mapping[str, Any]) -> tuple[Space, Space]:
    """Return the spaces of observations and actions of an environment.

    Args:
        given: an environment is left as it is; one that is made here is closed again.
        kwargs: of `gymnasium.make`, for an id only.
    Raises:
        InputError: as `copies`.
    """
    if isinstance(given, gymnasium.Env):
        return given.observation_space, given.action_space
    envs = copies(given, 1, 1, kwargs, longest=1).of_run[0]
    envs.close()
    return envs.single_observation_space, envs.single_action_space


def _by_id(
    env_id: str, n_runs: int, n_envs: int, kwargs: Mapping[str, Any], longest: int
) -> Copies:
    """Make the environments of an id."""
    options = dict(kwargs)
    envs = [make_vec_env(env_id, n_envs, **options)]
    spec = envs[0].spec
    may_run_forever = spec is not None and spec.max_episode_steps is None
    # Atari's environments limit their frames themselves.
    is_atari = env_id.startswith(ATARI)
    is_cut = may_run_forever and "max_episode_steps" not in options and not is_atari
    if is_cut:
        options["max_episode_steps"] = longest
        envs = [make_vec_env(env_id, n_envs, **options)]

    for _ in range(n_runs - 1):
        envs.append(make_vec_env(env_id, n_envs, **options))
    return Copies(envs, False, is_cut)


def _made(make: Callable[[], Env]) -> Env:
    """Call a user's function."""
    env = make()
    if not isinstance(env, gymnasium.Env):
        raise InputError(
            f"env: {name_of(make)} returned {type(env).__name__}, expected a Gymnasium environment"
        )
    return env


def _returns(env: Env) -> Callable[[], Env]:
    return lambda: env


def _limited(env: Env, longest: int) -> Env:
    """Return an environment with a time limit: its own if it has one."""
    inner = env
    while isinstance(inner, gymnasium.Wrapper):
        if isinstance(inner, TimeLimit):
            return env
        inner = inner.env
    return TimeLimit(env, longest)
