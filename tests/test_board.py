from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import (
    parse_experiment_plugin_data,
    parse_session_end_info_plugin_data,
    parse_session_start_info_plugin_data,
)

from rlop.logs.logger import Logger, read_metrics, safe_labels
from rlop.logs.progress import Progress
from rlop.types import InputError

LABELS = ["dr3=0/seed=0", "dr3=0.03/seed=0"]
HPARAMS: list[dict[str, Any]] = [
    {"dr3": 0.0, "seed": 0, "double": True},
    {"dr3": 0.03, "seed": 0, "double": True},
]


def board(folder: Path, **options: Any) -> Logger:
    return Logger(folder, LABELS, HPARAMS, **options)


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


def hparams_data(folder: Path, tag: str) -> bytes:
    return events(folder).summary_metadata[f"_hparams_/{tag}"].plugin_data.content


def test_a_folder_per_run_with_one_curve_per_metric(tmp_path):
    with board(tmp_path) as log:
        log.log(0, {"loss/td": [1.0, 2.0], "rank/srank": np.array([3, 4])})
        log.log(10, {"loss/td": [0.5, math.nan]})
    first, second = tmp_path / "dr3=0_seed=0", tmp_path / "dr3=0.03_seed=0"
    assert points(first, "loss/td") == [(0, 1.0), (10, 0.5)]
    assert points(first, "rank/srank") == [(0, 3.0)]
    assert points(second, "loss/td")[0] == (0, 2.0)
    assert math.isnan(points(second, "loss/td")[1][1])
    assert sorted(events(second).Tags()["scalars"]) == ["loss/td", "rank/srank"]


def test_the_hyper_parameter_tab(tmp_path):
    log = Logger(tmp_path, ["a", "b"], [{**HPARAMS[0], "name": "x"}, {**HPARAMS[1], "name": [1, 2]}])
    log.log(7, {"eval/return": [1.0, 2.0]})
    start = parse_session_start_info_plugin_data(hparams_data(tmp_path / "b", "session_start_info"))
    assert start.hparams["dr3"].number_value == 0.03
    assert start.hparams["double"].bool_value is True
    assert start.hparams["name"].string_value == "[1, 2]"
    log.close({"eval/return": [1.0, 2.0]})
    log.close({"eval/return": [5.0, 5.0]})  # too late: once only
    experiment = parse_experiment_plugin_data(hparams_data(tmp_path / "a", "experiment"))
    assert [info.name for info in experiment.hparam_infos] == ["dr3", "seed", "double", "name"]
    assert [info.differs for info in experiment.hparam_infos] == [True, False, False, True]
    assert experiment.hparam_infos[0].domain_interval.max_value == 0.03
    assert [info.name.tag for info in experiment.metric_infos] == ["final/eval/return"]
    assert points(tmp_path / "b", "final/eval/return") == [(7, 2.0)]
    for label in ("a", "b"):
        assert (
            parse_session_end_info_plugin_data(
                hparams_data(tmp_path / label, "session_end_info")
            ).status
            == 1
        )


def test_an_exception_is_a_failed_session(tmp_path):
    with pytest.raises(KeyboardInterrupt), board(tmp_path):
        raise KeyboardInterrupt
    assert (
        parse_session_end_info_plugin_data(
            hparams_data(tmp_path / "dr3=0_seed=0", "session_end_info")
        ).status
        == 2
    )


def test_the_record_is_plain_json(tmp_path):
    with board(tmp_path, config={"agent": {"hidden": (64, 64)}, "file": Path("x")}) as log:
        log.log(3, {"a": np.float32([0.5, math.inf])})
    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert line["step"] == 3
    assert line["metrics"] == {"a": [0.5, None]}
    assert 0 <= line["time"] < 60
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert runs["labels"] == ["dr3=0_seed=0", "dr3=0.03_seed=0"]
    assert runs["hparams"] == HPARAMS
    assert runs["config"] == {"agent": {"hidden": [64, 64]}, "file": "x"}


