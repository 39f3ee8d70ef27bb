"""Units of continuous actions: the environment's, and [-1, 1], in which agents act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import gymnasium
import numpy as np

from rlop.config.checks import check_known
from rlop.data.dataset import Dataset
from rlop.envs.spaces import to_unit
from rlop.types import InputError, Spec

Bound = float | Sequence[float] | np.ndarray
ROUNDING = 1e-4  # of the range, by which stored actions may pass a bound


def with_bounds(data: Dataset, low: Bound, high: Bound) -> Dataset:
    """Record which actions of the environment are -1 and 1 in the data; actions stay as they are.

    Args:
        data: with continuous actions `[N, m]` in [-1, 1].
        low: a number, or one per dimension.
        high: the same.
    Raises:
        InputError: discrete actions, or bounds that are not finite, of another number, or not in
            order.
    """
    if data.spec.n_actions is not None:
        raise InputError(f"{data.name}: action_low, action_high: expected continuous actions")
    size = int(np.prod(data.spec.action_shape))
    lows, highs = _numbers("action_low", low, size), _numbers("action_high", high, size)
    if not (lows < highs).all():
        raise InputError(f"action_low = {low}, action_high = {high}: expected low < high")
    spec = replace(data.spec, action_low=tuple(lows.tolist()), action_high=tuple(highs.tolist()))
    return replace(data, spec=spec)


def scale_actions(data: Dataset, low: Bound, high: Bound) -> Dataset:
    """Bring actions from the environment's bounds to [-1, 1], and record the bounds.

        2 (a - low) / (high - low) - 1

    Evaluation and a deployed policy undo it.

    Args:
        data: with continuous actions in the environment's units.
        low: the environment's lowest action, a number or one per dimension.
        high: the highest.
    Raises:
        InputError: as in `with_bounds`; actions outside the bounds; or actions that were scaled
            already.
    """
    if data.spec.action_low is not None:
        raise InputError(f"{data.name}: scale_actions: its actions are in [-1, 1] already")

    known = with_bounds(data, low, high)
    box = bounds_of(known.spec, known.spec.action_shape)
    action = to_unit(data.action, box)
    if np.abs(action).max(initial=0) > 1 + ROUNDING:
        raise InputError(
            f"{data.name}: scale_actions: actions from {data.action.min():.8g} to "
            f"{data.action.max():.8g}, expected them within low = {low} and high = {high}"
        )

    extra = dict(data.extra)
    if "next_action" in extra:
        extra["next_action"] = to_unit(extra["next_action"], box).clip(-1, 1)
    return replace(known, name=f"{data.name}+scaled", action=action.clip(-1, 1), extra=extra)


def in_units(data: Dataset, low: Bound | None, high: Bound | None, units: str) -> Dataset:
    """Return a data set with actions in [-1, 1], by the options of a reader.

    Args:
        data: as read.
        low: the environment's lowest action; None if the user does not say.
        high: the highest.
        units: of the actions as read: `native` or `unit`.
    Raises:
        InputError: only one of the bounds, or as in `scale_actions`.
    """
    check_known("action_units", units, ("native", "unit"))
    if (low is None) != (high is None):
        raise InputError(f"action_low = {low}, action_high = {high}: expected both, or neither")
    if low is None or high is None:
        return data
    return with_bounds(data, low, high) if units == "unit" else scale_actions(data, low, high)


def bounds_of(spec: Spec, shape: tuple[int, ...]) -> gymnasium.spaces.Box:
    """Return the recorded bounds of the environment's actions as a space.

    Args:
        spec: with `action_low` and `action_high`.
        shape: of one action.
    """
    low = np.array(spec.action_low, np.float64).reshape(shape)
    high = np.array(spec.action_high, np.float64).reshape(shape)
    return gymnasium.spaces.Box(low, high, dtype=np.float64)


def _numbers(name: str, value: Bound, size: int) -> np.ndarray:
    """Return one finite number per dimension, `[m]` float64."""
    try:
        numbers = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.size not in (1, size) or not np.isfinite(numbers).all():
        raise InputError(f"{name} = {value}: expected a finite number, or {size} of them")
    return np.broadcast_to(numbers, (size,))
