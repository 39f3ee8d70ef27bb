"""Types of options that carry their range: `Positive`, `Discount`, `Count`, `Sweep[Positive]`, ...

    gamma: Sweep[Discount] = option(0.99, "discount factor")
    batch_size: Count = option(64, "transitions in a minibatch of each run")

A type checker sees plain `float` and `int`; `rlop.config.schema` enforces the range and derives its
error messages, the help page and the JSON schema from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The range of a number.

    Args:
        low: the lower end, or None for no end.
        high: the upper end, or None for no end.
        low_open: True excludes the lower end itself.
        high_open: True excludes the upper end itself.
    """

    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        """Return whether a number lies in the range; NaN lies in none."""
        if value != value:
            return False

        too_low = self.low is not None and (value < self.low)
        too_high = self.high is not None and (value > self.high)
        on_open_end = (self.low_open and value == self.low) or (
            self.high_open and value == self.high
        )
        return not (too_low or too_high or on_open_end)

    @property
    def words(self) -> str:
        """The range in words that follow "a number": `in [0, 1)`, `> 0`, or nothing."""
        if self.low is not None and self.high is not None:
            left = "(" if self.low_open else "["
            right = ")" if self.high_open else "]"
            return f"in {left}{self.low:g}, {self.high:g}{right}"
        if self.low is not None:
            return f"{'>' if self.low_open else '>='} {self.low:g}"
        if self.high is not None:
            return f"{'<' if self.high_open else '<='} {self.high:g}"
        return ""


@dataclass(frozen=True)
class NonEmpty:
    """Marks a list that must hold at least one value."""


@dataclass(frozen=True, eq=False)
class Choice:
    """Marks one named thing with its options: `name`, or `{name: {option: value}}`.

    Args:
        table: name -> option class.
    """

    table: Mapping[str, type]


@dataclass(frozen=True, eq=False)
class Formerly:
    """Marks a choice some of whose values had other names, which are still accepted.

    Args:
        names: old name -> current name.
    """

    names: Mapping[str, str]


@dataclass(frozen=True)
class Terms:
    """Marks a mapping of terms: `{name: number}`, or `{name: {<scale>: number, option: value}}`.

    Args:
        table: import path, `module:NAME`, of the mapping from names to option classes.
        scale: the name of the number, such as `coef`.
    """

    table: str
    scale: str


Number: TypeAlias = Annotated[float, Range()]  # not NaN
Positive: TypeAlias = Annotated[float, Range(low=0, low_open=True)]
NonNegative: TypeAlias = Annotated[float, Range(low=0)]
Probability: TypeAlias = Annotated[float, Range(low=0, high=1)]
Share: TypeAlias = Annotated[float, Range(low=0, high=1, low_open=True)]
Fraction: TypeAlias = Annotated[float, Range(low=0, high=1, high_open=True)]
Discount: TypeAlias = Annotated[float, Range(low=0, high=1, high_open=True)]
Count: TypeAlias = Annotated[int, Range(low=1)]
Index: TypeAlias = Annotated[int, Range(low=0)]

# One number for all runs, or a list of numbers that are trained side by side.
Sweep: TypeAlias = T | Annotated[list[T], NonEmpty()]


def values_of(sweep: float | Sequence[float]) -> list[float]:
    """Return the numbers of a `Sweep`, a list of one for a single number."""
    return [sweep] if isinstance(sweep, (int, float)) else list(sweep)
