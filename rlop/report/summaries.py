"""One group's numbers on one task: interquartile mean, interval, and how many runs diverged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlop.report.intervals import interval, iqm_over_runs
from rlop.report.study import Study


class Summary(NamedTuple):
    """The numbers of one group on one task.

    Args:
        values: of each run, infinite or NaN where it has diverged.
        iqm: interquartile mean; infinite where too many have diverged, NaN without a value.
        low, high: 95 % interval; NaN where there is none.
        diverged: number of runs that have diverged.
    """

    values: list[float]
    iqm: float
    low: float
    high: float
    diverged: int

    @property
    def text(self) -> str:
        """The summary in a cell of a table."""
        if not self.values:
            return "-"
        diverged = f"{self.diverged} of {len(self.values)} diverged"
        if not math.isfinite(self.iqm):
            return diverged
        text = f"{number(self.iqm)} {self.ends}".rstrip()
        return f"{text} ({diverged})" if self.diverged else text

    @property
    def ends(self) -> str:
        """The interval in brackets; empty where there is none."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return ""
        return f"[{number(self.low)}, {number(self.high)}]"


def summarize(study: Study, name: str, group: str, task: str, at: str = "final") -> Summary:
    """Summarize a metric over the runs of a group on a task.

    Args:
        study: all runs.
        name: of the metric.
        group, task: of the runs.
        at: final, average, peak or unlearning, see `statistics.stability`.
    """
    numbers = study.numbers(name, at)
    values = [numbers[run] for run in study.of_task(group, task) if run in numbers]
    limits = study.limits(name, task) if at != "unlearning" else (0.0, math.inf)
    return summary_of(values, *limits)


def summary_of(values: Sequence[float], low: float = -math.inf, high: float = math.inf) -> Summary:
    """Summarize values, one per run; intervals stay between `low` and `high`."""
    column = np.array(values, np.float64).reshape(-1, 1)
    if not len(column):
        return Summary([], math.nan, math.nan, math.nan, 0)
    lower, upper = interval(column, low, high)
    middle = iqm_over_runs(column)
    diverged = int((~np.isfinite(column)).sum())
    return Summary(list(values), float(middle[0]), float(lower[0]), float(upper[0]), diverged)


def number(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:.3g}"
