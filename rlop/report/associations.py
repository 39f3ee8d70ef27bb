"""Rank associations within groups of runs: correlations, partial ones, and areas under the curve.

Axes: n runs, k variables, C clusters. Values are ranked within their group, so that what differs
between groups (data sets, agents) cannot make a correlation. Ranks do not change when clusters,
each a union of groups, are resampled; so a bootstrap resamples sums and not runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rlop.report.statistics import student_t, t_coverage

SAMPLES = 2000  # resamples
ROUNDING = 1e-9  # share of a sum of squares below which only rounding is left


class Association(NamedTuple):
    """An estimate with its 95 % interval and two-sided p-value against no association.

    With s the standard deviation over resampled clusters, C of them, the interval is
    value -+ t_{C-1} s, and the p-value that of (value - null) / s. Shares of resamples would be too
    sure with few clusters: four that agree never give another sign.

    Args:
        value: a correlation, or an area under the curve.
        low, high: the interval; NaN with fewer than two clusters.
        p: NaN where there is no interval.
        runs: that took part.
    """

    value: float
    low: float
    high: float
    p: float
    runs: int


NOTHING = Association(np.nan, np.nan, np.nan, np.nan, 0)


def codes(labels: Sequence[object]) -> np.ndarray:
    """Number labels in the order of their first appearance, `[n]` int."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels], dtype=int)


