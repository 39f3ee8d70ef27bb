"""Actions of an environment: in its units and in [-1, 1], at random; types of environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeGuard

import gymnasium
import numpy as np
from numpy.typing import DTypeLike

# Only an environment itself knows the types of its observations and actions.
Obs: TypeAlias = Any
Action: TypeAlias = Any
Env: TypeAlias = gymnasium.Env[Obs, Action]
VectorEnv: TypeAlias = gymnasium.vector.VectorEnv[Obs, Action, np.ndarray]
Wrapper: TypeAlias = gymnasium.Wrapper[Obs, Action, Obs, Action]
Space: TypeAlias = gymnasium.Space[Obs]
Info: TypeAlias = dict[str, object]
EnvOptions: TypeAlias = Mapping[str, Any]  # keyword arguments, whose types its constructor knows


def to_unit(actions: np.ndarray, space: Space) -> np.ndarray:
    """Convert actions of a bounded Box to [-1, 1], as data sets store them.

        2 (a - low) / (high - low) - 1

    Args:
        actions: `[n, *A]` in the environment's units.
        space: its action space.
    Returns:
        `[n, *A]` float32; the actions unchanged if the space is discrete or has no bounds.
    """
    if not bounded(space):
        return actions

    low = space.low.astype(np.float64)
    span = space.high.astype(np.float64) - space.low
    unit = 2 * (actions - low) / np.where(span > 0, span, 1) - 1
    return unit.astype(np.float32)


def from_unit(actions: np.ndarray, space: Space) -> np.ndarray:
    """Convert actions in [-1, 1] to the units of a bounded Box: the inverse of `to_unit`.

        low + (a + 1) / 2 (high - low),  a clipped to [-1, 1]

    Args:
        actions: `[n, *A]`.
        space: the environment's action space.
    Returns:
        `[n, *A]` of the space's type; the actions unchanged if the space has no bounds.
    """
    if not bounded(space):
        return actions

    low = space.low.astype(np.float64)
    high = space.high.astype(np.float64)
    share = (np.clip(actions, -1, 1) + 1) / 2
    return as_type(low + share * (high - low), space.dtype)


def as_type(actions: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Return actions as another type; the nearest whole numbers for a type of integers."""
    if np.issubdtype(dtype, np.integer):
        actions = np.rint(actions)
    return actions.astype(dtype)


def bounded(space: Space) -> TypeGuard[gymnasium.spaces.Box]:
    """Return whether actions of this space are stored in [-1, 1]: a Box with finite bounds."""
    return isinstance(space, gymnasium.spaces.Box) and space.is_bounded()


def random_actions(space: Space, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n uniformly random actions of a space: Discrete, MultiDiscrete or a Box with bounds."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(space.n, size=n) + space.start
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return rng.integers(space.nvec, size=(n, *space.shape)) + space.start
    assert isinstance(space, gymnasium.spaces.Box)
    return rng.uniform(space.low, space.high, size=(n, *space.shape)).astype(np.float32)
