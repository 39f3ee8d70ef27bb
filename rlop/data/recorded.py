"""Turn an environment's own observations and actions into those that data sets hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import gymnasium
import numpy as np
from numpy.typing import ArrayLike

from rlop.config.checks import check_known
from rlop.data.native import (
    Bound,
    Counts,
    bounds,
    joint_actions,
    joint_counts,
    one_hot,
    unit_actions,
)
from rlop.envs.make import known_spaces
from rlop.types import InputError

UNITS = ("native", "unit")


class Recorded(NamedTuple):
    """Actions of a data set, and what the environment's own are.

    Args:
        action: `[N]`, or `[N, m]`.
        n_actions: number of discrete actions, as far as it is known.
        low: as `Spec.action_low`.
        high: as `Spec.action_high`.
        layout: as `Spec.action_layout`.
        counts: as `Spec.action_counts`.
    """

    action: ArrayLike
    n_actions: int | None = None
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    layout: tuple[int, ...] | None = None
    counts: tuple[int, ...] | None = None


def recorded_obs(
    obs: ArrayLike,
    next_obs: ArrayLike | None,
    n_states: int | None,
    env_id: str | None,
) -> tuple[ArrayLike, ArrayLike | None]:
    """Return discrete observations as one-hot vectors, and others as they are.

    Args:
        obs: `[N]` or `[N, 1]` integers of a discrete observation, or anything else.
        next_obs: the same, or None.
        n_states: number of discrete observations; None: the environment says it, if it has any.
        env_id: of the environment; None if unknown.
    Raises:
        InputError: observations out of range, or that cannot be discrete.
    """
    if np.ma.is_masked(obs) or np.ma.is_masked(next_obs):
        return obs, next_obs  # for the checks of columns to refuse

    start = 0
    if n_states is None:
        space = known_spaces(env_id) if env_id is not None and _may_be_discrete(obs) else None
        if space is None or not isinstance(space[0], gymnasium.spaces.Discrete):
            return obs, next_obs
        n_states, start = int(space[0].n), int(space[0].start)
    elif not _may_be_discrete(obs):
        raise InputError(f"obs: expected integers [N] or [N, 1] with n_states = {n_states}")

    hot = one_hot("obs", np.asarray(obs), n_states, start)
    if next_obs is None:
        return hot, None
    return hot, one_hot("next_obs", np.asarray(next_obs), n_states, start)


def _may_be_discrete(obs: ArrayLike) -> bool:
    """Return whether observations are one whole number each."""
    values = np.asarray(obs)
    is_single = values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)
    return is_single and values.dtype.kind in "iu"


def recorded_actions(
    action: ArrayLike,
    n_actions: Counts | None,
    low: Bound | None,
    high: Bound | None,
    start: int,
    units: str,
) -> Recorded:
    """Turn an environment's actions into a data set's; arguments as in `Dataset.from_arrays`.

    Only what is changed is checked; the caller checks the values.
    """
    check_known("action_units", units, UNITS)
    if (low is None) != (high is None):
        raise InputError(f"action_low = {low}, action_high = {high}: expected both, or neither")

    if np.ma.is_masked(action):
        return Recorded(action)  # for the checks of columns to refuse

    values = np.asarray(action)
    is_discrete = n_actions is not None or values.dtype.kind != "f"
    if is_discrete and low is not None:
        raise InputError("action_low, action_high: expected continuous actions (floats)")
    if is_discrete:
        return _discrete(action, n_actions, start, units)
    if start:
        raise InputError(f"action_start = {start}: expected discrete actions (integers)")
    return _continuous(action, low, high, units)


def _continuous(action: ArrayLike, low: Bound | None, high: Bound | None, units: str) -> Recorded:
    """Flatten actions of several axes, and bring them to [-1, 1] where the bounds are given."""
    values = np.asarray(action)
    layout = values.shape[1:] if values.ndim > 2 else None
    if layout is not None:
        action = values = values.reshape(len(values), math.prod(layout))
    if low is None or high is None:
        return Recorded(action, layout=layout)

    vectors = values[:, None] if values.ndim == 1 else values
    lows, highs = bounds(low, high, math.prod(vectors.shape[1:]))
    if units == "native":
        action = unit_actions(vectors, lows, highs)
    return Recorded(action, low=tuple(lows.tolist()), high=tuple(highs.tolist()), layout=layout)


def _discrete(action: ArrayLike, n_actions: Counts | None, start: int, units: str) -> Recorded:
    """Number actions from 0, and actions of several parts jointly."""
    values = np.asarray(action)
    if isinstance(n_actions, Sequence | np.ndarray):
        counts = joint_counts(n_actions)
        if start:
            raise InputError(f"action_start = {start}: expected 0 for actions of several parts")
        has_parts = values.ndim == 2 and (values.shape[1] > 1 or len(counts) == 1)
        joint = joint_actions(values, counts) if has_parts else action
        return Recorded(joint, math.prod(counts), counts=counts)

    if values.ndim == 2 and values.shape[1] > 1 and n_actions is None:
        raise InputError(
            f"action: shape {values.shape}, expected [N] or [N, 1]; for the parts of a "
            "MultiDiscrete action n_actions = [choices of each part]"
        )
    if start == 0 or units == "unit":
        return Recorded(action, n_actions)

    if values.size and values.min() < start:
        raise InputError(f"action: {values.min()}, expected at least action_start = {start}")
    numbers = values if values.dtype.kind == "f" else values.astype(np.int64)
    return Recorded(numbers - start, n_actions)