@pytest.mark.parametrize("on_disk", [True, False])
def test_history(tmp_path, on_disk):
    log = board(tmp_path if on_disk else None, config={"x": 1})
    log.log(0, {"a": [1, 2]})
    log.log(0, {"b": [5, 6]})
    log.log(10, {"a": [3, math.nan]})
    found = log.history
    assert found.steps.tolist() == [0, 10]
    steps, values = found.get("a")
    assert steps.tolist() == [0, 10]
    np.testing.assert_array_equal(values, [[1, 2], [3, np.nan]])
    assert found.get("b")[0].tolist() == [0]
    assert (found.labels, found.hparams, found.config) == (log.labels, HPARAMS, {"x": 1})
    with pytest.raises(InputError, match="metric 'rank/srnk' was never logged; one of a, b"):
        found.get("rank/srnk")
    log.close()
    assert log.history.steps.tolist() == [0, 10]
    assert on_disk == any(tmp_path.iterdir())


def test_nothing_logged_yet(tmp_path):
    with board(tmp_path) as log:
        assert log.history.steps.shape == (0,)
        assert log.history.metrics == {}


def test_wrong_use(tmp_path):
    with pytest.raises(ValueError, match=r"one dict of hparams per run, got 1 labels, 2 dicts"):
        Logger(tmp_path, ["a"], HPARAMS)
    log = board(tmp_path)
    with pytest.raises(ValueError, match=r"a: expected one number per run, \[2\], got \[3\]"):
        log.log(0, {"a": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"a: expected one number per run, \[2\], got \[\]"):
        log.log(0, {"a": 1.0})  # type: ignore[dict-item]
    log.close()
    with pytest.raises(ValueError, match="closed"):
        log.log(0, {})


def test_a_record_is_never_overwritten(tmp_path):
    with board(tmp_path) as log:
        log.log(0, {"a": [1, 2]})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(
        InputError, match=r"already holds a record .*expected another logdir, or resume"
    ):
        board(tmp_path)
    with pytest.raises(
        InputError,
        match=r"found the runs dr3=0_seed=0, dr3=0.03_seed=0, expected a, b, c and 1 more",
    ):
        Logger(tmp_path, list("abcd"), [{}] * 4, resume=True)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        board(tmp_path / "file")


def test_resume_goes_on_where_the_checkpoint_was(tmp_path):
    with board(tmp_path, config={"steps": 2}) as log:
        for step in (0, 10, 20):
            log.log(step, {"a": [step, step], "late": [step, step]})
    with board(tmp_path, config={"steps": 3}, resume=True) as log:
        log.log(15, {"a": [1, 1]})
        log.log(30, {"a": [2, 2]})
    found = read_metrics(tmp_path)
    assert found.get("a")[0].tolist() == [0, 10, 15, 30]
    assert found.get("late")[0].tolist() == [0, 10, 20]  # not logged again yet
    assert (
        len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 5
    )  # the superseded line is kept
    assert points(tmp_path / "dr3=0_seed=0", "a") == [(0, 0.0), (10, 10.0), (15, 1.0), (30, 2.0)]
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert (runs["config"], runs["earlier_configs"]) == ({"steps": 3}, [{"steps": 2}])
    times = [
        json.loads(line)["time"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert times == sorted(times)


def test_resume_of_nothing_is_a_start(tmp_path):
    with board(tmp_path / "new", resume=True) as log:
        log.log(0, {"a": [1, 2]})
    assert read_metrics(tmp_path / "new").get("a")[1].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("tail", "kept"), [(b'{"step": 20, "metr', 2), (b"\0\0\0", 2), (b"", 2), (None, 2)]
)
def test_a_line_cut_short_by_a_crash(tmp_path, tail, kept):
    with board(tmp_path) as log:
        log.log(0, {"a": [1, 2]})
        log.log(10, {"a": [3, 4]})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        path.read_bytes()[:-1] if tail is None else path.read_bytes() + tail
    )  # None: only its end is lost
    assert read_metrics(tmp_path).steps.tolist() == [0, 10]
    with board(tmp_path, resume=True) as log:
        log.log(20, {"a": [5, 6]})
    assert read_metrics(tmp_path).get("a")[1].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert len(path.read_bytes().splitlines()) == kept + 1


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"x",
        b'{"step": 1, "metrics": {"a": [1]}}',
        b'{"step": "1", "metrics": {}}',
        b"\xff",
    ],
)
def test_a_damaged_line_is_named(tmp_path, line):
    with board(tmp_path) as log:
        log.log(0, {"a": [1, 2]})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(
        InputError, match=r"metrics.jsonl: line 2 is damaged, expected a step and its metrics"
    ):
        read_metrics(tmp_path)


