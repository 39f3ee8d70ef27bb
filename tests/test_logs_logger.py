"""The logger: event files for TensorBoard, and the plain record."""

import json
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.forks import Fork
from helpers.logs import (
    FOLDERS,
    HPARAMS,
    events,
    logger,
    points,
    record_lines,
    session_start,
    session_status,
)

from rlop.logs.history import read_metrics
from rlop.logs.logger import Logger, Mark, safe_labels
from rlop.types import InputError


def test_every_run_has_a_folder_with_one_curve_per_metric(tmp_path):
    with logger(tmp_path) as log:
        log.log(0, {"loss/td": [1.0, 2.0], "rank/srank": np.array([3, 4])})
        log.log(10, {"loss/td": [0.5, math.nan]})

    first, second = (tmp_path / folder for folder in FOLDERS)
    assert points(first, "loss/td") == [(0, 1.0), (10, 0.5)]
    assert points(first, "rank/srank") == [(0, 3.0)]
    assert points(second, "loss/td")[0] == (0, 2.0)
    assert math.isnan(points(second, "loss/td")[1][1])
    assert sorted(events(second).Tags()["scalars"]) == ["loss/td", "rank/srank"]


def test_the_hyper_parameter_tab_has_a_row_per_run(tmp_path):
    hparams = [{**HPARAMS[0], "name": "x"}, {**HPARAMS[1], "name": [1, 2]}]
    log = Logger(tmp_path, ["a", "b"], hparams)
    log.log(7, {"eval/return": [1.0, 2.0]})
    row = session_start(tmp_path / "b").hparams
    assert row["dr3"].number_value == 0.03
    assert row["double"].bool_value is True
    assert row["name"].string_value == "[1, 2]"

    log.close({"eval/return": [1.0, 2.0]})
    log.close({"eval/return": [5.0, 5.0]})  # too late
    assert points(tmp_path / "b", "final/eval/return") == [(7, 2.0)]
    assert [session_status(tmp_path / label) for label in "ab"] == [1, 1]


def test_an_exception_is_a_failed_session(tmp_path):
    with pytest.raises(KeyboardInterrupt), logger(tmp_path):
        raise KeyboardInterrupt
    assert session_status(tmp_path / FOLDERS[0]) == 2


def test_the_record_is_plain_json(tmp_path):
    config = {"agent": {"hidden": (64, 64)}, "file": Path("x")}
    with logger(tmp_path, config=config) as log:
        log.log(3, {"a": np.float32([0.5, math.inf])})

    # `parse_constant` is called for NaN and infinity, which JSON does not have.
    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert line["step"] == 3
    assert line["metrics"] == {"a": [0.5, None]}
    assert 0 <= line["time"] < 60
    assert json.loads((tmp_path / "runs.json").read_text()) == {
        "labels": FOLDERS,
        "hparams": HPARAMS,
        "config": {"agent": {"hidden": [64, 64]}, "file": "x"},
    }


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_history_is_what_was_logged(tmp_path, on_disk):
    log = logger(tmp_path if on_disk else None, config={"x": 1})
    log.log(0, {"a": [1, 2]})
    log.log(0, {"b": [5, 6]})
    log.log(10, {"a": [3, math.nan]})

    history = log.history
    steps, values = history.get("a")
    assert history.steps.tolist() == [0, 10]
    assert steps.tolist() == [0, 10]
    np.testing.assert_array_equal(values, [[1, 2], [3, np.nan]])
    assert history.get("b")[0].tolist() == [0]
    assert (history.labels, history.hparams) == (log.labels, HPARAMS)
    assert history.config == {"x": 1}
    with pytest.raises(InputError, match="metric 'rank/srnk' was never logged; one of a, b"):
        history.get("rank/srnk")

    log.close()
    assert log.history.steps.tolist() == [0, 10]
    assert on_disk == any(tmp_path.iterdir())


def test_a_history_may_be_empty(tmp_path):
    with logger(tmp_path) as log:
        assert log.history.steps.shape == (0,)
        assert log.history.metrics == {}


def test_wrong_shapes_and_a_closed_logger_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"one dict of hparams per run, got 1 labels, 2 dicts"):
        Logger(tmp_path, ["a"], HPARAMS)
    log = logger(tmp_path)
    for values, shape in (([1, 2, 3], r"\[3\]"), (1.0, r"\[\]")):
        with pytest.raises(
            ValueError, match=rf"a: expected one number per run, \[2\], got {shape}"
        ):
            log.log(0, {"a": values})
    log.close()
    with pytest.raises(ValueError, match="closed"):
        log.log(0, {})


def test_a_record_is_never_overwritten(tmp_path):
    with logger(tmp_path) as log:
        log.log(0, {"a": [1, 2]})
    before = (tmp_path / "metrics.jsonl").read_bytes()

    refused = r"already holds a record .*expected another logdir, or resume"
    with pytest.raises(InputError, match=refused):
        logger(tmp_path)
    refused = r"found the runs dr3=0_seed=0, dr3=0.03_seed=0, expected a, b, c and 1 more"
    with pytest.raises(InputError, match=refused):
        Logger(tmp_path, list("abcd"), [{}] * 4, resume=Mark(0, {}))
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        logger(tmp_path / "file")


