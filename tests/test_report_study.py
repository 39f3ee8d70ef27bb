"""Which runs a report has: their groups, tasks and labels, copies, and runs that diverged."""

import json
import shutil

import numpy as np
import pytest
from helpers.report import record

from rlop.report.labels import short_labels
from rlop.report.study import chosen_metrics, gather
from rlop.report.summaries import summarize, summary_of
from rlop.report.titles import metric, possible, titled
from rlop.types import InputError


def training(folder, seeds=(0, 1), values=None, steps=(0, 10), hparams=None, **config):
    """A record whose return is the seed, or these values at the last step."""
    settings = [{**(hparams or {}), "seed": seed} for seed in seeds]
    last = values or list(seeds)
    rows = [
        (step, {"eval/return": np.array(last) * (step + 1) / (steps[-1] + 1)}) for step in steps
    ]
    return record(settings, rows, folder, steps=steps[-1], **{"data": "gridworld", **config})


# ---- labels


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([{}, {}], ["all runs", "all runs"]),
        ([{"agent": "A"}, {"agent": "B"}], ["A", "B"]),
        # One setting tells all groups apart; the other is left to the table of settings.
        ([{"agent": "A", "lr": "1"}, {"agent": "B", "lr": "2"}], ["A", "B"]),
        # What most groups share needs no mention.
        (
            [{"agent": "A", "lr": "1"}, {"agent": "A", "lr": "2"}, {"agent": "B", "lr": "1"}],
            ["A", "A, lr=2", "B"],
        ),
        ([{"variant": "A"}, {"agent": "B"}], ["A", "B"]),
        ([{"variant": "A"}, {"agent": "A"}], ["A", "A (2)"]),
    ],
)
def test_labels_name_as_few_settings_as_tell_groups_apart(settings, expected):
    assert short_labels(settings) == expected


# ---- groups and tasks


def test_groups_and_tasks_of_a_mixed_folder(tmp_path):
    for task in ("gridworld?size=4", "gridworld?size=5"):
        for agent in ("DQN", "BC"):
            training(tmp_path / f"{agent}{task[-1]}", agent=agent, data=task)
    study = gather([tmp_path])
    assert study.tasks == ["gridworld?size=4", "gridworld?size=5"]
    assert {label: len(runs) for label, runs in study.groups.items()} == {"BC": 4, "DQN": 4}
    assert len(study.of_task("BC", "gridworld?size=5")) == 2
    assert next(iter(study.rows)) == "BC on gridworld?size=4"
    assert study.name_of(0) == "BC, seed 0"

    by_data = gather([tmp_path], by=["data"])
    assert list(by_data.groups) == ["data=gridworld?size=4", "data=gridworld?size=5"]
    assert by_data.tasks == ["all data"]
    assert list(gather([tmp_path], by=["agent"]).groups) == ["BC", "DQN"]
    with pytest.raises(InputError, match="--by agnet: no run has this setting, did you mean 'agen"):
        gather([tmp_path], by=["agnet"])


def test_an_environment_that_is_a_setting_of_a_run_is_a_task(tmp_path):
    for name, env in (("a", "X-v0"), ("b", "Y-v0")):
        settings = [{"lr": 1, "data": "d", "env": env, "seed": seed} for seed in (0, 1)]
        record(settings, [(0, {"eval/return": [1, 2]})], tmp_path / name)
    study = gather([tmp_path])
    assert study.tasks == ["X-v0", "Y-v0"]
    assert list(study.groups) == ["all runs"]


def test_settings_that_groups_were_not_made_by_are_pooled(tmp_path):
    training(tmp_path / "a", lr=1, agent="DQN")
    training(tmp_path / "b", lr=2, agent="DQN")
    assert {label: len(runs) for label, runs in gather([tmp_path]).groups.items()} == {
        "lr=1": 2,
        "lr=2": 2,
    }
    assert [len(runs) for runs in gather([tmp_path], by=["agent"]).groups.values()] == [4]


# ---- copies


def test_a_folder_named_twice_is_read_once(tmp_path):
    training(tmp_path / "a")
    study = gather([tmp_path, tmp_path / "a", tmp_path / "a"])
    assert study.counted == [0, 1]
    assert study.notes == []


