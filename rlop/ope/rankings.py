"""How well a ranking without an environment agrees with the scores of one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rlop.report.comparisons import spearman
from rlop.report.titles import HIGHER, LOWER

NORMAL = 1.959964  # 97.5 % quantile
FEWEST = 4  # pairs for an interval

# ranking -> in words, and which direction is taken for better. That of a probe is the one in which
# representations are said to be healthy; a negative correlation says that it was the other one.
RANKINGS: Mapping[str, tuple[str, str]] = {
    "fqe": ("FQE", HIGHER),
    "td_error": ("TD error", LOWER),
    "loss/validation": ("loss on held-out episodes", LOWER),
    "rank/srank": ("srank", HIGHER),
    "rank/effective_rank": ("effective rank", HIGHER),
    "feature/norm": ("norm of features", LOWER),
    "feature/dot": ("dot product of features", LOWER),
    "feature/cosine": ("cosine of features", LOWER),
    "units/dormant": ("dormant units", LOWER),
}


class Judgment(NamedTuple):
    """What a ranking would have picked, and how it agrees with the truth.

    Args:
        picks: places of the candidates that it puts first, several where they are equal.
        regret: score of the best candidate minus the mean of the picks; NaN without a score.
        correlation: Spearman's, positive where better goes with a higher score.
        low, high: its 95 % interval; NaN with too few candidates.
        pairs: candidates that have a value and a score.
    """

    picks: list[int]
    regret: float
    correlation: float
    low: float
    high: float
    pairs: int


def judge(values: np.ndarray, truth: np.ndarray, better: str) -> Judgment:
    """Compare a ranking with the scores of its candidates.

    Candidates without a value, or whose network diverged, are ranked by none: they are left out,
    of the best score, too.

    Args:
        values: that rank, `[n]`; NaN where there is none.
        truth: scores, `[n]`, more is better; NaN where there is none.
        better: HIGHER or LOWER, of the values.
    Reference: regret at 1 and rank correlation as in Fu et al., "Benchmarks for Deep Off-Policy
        Evaluation", ICLR 2021, arXiv:2103.16596, section 3.
    """
    signed = np.where(np.isfinite(values), values if better == HIGHER else -values, np.nan)
    ranked = np.flatnonzero(np.isfinite(signed))
    picks = ranked[signed[ranked] == signed[ranked].max(initial=-np.inf)]

    usable = ranked[np.isfinite(truth[ranked])]
    if not len(usable):
        return Judgment(picks.tolist(), math.nan, math.nan, math.nan, math.nan, 0)
    regret = float(truth[usable].max() - truth[picks].mean())
    correlation = spearman(signed[usable].tolist(), truth[usable].tolist())
    low, high = rank_interval(correlation, len(usable))
    return Judgment(picks.tolist(), regret, correlation, low, high, len(usable))


def rank_interval(correlation: float, count: int) -> tuple[float, float]:
    """Compute the 95 % interval of Spearman's rank correlation of independent pairs.

        tanh( artanh(r) -+ 1.96 sqrt((1 + r^2 / 2) / (n - 3)) )

    Args:
        correlation: r.
        count: n; fewer than four pairs have no interval.
    Returns:
        low and high; both r where it is 1 or -1, where the formula says nothing.
    Reference: Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and
        Spearman correlations", Psychometrika 65, 2000.
    """
    if count < FEWEST or math.isnan(correlation):
        return math.nan, math.nan
    if abs(correlation) > 1 - 1e-12:
        return correlation, correlation
    half = NORMAL * math.sqrt((1 + correlation**2 / 2) / (count - 3))
    middle = math.atanh(correlation)
    return math.tanh(middle - half), math.tanh(middle + half)
