"""Aggregates over runs and tasks, in NumPy: what the archived package rliable computes.

Scores are `[runs, tasks]`. A task with fewer runs than others ends in NaN: no run is left out to
make the matrix full. A diverged run counts as infinitely bad: -inf where more is better.

Reference: Agarwal et al., "Deep RL at the Edge of the Statistical Precipice", NeurIPS 2021,
    arXiv:2108.13264.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from rlop.report.statistics import resample

# [samples, runs, tasks] of each argument -> [samples, ...]
Statistic: TypeAlias = Callable[..., np.ndarray]
SAMPLES = 2000


def matrix(by_task: Sequence[Sequence[float]]) -> np.ndarray:
    """Put the scores of every task into a column of `[runs, tasks]`, filled up with NaN."""
    longest = max(len(scores) for scores in by_task)
    columns = np.full((longest, len(by_task)), np.nan)
    for task, scores in enumerate(by_task):
        columns[: len(scores), task] = scores
    return columns


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Average the middle half of all runs and tasks, `[..., runs, tasks] -> [...]`.

    floor(n / 4) scores are cut at each end.
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    ordered = np.sort(flat, axis=-1)  # NaN at the end
    n = int((~np.isnan(ordered.reshape(-1, ordered.shape[-1])[0])).sum())
    cut = n // 4
    return ordered[..., cut : n - cut].mean(axis=-1)


def mean(scores: np.ndarray) -> np.ndarray:
    """Average over tasks the mean over runs, `[..., runs, tasks] -> [...]`."""
    return np.nanmean(scores, axis=-2).mean(axis=-1)


def median(scores: np.ndarray) -> np.ndarray:
    """Return the median over tasks of the mean over runs, `[..., runs, tasks] -> [...]`."""
    return np.median(np.nanmean(scores, axis=-2), axis=-1)


def optimality_gap(scores: np.ndarray, target: float = 1.0) -> np.ndarray:
    """Average how far runs stay below a target, `[..., runs, tasks] -> [...]`; 0 is best.

    Scores above the target count as the target.
    """
    reached = np.minimum(scores, target)
    return target - np.nanmean(reached, axis=(-2, -1))


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the share of all runs and tasks that score above each threshold.

    Args:
        scores: `[..., runs, tasks]`.
        thresholds: `[T]`.

    Returns:
        `[..., T]`.
    """
    above = scores[..., None] > thresholds
    counted = ~np.isnan(scores)
    return above.sum(axis=(-3, -2)) / counted.sum(axis=(-2, -1))[..., None]


def probability_of_improvement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Estimate how likely a run of `a` scores above a run of `b`; averaged over tasks.

    A tie counts one half, so that equal methods have 0.5.

    Args:
        a, b: `[..., runs, tasks]`; the numbers of runs may differ.

    Returns:
        `[...]`.
    """
    upper, lower = a[..., :, None, :], b[..., None, :, :]
    wins = (upper > lower) + 0.5 * (upper == lower)
    exists = ~np.isnan(upper) & ~np.isnan(lower)
    per_task = wins.sum(axis=(-3, -2)) / exists.sum(axis=(-3, -2))
    return per_task.mean(axis=-1)


def bootstrap(
    statistic: Statistic,
    *scores: np.ndarray,
    confidence: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute a percentile interval by resampling runs within tasks.

    Args:
        statistic: of this module; takes the resampled scores.
        scores: `[runs, tasks]` of each argument, resampled independently.
        confidence: coverage for many runs; below about ten runs it covers less.
        samples: number of resamples.
        seed: seed of the resampling.

    Returns:
        low and high, each of the statistic's shape.
    """
    drawn = []
    for number, matrix_of_runs in enumerate(scores):
        drawn.append(resample(matrix_of_runs, samples, seed + number))
    values = statistic(*drawn)

    # Order statistics, not interpolated ones: between two infinities there is no number.
    ordered = np.sort(values, axis=0)
    tail = (1 - confidence) / 2
    low = ordered[int(np.floor(tail * (samples - 1)))]
    high = ordered[int(np.ceil((1 - tail) * (samples - 1)))]
    return low, high
