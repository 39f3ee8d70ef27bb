"""The result of an experiment for one seed: numbers by name, and curves for the picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Numbers: TypeAlias = Sequence[float] | np.ndarray
Curve: TypeAlias = tuple[Numbers, Numbers]  # x and y, of equal length


@dataclass(frozen=True)
class Outcome:
    """The result of one experiment for one seed; `rlop.experiments.catalogue` holds the bands.

    Args:
        values: what was measured, in words with its setting -> the number; NaN never holds.
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
