"""The result of an experiment: numbers of one seed, and curves for the picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Numbers: TypeAlias = Sequence[float] | np.ndarray
Curve: TypeAlias = tuple[Numbers, Numbers]  # x and y, of equal length


@dataclass(frozen=True)
class Outcome:
    """The result of one experiment."""

    values: Mapping[str, float]
    curves: Mapping[str, Curve]
    x: str = ""
    y: str = ""
    log: str = ""
