"""The result of an experiment: numbers with accepted bands, curves for the picture, a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Numbers: TypeAlias = Sequence[float] | np.ndarray
Curve: TypeAlias = tuple[Numbers, Numbers]  # x and y, of equal length


@dataclass(frozen=True)
class Measure:
    """One measured number and the band it must lie in.

    Args:
        name: what was measured, with its setting.
        value: the number; NaN never holds.
        low: lower end of the accepted band. An ordering is written as a difference with `low=0` or
            a ratio with `low=1`.
        high: upper end, `inf` if only the lower end matters.
        expected: the source of the band in words, e.g. "closed form .7654" or "measured oracle
            .922".
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
        curves: label -> (x, y), the content of the picture.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        log: logarithmic axes, "", "x", "y" or "xy".
        report_only: whether the effect did not reproduce at this scale when it was first tried, so
            that failing bands are expected. The verdict is computed all the same.
    """

    measures: tuple[Measure, ...]
    curves: Mapping[str, Curve]
    x: str = ""
    y: str = ""
    log: str = ""
    report_only: bool = False

    @property
    def verdict(self) -> str:
        """`reproduced` when every measure holds, else `not reproduced`."""
        all_hold = all(measure.holds for measure in self.measures)
        return "reproduced" if self.measures and all_hold else "not reproduced"
