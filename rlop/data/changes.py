"""Record what was done to a data set, so that a checkpoint and its policy know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from inspect import signature
from typing import Concatenate, ParamSpec

import numpy as np

from rlop.data.columns import DROPPED, NO_SUCCESSOR, record_of_dropped
from rlop.data.dataset import Dataset

P = ParamSpec("P")


def recorded(
    change: Callable[Concatenate[Dataset, P], Dataset],
) -> Callable[Concatenate[Dataset, P], Dataset]:
    """Let a transform append its name and options to `spec.changes` of the data set it returns.

    Transforms that it calls itself are not recorded. A data set that is returned unchanged keeps
    its record.
    """

    @wraps(change)
    def recording(data: Dataset, *args: P.args, **kwargs: P.kwargs) -> Dataset:
        result = change(data, *args, **kwargs)
        if result is data:
            return data
        given = signature(change).bind(data, *args, **kwargs).arguments
        return with_change(data, result, change.__name__, dict(list(given.items())[1:]))

    return recording


def with_change(before: Dataset, after: Dataset, name: str, options: dict[str, object]) -> Dataset:
    """Return a data set with the record of an earlier one, and one entry more.

    Args:
        before: the data set before the change.
        after: the data set after it.
        name: of the change.
        options: of the change.
    """
    listed = ", ".join(f"{key}={_text(value)}" for key, value in options.items())
    changes = (*before.spec.changes, f"{name}({listed})")
    return replace(after, spec=replace(after.spec, changes=changes))


def with_dropped(data: Dataset, dropped: int, rows: int, why: str = NO_SUCCESSOR) -> Dataset:
    """Return a data set with the record of rows that a reader has left out.

    Args:
        data: the rows that are left.
        dropped: number of those that are not.
        rows: number of all rows of the source.
        why: in words.
    """
    changes = (*data.spec.changes, *record_of_dropped(dropped, rows, why))
    return replace(data, spec=replace(data.spec, changes=changes))


def dropped_of(data: Dataset) -> list[str]:
    """Return the records of rows that readers have left out."""
    return [change for change in data.spec.changes if DROPPED in change]


def _text(value: object) -> str:
    """Return an option as text: short numbers, and one number for many equal ones."""
    if isinstance(value, str):
        return value
    if value is None or np.ndim(value) == 0:  # type: ignore[arg-type]  # any object has 0 axes
        return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)
    numbers = [f"{number:.6g}" for number in np.ravel(value)]  # type: ignore[call-overload]  # options are numbers or lists of them
    return numbers[0] if len(set(numbers)) == 1 else f"[{', '.join(numbers)}]"
