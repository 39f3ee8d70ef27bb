"""Reference ranges of the measures: what our healthy runs and those made sick had.

`ranges.json` is written by `python scripts/doctor.py calibrate`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TypeAlias, TypedDict

import numpy as np

Range: TypeAlias = tuple[float, float]  # 5th and 95th percentile
FILE = "ranges.json"
PERCENTILES = (5, 95)


class Ranges(TypedDict):
    """Ranges of healthy runs, by measure, and of sick ones, by disease and measure."""

    healthy: dict[str, Range]
    sick: dict[str, dict[str, Range]]


@cache
def ranges() -> Ranges:
    """Read the ranges that the package ships."""
    content = json.loads(files("rlop.doctor").joinpath(FILE).read_text())
    sick = {name: _pairs(table) for name, table in content["sick"].items()}
    return {"healthy": _pairs(content["healthy"]), "sick": sick}


def _pairs(table: dict[str, list[float]]) -> dict[str, Range]:
    return {name: (low, high) for name, (low, high) in table.items()}


def percentiles(runs: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return the 5th and 95th percentile of every measure over runs, to three digits.

    Args:
        runs: name -> value of each run; values that are not finite do not count.
    """
    table = {}
    names: set[str] = set()
    names.update(*runs)
    for name in sorted(names):
        values = np.array([run[name] for run in runs if name in run])
        finite = values[np.isfinite(values)]
        if len(finite):
            table[name] = [float(f"{end:.3g}") for end in np.percentile(finite, PERCENTILES)]
    return table