def test_what_is_no_logdir(tmp_path):
    with pytest.raises(
        InputError, match=r"found no metrics.jsonl, expected the logdir of a training run"
    ):
        read_metrics(tmp_path / "none")
    board(tmp_path).close()
    for broken in ("{", "[]", '{"labels": ["a"], "hparams": []}'):
        (tmp_path / "runs.json").write_text(broken)
        with pytest.raises(InputError, match=r"found no readable runs.json beside metrics.jsonl"):
            read_metrics(tmp_path)


def test_safe_labels():
    assert safe_labels(["a/b", "a b", "A_b", "", "..", "runs.json", "dr3=0.03,seed=1"]) == [
        "a_b",
        "a_b-2",
        "A_b-3",
        "run",
        "run-2",
        "runs.json-2",
        "dr3=0.03,seed=1",
    ]
    assert len(safe_labels(["x" * 300])[0]) == 100


KILLED = """
import os, signal, sys
from rlop.logs.logger import Logger
log = Logger(sys.argv[1], ["a", "b"], [{"seed": 0}, {"seed": 1}])
assert not {"tensorflow", "torch.utils.tensorboard"} & set(sys.modules)
for step in range(5):
    log.log(step, {"x": [step, -step]})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_nothing_it_logged(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLED, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == -9, done.stderr
    assert read_metrics(tmp_path).get("x")[1][:, 1].tolist() == [0, -1, -2, -3, -4]
    assert points(tmp_path / "b", "x") == [(step, -step) for step in range(5)]
    assert parse_session_start_info_plugin_data(
        hparams_data(tmp_path / "b", "session_start_info")
    ).hparams["seed"]


def test_say_once(tmp_path, capsys):
    log = board(None)
    log.say_once("run a diverged by step 1", key="a")
    log.say_once("run a diverged by step 2", key="a")
    log.say_once("other")
    log.say_once("other")
    assert capsys.readouterr().err == "run a diverged by step 1\nother\n"


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("rlop.logs.progress.time.monotonic", lambda: now[0])
    return now


def run_for(clock: list[float], seconds: float, steps: int, **options: Any) -> None:
    with Progress(steps, **options) as bar:
        for step in range(1, steps + 1):
            clock[0] += seconds / steps
            bar.update(step, loss=0.25)
        bar.update(steps, ret=np.array([1.0, 3.0, math.nan]))


def test_progress_without_a_terminal_prints_a_line_per_tenth(clock, capsys):
    run_for(clock, 1000.0, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "step 100/1000 (10 %)  1 steps/s  loss 0.25  0:15:00 left"
    assert lines[-1].startswith("step 1000/1000 (100 %)")


@pytest.mark.parametrize(("seconds", "most"), [(5.0, 1), (50.0, 5), (36_000.0, 130)])
def test_progress_prints_neither_too_often_nor_too_seldom(clock, capsys, seconds, most):
    run_for(clock, seconds, 2000)
    lines = capsys.readouterr().err.splitlines()
    assert max(1, seconds / 300 - 15) <= len(lines) <= most
    assert (
        lines[-1]
        == f"step 2000/2000 (100 %)  {2000 / seconds:,.0f} steps/s  loss 0.25  return 2  0:00:00 left"
    )


def test_progress_can_be_silent(clock, capsys):
    run_for(clock, 1000.0, 100, enabled=False)
    with Progress(10):
        pass
    assert capsys.readouterr().err == ""


def test_progress_bar_is_rate_limited(clock, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(Progress, "_refresh_bar", spy(Progress._refresh_bar, drawn))
    run_for(clock, 10.0, 5000, enabled=True, start=0)
    assert 38 <= len(drawn) <= 42
    shown = capsys.readouterr().err
    assert "5000/5000" in shown
    assert "loss 0.25  return 2" in shown


def spy(method: Any, calls: list[float]) -> Any:
    def noted(self: Progress, now: float) -> None:
        calls.append(now)
        method(self, now)

    return noted
