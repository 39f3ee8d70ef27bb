"""The result of an experiment: its measures by name, and the curves of its picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Numbers: TypeAlias = Sequence[float] | np.ndarray
Curve: TypeAlias = tuple[Numbers, Numbers]  # x and y, of equal length


@dataclass(frozen=True)
class Measure:
    """Temporary: what ROWS0 removes."""

    name: str
    value: float
    low: float
    high: float
    expected: str


@dataclass(frozen=True)
class Outcome:
    """The result of one experiment with one seed.

    Args:
        values: name of a measure, with its setting -> number; NaN never holds.
        curves: label -> (x, y), the content of the picture.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        log: logarithmic axes, "", "x", "y" or "xy".
    """

    values: Mapping[str, float]
    curves: Mapping[str, Curve]
    x: str = ""
    y: str = ""
    log: str = ""
