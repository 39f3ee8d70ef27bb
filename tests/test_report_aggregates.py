"""Aggregates over runs and tasks: by hand, and against rliable where it is installed."""

import numpy as np
import pytest

from rlop.report import aggregates
from rlop.report.aggregates import bootstrap, matrix
from rlop.report.statistics import iqm, resample, stratified_bootstrap_ci

# Runs x tasks; the second task has a tie, and an outlier.
SCORES = np.array([[0.2, 1.0], [0.5, 1.0], [0.9, 3.0], [0.4, 0.1]])
OTHERS = np.array([[0.3, 1.0], [0.6, 0.5], [0.7, 2.0]])


def test_aggregates_by_hand():
    # 0.1 .2 .4 .5 .9 1 1 3: the middle four are .4 .5 .9 1.
    assert aggregates.interquartile_mean(SCORES) == pytest.approx(0.7)
    # Means of the tasks: .5 and 1.275.
    assert aggregates.mean(SCORES) == pytest.approx(0.8875)
    assert aggregates.median(SCORES) == pytest.approx(0.8875)
    # Up to 1: .2 .5 .9 .4 and 1 1 1 .1, mean .6375.
    assert aggregates.optimality_gap(SCORES) == pytest.approx(0.3625)
    assert aggregates.optimality_gap(10 * SCORES, 10.0) == pytest.approx(3.625)


def test_a_profile_counts_scores_strictly_above():
    shares = aggregates.performance_profile(SCORES, np.array([-1.0, 0.1, 1.0, 3.0]))
    assert shares.tolist() == [1, 7 / 8, 1 / 8, 0]


def test_the_probability_of_improvement_counts_ties_as_halves():
    # First task: .2 beats 0 of 3, .5 1, .9 3, .4 1: 5 of 12. Second: 1 beats .5 and ties with 1,
    # twice; 3 beats all; .1 none: 1.5 + 1.5 + 3 = 6 of 12.
    assert aggregates.probability_of_improvement(SCORES, OTHERS) == pytest.approx(11 / 24)
    assert aggregates.probability_of_improvement(OTHERS, SCORES) == pytest.approx(13 / 24)
    assert aggregates.probability_of_improvement(SCORES, SCORES) == 0.5


def test_a_diverged_run_is_below_everything_and_cut_before_it_counts():
    scores = np.array([[1.0], [2.0], [3.0], [-np.inf]])
    assert aggregates.interquartile_mean(scores) == 1.5
    assert aggregates.performance_profile(scores, np.array([-1e9])) == 0.75
    assert aggregates.probability_of_improvement(scores, np.array([[0.0]])) == 0.75
    low, high = bootstrap(aggregates.interquartile_mean, scores)
    assert low == -np.inf
    assert 2 <= high <= 3


def test_tasks_with_fewer_runs_lose_none():
    ragged = matrix([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0]])
    assert ragged.shape == (4, 2)
    assert np.isnan(ragged[2:, 1]).all()
    # 1 2 3 4 10 20: one is cut at each end.
    assert aggregates.interquartile_mean(ragged) == pytest.approx(4.75)
    assert aggregates.mean(ragged) == pytest.approx((2.5 + 15) / 2)
    assert aggregates.performance_profile(ragged, np.array([3.5])) == pytest.approx(3 / 6)
    assert aggregates.probability_of_improvement(ragged, ragged) == 0.5

    drawn = resample(ragged, 50, 0)
    assert set(np.unique(drawn[:, :2, 1])) == {10.0, 20.0}
    assert np.isnan(drawn[:, 2:, 1]).all()


def test_the_bootstrap_of_the_iqm_is_that_of_the_table_up_to_interpolation():
    scores = np.random.default_rng(0).normal(size=(9, 3))
    low, high = bootstrap(aggregates.interquartile_mean, scores)
    assert (low, high) == pytest.approx(stratified_bootstrap_ci(scores), abs=0.01)
    assert aggregates.interquartile_mean(scores) == pytest.approx(iqm(scores), abs=1e-12)


@pytest.mark.parametrize(("runs", "tasks"), [(3, 1), (4, 5), (7, 2), (10, 6)])
def test_numbers_are_those_of_rliable(runs, tasks):
    metrics = pytest.importorskip("rliable.metrics")
    library = pytest.importorskip("rliable.library")
    rng = np.random.default_rng(runs)
    a = rng.normal(0.5, 0.5, size=(runs, tasks)).round(1)  # with ties
    b = rng.normal(0.4, 0.5, size=(runs + 2, tasks)).round(1)
    thresholds = np.linspace(-1, 2, 31)

    pairs = [
        (aggregates.interquartile_mean(a), metrics.aggregate_iqm(a)),
        (aggregates.mean(a), metrics.aggregate_mean(a)),
        (aggregates.median(a), metrics.aggregate_median(a)),
        (aggregates.optimality_gap(a, 0.7), metrics.aggregate_optimality_gap(a, 0.7)),
        (
            aggregates.probability_of_improvement(a, b),
            metrics.probability_of_improvement(a, b),
        ),
        (
            aggregates.performance_profile(a, thresholds),
            library.score_distributions(a, thresholds),
        ),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)


FIXED = [0.346, 0.341, 0.307, 0.6675, 0.5458333333333333]


def test_fixed_numbers():
    """What rliable 1.2.0 returned for these scores, for machines without it."""
    rng = np.random.default_rng(7)
    a, b = rng.normal(0.5, 0.5, (5, 4)).round(2), rng.normal(0.4, 0.5, (6, 4)).round(2)
    found = [
        aggregates.interquartile_mean(a),
        aggregates.mean(a),
        aggregates.median(a),
        aggregates.optimality_gap(a),
        aggregates.probability_of_improvement(a, b),
    ]
    assert found == pytest.approx(FIXED, abs=1e-12)
