"""D4RL's original environments, where the package d4rl and its MuJoCo are installed.

They follow OpenAI Gym's interface of before 0.26: `reset` returns an observation, `step` four
values, and a time limit is reported in `info`.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import Any, Protocol

import gymnasium
import numpy as np

from rlop.envs.spaces import Env, Info, Space
from rlop.types import InputError

PREFIX = "d4rl:"
PAGE = "docs/d4rl.md"
QUIET = "D4RL_SUPPRESS_IMPORT_ERROR"  # environment variable of d4rl: no pages of warnings


class OldEnv(Protocol):
    """An environment of OpenAI Gym before 0.26."""

    observation_space: Any
    action_space: Any

    def seed(self, seed: int) -> object:
        """Seed the environment."""

    def reset(self) -> np.ndarray:
        """Begin an episode."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        """Take one action."""

    def close(self) -> None:
        """Close the environment."""


def make_original(env_id: str) -> Env:
    """Make D4RL's own environment of a data set.

    Args:
        env_id: such as `d4rl:hopper-medium-v2`.

    Raises:
        InputError: d4rl, gym or MuJoCo cannot be imported, or has no environment of this name;
            with the page that says how to get them.
    """
    name = env_id.removeprefix(PREFIX)
    quiet_before = os.environ.get(QUIET)
    os.environ[QUIET] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gym = import_module("gym")
            import_module("d4rl")  # registers them
            env = gym.make(name)
    except Exception as error:  # without MuJoCo 2.1 d4rl raises a plain Exception
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"env_id {env_id!r}: no original environment of D4RL ({reason}); see {PAGE}"
        ) from error
    finally:
        if quiet_before is None:
            del os.environ[QUIET]
        else:
            os.environ[QUIET] = quiet_before
    return Original(env, env_id)


class Original(gymnasium.Env[np.ndarray, Any]):
    """An old environment with Gymnasium's interface.

    An episode that the time limit cuts is truncated, any other end terminates it. The limit is that
    of the environment's registration, also where no wrapper of Gym keeps it.

    Args:
        env: of OpenAI Gym.
        env_id: its name in messages.
    """

    metadata: dict[str, object] = {"render_modes": []}  # noqa: RUF012  # Gymnasium's declaration

    def __init__(self, env: OldEnv, env_id: str) -> None:
        self.env = env
        self.env_id = env_id
        self.observation_space = new_space(env.observation_space, env_id)
        self.action_space = new_space(env.action_space, env_id)
        self.limit: int | None = getattr(getattr(env, "spec", None), "max_episode_steps", None)
        self.steps = 0

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, object] | None = None,
    ) -> tuple[np.ndarray, Info]:
        """Begin an episode; `options` are ignored."""
        super().reset(seed=seed)
        if seed is not None:
            self.env.seed(seed)
        self.steps = 0
        return self._stored(self.env.reset()), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        """Take one action."""
        obs, reward, done, info = self.env.step(action)
        self.steps += 1

        # Gym's own limit sets `done` too; where the task ended in the same step it says so.
        was_cut = bool(info.get("TimeLimit.truncated", False))
        terminated = bool(done) and not was_cut
        at_limit = self.limit is not None and self.steps >= self.limit
        truncated = was_cut or (at_limit and not terminated)
        return self._stored(obs), float(reward), terminated, truncated, dict(info)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _stored(self, obs: np.ndarray) -> np.ndarray:
        return np.asarray(obs, dtype=self.observation_space.dtype)


def new_space(space: Any, env_id: str) -> Space:
    """Return Gymnasium's space for a Box or a Discrete of OpenAI Gym, which it does not know.

    Raises:
        InputError: another kind of space.
    """
    kind = type(space).__name__
    if kind == "Box":
        return gymnasium.spaces.Box(space.low, space.high, tuple(space.shape), space.dtype)
    if kind == "Discrete":
        return gymnasium.spaces.Discrete(int(space.n))
    raise InputError(f"env_id {env_id!r}: space {kind}, expected Box or Discrete")
