from __future__ import annotations

import builtins
import math
import statistics
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlop.logs.logger import Logger, History
from rlop.report.figures import band
from rlop.report.groups import curves, group_runs, load
from rlop.report.statistics import iqm, mean_ci, stability, stratified_bootstrap_ci, student_t
from rlop.report.tables import figure, report, table
from rlop.types import InputError

needs_matplotlib = pytest.mark.skipif(
    find_spec("matplotlib") is None, reason="needs the extra 'report'"
)


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
    assert student_t(0.95, 100_000) == pytest.approx(
        statistics.NormalDist().inv_cdf(0.975), rel=1e-4
    )
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


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12), st.floats(-10, 10), st.integers(1, 3)
)
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
        ([{"a": 0.03, "seed": 0}, {"a": 0.0, "seed": 0}, {"a": 0.03, "seed": 1}], {"a=0.03": [0, 2], "a=0": [1]}),
        ([{"dr3": 1, "lr": 0.1}, {"dr3": 1, "lr": 1e-9}, {"dr3": 1.0, "lr": 0.1}], {"lr=0.1": [0, 2], "lr=1e-09": [1]}),
        ([{"b": 1, "a": 1}, {"b": 2, "a": 2}], {"b=1, a=1": [0], "b=2, a=2": [1]}),
        ([{"x.lr": 1, "y.lr": 1}, {"x.lr": 2, "y.lr": 2}], {"x.lr=1, y.lr=1": [0], "x.lr=2, y.lr=2": [1]}),
        ([{"x.lr": 1}, {"x.lr": 2}], {"lr=1": [0], "lr=2": [1]}),
        ([{}, {"dr3": 1}], {"default": [0], "dr3=1": [1]}),
        ([{"variant": "CQL", "dr3": 0, "seed": 0}, {"variant": "DR3", "dr3": 1, "seed": 0}], {"CQL": [0], "DR3": [1]}),
        ([{"variant": "U", "a": i} for i in (1, 2)] + [{"variant": "V"}], {"U, a=1": [0], "U, a=2": [1], "V": [2]}),
        ([{"lr": 0.1234567891}, {"lr": 0.1234567892}], {"lr=0.1234567891": [0], "lr=0.1234567892": [1]}),
        ([{"on": True}, {"on": False}], {"on=true": [0], "on=false": [1]}),
    ],
)  # fmt: skip
def test_group_runs(hparams, expected):
    assert group_runs(hparams) == expected


def record(
    hparams: list[dict[str, Any]],
    rows: list[tuple[int, dict[str, Any]]],
    logdir: Path | None = None,
    **config: Any,
) -> History:
    with Logger(logdir, [f"r{i}" for i in range(len(hparams))], hparams, config) as board:
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
    # 1 2 3: s = 1, half width 4.303 / sqrt 3. 4 6: s = sqrt 2, half width 12.706 * sqrt 2 / sqrt 2.
    assert table(sweep(), ["eval/return", "loss"]).splitlines() == [
        "group     runs  eval/return          loss",
        "dr3=0     3     2 ± 2.5              1 ± 0",
        "dr3=0.03  3     5 ± 13 (1 diverged)  1 ± 0",
        "last logged value; mean ± 95 % Student-t interval over runs",
    ]


@pytest.mark.parametrize(
    ("at", "cell", "note"),
    [
        # Averages over training 6.5 and 7.5: s = sqrt 2 / 2, half width 12.706 / 2.
        ("mean", "7 ± 6.4 (1 diverged)", "average over training; mean"),
        ("best", "9 ± 0 (1 diverged)", "maximum over training; mean"),
    ],
)
def test_table_at(at, cell, note):
    lines = table(sweep(), ["eval/return"], at).splitlines()
    assert lines[2] == f"dr3=0.03  3     {cell}"
    assert lines[3].startswith(note)


def test_table_of_one_run_and_of_none_that_went_through():
    found = record([{"lr": 1}, {"lr": 2}], [(0, {"a": [0.5, math.inf]})])
    assert [line.split(maxsplit=2)[2] for line in table(found, ["a"]).splitlines()[1:3]] == [
        "0.5",
        "all 1 diverged",
    ]


def test_table_errors():
    with pytest.raises(InputError, match=r"at = 'finl': unknown, did you mean 'final'\?"):
        table(sweep(), ["loss"], "finl")
    with pytest.raises(InputError, match=r"metric 'los' was never logged, did you mean 'loss'\?"):
        table(sweep(), ["los"])


