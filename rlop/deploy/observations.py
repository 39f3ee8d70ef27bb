"""Read what a user gives as an observation: one or a batch, NumPy or torch, in known types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np

from rlop.data.native import detached
from rlop.envs.spaces import Space
from rlop.types import InputError

Parts: TypeAlias = Sequence[tuple[str, Space]]  # paths `a/b` in a dictionary; "" is no dictionary


def read_batch(obs: Any, parts: Parts) -> tuple[Any, bool]:
    """Return observations as a vector of environments gives them.

    Args:
        obs: one observation, or a batch of n: an array, a tensor, or a dictionary of them.
        parts: what is read of it.
    Returns:
        An array `[n, ...]` or nested dictionaries of them, each of its space's type; and whether it
        was a single observation.
    Raises:
        InputError: a part that is missing, or does not belong to its space.
    """
    arrays = {path: _typed(_at(obs, path), space, _name(path)) for path, space in parts}
    leads = {}
    for path, space in parts:
        leads[path] = _lead(arrays[path], space.shape or (), _name(path))
    if len(set(leads.values())) > 1:
        raise InputError(f"obs: parts of different numbers of observations, {leads}")

    is_one = next(iter(leads.values())) == ()
    if is_one:
        arrays = {path: array[None] for path, array in arrays.items()}
    return _nested(arrays), is_one


def first_leaf(obs: Any, parts: Parts) -> Any:
    """Return the first part of an observation, as it was given."""
    return _at(obs, parts[0][0])


def _at(obs: Any, path: str) -> Any:
    """Return a part of nested dictionaries."""
    for key in path.split("/") if path else ():
        if not isinstance(obs, Mapping):
            raise InputError(
                f"obs: found {type(obs).__name__}, expected a dictionary with {path!r}"
            )
        if key not in obs:
            raise InputError(f"obs: expected a part {path!r}, found {list(obs)}")
        obs = obs[key]
    return obs


def _nested(arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the dictionaries that paths describe."""
    if "" in arrays:
        return arrays[""]
    nested: dict[str, Any] = {}
    for path, array in arrays.items():
        *folders, last = path.split("/")
        inner = nested
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = array
    return nested


def _name(path: str) -> str:
    return f"obs: {path}" if path else "obs"


def _typed(obs: Any, space: Space, name: str) -> np.ndarray:
    """Return an array of a space's type; whole numbers and bytes are not made of fractions."""
    try:
        array = np.asarray(detached(obs))
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{name}: {error}") from None
    dtype = np.dtype(space.dtype)
    if array.dtype == dtype:
        typed = array
    else:
        is_number = array.dtype.kind in ("fiub" if dtype.kind == "f" else "iub")
        typed = array.astype(dtype) if is_number else array
        if not is_number or (dtype.kind != "f" and not np.array_equal(typed, array)):
            raise InputError(f"{name}: {array.dtype} numbers, expected {dtype} of {_short(space)}")

    if isinstance(space, gymnasium.spaces.Discrete) and typed.size:
        last = space.start + space.n - 1
        if typed.min() < space.start or typed.max() > last:
            raise InputError(f"{name}: {typed.min()} to {typed.max()}, expected {_short(space)}")
    return typed


def _lead(array: np.ndarray, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Return the axes before those of one observation: none, or the number of observations."""
    lead = array.ndim - len(shape)
    if lead not in (0, 1) or array.shape[lead:] != shape:
        batch = ", ".join(["n", *map(str, shape)])
        raise InputError(f"{name}: shape {array.shape}, expected {shape}, or a batch ({batch})")
    return array.shape[:lead]


def _short(space: Space) -> str:
    """Describe a space without its bounds, which may be arrays."""
    if isinstance(space, gymnasium.spaces.Box):
        return f"a Box of shape {space.shape}"
    return str(space)