def ranks_within(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rank values within their group, from -1/2 to 1/2; ties share the mean of their ranks.

    Args:
        values: `[n]`; infinite values are the first or last.
        groups: `[n]` int.
    Returns:
        (rank - mean rank) / size of the group, `[n]`.
    """
    order = np.lexsort((values, groups))
    value, group = values[order], groups[order]
    is_first = np.r_[True, (value[1:] != value[:-1]) | (group[1:] != group[:-1])]
    opens = np.r_[True, group[1:] != group[:-1]]

    place = np.arange(len(values))
    tie, member = np.cumsum(is_first) - 1, np.cumsum(opens) - 1
    mean_place = np.bincount(tie, place) / np.bincount(tie)
    center = np.bincount(member, place) / np.bincount(member)

    ranks = np.empty(len(values))
    ranks[order] = (mean_place[tie] - center[member]) / np.bincount(member)[member]
    return ranks


def correlation(
    x: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    clusters: np.ndarray,
    controls: Sequence[np.ndarray] = (),
    samples: int = SAMPLES,
) -> Association:
    """Correlate ranks within groups, with what controls explain removed from both.

    Without controls and with one group this is Spearman's correlation; with controls, the partial
    correlation of ranks, each group having an intercept of its own.

    Args:
        x, y: `[n]`. Runs with NaN in any variable are left out.
        groups: `[n]` int, within which values are ranked.
        clusters: `[n]` int, what is resampled: unions of groups, or the runs of one group.
        controls: further variables, `[n]` each.
        samples: resamples; 0 gives no interval.
    Raises:
        ValueError: lengths differ.
    """
    columns = [x, y, *controls]
    if len({len(column) for column in [*columns, groups, clusters]}) != 1:
        raise ValueError("expected x, y, groups, clusters and controls of one length")
    usable = ~np.isnan(np.stack(columns)).any(0)
    if usable.sum() < 3:
        return NOTHING

    groups, clusters = groups[usable], codes(clusters[usable].tolist())
    ranks = np.stack([ranks_within(column[usable], groups) for column in columns], axis=1)
    sums = np.zeros((clusters.max() + 1, ranks.shape[1], ranks.shape[1]))
    np.add.at(sums, clusters, ranks[:, :, None] * ranks[:, None, :])

    def partial(counts: np.ndarray) -> np.ndarray:
        products = counts @ sums.reshape(len(sums), -1)
        return partial_correlation(products.reshape(-1, *sums.shape[1:]))

    return resampled(partial, len(sums), int(usable.sum()), 0.0, 1.0, samples)


def partial_correlation(products: np.ndarray) -> np.ndarray:
    """Correlate the first two variables, those after them held: `[..., k, k] -> [...]`.

    One control after the other is swept out of the sums S, S_ij - S_ic S_cj / S_cc, until two
    variables are left.

    Args:
        products: S, sums of products of centered variables.
    Returns:
        NaN where the controls leave nothing of one of the two.
    """
    total = np.diagonal(products, axis1=-2, axis2=-1)
    left = products
    while left.shape[-1] > 2:
        place = left.shape[-1] - 1
        usable = left[..., place, place] > ROUNDING * total[..., place]
        pivot = np.where(usable, left[..., place, place], 1.0)
        column = np.where(usable[..., None], left[..., :place, place], 0.0)
        explained = column[..., :, None] * column[..., None, :] / pivot[..., None, None]
        left = left[..., :place, :place] - explained

    own = np.diagonal(left, axis1=-2, axis2=-1)
    remains = (own > ROUNDING * total[..., :2]).all(-1)
    scale = np.sqrt(np.where(remains, own.prod(-1), 1.0))
    return np.where(remains, left[..., 0, 1] / scale, np.nan)


def auc(
    scores: np.ndarray,
    events: np.ndarray,
    groups: np.ndarray,
    clusters: np.ndarray,
    samples: int = SAMPLES,
) -> Association:
    """Return how often, of two runs of one group, the one with the event has the higher score.

    Ties count half. The pairs of all groups count alike. 1/2 is no association; below it, the event
    goes with low scores.

    Args:
        scores: `[n]`; runs with NaN are left out.
        events: `[n]` bool.
        groups, clusters: see `correlation`.
        samples: resamples; 0 gives no interval.
    """
    usable = ~np.isnan(scores)
    wins, pairs = pair_counts(scores[usable], events[usable], groups[usable], clusters[usable])
    if not pairs.sum():
        return NOTHING

    def share(counts: np.ndarray) -> np.ndarray:
        return ratio(counts @ wins, counts @ pairs)

    return resampled(share, len(pairs), int(usable.sum()), 0.5, 0.5, samples)


def auc_gain(
    scores: np.ndarray,
    base: np.ndarray,
    events: np.ndarray,
    groups: np.ndarray,
    clusters: np.ndarray,
    samples: int = SAMPLES,
) -> Association:
    """Return how much farther from 1/2 the area of scores is than that of a base.

        |AUC(scores) - 1/2| - |AUC(base) - 1/2|

    Both areas are of the same runs and the same resamples.

    Args: as in `auc`; `base` are the scores that are compared with, `[n]`.
    """
    usable = ~(np.isnan(scores) | np.isnan(base))
    rest = events[usable], groups[usable], clusters[usable]
    wins, pairs = pair_counts(scores[usable], *rest)
    base_wins, _ = pair_counts(base[usable], *rest)
    if not pairs.sum():
        return NOTHING

    def gain(counts: np.ndarray) -> np.ndarray:
        total = counts @ pairs
        areas = [ratio(counts @ each, total) for each in (wins, base_wins)]
        return np.abs(areas[0] - 0.5) - np.abs(areas[1] - 0.5)

    return resampled(gain, len(pairs), int(usable.sum()), 0.0, 0.5, samples)


def pair_counts(
    scores: np.ndarray, events: np.ndarray, groups: np.ndarray, clusters: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count pairs within groups, and those in which the event has the higher score, `[C]` each."""
    owner = codes(clusters.tolist())
    count = owner.max() + 1 if len(owner) else 0
    wins, pairs = np.zeros(count), np.zeros(count)
    for group in np.unique(groups):
        members = groups == group
        positive = scores[members & events][:, None]
        negative = scores[members & ~events]
        place = owner[members][0]
        wins[place] += (positive > negative).sum() + 0.5 * (positive == negative).sum()
        pairs[place] += positive.size * negative.size
    return wins, pairs


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; NaN where there is nothing to divide by."""
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, np.nan)


def resampled(
    statistic: Callable[[np.ndarray], np.ndarray],
    count: int,
    runs: int,
    null: float,
    reach: float,
    samples: int,
) -> Association:
    """Estimate a statistic of C clusters, and its interval and p-value over resampled clusters.

    Args:
        statistic: how often each cluster counts, `[S, C]` -> `[S]`.
        count: C.
        runs: noted in the result.
        null: value of the statistic without an association.
        reach: farthest that it can lie from there.
        samples: S; 0 gives no interval.
    """
    value = float(statistic(np.ones((1, count)))[0])
    if count < 2 or not samples or np.isnan(value):
        return Association(value, np.nan, np.nan, np.nan, runs)

    values = statistic(draws(count, samples))
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return Association(value, np.nan, np.nan, np.nan, runs)
    deviation = float(values.std(ddof=1))
    half = student_t(0.95, count - 1) * deviation
    distance = abs(value - null)
    p = float(distance == 0)
    if deviation > 0:
        p = 1 - t_coverage(distance / deviation, count - 1)
    low, high = max(value - half, null - reach), min(value + half, null + reach)
    return Association(value, low, high, p, runs)


@lru_cache
def draws(count: int, samples: int) -> np.ndarray:
    """Return how often each of C clusters is drawn in each resample, `[S, C]`."""
    rng = np.random.default_rng(0)
    return rng.multinomial(count, np.full(count, 1 / count), size=samples).astype(float)
