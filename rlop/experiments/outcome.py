"""What an experiment hands back: numbers beside accepted bands, curves for the picture, and a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Numbers: TypeAlias = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Measure:
    """One number beside what was expected.

    Args:
        name: what was measured, with its setting.
        value: the number; NaN never holds.
        low: lower end of the accepted band. An ordering is written as a difference with `low=0` or a ratio with
            `low=1`.
        high: upper end, `inf` where only the lower end matters.
        expected: where the band comes from, in words, e.g. "closed form .7654" or "measured oracle .922".
    """

    name: str
    value: float
    low: float
    high: float
    expected: str

    @property
    def holds(self) -> bool:
        """Whether the value lies in the closed band."""
        return self.low <= self.value <= self.high


@dataclass(frozen=True)
class Outcome:
    """The result of one experiment.

    Args:
        measures: the numbers that decide the verdict; at least one.
        curves: label -> (x, y), what the picture shows.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        log: logarithmic axes, "", "x", "y" or "xy".
        report_only: the effect did not reproduce at this scale when it was first tried, so the numbers are shown and
            a failing band surprises nobody. The verdict is computed all the same.
    """

    measures: tuple[Measure, ...]
    curves: Mapping[str, tuple[Numbers, Numbers]]
    x: str = ""
    y: str = ""
    log: str = ""
    report_only: bool = False

    @property
    def verdict(self) -> str:
        """`reproduced` when every measure holds, else `not reproduced`."""
        return (
            "reproduced"
            if self.measures and all(m.holds for m in self.measures)
            else "not reproduced"
        )
