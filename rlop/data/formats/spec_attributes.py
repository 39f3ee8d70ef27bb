"""A `Spec` as attributes of a file: everything that the arrays themselves do not say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from math import prod
from pathlib import Path
from typing import Any

from rlop.config.files import to_dict
from rlop.data.dataset import Dataset
from rlop.types import InputError, Spec

# Fields that the arrays or older attributes say, and those that no file holds.
OTHERS = ("obs_shape", "action_shape", "obs_dtype", "obs_normalizer", "obs_axes", "changes")
# Fields that are read here; the others are read with the arrays.
EXTRA = ("obs_keys", "action_start", "action_layout", "action_counts")


def attributes(spec: Spec) -> dict[str, Any]:
    """Return the fields of a spec that are not their defaults, as plain values.

    Raises:
        InputError: keyword arguments of the environment that JSON cannot hold.
    """
    default = Spec(spec.obs_shape)
    found: dict[str, Any] = {}
    for item in fields(Spec):
        value = spec.__dict__[item.name]
        if item.name not in OTHERS and value != default.__dict__[item.name]:
            found[item.name] = to_dict(value)
    try:
        json.dumps(found)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"env_kwargs: {error}; expected what JSON can hold, so that the file can name it"
        ) from None
    return found


def with_attributes(path: Path, data: Dataset, metadata: Mapping[str, object]) -> Dataset:
    """Return a data set with the fields `EXTRA` of its spec from a file's attributes.

    Args:
        path: of the file, for messages.
        data: as read.
        metadata: attributes of the file; those of other names are left alone.

    Raises:
        InputError: an attribute that does not fit the data.
    """
    found: dict[str, Any] = {}
    for name, fits in CHECKS.items():
        if name not in metadata:
            continue
        value = _parsed(metadata[name])
        if not fits(value, data.spec):
            raise InputError(f"{path}: attribute {name} = {metadata[name]!r}: does not fit")
        found[name] = tuple(value) if isinstance(value, list) else value
    return replace(data, spec=replace(data.spec, **found)) if found else data


def _parsed(value: object) -> object:
    """Return the value of an attribute: a number, or text in JSON; None for anything else."""
    try:
        return json.loads(value) if isinstance(value, str | bytes) else int(value)  # type: ignore[call-overload]  # what it cannot convert is None
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def _are_keys(value: Any, spec: Spec) -> bool:
    return isinstance(value, list) and all(isinstance(key, str) for key in value)


def _is_start(value: Any, spec: Spec) -> bool:
    return isinstance(value, int) and spec.n_actions is not None


def _is_layout(value: Any, spec: Spec) -> bool:
    return _are_sizes(value) and prod(value) == prod(spec.action_shape) and spec.n_actions is None


def _are_counts(value: Any, spec: Spec) -> bool:
    return _are_sizes(value) and prod(value) == spec.n_actions


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(n, int) and n > 0 for n in value)


CHECKS: dict[str, Callable[[Any, Spec], bool]] = dict(
    zip(EXTRA, (_are_keys, _is_start, _is_layout, _are_counts))
)
