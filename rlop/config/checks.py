"""Checks of user input: one line that names the value, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Real

from rlop.config.ranges import Range
from rlop.types import InputError

_LONGEST_LIST = 20  # names that a message lists
_LONGEST_VALUE = 60  # characters of a value that a message shows


def nearest(name: object, choices: Iterable[object]) -> str:
    """Return the end of a message about an unknown name: ", did you mean 'x'?" or "; one of a, b".

    It is empty without choices.
    """
    names = [str(choice) for choice in choices]
    hint = closest(name, names)
    if hint or not names:
        return hint

    listed = ", ".join(name if name.isprintable() else repr(name) for name in names[:_LONGEST_LIST])
    return f"; one of {listed}" + (", ..." if len(names) > _LONGEST_LIST else "")


def closest(name: object, names: Iterable[str]) -> str:
    """Return ", did you mean 'x'?", for too many names to list; return "" when none is near."""
    spelling = {choice.casefold(): choice for choice in names}
    matches = get_close_matches(str(name).casefold(), spelling, n=1)
    return f", did you mean {spelling[matches[0]]!r}?" if matches else ""


@contextmanager
def within(place: str) -> Iterator[None]:
    """Let every InputError begin with a place, as in "agent: regularizers.dr3"."""
    try:
        yield
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(place) else f"{place}: {message}") from error


def check_known(what: str, name: object, known: Iterable[object]) -> None:
    """Raise InputError unless `name` is one of `known`; the message suggests the nearest one.

    Args:
        what: the option as the message names it, such as "dr3: form".
        name: the value given.
        known: the possible values.
    """
    known = list(known)
    if name not in known:
        raise InputError(f"{what} {name!r}: unknown{nearest(name, known)}")


def check_range(
    name: str,
    value: object,
    low: float | None = None,
    high: float | None = None,
    low_open: bool = False,
    high_open: bool = False,
) -> None:
    """Raise InputError unless the number, or every number of a list, lies between `low` and `high`.

    Args:
        name: the name of the value in the message.
        value: a number or a non-empty list of numbers; NaN is never in range.
        low, high: the ends; None for no end.
        low_open, high_open: True where the end itself is excluded.
    """
    _check(name, value, Range(low, high, low_open, high_open))


def _check(name: str, value: object, limits: Range) -> None:
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            raise InputError(f"{name} = []: expected at least one value")
        for position, item in enumerate(value):
            _check(f"{name}[{position}]", item, limits)
        return

    if isinstance(value, Real) and not isinstance(value, bool) and float(value) in limits:
        return
    expected = f"a number {limits.words}".rstrip()
    raise InputError(f"{name} = {show(value)}: expected {expected}")


def show(value: object) -> str:
    """Return the text of a value in a message, at most 60 characters."""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
