"""Rank associations within groups: against hand numbers, loops over pairs, SciPy and regression."""

import math

import numpy as np
import pytest

from rlop.report.associations import auc, auc_gain, codes, correlation, ranks_within
from rlop.report.comparisons import spearman

ONE = np.zeros(40, int)
EACH = np.arange(40)


def drawn(seed=0, n=40):
    """Two related variables and one behind both, with ties."""
    rng = np.random.default_rng(seed)
    behind = rng.normal(size=n)
    x = np.round(behind + rng.normal(size=n), 1)
    y = np.round(behind + rng.normal(size=n), 1)
    return x, y, behind


def test_ranks_are_centered_in_each_group_and_ties_share_theirs():
    values = np.array([3.0, 1.0, 1.0, np.inf, 10.0, 20.0])
    groups = np.array([0, 0, 0, 0, 1, 1])
    expected = [0.5 / 4, -1.0 / 4, -1.0 / 4, 1.5 / 4, -0.25, 0.25]
    np.testing.assert_allclose(ranks_within(values, groups), expected)


def test_one_group_without_controls_is_spearmans_correlation():
    x, y, _ = drawn()
    one = correlation(x, y, ONE, EACH)
    assert one.value == pytest.approx(spearman(x, y), abs=1e-12)
    stats = pytest.importorskip("scipy.stats")
    assert one.value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert one.low < one.value < one.high
    assert one.runs == 40


def test_differences_between_groups_make_no_correlation():
    x = np.array([1.0, 2.0, 11.0, 12.0])
    y = np.array([2.0, 1.0, 12.0, 11.0])
    assert spearman(x, y) > 0
    assert correlation(x, y, np.array([0, 0, 1, 1]), np.arange(4)).value == pytest.approx(-1)


def test_partial_correlation_is_that_of_what_regressions_leave():
    x, y, behind = drawn(1)
    groups = np.arange(40) % 3
    ranks = [ranks_within(values, groups) for values in (x, y, behind)]
    control = ranks[2][:, None]
    left = [own - control @ np.linalg.lstsq(control, own)[0] for own in ranks[:2]]
    expected = np.corrcoef(*left)[0, 1]

    assert correlation(x, y, groups, groups, [behind]).value == pytest.approx(expected, abs=1e-12)
    assert abs(expected) < abs(correlation(x, y, groups, groups).value)


def test_a_variable_that_is_held_correlates_with_nothing():
    x, y, _ = drawn(2)
    assert math.isnan(correlation(x, y, ONE, EACH, [2 * x + 1]).value)


def test_runs_without_a_number_are_left_out():
    x, y, _ = drawn(3)
    spoilt = x.copy()
    spoilt[:5] = np.nan
    one = correlation(spoilt, y, ONE, EACH)
    assert one.value == pytest.approx(spearman(x[5:], y[5:]))
    assert one.runs == 35
    assert correlation(np.full(40, np.nan), y, ONE, EACH).runs == 0


def test_the_interval_is_over_clusters_and_small_with_many():
    """Copies of runs are no new evidence where each run is a cluster with its copies."""
    x, y, _ = drawn(4)
    once = correlation(x, y, ONE, EACH)
    copied = [np.tile(values, 4) for values in (x, y)]
    own = np.zeros(160, int)
    together = correlation(*copied, own, np.tile(EACH, 4))
    apart = correlation(*copied, own, np.arange(160))
    assert together.high - together.low == pytest.approx(once.high - once.low, rel=0.1)
    assert apart.high - apart.low < 0.6 * (once.high - once.low)


def test_p_is_small_only_where_there_is_something():
    x, y, _ = drawn(5)
    noise = np.random.default_rng(6).normal(size=40)
    assert correlation(x, x, ONE, EACH).p < 1e-3
    assert correlation(x, noise, ONE, EACH).p > 0.05
    assert math.isnan(correlation(x, y, ONE, ONE).p)  # one cluster says nothing of others


def test_few_clusters_that_agree_are_not_sure():
    """Four groups of two pairs each: whatever is resampled, the correlation is positive."""
    x = np.array([1.0, 2.0, 3.0] * 4)
    y = np.array([1.0, 2.0, 3.0, 1.0, 3.0, 2.0] * 2)
    groups = np.arange(12) // 3
    four = correlation(x, y, groups, groups)
    assert four.value == pytest.approx(0.75)
    assert four.low < 0.4
    assert four.p > 1e-3


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Without association, in 16 clusters; fewer would be too narrow."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(60):
        x, y = rng.normal(size=(2, 96))
        one = correlation(x, y, np.arange(96) % 16, np.arange(96) % 16, samples=400)
        held += one.low <= 0 <= one.high
    assert 51 <= held <= 60


def test_area_counts_the_pairs_of_each_group():
    scores = np.array([3.0, 1.0, 2.0, 100.0, 50.0, 50.0])
    events = np.array([True, False, True, False, True, False])
    groups = np.array([0, 0, 0, 1, 1, 1])
    # Group 0: both events win. Group 1: one loss, one tie.
    assert auc(scores, events, groups, groups).value == pytest.approx((2 + 0.5) / 4)


def test_area_of_one_group_is_mann_whitneys():
    stats = pytest.importorskip("scipy.stats")
    x, y, _ = drawn(8)
    events = y > 0.5
    pairs = events.sum() * (~events).sum()
    expected = stats.mannwhitneyu(x[events], x[~events]).statistic / pairs
    assert auc(x, events, ONE, ONE).value == pytest.approx(expected)


def test_area_without_events_is_no_number():
    x, _, _ = drawn(9)
    assert math.isnan(auc(x, np.zeros(40, bool), ONE, EACH // 4).value)


def test_gain_compares_distances_from_no_association():
    """A score that is always wrong warns as well as one that is always right."""
    events = np.arange(40) % 2 == 0
    groups = np.arange(40) // 4
    wrong = -events.astype(float)
    nothing = np.ones(40)
    assert auc_gain(wrong, nothing, events, groups, groups).value == pytest.approx(0.5)
    assert auc_gain(wrong, -wrong, events, groups, groups).value == pytest.approx(0.0)


def test_labels_are_numbered_as_they_appear():
    assert codes(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]
