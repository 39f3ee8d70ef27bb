"""Comparisons of groups, corrections and correlations, by hand and against printed examples."""

import math

import numpy as np
import pytest

from rlop.report.comparisons import holm, paired, spearman, unpaired
from rlop.report.intervals import COVERAGE, interval, iqm_over_runs, words


def test_a_paired_comparison_by_hand():
    # Differences 1 2 3: mean 2, error 1 / sqrt 3, t = 2 sqrt 3 on 2 degrees of freedom.
    found = paired([1, 2, 3], [2, 4, 6])
    assert found.mean == 2
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    # P(|T| > t) on two degrees of freedom is 1 - t / sqrt(2 + t^2).
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14), rel=1e-9)
    assert found.pairs == 3


def test_pairs_that_do_not_vary():
    assert paired([1, 2], [2, 3]).p == 0
    assert paired([1, 2], [1, 2]).p == 1
    assert math.isnan(paired([1], [2]).p)


def test_welch_by_hand():
    # Variances 1 and 100, means 2 and 20, three runs each: df 2.04 is rounded down to 2.
    found = unpaired([1, 2, 3], [10, 20, 30])
    t = 18 / math.sqrt(1 / 3 + 100 / 3)
    assert found.mean == 18
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t**2), rel=1e-9)
    assert found.pairs == 0
    assert unpaired([1, 1], [1, 1]).p == 1
    assert math.isnan(unpaired([1], [1, 2]).p)


def test_the_example_of_holms_correction():
    # .01 * 4, .02 * 3, .03 * 2, .04 * 1, each at least the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    corrected = holm([0.01, math.nan, 0.02])
    assert corrected[0] == pytest.approx(0.02)
    assert math.isnan(corrected[1])
    assert holm([]) == []


def test_spearmans_correlation_with_ties():
    assert spearman([1, 2, 3], [10, 100, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # Ranks 1.5 1.5 3 and 1 2 3: covariance 1.5, variances 1.5 and 2.
    assert spearman([5, 5, 7], [1, 2, 3]) == pytest.approx(1.5 / math.sqrt(3))
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([1, 2], [1, 2]))


# ---- intervals


def test_intervals_by_the_number_of_runs():
    few = np.array([[1.0], [2.0], [3.0]])
    low, high = interval(few)
    assert high[0] - 2 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert np.isnan(interval(few[:2])).all()
    # Cut to what the metric can be.
    assert interval(few, 0.0, 2.5) == (0.0, 2.5)

    many = np.arange(8.0)[:, None]
    low, high = interval(many)
    assert 1 <= low[0] < 3.5 < high[0] <= 6


def test_a_diverged_run_leaves_no_interval_of_few_runs_and_a_wide_one_of_many():
    few = np.array([[1.0], [2.0], [3.0], [-np.inf]])
    assert np.isnan(interval(few)).all()
    assert iqm_over_runs(few)[0] == 1.5
    many = np.array([*range(9), -np.inf])[:, None]
    low, high = interval(many, 0.0)
    assert low[0] >= 0
    assert high[0] < 8


def test_steps_that_a_run_did_not_log_do_not_count_it():
    values = np.array([[1.0, 1.0], [2.0, np.nan], [3.0, 5.0], [4.0, np.nan]])
    assert iqm_over_runs(values).tolist() == [2.5, 3.0]
    low, _ = interval(values)
    assert np.isfinite(low[0])
    assert np.isnan(low[1])


@pytest.mark.parametrize("runs", [3, 4, 8])
def test_the_stated_coverage_is_what_is_measured(runs):
    values = np.random.default_rng(runs).normal(size=(runs, 1000))
    low, high = interval(values)
    covered = 100 * ((low <= 0) & (high >= 0)).mean()
    assert covered == pytest.approx(COVERAGE[runs][0], abs=2.5)  # 3.5 standard errors


def test_the_page_says_which_interval_it_shows_and_what_it_covers():
    assert "no interval" in words({1, 2})
    assert "Student" in words({4})
    assert "bootstrap" in words({8})
    assert "covered 95 % with 4 runs" in words({4})
    assert "Student" not in words({16})