def test_a_frozen_run_counts_as_diverged_though_its_numbers_are_finite():
    rows = [(step, {"a": [1, 2], "run/active": [1, step < 20]}) for step in (0, 10, 20, 30)]
    found = record([{"seed": 0}, {"seed": 1}], rows)
    np.testing.assert_array_equal(curves([found], "a")[1][1], [2, 2, np.nan, np.nan])
    np.testing.assert_array_equal(curves([found], "a")[0][1], [1, 1, 1, 1])
    np.testing.assert_array_equal(curves([found], "run/active")[1][1], [1, 1, 0, 0])
    assert "1 (1 diverged)" in table(found, ["a"])
    np.testing.assert_array_equal(
        found.get("a")[1][:, 1], [2, 2, 2, 2]
    )  # the record itself is left alone


def test_several_logdirs_are_put_together_by_their_configuration(tmp_path):
    rows = [(0, {"a": [1.0, 2.0]})]
    two = [{"dr3": 0, "seed": 0}, {"dr3": 1, "seed": 0}]
    record(
        two, rows, tmp_path / "x" / "1", data="hopper", agent={"dr3": [0, 1], "lr": 1}, seeds=[0]
    )
    record(
        two,
        rows,
        tmp_path / "x" / "2",
        data="hopper",
        agent={"dr3": [1, 0], "lr": 1},
        seeds=[1],
        log_every=5,
    )
    record(
        two,
        [(0, {"b": [1.0, 2.0]})],
        tmp_path / "y",
        data="walker",
        agent={"dr3": [0, 1], "lr": 1},
        seeds=[0],
    )
    groups = group_runs([values for history in load(tmp_path) for values in history.hparams])
    assert groups == {
        "dr3=0, data=hopper": [0, 2],
        "dr3=1, data=hopper": [1, 3],
        "dr3=0, data=walker": [4],
        "dr3=1, data=walker": [5],
    }
    lines = [line.split() for line in table(load(tmp_path), ["a", "b"]).splitlines()]
    assert lines[1] == ["dr3=0,", "data=hopper", "2", "1", "±", "0", "-"]
    assert lines[4] == ["dr3=1,", "data=walker", "1", "-", "2"]
    assert group_runs(load(tmp_path / "x" / "1")[0].hparams) == {"dr3=0": [0], "dr3=1": [1]}


def test_report(tmp_path):
    rows = [(step, {"loss/td": [1.0, 3.0], "own": [step, step]}) for step in (0, 50)]
    record([{"seed": 0}, {"seed": 1}], rows, tmp_path / "a", lr=1)
    text = report(tmp_path / "a")
    assert text.startswith(
        f"{tmp_path / 'a'}: 2 runs, up to step 50\n\ngroup     runs  loss/td\nall runs  2     2 ± 13"
    )
    assert report(tmp_path / "a", ["own"], at="mean").splitlines()[3] == "all runs  2     25 ± 0"
    record([{"seed": 0}], [(70, {"own": [5.0]})], tmp_path / "b", lr=2)
    assert report(tmp_path).startswith(f"{tmp_path}: 3 runs of 2 trainings, up to step 70\n")


@needs_matplotlib
def test_report_with_a_picture(tmp_path):
    record([{"seed": 0}, {"seed": 1}], [(step, {"a": [1.0, 3.0]}) for step in (0, 50)], tmp_path)
    text = report(tmp_path, png=tmp_path / "curves.png")
    assert text.endswith(f"\npicture: {tmp_path / 'curves.png'}")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_report_takes_what_there_is_when_nothing_usual_was_logged(tmp_path):
    record([{"seed": 0}], [(0, {name: [1.0] for name in "abcdef"})], tmp_path)
    assert report(tmp_path).splitlines()[2].split() == ["group", "runs", "a", "b", "c", "d"]


def test_report_errors(tmp_path):
    with pytest.raises(InputError, match=r"found no metrics.jsonl in it or below"):
        report(tmp_path)
    Logger(tmp_path, ["a"], [{}]).close()
    with pytest.raises(InputError, match="found a record without a single value"):
        report(tmp_path)


def test_band_by_hand():
    a = (np.array([0, 10]), np.array([1.0, 4.0]))
    b = (np.array([0, 20]), np.array([3.0, 8.0]))
    c = (np.array([0, 20]), np.array([math.nan, math.nan]))
    steps, mean, half = band([a, b, c])
    assert steps.tolist() == [0, 10, 20]
    assert mean.tolist() == [2, 4, 8]
    assert half[0] == pytest.approx(12.7062047)  # s = sqrt 2 over sqrt 2
    assert np.isnan(half[1:]).all()
    assert np.isnan(band([c])[1]).all()


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=2, max_size=6))
def test_band_is_the_interval_of_the_table(values):
    _, mean, half = band([(np.arange(3), np.array(run)) for run in values])
    for t in range(3):
        expected = mean_ci([run[t] for run in values])
        assert (mean[t], mean[t] - half[t], mean[t] + half[t]) == pytest.approx(expected, abs=1e-9)


