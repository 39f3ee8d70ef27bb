"""Between an environment's own actions and observations, and those that data sets hold.

Data sets hold continuous actions in [-1, 1] as vectors, discrete ones numbered from 0, and vectors
or images as observations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rlop.data.mapped import empty
from rlop.envs.spaces import to_unit
from rlop.types import InputError

Bound: TypeAlias = float | Sequence[float] | np.ndarray
Counts: TypeAlias = int | Sequence[int]  # discrete actions, or choices of each part of an action

ROUNDING = 1e-4  # of the range, by which stored actions may pass a bound
CHUNK = 65_536  # rows that are converted at once, so that float64 copies stay small
MOST_JOINT = 4_096  # joint actions of a MultiDiscrete space


def detached(values: Any) -> Any:
    """Return tensors as arrays, also those that require gradients or lie on a GPU.

    Args:
        values: an array-like; what is no tensor, or list of tensors, is returned as it is.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    is_list = isinstance(values, list | tuple) and len(values) > 0
    if is_list and isinstance(values[0], Tensor):
        return [detached(value) for value in values]
    return values


def bounds(low: Bound, high: Bound, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest action, `[m]` float64 each.

    Args:
        low: a number, or one per dimension.
        high: the same.
        size: m.
    Raises:
        InputError: bounds that are not finite, of another number, or not in order.
    """
    lows, highs = _numbers("action_low", low, size), _numbers("action_high", high, size)
    if not (lows < highs).all():
        raise InputError(f"action_low = {low}, action_high = {high}: expected low < high")
    return lows, highs


def action_box(lows: ArrayLike, highs: ArrayLike, shape: tuple[int, ...]) -> gymnasium.spaces.Box:
    """Return the bounds of the environment's actions as a space of float64.

    Args:
        lows: one number for each in an action.
        highs: the same.
        shape: of one action.
    """
    low, high = np.asarray(lows, np.float64), np.asarray(highs, np.float64)
    return gymnasium.spaces.Box(low.reshape(shape), high.reshape(shape), dtype=np.float64)


def unit_actions(action: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
    """Bring actions from the environment's bounds to [-1, 1].

        2 (a - low) / (high - low) - 1

    Args:
        action: `[N, *A]` in the environment's units.
        lows: `[m]`, m the numbers in one action.
        highs: `[m]`.
    Returns:
        `[N, *A]` float32.
    Raises:
        InputError: actions outside the bounds, by more than rounding.
    """
    is_unit = (lows == -1).all() and (highs == 1).all()
    if is_unit and action.dtype == np.float32 and action.min() >= -1 and action.max() <= 1:
        return action

    box = action_box(lows, highs, action.shape[1:])
    unit = empty(action.shape, np.float32, action)
    for first in range(0, len(action), CHUNK):
        rows = slice(first, first + CHUNK)
        exact = to_unit(action[rows], box)
        if np.abs(exact).max() > 1 + ROUNDING:
            raise InputError(
                f"actions from {action.min():.8g} to {action.max():.8g}, expected them within "
                f"{_short(lows)} and {_short(highs)}"
            )
        unit[rows] = exact.clip(-1, 1)
    return unit


def joint_actions(action: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    """Number the actions of a MultiDiscrete space row-major: the last part varies fastest.

    Args:
        action: `[N, k]` integers, part i in [0, counts[i]).
        counts: choices of each of the k parts.
    Returns:
        `[N]` int64.
    Raises:
        InputError: another number of parts, or a choice out of range.
    """
    if action.ndim != 2 or action.shape[1] != len(counts):
        raise InputError(f"action: shape {action.shape}, expected [N, {len(counts)}] (n_actions)")
    if not np.array_equal(action, np.round(action)):
        raise InputError(f"action: {action.dtype}, expected whole numbers (n_actions)")

    outside = (action < 0) | (action >= np.array(counts))
    bad = np.flatnonzero(outside.any(1))
    if len(bad):
        raise InputError(
            f"action: {action[bad[0]].tolist()} at row {bad[0]}, expected parts below "
            f"{list(counts)} (n_actions)"
        )
    parts = tuple(action.astype(np.int64).T)
    return np.ravel_multi_index(parts, counts).astype(np.int64)


def joint_parts(action: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    """Return the parts of joint actions, `[N] -> [N, k]`: the inverse of `joint_actions`."""
    return np.stack(np.unravel_index(action, counts), axis=1)


def joint_counts(counts: Sequence[int]) -> tuple[int, ...]:
    """Check the choices of each part of a MultiDiscrete action.

    Raises:
        InputError: none, one below 1, or too many joint actions.
    """
    numbers = np.asarray(counts)
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
        raise InputError(f"n_actions = {counts}: expected a number, or one for each part")
    choices = tuple(int(number) for number in numbers)
    joint = int(np.prod(numbers, dtype=object))
    if min(choices) < 1 or joint > MOST_JOINT:
        raise InputError(
            f"n_actions = {list(choices)}: {joint} joint actions, expected 1 to {MOST_JOINT}"
        )
    return choices


def one_hot(key: str, values: np.ndarray, n: int, start: int = 0) -> np.ndarray:
    """Return discrete observations as vectors.

    Args:
        key: what messages call the array.
        values: `[N]` or `[N, 1]` whole numbers.
        n: how many there are.
        start: the first.
    Returns:
        `[N, n]` float32.
    Raises:
        InputError: values out of range.
    """
    index = values.reshape(-1).astype(np.int64) - start
    bad = np.flatnonzero((index < 0) | (index >= n))
    if len(bad):
        raise InputError(
            f"{key}: {values.reshape(-1)[bad[0]]} at row {bad[0]}, expected {n} values from "
            f"{start} on"
        )
    return np.eye(n, dtype=np.float32)[index]


def by_name(paths: Iterable[str]) -> list[str]:
    """Sort the paths of parts, as `a/b`, name by name, as Gymnasium sorts a Dict space."""
    return sorted(paths, key=lambda path: path.split("/"))


def whole_number(where: str, value: object) -> int:
    """Return a whole number that a file holds, alone or in an array of one.

    Args:
        where: what messages call it.
        value: as read.
    Raises:
        InputError: anything else.
    """
    number = np.asarray(value)
    if number.size == 1 and number.dtype.kind in "iuf":
        only = number.reshape(-1)[0]
        if np.isfinite(only) and only == np.round(only):
            return int(only)
    raise InputError(f"{where} = {value!r}: expected one whole number")


def _numbers(name: str, value: Bound, size: int) -> np.ndarray:
    """Return one finite number per dimension, `[m]` float64."""
    try:
        numbers = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.size not in (1, size) or not np.isfinite(numbers).all():
        raise InputError(f"{name} = {value}: expected a finite number, or {size} of them")
    return np.broadcast_to(numbers, (size,))


def _short(numbers: np.ndarray) -> str:
    """Return one number where all are equal, else the list."""
    if len(set(numbers.tolist())) == 1:
        return f"{numbers[0]:g}"
    return str([float(f"{number:g}") for number in numbers])
