"""Checks of what the user gave: one line that names it, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Real
from typing import Any

from rlop.types import InputError


def nearest(name: object, choices: Iterable[object]) -> str:
    """End of an error message about a name that is not there: ", did you mean 'x'?" or "; one of a, b, c"."""
    names = [str(choice) for choice in choices]
    close = closest(name, names)
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return close or (f"; one of {listed}" if names else "")


def check_known(what: str, name: object, known: Iterable[object]) -> None:
    """Raise InputError unless `name` is one of `known`; the message starts with `what` and offers the nearest.

    Args:
        what: the option, e.g. "dr3: form".
        name: what was given.
        known: what there is.
    """
    known = list(known)
    if name not in known:
        raise InputError(f"{what} {name!r}: unknown{nearest(name, known)}")


def closest(name: object, names: Iterable[str]) -> str:
    """The first form of `nearest` alone, for names too many to list; empty when none is near."""
    folded = {known.casefold(): known for known in names}
    close = get_close_matches(str(name).casefold(), folded, n=1)
    return f", did you mean {folded[close[0]]!r}?" if close else ""


def check_range(
    name: str,
    value: float | Sequence[float],
    low: float | None = None,
    high: float | None = None,
    low_open: bool = False,
    high_open: bool = False,
) -> None:
    """Raise InputError unless the number, or every number of a swept list, lies between `low` and `high`.

    Args:
        name: what the message calls the value.
        value: a number or a non-empty list of numbers; NaN is never in range.
        low, high: the ends; None for no end.
        low_open, high_open: True where the end itself is excluded.
    """
    if isinstance(value, (list, tuple)):
        if not value:
            raise InputError(f"{name} = []: expected at least one value")
        for i, item in enumerate(value):
            check_range(f"{name}[{i}]", item, low, high, low_open, high_open)
        return
    number = isinstance(value, Real) and not isinstance(value, bool) and value == value
    above = number and (low is None or value > low or (value == low and not low_open))  # type: ignore[operator]
    if not (above and (high is None or value < high or (value == high and not high_open))):  # type: ignore[operator]
        raise InputError(
            f"{name} = {show(value)}: expected {_interval(low, high, low_open, high_open)}"
        )


def _interval(low: float | None, high: float | None, low_open: bool, high_open: bool) -> str:
    if low is not None and high is not None:
        return f"a number in {'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
    if low is not None:
        return f"a number {'>' if low_open else '>='} {low:g}"
    return "a number" if high is None else f"a number {'<' if high_open else '<='} {high:g}"


def show(value: Any) -> str:
    """A value as a message shows it, at most 60 characters."""
    text = (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    )
    return text if len(text) <= 60 else text[:57] + "..."
