"""Groups of runs, and the tables made of them."""

import math

import numpy as np
import pytest
from helpers.report import record, two_settings

from rlop.cli import main
from rlop.report.groups import all_hparams, curves, group_runs, load
from rlop.report.tables import report, table
from rlop.types import InputError


@pytest.mark.parametrize(
    ("hparams", "expected"),
    [
        (
            [{"seed": 0}, {"seed": 1}],
            {"all runs": [0, 1]},
        ),
        (
            [{"a": 0.03, "seed": 0}, {"a": 0.0, "seed": 0}, {"a": 0.03, "seed": 1}],
            {"a=0.03": [0, 2], "a=0": [1]},
        ),
        (
            [{"dr3": 1, "lr": 0.1}, {"dr3": 1, "lr": 1e-9}, {"dr3": 1.0, "lr": 0.1}],
            {"lr=0.1": [0, 2], "lr=1e-09": [1]},
        ),
        (
            [{"b": 1, "a": 1}, {"b": 2, "a": 2}],
            {"b=1, a=1": [0], "b=2, a=2": [1]},
        ),
        (
            [{"x.lr": 1, "y.lr": 1}, {"x.lr": 2, "y.lr": 2}],
            {"x.lr=1, y.lr=1": [0], "x.lr=2, y.lr=2": [1]},
        ),
        (
            [{"x.lr": 1}, {"x.lr": 2}],
            {"lr=1": [0], "lr=2": [1]},
        ),
        (
            [{}, {"dr3": 1}],
            {"default": [0], "dr3=1": [1]},
        ),
        (
            [{"variant": "CQL", "dr3": 0, "seed": 0}, {"variant": "DR3", "dr3": 1, "seed": 0}],
            {"CQL": [0], "DR3": [1]},
        ),
        (
            [{"variant": "U", "a": 1}, {"variant": "U", "a": 2}, {"variant": "V"}],
            {"U, a=1": [0], "U, a=2": [1], "V": [2]},
        ),
        (
            [{"lr": 0.1234567891}, {"lr": 0.1234567892}],
            {"lr=0.1234567891": [0], "lr=0.1234567892": [1]},
        ),
        (
            [{"on": True}, {"on": False}],
            {"on=true": [0], "on=false": [1]},
        ),
    ],
)
def test_runs_are_grouped_by_what_differs(hparams, expected):
    assert group_runs(hparams) == expected


def test_a_frozen_run_counts_as_diverged_though_its_numbers_are_finite():
    rows = []
    for step in (0, 10, 20, 30):
        rows.append((step, {"a": [1, 2], "run/active": [1, step < 20]}))
    history = record([{"seed": 0}, {"seed": 1}], rows)

    calm, frozen = curves([history], "a")
    np.testing.assert_array_equal(calm[1], [1, 1, 1, 1])
    np.testing.assert_array_equal(frozen[1], [2, 2, np.nan, np.nan])
    active = curves([history], "run/active")[1]
    np.testing.assert_array_equal(active[1], [1, 1, 0, 0])
    assert "1 (1 diverged)" in table(history, ["a"])
    # The record itself is left alone.
    np.testing.assert_array_equal(history.get("a")[1][:, 1], [2, 2, 2, 2])


def test_several_logdirs_are_put_together_by_their_configuration(tmp_path):
    rows = [(0, {"a": [1.0, 2.0]})]
    other_rows = [(0, {"b": [1.0, 2.0]})]
    hparams = [{"dr3": 0, "seed": 0}, {"dr3": 1, "seed": 0}]
    agent = {"dr3": [0, 1], "lr": 1}
    # The second differs in the seed, in the order of its list and in a key of the bookkeeping.
    reordered = {"dr3": [1, 0], "lr": 1}
    first, second = tmp_path / "x" / "1", tmp_path / "x" / "2"
    record(hparams, rows, first, data="hopper", agent=agent, seeds=[0])
    record(hparams, rows, second, data="hopper", agent=reordered, seeds=[1], log_every=5)
    record(hparams, other_rows, tmp_path / "y", data="walker", agent=agent, seeds=[0])

    assert group_runs(all_hparams(load(tmp_path))) == {
        "dr3=0, data=hopper": [0, 2],
        "dr3=1, data=hopper": [1, 3],
        "dr3=0, data=walker": [4],
        "dr3=1, data=walker": [5],
    }
    lines = [line.split() for line in table(load(tmp_path), ["a", "b"]).splitlines()]
    assert lines[1] == ["dr3=0,", "data=hopper", "2", "1", "±", "0", "-"]
    assert lines[4] == ["dr3=1,", "data=walker", "1", "-", "2"]
    assert group_runs(all_hparams(load(first))) == {"dr3=0": [0], "dr3=1": [1]}


# ---- tables


def test_a_table_by_hand():
    # 1 2 3: s = 1, half width 4.303 / sqrt 3. 4 6: s = sqrt 2, half width 12.706.
    assert table(two_settings(), ["eval/return", "loss"]).splitlines() == [
        "group     runs  eval/return          loss",
        "dr3=0     3     2 ± 2.5              1 ± 0",
        "dr3=0.03  3     5 ± 13 (1 diverged)  1 ± 0",
        "last logged value; mean ± 95 % Student-t interval over runs",
    ]


