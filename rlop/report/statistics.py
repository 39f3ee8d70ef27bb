"""What a handful of seeds says: Student-t intervals, interquartile means, stratified bootstrap, stability. In NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np


def stability(
    curve: Sequence[Sequence[float]] | np.ndarray, last: int = 1
) -> dict[str, np.ndarray]:
    """How well a training held what it had reached, without choosing a checkpoint.

    Args:
        curve: `[T]` or `[T, R]`, a score at every evaluation, in the order of training.
        last: evaluations that `final` is the mean of.
    Returns:
        `average` over training, `final`, `peak` (the maximum) and `unlearning` = peak - final, each `[]` or `[R]`. NaN
        is not dropped.
    Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716, section 5, for the average and the final performance;
        peak and unlearning are ours.
    """
    array = np.asarray(curve, dtype=np.float64)
    if array.ndim not in (1, 2) or not 1 <= last <= len(array):
        raise ValueError(
            f"expected curve [T] or [T, R] with T >= last = {last} >= 1, got shape {list(array.shape)}"
        )
    final, peak = array[-last:].mean(axis=0), array.max(axis=0)
    return {"average": array.mean(axis=0), "final": final, "peak": peak, "unlearning": peak - final}


@lru_cache
def student_t(confidence: float, df: int) -> float:
    """The t with P(|T| <= t) = `confidence` for `df` degrees of freedom, by bisection of the exact distribution.

    For whole df the distribution is a finite sum of powers of cos(theta), theta = arctan(t / sqrt(df)).

    Reference: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    if not (0 < confidence < 1 and df >= 1):
        raise ValueError(f"expected 0 < confidence < 1 and df >= 1, got {confidence} and {df}")
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _coverage(middle, df) < confidence else (low, middle)
    return math.tan(low) * math.sqrt(df)


def _coverage(theta: float, df: int) -> float:
    odd = df % 2
    j = np.arange(3 if odd else 2, df - 1, 2)
    total = 1 + np.cumprod(math.cos(theta) ** 2 * (j - 1) / j).sum()
    if odd:
        return 2 / math.pi * (theta + (math.sin(theta) * math.cos(theta) * total if df > 1 else 0))
    return math.sin(theta) * total


def mean_ci(
    values: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean over runs and its Student-t interval, mean -+ t_{n-1} s / sqrt(n).

    A percentile bootstrap would be too narrow at 4 to 8 seeds. NaN is not dropped: any NaN makes all three NaN.

    Args:
        values: `[n]`, one per run.
        confidence: coverage of the interval if runs are normally distributed.
    Returns:
        (mean, low, high); the bounds are NaN for one run.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"expected values [n] with n >= 1, got shape {list(array.shape)}")
    mean = float(array.mean())
    if len(array) == 1:
        return mean, math.nan, math.nan
    half = student_t(confidence, len(array) - 1) * float(array.std(ddof=1)) / math.sqrt(len(array))
    return mean, mean - half, mean + half


def iqm(scores: Sequence[Sequence[float]] | np.ndarray) -> float:
    """Interquartile mean: the mean of the middle half of all run x task scores; floor(n / 4) are cut at each end.

    Args:
        scores: `[runs, tasks]`, finite.
    Reference: Agarwal et al., "Deep RL at the Edge of the Statistical Precipice", NeurIPS 2021, arXiv:2108.13264,
        section 4.3.
    """
    return float(_iqm(_checked(scores)[None])[0])


def _checked(scores: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"expected finite scores [runs, tasks], got shape {list(array.shape)}")
    return array


def _iqm(scores: np.ndarray) -> np.ndarray:
    ordered = np.sort(scores.reshape(len(scores), -1), axis=1)  # [samples, runs * tasks]
    cut = ordered.shape[1] // 4
    return ordered[:, cut : ordered.shape[1] - cut].mean(axis=1)


def stratified_bootstrap_ci(
    scores: Sequence[Sequence[float]] | np.ndarray,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the interquartile mean, runs resampled with replacement within each task.

    Args:
        scores: `[runs, tasks]`, finite.
        confidence: coverage.
        samples: resampled score matrices.
        seed: of the resampling.
    Returns:
        (low, high).
    Reference: Agarwal et al., "Deep RL at the Edge of the Statistical Precipice", NeurIPS 2021, arXiv:2108.13264.
    """
    array = _checked(scores)
    picked = np.random.default_rng(seed).integers(len(array), size=(samples, *array.shape))
    values = _iqm(np.take_along_axis(array[None], picked, axis=1))
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
