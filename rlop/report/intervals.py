"""The interval that a report shows for one group on one task, and how often it covers."""

from __future__ import annotations

import math

import numpy as np

from rlop.report.aggregates import bootstrap, interquartile_mean
from rlop.report.statistics import student_t

FEWEST = 3  # runs for an interval; with fewer only dots are shown
ENOUGH = 8  # runs from which the bootstrap is used
BAND_SAMPLES = 500  # resamples at each step of a curve

# Share of 95 % intervals that held the interquartile mean of the distribution, in percent, for
# normal, uniform, log-normal (sd .5) and two-valued scores with noise: `scripts/coverage.py`.
COVERAGE = {
    3: (94.9, 92.1, 94.6, 87.1),
    4: (94.9, 93.2, 94.8, 86.8),
    5: (94.8, 93.0, 94.5, 87.5),
    6: (95.3, 93.0, 95.5, 87.0),
    7: (95.1, 94.3, 95.3, 88.7),
    8: (93.5, 92.8, 93.3, 92.5),
    10: (93.7, 93.2, 93.8, 93.3),
    16: (94.1, 94.2, 94.2, 93.8),
}


def iqm_over_runs(values: np.ndarray) -> np.ndarray:
    """Average the middle half of runs at every step, `[runs, T] -> [T]`.

    NaN is a step that a run did not log; an infinite value is a diverged run.
    """
    middle = np.full(values.shape[1], np.nan)
    counts = (~np.isnan(values)).sum(axis=0)
    for count in np.unique(counts[counts > 0]):
        steps = counts == count
        ordered = np.sort(values[:, steps], axis=0)
        cut = count // 4
        middle[steps] = ordered[cut : count - cut].mean(axis=0)
    return middle


def interval(
    values: np.ndarray, low: float = -math.inf, high: float = math.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Compute a 95 % interval over runs at every step, cut to what the metric can be.

    From 8 runs on it is the bootstrap of the interquartile mean. With 3 to 7 runs that covers far
    less than 95 %, so it is the Student-t interval of the mean. With fewer, or where a run has
    diverged and there are too few for the bootstrap, there is none.

    Args:
        values: `[runs, T]`; NaN where a run has no value, infinite where it has diverged.
        low, high: the metric's possible range.

    Returns:
        low and high, `[T]` each; NaN where there is no interval.
    """
    lower = np.full(values.shape[1], np.nan)
    upper = np.full(values.shape[1], np.nan)

    counts = (~np.isnan(values)).sum(axis=0)
    for count in np.unique(counts[counts >= FEWEST]):
        steps = np.flatnonzero(counts == count)
        present = np.sort(values[:, steps], axis=0)[:count]
        bounds = _student(present) if count < ENOUGH else _resampled(present)
        lower[steps], upper[steps] = bounds
    return np.clip(lower, low, high), np.clip(upper, low, high)


def _student(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the Student-t interval of the mean, `[runs, T] -> [T]`, `[T]`."""
    n = len(values)
    finite = np.isfinite(values).all(axis=0)
    safe = np.where(finite, values, 0.0)
    half = student_t(0.95, n - 1) * safe.std(axis=0, ddof=1) / math.sqrt(n)

    mean = np.where(finite, safe.mean(axis=0), np.nan)
    return mean - half, mean + half


def _resampled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bootstrap interval of the interquartile mean, `[runs, T] -> [T]`, `[T]`."""

    def iqm_of_steps(drawn: np.ndarray) -> np.ndarray:
        # [samples, runs, T]: every step is a task of its own.
        columns = np.moveaxis(drawn, -1, 1)[..., None]
        return interquartile_mean(columns)

    return bootstrap(iqm_of_steps, values, samples=BAND_SAMPLES)


def words(counts: set[int]) -> str:
    """Say which interval groups of these sizes have, and what it covered when measured."""
    sentences = []
    if any(count < FEWEST for count in counts):
        sentences.append("Groups of one or two runs have no interval.")
    if any(FEWEST <= count < ENOUGH for count in counts):
        sentences.append(
            f"With {FEWEST} to {ENOUGH - 1} runs the interval is Student's t of the mean, because "
            "the bootstrap of the interquartile mean is too narrow there."
        )
    if any(count >= ENOUGH for count in counts):
        sentences.append(
            f"From {ENOUGH} runs on it is the percentile bootstrap of the interquartile mean."
        )

    measured = {count: COVERAGE[count] for count in sorted(counts) if count in COVERAGE}
    if measured:
        shares = [f"{normal:.0f} % with {count} runs" for count, (normal, *_) in measured.items()]
        least = min(min(others) for _, *others in measured.values())
        sentences.append(
            f"Measured, these 95 % intervals covered {', '.join(shares)} of normal scores, and at "
            f"least {least:.0f} % of three other shapes."
        )
    return " ".join(sentences)
