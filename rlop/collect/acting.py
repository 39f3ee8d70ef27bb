"""Functions that act in an environment while data are collected, and checks of their actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import gymnasium
import numpy as np

from rlop.envs.spaces import Env, Space, random_actions
from rlop.types import InputError

Make: TypeAlias = Callable[[], Env]  # a new copy of the environment
# Observations [n, *S] and a generator -> n actions in the environment's own units.
Act: TypeAlias = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def checked_actions(
    act: Act,
    space: Space,
    epsilon: float,
    obs: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Act on a batch of observations, with a random action where exploring.

    Args:
        act: the policy.
        space: the action space of the environment; actions beyond the bounds of a Box are clipped.
        epsilon: probability of a uniformly random action, drawn for each row independently.
        obs: `[n, *S]`.
        rng: generator of the policy and of the exploration.

    Returns:
        `[n]` int64 for Discrete, `[n, *A]` float32 for a Box.

    Raises:
        InputError: actions of another shape or dtype, not finite, or not in a Discrete space.
    """
    actions = _within(space, np.asarray(act(obs, rng)), len(obs))
    if epsilon == 0:
        return actions

    explores = rng.random(len(obs)) < epsilon
    explores = np.expand_dims(explores, tuple(range(1, actions.ndim)))
    return np.where(explores, random_actions(space, len(obs), rng), actions)


def _within(space: Space, actions: np.ndarray, n: int) -> np.ndarray:
    """Clip the actions of a Box to its bounds, and reject actions outside the space."""
    shape = (n, *(space.shape or ()))
    if actions.shape == shape:
        if isinstance(space, gymnasium.spaces.Box):
            if np.isfinite(actions).all():
                return np.clip(actions, space.low, space.high).astype(np.float32)
        elif actions.dtype.kind in "iu" and all(map(space.contains, actions)):
            return actions.astype(np.int64)

    raise InputError(
        f"policy: actions {actions.dtype} of shape {actions.shape}, expected {shape} within {space}"
    )
