"""Statistics of a few seeds, in NumPy.

Student-t intervals, interquartile means with stratified bootstrap intervals, and stability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np

Scores: TypeAlias = Sequence[Sequence[float]] | np.ndarray  # [runs, tasks]
Curve: TypeAlias = Sequence[Sequence[float]] | np.ndarray  # [T] or [T, runs]


def stability(curve: Curve, last: int = 1) -> dict[str, np.ndarray]:
    """Compute average, final and peak performance of a training, and the drop from the peak.

    No checkpoint is chosen: the average and the final value are those of the whole training.

    Args:
        curve: `[T]` or `[T, R]`, a score at every evaluation, in the order of training.
        last: number of evaluations that `final` averages.

    Returns:
        `average` over training, `final`, `peak` (the maximum) and `unlearning` = peak - final, each
        `[]` or `[R]`. NaN is not dropped.

    Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716, section 5, for the average and the
        final performance; peak and unlearning are ours.
    """
    array = np.asarray(curve, dtype=np.float64)
    if array.ndim not in (1, 2) or not 1 <= last <= len(array):
        raise ValueError(
            f"expected curve [T] or [T, R] with T >= last = {last} >= 1, "
            f"got shape {list(array.shape)}"
        )

    final = array[-last:].mean(axis=0)
    peak = array.max(axis=0)
    return {
        "average": array.mean(axis=0),
        "final": final,
        "peak": peak,
        "unlearning": peak - final,
    }


def mean_ci(
    values: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Compute the mean over runs and its Student-t interval.

        mean -+ t_{n-1} s / sqrt(n)

    A percentile bootstrap would be too narrow at 4 to 8 seeds. NaN is not dropped: any NaN makes
    all three NaN.

    Args:
        values: `[n]`, one per run.
        confidence: coverage of the interval if runs are normally distributed.

    Returns:
        (mean, low, high); the bounds are NaN for one run.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"expected values [n] with n >= 1, got shape {list(array.shape)}")

    n = len(array)
    mean = float(array.mean())
    if n == 1:
        return mean, math.nan, math.nan

    t = student_t(confidence, n - 1)
    deviation = float(array.std(ddof=1))
    half = t * deviation / math.sqrt(n)
    return mean, mean - half, mean + half


@lru_cache
def student_t(confidence: float, df: int) -> float:
    """Find the t with P(|T| <= t) = `confidence`, by bisection of the exact distribution.

    For whole df the distribution is a finite sum of powers of cos(theta),
    theta = arctan(t / sqrt(df)).

    Args:
        confidence: between 0 and 1.
        df: degrees of freedom, at least 1.

    Reference: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    if not (0 < confidence < 1 and df >= 1):
        raise ValueError(f"expected 0 < confidence < 1 and df >= 1, got {confidence} and {df}")

    low = 0.0
    high = math.pi / 2
    for _ in range(80):  # halvings; doubles are exhausted earlier
        middle = (low + high) / 2
        if _coverage(middle, df) < confidence:
            low = middle
        else:
            high = middle

    return math.tan(low) * math.sqrt(df)


def t_coverage(t: float, df: int) -> float:
    """Return P(|T| <= t) of Student's t with a whole number of degrees of freedom."""
    return _coverage(math.atan(t / math.sqrt(df)), df)


def _coverage(theta: float, df: int) -> float:
    """Return P(|T| <= tan(theta) sqrt(df)) by equation 26.7.3 (odd df) or 26.7.4 (even df)."""
    sin = math.sin(theta)
    cos = math.cos(theta)
    is_odd = df % 2 == 1

    first = 3 if is_odd else 2
    j = np.arange(first, df - 1, 2)
    factors = cos**2 * (j - 1) / j
    total = 1 + np.cumprod(factors).sum()

    if not is_odd:
        return sin * total
    if df == 1:
        return 2 / math.pi * theta
    return 2 / math.pi * (theta + sin * cos * total)


def iqm(scores: Scores) -> float:
    """Compute the interquartile mean: the mean of the middle half of all run x task scores.

    floor(n / 4) scores are cut at each end.

    Args:
        scores: `[runs, tasks]`, finite.

    Reference: Agarwal et al., "Deep RL at the Edge of the Statistical Precipice", NeurIPS 2021,
        arXiv:2108.13264, section 4.3.
    """
    array = _checked(scores)
    return float(_iqm(array[None])[0])


def stratified_bootstrap_ci(
    scores: Scores,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute a percentile bootstrap interval of the interquartile mean.

    Runs are resampled with replacement within each task, independently of the other tasks.

    Args:
        scores: `[runs, tasks]`, finite.
        confidence: coverage.
        samples: number of resampled score matrices.
        seed: seed of the resampling.

    Returns:
        (low, high).

    Reference: Agarwal et al., "Deep RL at the Edge of the Statistical Precipice", NeurIPS 2021,
        arXiv:2108.13264.
    """
    array = _checked(scores)
    levels = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(_iqm(resample(array, samples, seed)), levels)
    return float(low), float(high)


def resample(scores: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Draw runs with replacement within each task, independently of the other tasks.

    Args:
        scores: `[runs, tasks]`; a task with fewer runs than others ends in NaN, which stay.
        samples: number of draws.
        seed: seed of the draws.

    Returns:
        `[samples, runs, tasks]`.
    """
    rng = np.random.default_rng(seed)
    counts = (~np.isnan(scores)).sum(axis=0)
    is_full = bool((counts == len(scores)).all())
    most = len(scores) if is_full else np.maximum(counts, 1)

    runs = rng.integers(most, size=(samples, *scores.shape))
    drawn = np.take_along_axis(scores[None], runs, axis=1)
    if is_full:
        return drawn
    absent = np.arange(len(scores))[:, None] >= counts
    return np.where(absent, np.nan, drawn)


def _checked(scores: Scores) -> np.ndarray:
    array = np.asarray(scores, dtype=np.float64)
    is_matrix = array.ndim == 2 and array.size > 0
    if not is_matrix or not np.isfinite(array).all():
        raise ValueError(f"expected finite scores [runs, tasks], got shape {list(array.shape)}")
    return array


def _iqm(scores: np.ndarray) -> np.ndarray:
    """Compute interquartile means, `[samples, runs, tasks] -> [samples]`."""
    flat = scores.reshape(len(scores), -1)
    ordered = np.sort(flat, axis=1)

    n = ordered.shape[1]
    cut = n // 4
    middle = ordered[:, cut : n - cut]
    return middle.mean(axis=1)
