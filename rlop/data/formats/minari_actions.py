"""Actions as a Minari data set describes them, brought to what agents see."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from rlop.data.dataset import Dataset
from rlop.data.formats.episodes import SpaceJSON, whole_numbers
from rlop.data.native import Counts, joint_counts
from rlop.data.units import scale_actions
from rlop.types import InputError

SIGNED, UNSIGNED = ("int8", "int16", "int32", "int64"), ("uint8", "uint16", "uint32", "uint64")
WHOLE = ("bool", *SIGNED, *UNSIGNED)  # dtypes of discrete values

KINDS = ("Box", "Discrete", "MultiDiscrete")
UNBOUNDED = 1e30  # larger bounds are a float's largest number, which stands for none


def count_described(space: SpaceJSON) -> Counts | None:
    """Return the number of discrete actions, or the choices of each part; None for others.

    Raises:
        InputError: a space of another kind, or one with too many joint actions.
    """
    kind = space.get("type", "Box")
    if kind not in KINDS:
        raise InputError(f"actions: {kind} space, expected Box, Discrete or MultiDiscrete")
    if kind == "Discrete":
        return int(space["n"])
    if kind == "Box":
        if np.dtype(_dtype(space)).kind in "iub":
            raise InputError(f"actions: Box of {space['dtype']}, expected a Box of floats")
        return None

    return joint_counts(space["nvec"])


def numbered(actions: np.ndarray, space: SpaceJSON) -> np.ndarray:
    """Number discrete actions and their parts from 0; make vectors of continuous ones.

    Args:
        actions: `[N, ...]` as stored.
        space: of one action; {} leaves the actions as they are.

    Returns:
        `[N]` or `[N, k]` int64, or `[N, m]`.

    Raises:
        InputError: rows that are not of the space.
    """
    kind = space.get("type")
    if kind == "Discrete":
        return whole_numbers("actions", actions) - space.get("start", 0)
    if kind == "MultiDiscrete":
        return whole_numbers("actions", actions) - np.array(space.get("start", 0))

    if "shape" in space and math.prod(actions.shape[1:]) != math.prod(space["shape"]):
        raise InputError(f"actions: rows {actions.shape[1:]}, expected {tuple(space['shape'])}")
    if kind == "Box" and actions.dtype.kind in "iub":
        actions = actions.astype(np.float32)
    return actions.reshape(len(actions), -1) if actions.ndim > 2 else actions


def described(data: Dataset, space: SpaceJSON) -> Dataset:
    """Bring actions of a bounded Box to [-1, 1], and record what the environment's own are.

    Args:
        data: with the actions that `numbered` returns.
        space: of one action.
    """
    kind = space.get("type")
    if kind == "Discrete":
        return replace(data, spec=replace(data.spec, action_start=int(space.get("start", 0))))
    if kind != "Box" or "shape" not in space or data.spec.n_actions is not None:
        return data

    shape = tuple(space["shape"])
    if len(shape) > 1:
        data = replace(data, spec=replace(data.spec, action_layout=shape))
    low, high = _bound(space, "low", shape), _bound(space, "high", shape)
    is_bounded = (np.abs([low, high]) < UNBOUNDED).all()  # NaN is not
    if not is_bounded or not (low < high).all():
        return data
    return replace(scale_actions(data, low, high), name=data.name)


def _bound(space: SpaceJSON, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return one bound per entry of an action, `[m]`; infinite where the space says none."""
    size = math.prod(shape)
    try:
        bound = np.asarray(space.get(key, np.inf), np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        bound = np.empty(0)
    if bound.size not in (1, size):
        raise InputError(f"actions: {key}: expected a number, or {size} of them")
    return np.broadcast_to(bound, (size,))


def _dtype(space: SpaceJSON) -> str:
    """Return the dtype of a space's values; float32 where it is not known."""
    name = space.get("dtype")
    return name if name in WHOLE else "float32"