def size(png: Path) -> tuple[int, int]:
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(data) > 10_000
    return struct.unpack(">II", data[16:24])


def curves_of(groups: int) -> History:
    hparams = [{"dr3": i, "seed": seed} for i in range(groups) for seed in range(2)]
    ones = np.arange(1, len(hparams) + 1)
    rows = []
    for step in range(0, 4_000_000, 1_000_000):
        grown = ones * 10.0 ** (step / 5e5)
        rows.append((step, {"wide": grown, "signed": grown - 2 * ones, "flat": ones, "one": ones}))
    rows[1][1]["flat"] = np.where(ones == 2, math.nan, ones)
    return record(hparams, rows)


@needs_matplotlib
@pytest.mark.parametrize(
    ("names", "panels"),
    [
        (["wide"], (1, 1)),
        (["wide", "flat", "signed"], (3, 1)),
        (["wide", "flat", "signed", "one"], (2, 2)),
    ],
)
def test_figure(tmp_path, names, panels):
    path = figure(curves_of(3), names, tmp_path / "a.png")
    width, height = size(path)
    assert width == 555 * panels[0]
    assert 390 * panels[1] < height < 390 * panels[1] + 200
    assert list(tmp_path.iterdir()) == [path]


@needs_matplotlib
def test_the_same_curves_give_the_same_bytes(tmp_path):
    a, b = (
        figure(sweep(), ["loss"], tmp_path / "a.png"),
        figure([sweep()], ["loss"], tmp_path / "b.png"),
    )
    assert a.read_bytes() == b.read_bytes()


@needs_matplotlib
def test_figure_of_many_groups_and_of_a_single_point(tmp_path):
    size(figure(curves_of(16), ["flat"], tmp_path / "a.png"))
    size(figure(record([{"seed": 0}], [(0, {"a": [1.0]})]), ["a"], tmp_path / "b.png"))


@needs_matplotlib
def test_scales(monkeypatch, tmp_path):
    seen = {}
    import rlop.report.figures

    panel = rlop.report.figures._panel

    def noted(axis: Any, name: str, *rest: Any) -> None:
        panel(axis, name, *rest)
        seen[name] = axis.get_yscale()

    monkeypatch.setattr(rlop.report.figures, "_panel", noted)
    figure(curves_of(1), ["wide", "signed", "flat"], tmp_path / "a.png")
    assert seen == {"wide": "log", "signed": "symlog", "flat": "linear"}


@needs_matplotlib
def test_figure_errors(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="never logged"):
        figure(sweep(), ["nothing"], tmp_path / "a.png")
    with pytest.raises(InputError, match="expected at least one name"):
        figure(sweep(), [], tmp_path / "a.png")
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'rlop\[report\]'"):
        figure(sweep(), ["loss"], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_stability_by_hand():
    found = stability([[1.0, 4.0], [5.0, 3.0], [3.0, 4.0], [3.0, 5.0]])
    assert {name: values.tolist() for name, values in found.items()} == {
        "average": [3.0, 4.0],
        "final": [3.0, 5.0],
        "peak": [5.0, 5.0],
        "unlearning": [2.0, 0.0],
    }
    assert stability([1, 5, 3, 4], last=2)["final"] == 3.5
    assert stability([1, 5, 3, 4], last=2)["unlearning"] == 1.5
    assert math.isnan(stability([1, math.nan, 3])["unlearning"])
    for curve, last in (([], 1), ([1, 2], 3), ([1, 2], 0), (np.zeros((2, 2, 2)), 1)):
        with pytest.raises(ValueError, match=r"curve \[T\] or \[T, R\]"):
            stability(curve, last)


def test_a_report_of_stability_shows_all_four(tmp_path):
    with Logger(tmp_path, ["s0", "s1"], [{"seed": 0}, {"seed": 1}]) as board:
        for step, values in enumerate(([0.0, 2.0], [8.0, 8.0], [4.0, 6.0])):
            board.log(step, {"eval/return": np.array(values), "loss/td": np.ones(2)})
    head, row, said = report(tmp_path, at="stability").splitlines()[2:5]
    assert head.split()[2:] == [
        word for kind in ("final", "mean", "best", "unlearning") for word in ("eval/return", kind)
    ]
    mean, best = (
        "4.67 ± 8.5",
        "8 ± 0",
    )  # (0 + 8 + 4) / 3 = 4 and (2 + 8 + 6) / 3 = 5.33; t = 12.706, s / sqrt(2) = 0.667
    assert " ".join(row.split()) == f"all runs 2 5 ± 13 {mean} {best} 3 ± 13"
    assert said.startswith("stability; mean ±")
    alone = report(tmp_path, ["eval/return"], at="unlearning").splitlines()[3]
    assert " ".join(alone.split()) == "all runs 2 3 ± 13"
