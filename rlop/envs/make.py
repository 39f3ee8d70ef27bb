"""Environments by id, with whatever must be imported first; what is missing or misspelt is named in one line."""

from __future__ import annotations

import warnings
from functools import partial
from importlib import import_module
from typing import Any

import gymnasium

from rlop.config.checks import closest
from rlop.envs.atari import PREFIX, vector_arguments
from rlop.envs.layouts import d4rl_env
from rlop.types import InputError

ROBOTICS = ("gymnasium_robotics", "mujoco")
PROVIDERS = {  # beginning of an id -> module that registers it, extra to install
    "MinAtar/": ("minatar.gym", "minatar"),
    PREFIX: ("ale_py", "atari"),
    "AntMaze_": ROBOTICS,
    "PointMaze_": ROBOTICS,
    "AdroitHand": ROBOTICS,
    "FrankaKitchen-": ROBOTICS,
}
EXTRAS = {"box2d": "classic", "mujoco": "mujoco"}  # part of an entry point -> extra


def make_env(env_id: str, *, layout: str | None = None, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make`, for ids of this package, MinAtar, Atari and gymnasium-robotics too.

    Args:
        env_id: such as `rlop/GridWorld-v0`, `MinAtar/Breakout-v1`, `ALE/Breakout-v5`, `AntMaze_UMaze-v4`.
        layout: "d4rl" for D4RL's observations, starts and ends, see `d4rl_env`; None for the environment's own.
        kwargs: of the environment.

    Raises:
        InputError: an unknown id, a package that is not installed, an argument the environment does not have, or one
            that cannot be brought into the layout.
    """
    check_env_id(env_id)
    # The checker's warnings are for authors of environments, and it costs time in the first steps.
    make = partial(_make, build=gymnasium.make, disable_env_checker=True)
    return make(env_id, **kwargs) if layout is None else d4rl_env(env_id, layout, make, **kwargs)


def make_vec_env(
    env_id: str, n: int, *, layout: str | None = None, **kwargs: Any
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """n copies of an environment, stepped together in this process; the environments of this package in NumPy.

    Those of Atari, `ALE/...`, give stacks of frames as agents see them, unlike `make_env`'s; see `AtariSettings`.

    All reset themselves one step after an episode's end (`AutoresetMode.NEXT_STEP`): the observation of the last step
    is the episode's own, and the step after it ignores the action, pays 0 and returns a first observation.

    Args:
        env_id: as in `make_env`.
        n: number of copies, at least 1.
        layout: as in `make_env`.
        kwargs: of the environment.

    Raises:
        InputError: as in `make_env`, or n < 1.
    """
    if n < 1:
        raise InputError(f"n = {n}: expected at least 1 environment")
    check_env_id(env_id)
    if layout is not None:
        return gymnasium.vector.SyncVectorEnv(
            [partial(make_env, env_id, layout=layout, **kwargs)] * n
        )
    if env_id.startswith(PREFIX):
        return _make(env_id, gymnasium.make_vec, num_envs=n, **vector_arguments(env_id, kwargs))
    if env_id.startswith("rlop/"):
        return _make(env_id, gymnasium.make_vec, num_envs=n, **kwargs)
    options = {"vectorization_mode": "sync", "disable_env_checker": True}
    return _make(env_id, gymnasium.make_vec, num_envs=n, **options, **kwargs)


def time_limit(env_id: str) -> int | None:
    """The number of steps after which `env_id` cuts an episode; None when it never does."""
    check_env_id(env_id)
    return gymnasium.spec(env_id).max_episode_steps


def check_env_id(env_id: str) -> None:
    """Import what registers `env_id`; InputError with the nearest registered id when there is no such environment."""
    prefix = next((prefix for prefix in PROVIDERS if env_id.startswith(prefix)), None)
    if prefix is not None and not any(known.startswith(prefix) for known in gymnasium.registry):
        _register(env_id, *PROVIDERS[prefix])
    if (
        env_id not in gymnasium.registry and ":" not in env_id
    ):  # `module:id` is for Gymnasium to import
        raise InputError(
            f"env_id = {env_id!r}: no such environment{closest(env_id, gymnasium.registry)}"
        )


def _register(env_id: str, module: str, extra: str) -> None:
    try:
        provider = import_module(module)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise InputError(f"env_id {env_id!r}: {error}; pip install 'rlop[{extra}]'") from error
    if hasattr(
        provider, "register_envs"
    ):  # ale_py registers when it is imported, MinAtar when it is told to
        provider.register_envs()


def _make(env_id: str, build: Any, **kwargs: Any) -> Any:
    try:
        with warnings.catch_warnings():
            # Box2D's bindings crash the interpreter where this warning is an error.
            warnings.filterwarnings(
                "ignore", "builtin type .* has no __module__ attribute", DeprecationWarning
            )
            # Version 4 of the MuJoCo environments is asked for on purpose: policies and data were made with it.
            warnings.filterwarnings("ignore", ".*is out of date", DeprecationWarning)
            return build(env_id, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        entry = str(gymnasium.spec(env_id).entry_point)
        extra = next((extra for part, extra in EXTRAS.items() if part in entry), None)
        fix = f"; pip install 'rlop[{extra}]'" if extra else ""
        raise InputError(f"env_id {env_id!r}: {str(error).splitlines()[0]}{fix}") from error
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise InputError(f"env_id {env_id!r}: {str(error).splitlines()[0]}") from error
