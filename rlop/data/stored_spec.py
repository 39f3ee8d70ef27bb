"""The properties of a data set that a checkpoint holds, checked before an agent is made."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from rlop.data.columns import MOST_ACTIONS
from rlop.envs.make import stored_env_id
from rlop.envs.stored import is_harmless
from rlop.logs.messages import say
from rlop.types import InputError, Spec

MOST_ENTRIES = 1 << 28  # of one observation
MOST_AXES = 5  # of an observation whose axes are reordered


def spec_from(path: str | Path, stored: object, allow: Collection[str] = ()) -> Spec:
    """Return the `Spec` of a checkpoint; fields that an older one has not get their defaults.

    Args:
        path: the checkpoint file, for messages.
        stored: field -> value, from `dataclasses.asdict`.
        allow: modules that an environment's id may name; others only if they are imported already.

    Raises:
        InputError: no mapping, an unknown or missing field, or a value of another kind.
    """
    if not isinstance(stored, Mapping):
        raise InputError(f"{path}: spec: expected a mapping, found {type(stored).__name__}")
    for name in stored:
        if name not in CHECKS:
            raise InputError(f"{path}: spec.{name}: unknown, expected one of {sorted(CHECKS)}")
    if "obs_shape" not in stored:
        raise InputError(f"{path}: spec.obs_shape: missing")

    values = {name: _frozen(value) for name, value in stored.items()}
    for name, value in values.items():
        fits, expected = CHECKS[name]
        if not (fits(value) or (value is None and name in OPTIONAL)):
            raise InputError(f"{path}: spec.{name} = {str(value)[:60]}: expected {expected}")

    module = (values.get("env_id") or "").partition(":")[0]
    if module not in allow:
        values["env_id"] = stored_env_id(path, values.get("env_id"))
    if not is_harmless(values.get("env_kwargs", {})):
        values["env_id"], values["env_kwargs"] = None, {}
        say(
            f"{path}: the keyword arguments of its environment name a file or code: it is left "
            "out; if you trust it, name the environment yourself (env, env_kwargs)",
            logging.WARNING,
        )
    spec = Spec(**values)
    _check_together(path, spec)
    return spec


def _check_together(path: str | Path, spec: Spec) -> None:
    """Check the fields that must agree with each other."""
    size = math.prod(spec.action_shape)
    for name, bound in {"action_low": spec.action_low, "action_high": spec.action_high}.items():
        if bound is not None and len(bound) != size:
            raise InputError(f"{path}: spec.{name}: {len(bound)} numbers, expected {size}")
    if (spec.action_low is None) != (spec.action_high is None):
        raise InputError(f"{path}: spec.action_low, action_high: expected both, or neither")

    if spec.action_layout is not None and math.prod(spec.action_layout) != size:
        raise InputError(
            f"{path}: spec.action_layout = {spec.action_layout}: expected {size} in all"
        )
    if spec.action_counts is not None and math.prod(spec.action_counts) != spec.n_actions:
        raise InputError(
            f"{path}: spec.action_counts = {spec.action_counts}: expected {spec.n_actions} in all"
        )
    if spec.obs_axes and len(spec.obs_axes) != len(spec.obs_shape):
        raise InputError(
            f"{path}: spec.obs_axes = {spec.obs_axes}: expected {len(spec.obs_shape)} axes"
        )
    if spec.obs_normalizer is not None:
        entries = math.prod(spec.obs_shape)
        if any(len(numbers) != entries for numbers in spec.obs_normalizer):
            raise InputError(f"{path}: spec.obs_normalizer: expected {entries} numbers, twice")


def _frozen(value: Any) -> Any:
    """Return a value with tuples for its lists, as `Spec` has them."""
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62


def _is_shape(value: object) -> bool:
    if not isinstance(value, tuple):
        return False
    is_whole = all(_is_whole(item) and item > 0 for item in value)
    return is_whole and math.prod(value) <= MOST_ENTRIES


def _is_numbers(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(item, (int, float)) and math.isfinite(item) for item in value
    )


def _is_two_of_numbers(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_numbers, value))


def _is_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _is_order(value: object) -> bool:
    return isinstance(value, tuple) and value in permutations(range(min(len(value), MOST_AXES)))


def _is_options(value: object) -> bool:
    return isinstance(value, Mapping) and _is_texts(tuple(value))


def _is_dtype(value: object) -> bool:
    """Whether a value names a type of numbers."""
    try:
        return isinstance(value, str) and np.dtype(value).kind in "fiub"
    except TypeError:
        return False


def _is_count(value: object) -> bool:
    return _is_whole(value) and 1 <= value <= MOST_ACTIONS  # type: ignore[operator]  # a whole number


Check = tuple[Callable[[Any], bool], str]  # whether a value fits, and what was expected

CHECKS: dict[str, Check] = {
    "obs_shape": (_is_shape, "lengths of at least 1"),
    "n_actions": (_is_count, f"a whole number from 1 to {MOST_ACTIONS}"),
    "action_shape": (_is_shape, "lengths of at least 1"),
    "obs_dtype": (_is_dtype, "the name of a type of numbers"),
    "env_id": (lambda value: isinstance(value, str), "text"),
    "env_kwargs": (_is_options, "a mapping of options"),
    "obs_normalizer": (_is_two_of_numbers, "two lists of finite numbers"),
    "obs_keys": (_is_texts, "a list of texts"),
    "obs_axes": (_is_order, "an order of axes"),
    "action_low": (_is_numbers, "a list of finite numbers"),
    "action_high": (_is_numbers, "a list of finite numbers"),
    "action_start": (_is_whole, "a whole number"),
    "action_layout": (_is_shape, "lengths of at least 1"),
    "action_counts": (_is_shape, "whole numbers of at least 1"),
    "changes": (_is_texts, "a list of texts"),
}
# Fields of `Spec` that may be None.
OPTIONAL = frozenset(item.name for item in fields(Spec) if item.default is None)
