"""Intervals and means of a few seeds, against printed tables, by hand and by enumeration."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlop.report.statistics import iqm, mean_ci, stability, stratified_bootstrap_ci, student_t


# Percentage points of Student's t, two-sided, as printed in any table.
@pytest.mark.parametrize(
    ("confidence", "df", "t"),
    [
        (0.95, 1, 12.706),
        (0.95, 2, 4.303),
        (0.95, 3, 3.182),
        (0.95, 4, 2.776),
        (0.95, 5, 2.571),
        (0.95, 6, 2.447),
        (0.95, 7, 2.365),
        (0.95, 8, 2.306),
        (0.95, 9, 2.262),
        (0.95, 10, 2.228),
        (0.95, 15, 2.131),
        (0.95, 20, 2.086),
        (0.95, 30, 2.042),
        (0.95, 60, 2.000),
        (0.95, 120, 1.980),
        (0.99, 1, 63.657),
        (0.99, 5, 4.032),
        (0.99, 30, 2.750),
        (0.80, 3, 1.638),
    ],
)
def test_student_t_is_the_printed_table(confidence, df, t):
    assert round(student_t(confidence, df), 3) == t


def test_student_t_has_closed_forms_and_a_normal_limit():
    assert student_t(0.95, 1) == pytest.approx(math.tan(math.pi / 2 * 0.95), rel=1e-9)
    assert student_t(0.9, 2) == pytest.approx(0.9 * math.sqrt(2 / (1 - 0.9**2)), rel=1e-9)
    normal = statistics.NormalDist().inv_cdf(0.975)
    assert student_t(0.95, 100_000) == pytest.approx(normal, rel=1e-4)


@pytest.mark.parametrize(("confidence", "df"), [(0, 3), (1, 3), (0.5, 0)])
def test_student_t_refuses_what_has_no_interval(confidence, df):
    with pytest.raises(ValueError, match="df >= 1"):
        student_t(confidence, df)


def test_the_interval_of_the_mean_by_hand():
    # Mean 2, s = 1, half width 4.303 * 1 / sqrt(3).
    mean, low, high = mean_ci([1, 2, 3])
    assert mean == 2
    assert high - mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert mean - low == pytest.approx(high - mean)
    assert mean_ci([5.0, 5.0]) == (5, 5, 5)


def test_the_interval_of_one_run_or_of_a_diverged_one_is_nan():
    mean, low, high = mean_ci([3.0])
    assert mean == 3
    assert np.isnan([low, high]).all()
    assert np.isnan(mean_ci([1.0, math.nan, 2.0])).all()
    for wrong in ([], [[1.0]]):
        with pytest.raises(ValueError, match="expected values"):
            mean_ci(wrong)


def test_the_interval_of_the_mean_covers_as_often_as_it_says():
    covered = []
    for values in np.random.default_rng(0).normal(size=(4000, 4)):
        _, low, high = mean_ci(values)
        covered.append(low <= 0 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


# ---- interquartile mean


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[0, 1], [2, 9]], 1.5),  # of 0 1 2 9 the middle two
        ([[1], [2], [3]], 2),  # floor(3 / 4) = 0 are cut
        ([[100, 4], [3, 5], [-50, 6], [2, 7]], (3 + 4 + 5 + 6) / 4),
    ],
)
def test_iqm_by_hand(scores, expected):
    assert iqm(scores) == pytest.approx(expected)


@pytest.mark.parametrize("scores", [[1.0, 2.0], np.zeros((0, 2)), [[1.0, math.nan]]])
def test_iqm_refuses_what_is_no_finite_matrix(scores):
    with pytest.raises(ValueError, match="expected finite scores"):
        iqm(scores)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12), st.floats(-10, 10), st.integers(1, 3)
)
def test_iqm_moves_with_its_scores_and_stays_among_them(scores, shift, tasks):
    matrix = np.array([scores] * tasks).T
    assert min(scores) - 1e-6 <= iqm(matrix) <= max(scores) + 1e-6
    assert iqm(matrix + shift) == pytest.approx(iqm(matrix) + shift, abs=1e-6)


# ---- bootstrap


def test_the_bootstrap_interval_surrounds_the_iqm_and_depends_on_its_seed():
    scores = np.random.default_rng(1).normal(size=(10, 5))
    low, high = stratified_bootstrap_ci(scores)
    assert low < iqm(scores) < high
    assert (low, high) == stratified_bootstrap_ci(scores)
    assert (low, high) != stratified_bootstrap_ci(scores, seed=1)
    wide_low, wide_high = stratified_bootstrap_ci(scores, confidence=0.99)
    assert wide_low < low < high < wide_high


# Two runs, 0 and 1: the four resamples have means 0, 1/2, 1/2, 1, a quarter of the mass each. The
# middle 40 % and less are 1/2, the middle 60 % and more reach both ends.
@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(0.4, (0.5, 0.5)), (0.6, (0.0, 1.0)), (0.9, (0.0, 1.0))],
)
def test_the_bootstrap_interval_of_one_task_by_enumeration(confidence, expected):
    assert stratified_bootstrap_ci([[0.0], [1.0]], confidence=confidence) == expected


def test_the_bootstrap_resamples_runs_within_tasks():
    # Constant over runs: resampling within a task changes nothing, across tasks it would.
    assert stratified_bootstrap_ci([[1.0, 5.0]] * 4) == (3.0, 3.0)


def test_the_bootstrap_resamples_every_task_on_its_own():
    # Opposite tasks: with the same runs drawn for both every resample would have the mean 0.
    scores = [[1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]]
    low, high = stratified_bootstrap_ci(scores)
    assert low < -0.2
    assert high > 0.2


# ---- stability


def test_stability_by_hand():
    found = stability([[1.0, 4.0], [5.0, 3.0], [3.0, 4.0], [3.0, 5.0]])
    assert {name: values.tolist() for name, values in found.items()} == {
        "average": [3.0, 4.0],
        "final": [3.0, 5.0],
        "peak": [5.0, 5.0],
        "unlearning": [2.0, 0.0],
    }


def test_the_final_performance_may_average_several_evaluations():
    found = stability([1, 5, 3, 4], last=2)
    assert found["final"] == 3.5
    assert found["unlearning"] == 1.5


def test_stability_does_not_drop_nan():
    assert math.isnan(stability([1, math.nan, 3])["unlearning"])


@pytest.mark.parametrize(
    ("curve", "last"), [([], 1), ([1, 2], 3), ([1, 2], 0), (np.zeros((2, 2, 2)), 1)]
)
def test_stability_refuses_what_is_no_curve(curve, last):
    with pytest.raises(ValueError, match=r"curve \[T\] or \[T, R\]"):
        stability(curve, last)
