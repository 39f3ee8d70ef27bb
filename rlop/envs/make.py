"""Environments by id: registers those of other packages, and reports errors in one line."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import NamedTuple, TypeVar

import gymnasium

from rlop.config.checks import closest
from rlop.envs.atari import PREFIX, vector_arguments
from rlop.envs.layouts import d4rl_env
from rlop.envs.original import PREFIX as ORIGINAL
from rlop.envs.original import make_original
from rlop.envs.spaces import Env, Space, VectorEnv
from rlop.logs.messages import say
from rlop.types import InputError

T = TypeVar("T")


class Provider(NamedTuple):
    """A package that registers environments."""

    module: str  # imported to register them
    extra: str  # extra of rlop that installs it


ROBOTICS = Provider("gymnasium_robotics", "mujoco")

# Beginning of an id -> its provider.
PROVIDERS = {
    "MinAtar/": Provider("minatar.gym", "minatar"),
    PREFIX: Provider("ale_py", "atari"),
    "AntMaze_": ROBOTICS,
    "PointMaze_": ROBOTICS,
    "AdroitHand": ROBOTICS,
    "FrankaKitchen-": ROBOTICS,
}

# Part of an entry point of Gymnasium's own environments -> extra that installs what it needs.
EXTRAS = {"box2d": "classic", "mujoco": "mujoco"}


def make_env(
    env_id: str,
    *,
    layout: str | None = None,
    **kwargs: object,
) -> Env:
    """Make one environment like `gymnasium.make`, after registering those of other packages.

    Args:
        env_id: such as `rlop/GridWorld-v0`, `MinAtar/Breakout-v1`, `ALE/Breakout-v5`,
            `AntMaze_UMaze-v4`, or D4RL's original `d4rl:hopper-medium-v2`, see `make_original`.
        layout: "d4rl" for D4RL's observations, starts and ends, see `d4rl_env`; None for the
            environment's own.
        kwargs: keyword arguments of the environment.
    Returns:
        The environment.
    Raises:
        InputError: an unknown id, a package that is not installed, an argument the environment does
            not have, or one that cannot be brought into the layout.
    """
    if env_id.startswith(ORIGINAL):
        _check_no_arguments(env_id, layout, kwargs)
        return make_original(env_id)
    check_env_id(env_id)

    # The checker's warnings are for authors of environments, and it slows the first steps.
    make: Callable[..., Env] = partial(_make, build=gymnasium.make, disable_env_checker=True)
    if layout is None:
        return make(env_id, **kwargs)
    return d4rl_env(env_id, layout, make, **kwargs)


def make_vec_env(
    env_id: str,
    n: int,
    *,
    layout: str | None = None,
    **kwargs: object,
) -> VectorEnv:
    """Make n copies of an environment, stepped together in this process.

    Environments of this package are stepped in NumPy. Those of Atari, `ALE/...`, return stacks of
    frames as agents see them, unlike those of `make_env`; see `AtariSettings`. All reset themselves
    one step after an episode's end (`AutoresetMode.NEXT_STEP`): the last step returns the last
    observation of its episode, and the step after it ignores the action, pays 0 and returns the
    first observation of the next episode.

    Args:
        env_id: as in `make_env`.
        n: number of copies, at least 1.
        layout: as in `make_env`.
        kwargs: keyword arguments of the environment.
    Returns:
        The environments.
    Raises:
        InputError: as in `make_env`, or n < 1.
    """
    if n < 1:
        raise InputError(f"n = {n}: expected at least 1 environment")
    if env_id.startswith(ORIGINAL):
        make_one = partial(make_env, env_id, layout=layout, **kwargs)
        return gymnasium.vector.SyncVectorEnv([make_one] * n)
    check_env_id(env_id)

    if layout is not None:
        make_one = partial(make_env, env_id, layout=layout, **kwargs)
        return gymnasium.vector.SyncVectorEnv([make_one] * n)

    if env_id.startswith(PREFIX):
        options = vector_arguments(env_id, kwargs)
    elif env_id.startswith("rlop/"):
        options = kwargs
    else:
        options = {"vectorization_mode": "sync", "disable_env_checker": True, **kwargs}
    return _make(env_id, gymnasium.make_vec, num_envs=n, **options)


def time_limit(env_id: str) -> int | None:
    """Return the number of steps after which `env_id` cuts an episode; None if it never does.

    Raises:
        InputError: an unknown id, or a package that is not installed.
    """
    module, colon, plain = env_id.rpartition(":")
    if colon:
        _import(env_id, module)
    check_env_id(plain)
    return gymnasium.spec(plain).max_episode_steps


def known_spaces(env_id: str) -> tuple[Space, Space] | None:
    """Return the spaces of observations and actions of an environment, made without arguments.

    Args:
        env_id: as in `make_env`.
    Returns:
        None where it cannot be made here.
    """
    try:
        env = make_env(env_id)
    except Exception:  # whatever a constructor raises that lacks its arguments
        return None
    spaces = env.observation_space, env.action_space
    env.close()
    return spaces


def stored_env_id(where: object, env_id: str | None) -> str | None:
    """Return the id of an environment that a data file names, unless using it would import code.

    `module:Id` imports its module; a file may come from a stranger. It is taken only if the module
    is imported already. `d4rl:NAME` is this library's own name for D4RL's original environments.

    Args:
        where: the file, for the message.
        env_id: as the file has it.
    """
    module, colon, _ = (env_id or "").partition(":")
    if not colon or module in sys.modules or str(env_id).startswith(ORIGINAL):
        return env_id
    say(
        f"{where}: names the environment {env_id!r}, and a data file imports nothing; if you trust "
        "it, name it yourself (env)",
        logging.WARNING,
    )
    return None


def check_env_id(env_id: str) -> None:
    """Import the package that registers `env_id`.

    Raises:
        InputError: an unknown id, with the nearest one, or a package that is not installed.
    """
    for prefix, provider in PROVIDERS.items():
        if env_id.startswith(prefix) and not _is_registered(prefix):
            _register(env_id, provider)

    # Gymnasium itself imports the module of `module:id`.
    if env_id not in gymnasium.registry and ":" not in env_id:
        hint = closest(env_id, gymnasium.registry)
        raise InputError(f"env_id = {env_id!r}: no such environment{hint}")


def _check_no_arguments(env_id: str, layout: str | None, kwargs: Mapping[str, object]) -> None:
    """Refuse arguments of an original environment, which has none."""
    given = [*kwargs] if layout is None else ["layout", *kwargs]
    if given:
        raise InputError(f"env_id {env_id!r}: {given[0]}: D4RL's original takes no arguments")


def _is_registered(prefix: str) -> bool:
    return any(env_id.startswith(prefix) for env_id in gymnasium.registry)


def _register(env_id: str, provider: Provider) -> None:
    try:
        module = import_module(provider.module)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        fix = f"pip install 'rlop[{provider.extra}]'"
        raise InputError(f"env_id {env_id!r}: {error}; {fix}") from error

    # ale_py registers when it is imported, MinAtar when this function is called.
    register_envs = getattr(module, "register_envs", None)
    if register_envs is not None:
        register_envs()


def _import(env_id: str, module: str) -> None:
    """Import the module of `module:Id`."""
    try:
        import_module(module)
    except ImportError as error:
        raise InputError(f"env_id {env_id!r}: {_first_line(error)}") from error


def _make(
    env_id: str,
    build: Callable[..., T],
    **kwargs: object,
) -> T:
    """Build an environment; every error becomes one line that names it."""
    try:
        with warnings.catch_warnings():
            # Box2D's bindings crash the interpreter where this warning is an error.
            bindings = "builtin type .* has no __module__ attribute"
            warnings.filterwarnings("ignore", bindings, DeprecationWarning)

            # Version 4 of the MuJoCo environments is intended: policies and data were made with it.
            warnings.filterwarnings("ignore", ".*is out of date", DeprecationWarning)
            return build(env_id, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise InputError(f"env_id {env_id!r}: {_first_line(error)}{_fix(env_id)}") from error
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise InputError(f"env_id {env_id!r}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _fix(env_id: str) -> str:
    """Return the end of a message: how to install the packages that an environment needs."""
    entry_point = str(gymnasium.spec(env_id).entry_point)
    for part, extra in EXTRAS.items():
        if part in entry_point:
            return f"; pip install 'rlop[{extra}]'"
    return ""
