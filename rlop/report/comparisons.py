"""Which groups differ: paired and unpaired comparisons, Holm's correction, rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlop.report.statistics import student_t, t_coverage


class Difference(NamedTuple):
    """A difference of means.

    Args:
        mean: of the second minus the first.
        low, high: its 95 % Student-t interval; NaN with too few runs.
        p: two-sided p-value; NaN with too few runs.
        pairs: number of pairs; 0 where runs were not paired.
    """

    mean: float
    low: float
    high: float
    p: float
    pairs: int


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare runs pair by pair, with Student's t of the differences.

    Args:
        first, second: `[n]` finite values, pair i at place i.
    """
    differences = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    n = len(differences)
    mean = float(differences.mean())
    if n < 2:
        return Difference(mean, math.nan, math.nan, math.nan, n)

    error = float(differences.std(ddof=1)) / math.sqrt(n)
    return _difference(mean, error, n - 1, n)


def unpaired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two independent groups of runs, with Welch's t.

    The degrees of freedom are rounded down, which errs on the side of no difference.

    Args:
        first, second: `[n]`, `[m]` finite values.

    Reference: Welch, "The generalization of Student's problem when several different population
        variances are involved", Biometrika 34, 1947.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    mean = float(b.mean() - a.mean())
    if len(a) < 2 or len(b) < 2:
        return Difference(mean, math.nan, math.nan, math.nan, 0)

    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    total = float(parts.sum())
    df = min(len(a), len(b)) - 1
    if total > 0:
        freedom = np.array([len(a) - 1, len(b) - 1])
        df = max(df, math.floor(total**2 / float((parts**2 / freedom).sum())))
    return _difference(mean, math.sqrt(total), df, 0)


def _difference(mean: float, error: float, df: int, pairs: int) -> Difference:
    half = student_t(0.95, df) * error
    # Without any spread, every pair differs by the same amount: infinitely many errors, or none.
    t = math.inf if mean else 0.0
    if error > 0:
        t = abs(mean) / error
    p = 1 - t_coverage(t, df)
    return Difference(mean, mean - half, mean + half, p, pairs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that one false finding among all has the probability of each alone.

    Args:
        p_values: NaN is no test and stays NaN.

    Returns:
        Adjusted values in the same order: compare them with .05.

    Reference: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
        Journal of Statistics 6, 1979.
    """
    adjusted = [math.nan] * len(p_values)
    tests = [number for number, p in enumerate(p_values) if not math.isnan(p)]
    largest = 0.0
    for rank, number in enumerate(sorted(tests, key=lambda test: p_values[test])):
        largest = max(largest, (len(tests) - rank) * p_values[number])
        adjusted[number] = min(1.0, largest)
    return adjusted


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Compute Spearman's rank correlation; ties share the mean of their ranks.

    Args:
        x, y: `[n]`, without NaN.

    Returns:
        NaN with fewer than three pairs, or where one of them is constant.
    """
    if len(x) < 3:
        return math.nan
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / norm if norm > 0 else math.nan


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]