# ---- resume


def test_a_resumed_record_and_its_curves_go_on_where_the_checkpoint_was(tmp_path):
    with logger(tmp_path) as log:
        for step in (0, 10):
            log.log(step, {"a": [step, step], "late": [step, step]})
        mark = log.mark()
        log.log(20, {"a": [20, 20], "late": [20, 20]})
    with logger(tmp_path, resume=mark) as log:
        log.log(15, {"a": [1, 1]})
        log.log(30, {"a": [2, 2]})

    history = read_metrics(tmp_path)
    assert history.get("a")[0].tolist() == [0, 10, 15, 30]
    assert history.get("late")[0].tolist() == [0, 10]
    assert [line["step"] for line in record_lines(tmp_path)] == [0, 10, 15, 30]
    drawn = points(tmp_path / FOLDERS[0], "a")
    assert drawn == [(0, 0.0), (10, 10.0), (15, 1.0), (30, 2.0)]
    assert session_status(tmp_path / FOLDERS[0]) == 1


def test_a_second_resume_from_the_same_checkpoint_removes_the_files_of_the_first(tmp_path):
    with logger(tmp_path) as log:
        log.log(0, {"a": [0, 0]})
        mark = log.mark()
    for value in (1, 2):
        with logger(tmp_path, resume=mark) as log:
            log.log(10, {"a": [value, value]})
    assert points(tmp_path / FOLDERS[1], "a") == [(0, 0.0), (10, 2.0)]
    assert len(list((tmp_path / FOLDERS[1]).iterdir())) == 2


def test_a_record_that_is_shorter_than_at_the_checkpoint_is_refused(tmp_path):
    with logger(tmp_path) as log:
        log.log(0, {"a": [0, 0]})
        mark = log.mark()
    record = tmp_path / "metrics.jsonl"
    record.write_bytes(record.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"metrics.jsonl: \d+ bytes, expected the \d+ that"):
        logger(tmp_path, resume=mark)


def test_a_curve_stays_in_order_when_the_clock_is_set_back(tmp_path, monkeypatch):
    with logger(tmp_path) as log:
        log.log(10, {"a": [1, 1]})
        mark = log.mark()

    day = 86_400
    now, now_ns = time.time(), time.time_ns()
    monkeypatch.setattr("rlop.logs.tensorboard.time.time", lambda: now - day)
    monkeypatch.setattr("rlop.logs.tensorboard.time.time_ns", lambda: now_ns - day * 10**9)
    with logger(tmp_path, resume=mark) as log:
        log.log(20, {"a": [2, 2]})
    assert points(tmp_path / FOLDERS[0], "a") == [(10, 1.0), (20, 2.0)]


def test_the_time_of_a_record_goes_on_after_a_resume(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("rlop.logs.logger.time.monotonic", lambda: now[0])
    with logger(tmp_path) as log:
        now[0] += 7
        log.log(0, {"a": [1, 1]})
        mark = log.mark()

    # Another process, whose clock begins elsewhere.
    now[0] = 5.0
    with logger(tmp_path, resume=mark) as log:
        now[0] += 2
        log.log(10, {"a": [1, 1]})
    assert [line["time"] for line in record_lines(tmp_path)] == [7, 9]


def test_every_earlier_configuration_is_kept(tmp_path):
    mark = None
    for steps in (2, 3, 3, 4):
        with logger(tmp_path, config={"steps": steps}, resume=mark) as log:
            mark = log.mark()
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert runs["config"] == {"steps": 4}
    assert runs["earlier_configs"] == [{"steps": 2}, {"steps": 3}]


def log_and_die(folder):
    log = Logger(folder, ["a", "b"], [{"seed": 0}, {"seed": 1}])
    for step in range(5):
        log.log(step, {"x": [step, -step]})
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_loses_nothing_it_logged(tmp_path):
    child = Fork(log_and_die, tmp_path)
    child.end()
    assert child.code == -signal.SIGKILL
    assert read_metrics(tmp_path).get("x")[1][:, 1].tolist() == [0, -1, -2, -3, -4]
    assert points(tmp_path / "b", "x") == [(step, -step) for step in range(5)]
    assert "seed" in session_start(tmp_path / "b").hparams


def test_labels_become_distinct_names_of_folders():
    labels = ["a/b", "a b", "A_b", "", "..", "runs.json", "dr3=0.03,seed=1"]
    expected = ["a_b", "a_b-2", "A_b-3", "run", "run-2", "runs.json-2", "dr3=0.03,seed=1"]
    assert safe_labels(labels) == expected
    assert len(safe_labels(["x" * 300])[0]) == 100
