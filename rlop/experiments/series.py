"""Numbers computed from a series: steps between neighbors, exponents, means over the seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


def differences(values: Sequence[float]) -> list[float]:
    """Subtract from each value the one before it."""
    return [after - before for before, after in pairwise(values)]


def ratios(values: Sequence[float]) -> list[float]:
    """Divide each value by the one before it."""
    return [after / before for before, after in pairwise(values)]


def columns(rows: Iterable[Sequence[float]]) -> list[list[float]]:
    """Transpose rows of equal length."""
    return [list(column) for column in zip(*rows)]


def power_law_exponent(x: Sequence[float], y: Sequence[float] | np.ndarray) -> float:
    """Return the exponent k of y ~ x^k, by least squares on logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def seed_means(values: Tensor, seeds: int) -> list[float]:
    """Average over seeds where neighboring runs share a setting, `[settings * seeds]`."""
    return values.view(-1, seeds).mean(-1).tolist()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Compute Spearman's rank correlation; ties share their mean rank."""
    return torch.corrcoef(torch.stack([mean_ranks(a), mean_ranks(b)]))[0, 1].item()


def mean_ranks(values: Tensor) -> Tensor:
    """Rank each value, ties by their mean rank, up to a constant."""
    smaller = (values < values[:, None]).float().sum(1)
    equal = (values == values[:, None]).float().sum(1)
    return smaller + equal / 2