def test_a_copied_training_counts_once_and_the_report_says_so(tmp_path):
    training(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    study = gather([tmp_path])
    assert study.counted == [0, 1]
    (note,) = study.notes
    first, second = tmp_path / "a", tmp_path / "b"
    assert note == f"seed 0, 1: in {first} and in {second}, counted once, from {first}"


def test_a_copy_that_went_on_counts_instead_of_its_beginning(tmp_path):
    for name, steps in (("a", (0, 10)), ("b", (0, 10, 20))):
        rows = [(step, {"eval/return": [step / 7, step / 9]}) for step in steps]
        seeds = [{"seed": 0}, {"seed": 1}]
        record(seeds, rows, tmp_path / name, steps=steps[-1], data="gridworld")
    study = gather([tmp_path])
    assert study.counted == [2, 3]
    assert list(study.groups) == ["all runs"]
    assert study.notes[0].endswith(f"from {tmp_path / 'b'}")


def test_a_longer_training_of_other_values_is_no_copy(tmp_path):
    training(tmp_path / "a", seeds=(1, 2), steps=(0, 10))
    training(tmp_path / "b", seeds=(1, 2), steps=(0, 10, 20))
    assert gather([tmp_path]).counted == [0, 1, 2, 3]


# ---- diverged runs


def test_diverged_runs_are_counted_and_count_as_the_worst(tmp_path):
    rows = [
        (0, {"eval/return": [1, 1, 1, 1], "rank/srank": [9, 9, 9, 9], "run/active": [1] * 4}),
        (5, {"eval/return": [2, 3, 4, 8], "rank/srank": [5, 6, 7, 8], "run/active": [1, 1, 1, 0]}),
    ]
    record([{"seed": seed} for seed in range(4)], rows, tmp_path, data="gridworld")
    study = gather([tmp_path])
    assert [run.diverged for run in study.runs] == [False, False, False, True]
    assert study.numbers("eval/return")[3] == -np.inf

    score = summarize(study, "eval/return", "all runs", study.tasks[0])
    assert score.iqm == 2.5  # the middle of -inf 2 3 4
    assert score.text == "2.5 (1 of 4 diverged)"
    # No direction of a rank is the worse one: the statistic is of three runs, and says so.
    rank = summarize(study, "rank/srank", "all runs", study.tasks[0])
    assert rank.iqm == 6
    assert rank.text.endswith("(1 of 4 diverged)")
    assert summary_of([-np.inf] * 3).text == "3 of 3 diverged"


# ---- words


def test_titles_say_what_a_metric_is_and_can_be():
    assert titled("eval/return") == "Return (reward per episode, higher is better)"
    assert metric("rank/srank").better == ""
    assert metric("reg/max_norm").title == "Penalty max norm"
    assert metric("my/own").title == "my/own"
    assert possible("units/dormant", ["x"]) == (0, 1)
    assert possible("eval/return", ["gridworld?size=4"]) == (0, 1)
    assert possible("eval/return", ["gridworld?step_reward=-1"]) == (-np.inf, np.inf)
    assert possible("eval/return", ["gridworld", "CartPole-v1"]) == (0, 500)
    assert possible("eval/return", ["Hopper-v4"]) == (-np.inf, np.inf)


def test_a_band_stays_within_what_the_metric_can_be(tmp_path):
    training(tmp_path, seeds=(0, 1, 2), values=[0.9, 1.0, 0.99])
    study = gather([tmp_path])
    summary = summarize(study, "eval/return", "all runs", study.tasks[0])
    assert summary.high == 1.0


def test_the_metrics_to_show(tmp_path):
    training(tmp_path)
    study = gather([tmp_path])
    assert chosen_metrics(study, None) == ["eval/return"]
    with pytest.raises(InputError, match="metric 'eval/retur' was never logged, did you mean"):
        chosen_metrics(study, ["eval/retur"])


def test_records_without_values_are_left_out_and_named(tmp_path):
    training(tmp_path / "a")
    record([{"seed": 0}], [], tmp_path / "b", data="gridworld")
    study = gather([tmp_path])
    assert study.notes == [f"{tmp_path / 'b'}: nothing is logged yet, left out"]


def test_names_that_no_page_can_hold_are_replaced(tmp_path):
    training(tmp_path, seeds=(0, 1))
    file = tmp_path / "runs.json"
    runs = json.loads(file.read_text())
    runs["hparams"] = [{"variant": "a\ud800", "seed": 0}, {"variant": "b\x00\n", "seed": 0}]
    file.write_text(json.dumps(runs))
    assert list(gather([tmp_path]).groups) == ["a\ufffd", "b\ufffd "]
