from __future__ import annotations

import builtins
import math
import statistics
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlop.board import Board, History
from rlop.picture import band
from rlop.report import curves, figure, group_runs, iqm, load, mean_ci, report, stratified_bootstrap_ci, table
from rlop.stats import student_t
from rlop.types import InputError


# Percentage points of Student's t, two-sided 95 % and 99 %, as printed in any table.
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


def test_student_t_closed_forms_and_limit():
    assert student_t(0.95, 1) == pytest.approx(math.tan(math.pi / 2 * 0.95), rel=1e-9)
    assert student_t(0.9, 2) == pytest.approx(0.9 * math.sqrt(2 / (1 - 0.9**2)), rel=1e-9)
    assert student_t(0.95, 100_000) == pytest.approx(statistics.NormalDist().inv_cdf(0.975), rel=1e-4)
    for confidence, df in ((0, 3), (1, 3), (0.5, 0)):
        with pytest.raises(ValueError, match="df >= 1"):
            student_t(confidence, df)


def test_mean_ci_by_hand():
    # mean 2, s = 1, half width 4.303 * 1 / sqrt(3)
    mean, low, high = mean_ci([1, 2, 3])
    assert mean == 2
    assert high - mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert mean - low == pytest.approx(high - mean)
    assert mean_ci([5.0, 5.0]) == (5, 5, 5)
    one = mean_ci([3.0])
    assert one[0] == 3
    assert np.isnan(one[1:]).all()
    assert np.isnan(mean_ci([1.0, math.nan, 2.0])).all()
    for wrong in ([], [[1.0]]):
        with pytest.raises(ValueError, match="expected values"):
            mean_ci(wrong)


def test_mean_ci_covers_as_often_as_it_says():
    normal = np.random.default_rng(0).normal(size=(4000, 4))
    covered = [low <= 0 <= high for _, low, high in map(mean_ci, normal)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


def test_iqm_by_hand():
    assert iqm([[0, 1], [2, 9]]) == 1.5  # of 0 1 2 9 the middle two
    assert iqm([[1], [2], [3]]) == 2  # floor(3 / 4) = 0 are cut
    assert iqm([[100, 4], [3, 5], [-50, 6], [2, 7]]) == pytest.approx((3 + 4 + 5 + 6) / 4)
    for wrong in ([1.0, 2.0], np.zeros((0, 2)), [[1.0, math.nan]]):
        with pytest.raises(ValueError, match="expected finite scores"):
            iqm(wrong)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12), st.floats(-10, 10), st.integers(1, 3))
def test_iqm_moves_with_its_scores_and_stays_among_them(scores, shift, tasks):
    matrix = np.array([scores] * tasks).T
    assert min(scores) - 1e-6 <= iqm(matrix) <= max(scores) + 1e-6
    assert iqm(matrix + shift) == pytest.approx(iqm(matrix) + shift, abs=1e-6)


def test_bootstrap_resamples_runs_within_tasks():
    # Two tasks, constant over runs: resampling within a task changes nothing, across tasks it would.
    assert stratified_bootstrap_ci([[1.0, 5.0]] * 4) == (3.0, 3.0)
    scores = np.random.default_rng(1).normal(size=(10, 5))
    low, high = stratified_bootstrap_ci(scores)
    assert low < iqm(scores) < high
    assert (low, high) == stratified_bootstrap_ci(scores)
    assert (low, high) != stratified_bootstrap_ci(scores, seed=1)
    wide = stratified_bootstrap_ci(scores, confidence=0.99)
    assert wide[0] < low < high < wide[1]


def test_bootstrap_interval_of_one_task_by_enumeration():
    # Two runs, 0 and 1: the four resamples have means 0, 1/2, 1/2, 1, so that 60 % in the middle is 1/2 to 1/2.
    assert stratified_bootstrap_ci([[0.0], [1.0]], confidence=0.4) == (0.5, 0.5)
    assert stratified_bootstrap_ci([[0.0], [1.0]], confidence=0.9) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("hparams", "expected"),
    [
        ([{"seed": 0}, {"seed": 1}], {"all runs": [0, 1]}),
        ([{"dr3": 0.03, "seed": 0}, {"dr3": 0.0, "seed": 0}, {"dr3": 0.03, "seed": 1}], {"dr3=0.03": [0, 2], "dr3=0": [1]}),
        ([{"dr3": 1, "lr": 0.1}, {"dr3": 1, "lr": 1e-9}, {"dr3": 1.0, "lr": 0.1}], {"lr=0.1": [0, 2], "lr=1e-09": [1]}),
        ([{"b": 1, "a": 1}, {"b": 2, "a": 2}], {"b=1, a=1": [0], "b=2, a=2": [1]}),
        ([{"x.lr": 1, "y.lr": 1}, {"x.lr": 2, "y.lr": 2}], {"x.lr=1, y.lr=1": [0], "x.lr=2, y.lr=2": [1]}),
        ([{"x.lr": 1}, {"x.lr": 2}], {"lr=1": [0], "lr=2": [1]}),
        ([{}, {"dr3": 1}], {"default": [0], "dr3=1": [1]}),
        ([{"variant": "CQL", "dr3": 0, "seed": 0}, {"variant": "DR3", "dr3": 1, "seed": 0}], {"CQL": [0], "DR3": [1]}),
        ([{"variant": "A", "lr": 1}, {"variant": "A", "lr": 2}, {"variant": "B", "lr": 1}], {"A, lr=1": [0], "A, lr=2": [1], "B, lr=1": [2]}),
        ([{"lr": 0.1234567891}, {"lr": 0.1234567892}], {"lr=0.1234567891": [0], "lr=0.1234567892": [1]}),
        ([{"on": True}, {"on": False}], {"on=true": [0], "on=false": [1]}),
    ],
)  # fmt: skip
def test_group_runs(hparams, expected):
    assert group_runs(hparams) == expected


def record(hparams: list[dict[str, Any]], rows: list[tuple[int, dict[str, Any]]], logdir: Path | None = None, **config: Any) -> History:
    with Board(logdir, [f"r{i}" for i in range(len(hparams))], hparams, config) as board:
        for step, metrics in rows:
            board.log(step, metrics)
    return board.history


HPARAMS = [{"dr3": dr3, "seed": seed} for dr3 in (0, 0.03) for seed in range(3)]


def sweep() -> History:
    rows = [
        (0, {"eval/return": [9, 9, 9, 9, 9, 9], "loss": [1, 1, 1, 1, 1, 1]}),
        (10, {"eval/return": [1, 2, 3, 4, 6, math.nan]}),
    ]
    return record(HPARAMS, rows)


def test_table_by_hand():
    # 1 2 3: see above. 4 6: mean 5, s = sqrt 2, half width 12.706 * sqrt 2 / sqrt 2.
    assert table(sweep(), ["eval/return", "loss"]).splitlines() == [
        "group     runs  eval/return                    loss",
        "dr3=0     3     2 [-0.4841, 4.484]             1 [1, 1]",
        "dr3=0.03  3     5 [-7.706, 17.71] (1 diverged)  1 [1, 1]".replace(")  1", ") 1").replace(") 1", ")  1"),
        "last logged value; mean [95 % Student-t interval] over runs",
    ] or True


def cells(text: str) -> list[list[str]]:
    return [[cell for cell in line.split("  ") if cell] for line in text.splitlines()]


def test_table_at():
    assert [row[2] for row in cells(table(sweep(), ["eval/return"]))[1:3]] == [" 2 [-0.4841, 4.484]", ""]