@pytest.mark.parametrize(
    ("at", "cell", "caption"),
    [
        # Averages over training 6.5 and 7.5: s = sqrt 2 / 2, half width 12.706 / 2.
        ("mean", "7 ± 6.4 (1 diverged)", "average over training; mean"),
        ("best", "9 ± 0 (1 diverged)", "maximum over training; mean"),
    ],
)
def test_a_table_of_another_number_of_the_curve(at, cell, caption):
    lines = table(two_settings(), ["eval/return"], at).splitlines()
    assert lines[2] == f"dr3=0.03  3     {cell}"
    assert lines[3].startswith(caption)


def test_a_table_of_interquartile_means_names_its_interval():
    # Of four runs the middle two count; an outlier moves the mean alone.
    hparams = [{"lr": 1, "seed": seed} for seed in range(4)] + [{"lr": 2, "seed": 0}]
    history = record(hparams, [(0, {"a": [1.0, 2.0, 4.0, 1000.0, 7.0]})])
    lines = table(history, ["a"], statistic="iqm").splitlines()
    assert lines[1].split(maxsplit=2)[:2] == ["lr=1", "4"]
    assert lines[1].split(maxsplit=2)[2].startswith("3 [1")
    assert lines[2].split() == ["lr=2", "1", "7"]
    caption = "interquartile mean [95 % stratified bootstrap interval] over runs"
    assert lines[3] == f"last logged value; {caption}"


def test_a_single_run_has_no_interval_and_a_diverged_one_no_value():
    history = record([{"lr": 1}, {"lr": 2}], [(0, {"a": [0.5, math.inf]})])
    for statistic in ("mean", "iqm"):
        lines = table(history, ["a"], statistic=statistic).splitlines()
        assert lines[1].split(maxsplit=2)[2] == "0.5"
        assert lines[2].split(maxsplit=2)[2] == "all 1 diverged"


@pytest.mark.parametrize(
    ("metric", "options", "message"),
    [
        ("loss", {"at": "finl"}, r"at = 'finl': unknown, did you mean 'final'\?"),
        ("loss", {"statistic": "median"}, "statistic = 'median': unknown, did you mean 'mean'"),
        ("los", {}, r"metric 'los' was never logged, did you mean 'loss'\?"),
    ],
)
def test_unknown_names_are_refused(metric, options, message):
    with pytest.raises(InputError, match=message):
        table(two_settings(), [metric], **options)


# ---- reports


def test_a_report_of_one_logdir_and_of_several(tmp_path):
    rows = [(step, {"loss/td": [1.0, 3.0], "own": [step, step]}) for step in (0, 50)]
    folder = tmp_path / "a"
    record([{"seed": 0}, {"seed": 1}], rows, folder, lr=1)
    lines = report(folder).splitlines()
    assert lines[0] == f"{folder}: 2 runs, up to step 50"
    assert lines[2:4] == ["group     runs  loss/td", "all runs  2     2 ± 13"]
    assert report(folder, ["own"], at="mean").splitlines()[3] == "all runs  2     25 ± 0"

    record([{"seed": 0}], [(70, {"own": [5.0]})], tmp_path / "b", lr=2)
    heading = f"{tmp_path}: 3 runs of 2 trainings, up to step 70\n"
    assert report(tmp_path).startswith(heading)


def test_the_command_line_takes_the_statistic(tmp_path, capsys):
    hparams = [{"seed": seed} for seed in range(4)]
    record(hparams, [(0, {"eval/return": [1.0, 2.0, 4.0, 1000.0]})], tmp_path)
    assert main(["report", str(tmp_path), "--statistic", "iqm"]) == 0
    shown = capsys.readouterr().out
    assert "all runs  4     3 [1" in shown
    assert "bootstrap" in shown


def test_a_report_takes_the_first_metrics_when_nothing_usual_was_logged(tmp_path):
    record([{"seed": 0}], [(0, {name: [1.0] for name in "abcdef"})], tmp_path)
    header = report(tmp_path).splitlines()[2]
    assert header.split() == ["group", "runs", "a", "b", "c", "d"]


def test_a_report_of_stability_shows_all_four_numbers(tmp_path):
    rows = [
        (0, {"eval/return": [0.0, 2.0], "loss/td": [1.0, 1.0]}),
        (1, {"eval/return": [8.0, 8.0], "loss/td": [1.0, 1.0]}),
        (2, {"eval/return": [4.0, 6.0], "loss/td": [1.0, 1.0]}),
    ]
    record([{"seed": 0}, {"seed": 1}], rows, tmp_path)
    header, row, caption = report(tmp_path, at="stability").splitlines()[2:5]
    kinds = ["final", "mean", "best", "unlearning"]
    assert header.split()[2::2] == ["eval/return"] * 4
    assert header.split()[3::2] == kinds
    # Averages (0 + 8 + 4) / 3 = 4 and 5.33: mean 4.67, t = 12.706, s / sqrt(2) = 0.667.
    assert " ".join(row.split()) == "all runs 2 5 ± 13 4.67 ± 8.5 8 ± 0 3 ± 13"
    assert caption.startswith("stability; mean ±")

    alone = report(tmp_path, ["eval/return"], at="unlearning").splitlines()[3]
    assert " ".join(alone.split()) == "all runs 2 3 ± 13"


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"found no metrics.jsonl in it or below"):
        report(tmp_path)
    record([{}], [], tmp_path)
    with pytest.raises(InputError, match="found a record without a single value"):
        report(tmp_path)
