"""Callbacks: what they see, how they stop a training, and that logs are whole without them."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import yaml
from helpers.training import SMALL_CONFIG, parameters_of
from rlop.agents import DQN

import rlop
from rlop.cli import main
from rlop.logs.history import read_metrics
from rlop.training.checkpoint import load
from rlop.types import InputError

OFTEN = {
    "log_every": 10,
    "probe_every": 20,
    "eval_every": 20,
    "checkpoint_every": 30,
    "progress": False,
}


def make(tiny):
    return DQN(tiny.spec, seeds=2, hidden=(8,), batch_size=8)


def zeros(agent):
    return {"eval/return": np.zeros(len(agent.runs))}


class Seen(rlop.Callback):
    """Notes every call; gives `verdict` at the call named `at`."""

    def __init__(self, at=None, verdict=True):
        self.calls = []
        self.at, self.verdict = at, verdict

    def note(self, name, step):
        self.calls.append((name, step))
        if (name, step) == self.at:
            if isinstance(self.verdict, Exception):
                raise self.verdict
            return self.verdict
        return None

    def on_log(self, step, metrics):
        assert metrics["loss/td"].shape == (2,)
        return self.note("log", step)

    def on_probe(self, step, metrics):
        assert "rank/srank" in metrics
        assert "eval/return" not in metrics
        return self.note("probe", step)

    def on_evaluate(self, step, metrics):
        assert list(metrics) == ["eval/return"]
        return self.note("evaluate", step)

    def on_checkpoint(self, step, path):
        assert load(path)["step"] == step
        return self.note("checkpoint", step)

    def steps(self, name):
        return [step for called, step in self.calls if called == name]


def lines(folder):
    """Return step and metrics of every line of the record, without clocks."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row["metrics"].pop("time/steps_per_s", None)
    return [(row["step"], row["metrics"]) for row in rows]


# --- what they see


def test_callbacks_are_called_when_due(tiny, tmp_path):
    seen = Seen()
    rlop.train(make(tiny), tiny, 50, logdir=tmp_path, evaluate=zeros, callbacks=[seen], **OFTEN)
    assert seen.steps("log") == [10, 20, 30, 40, 50]
    assert seen.steps("probe") == [0, 20, 40, 50]
    assert seen.steps("evaluate") == [0, 20, 40, 50]
    assert seen.steps("checkpoint") == [20, 30, 50]  # 20: the best evaluation


def test_a_callback_sees_a_step_after_it_is_in_the_record(tiny, tmp_path):
    class Reader(rlop.Callback):
        def on_log(self, step, metrics):
            steps, values = read_metrics(tmp_path).get("loss/td")
            assert steps[-1] == step
            np.testing.assert_array_equal(values[-1], metrics["loss/td"])

    rlop.train(make(tiny), tiny, 20, logdir=tmp_path, callbacks=[Reader()], **OFTEN)


def test_callbacks_change_neither_parameters_nor_record(tiny, tmp_path):
    agents = [make(tiny), make(tiny)]
    for agent, callbacks, name in zip(agents, ([], [Seen()]), "ab"):
        rlop.train(
            agent,
            tiny,
            50,
            logdir=tmp_path / name,
            evaluate=zeros,
            callbacks=callbacks,
            **OFTEN,
        )
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    first, second = map(parameters_of, agents)
    for name, parameter in first.items():
        assert parameter.equal(second[name]), name


def test_without_a_folder_there_are_no_checkpoints_to_see(tiny):
    seen = Seen()
    rlop.train(make(tiny), tiny, 40, callbacks=[seen], **OFTEN)
    assert seen.steps("log") == [10, 20, 30, 40]
    assert seen.steps("checkpoint") == []


def test_what_is_no_callback_is_refused_before_training(tiny):
    with pytest.raises(InputError, match=r"callbacks\[0\] = .*: expected an instance"):
        rlop.train(make(tiny), tiny, 10, callbacks=[print], **OFTEN)


# --- how they stop


@pytest.mark.parametrize("at", [("log", 30), ("checkpoint", 30), ("evaluate", 0)])
def test_a_stop_ends_as_at_the_last_step(tiny, tmp_path, caplog, at):
    caplog.set_level("INFO", "rlop")
    seen = Seen(at, "enough is enough")
    history = rlop.train(
        make(tiny), tiny, 100, logdir=tmp_path, evaluate=zeros, callbacks=[seen], **OFTEN
    )
    step = at[1]
    assert history.steps[-1] == step
    for name in ("rank/srank", "eval/return"):
        assert history.get(name)[0].tolist() == [0, 20, 30][: 3 if step else 1]
    assert load(tmp_path / "checkpoint.pt")["step"] == step
    assert seen.calls[-1] == ("checkpoint", step)
    assert f"stopped at step {step} of 100 by Seen: enough is enough" in caplog.text


@pytest.mark.parametrize("at", [("log", 30), ("evaluate", 0), ("log", 50)])
def test_a_stopped_training_continues_as_if_it_had_not_stopped(tiny, tmp_path, at):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    rlop.train(make(tiny), tiny, 60, logdir=whole, evaluate=zeros, **OFTEN)
    options = {"logdir": stopped, "evaluate": zeros, **OFTEN}
    rlop.train(make(tiny), tiny, 60, callbacks=[Seen(at)], **options)
    rlop.train(make(tiny), tiny, 60, resume=True, **options)
    assert lines(stopped) == lines(whole)


@pytest.mark.parametrize("at", [("log", 30), ("evaluate", 40), ("checkpoint", 30)])
def test_a_callback_that_raises_leaves_a_valid_checkpoint(tiny, tmp_path, at):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    rlop.train(make(tiny), tiny, 60, logdir=whole, evaluate=zeros, **OFTEN)
    options = {"logdir": broken, "evaluate": zeros, **OFTEN}
    with pytest.raises(ZeroDivisionError):
        rlop.train(make(tiny), tiny, 60, callbacks=[Seen(at, ZeroDivisionError())], **options)
    assert load(broken / "checkpoint.pt")["step"] == at[1]

    seen = Seen()
    rlop.train(make(tiny), tiny, 60, resume=True, callbacks=[seen], **options)
    assert lines(broken) == lines(whole)
    assert min(step for _, step in seen.calls) > at[1]


# --- early stopping


def fed(stopping, values, metric="eval/return"):
    """Return how many values `[T, R]` early stopping takes before it stops, or None."""
    for count, value in enumerate(values, start=1):
        if stopping.on_evaluate(count, {metric: np.asarray(value, float)}):
            return count
    return None


@pytest.mark.parametrize(
    ("options", "values", "stops_at"),
    [
        ({}, [[1, 1], [2, 2], [2, 2], [1, 3]], 4),  # equal is no improvement
        ({}, [[1, 1], [0, 0], [2, 2], [1, 1], [1.9, 2]], 5),
        ({}, [[1, 1], [0, 0], [0, 3], [1, 1]], None),  # the mean of 0 and 3 is a new best
        ({"mode": "min"}, [[3, 3], [2, 2], [1, 1], [0, 0]], None),
        ({"mode": "min"}, [[1, 1], [2, 2], [3, 3]], 3),
        ({}, [[np.nan, np.nan], [1, np.nan], [np.nan, np.nan], [0, np.inf]], 4),
        ({"runs": "all"}, [[1, 1], [0, 2], [0, 3], [0, 3], [0, 3]], 5),
        ({"runs": "all"}, [[1, np.nan], [1, np.nan], [1, np.nan]], 3),
    ],
)
def test_early_stopping_counts(options, values, stops_at):
    assert fed(rlop.EarlyStopping(patience=2, **options), values) == stops_at


@pytest.mark.parametrize("option", [{"mode": "up"}, {"runs": "best"}, {"patience": 0}])
def test_early_stopping_refuses_other_options(option):
    with pytest.raises(InputError, match=f"{next(iter(option))} = .*: expected"):
        rlop.EarlyStopping(**option)


def test_early_stopping_of_an_interrupted_training_stops_where_it_would_have(tiny, tmp_path):
    options = {"logdir": tmp_path, "evaluate": zeros, **OFTEN}
    rlop.train(make(tiny), tiny, 40, **options)  # evaluates at 0, 20, 40
    stopping = rlop.EarlyStopping(patience=3)
    history = rlop.train(make(tiny), tiny, 200, resume=True, callbacks=[stopping], **options)
    assert history.steps[-1] == 60


def test_a_metric_that_is_never_logged_ends_the_training_at_the_first_log(tiny):
    stopping = rlop.EarlyStopping("los/td")
    with pytest.raises(InputError, match=r"'los/td' is not logged.*did you mean 'loss/td'"):
        rlop.train(make(tiny), tiny, 50, callbacks=[stopping], **OFTEN)


def test_a_metric_that_a_fork_logs_later_is_awaited(tiny, tmp_path, caplog):
    old, new = tmp_path / "old", tmp_path / "new"
    rlop.train(make(tiny), tiny, 5, logdir=old, progress=False)
    options = {**OFTEN, "log_every": 2, "evaluate": zeros, "logdir": new, "resume": old}
    stopping = rlop.EarlyStopping(patience=1)
    history = rlop.train(make(tiny), tiny, 100, callbacks=[stopping], **options)
    assert history.get("eval/return")[0].tolist() == [20, 40]
    assert history.steps[-1] == 40
    assert caplog.text.count("'eval/return' is not logged so far") == 1


def test_a_configuration_stops_early(tmp_path, capsys):
    config = {
        **SMALL_CONFIG,
        "steps": 50,
        "early_stopping": {"metric": "run/active", "patience": 3},
    }
    file, folder = tmp_path / "small.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(config))
    assert main(["train", str(file), "--logdir", str(folder)]) == 0
    assert read_metrics(folder).steps[-1] == 4
    assert "stopped at step 4 of 50 by EarlyStopping: run/active has not" in capsys.readouterr().err

    # Started again, it stops there again.
    assert main(["train", "--resume", str(folder)]) == 0
    assert read_metrics(folder).steps.tolist() == [1, 2, 3, 4]

    assert main(["train", str(file), "--early_stopping.mode", "up"]) == 2
    assert "early_stopping.mode" in capsys.readouterr().err


# --- Weights & Biases


@pytest.fixture
def wandb(monkeypatch):
    """Stand in for the package; `rows` are what was sent."""
    stub = ModuleType("wandb")
    stub.rows, stub.axes, stub.summary = [], [], {}

    def init(**options):
        stub.options = options
        return SimpleNamespace(
            log=stub.rows.append,
            define_metric=lambda name, step_metric: stub.axes.append((name, step_metric)),
            summary=stub.summary,
        )

    stub.init = init
    monkeypatch.setitem(sys.modules, "wandb", stub)
    return stub


def test_weights_and_biases_gets_every_metric(tiny, tmp_path, wandb):
    agent = make(tiny)
    history = rlop.train(
        agent,
        tiny,
        40,
        logdir=tmp_path,
        evaluate=zeros,
        callbacks=[rlop.WandbCallback(project="p")],
        **OFTEN,
    )
    assert wandb.options["project"] == "p"
    assert wandb.options["config"]["steps"] == 40
    assert wandb.axes == [("*", "step")]
    assert wandb.summary == {"checkpoint_step": 40}
    for name, (steps, values) in history.metrics.items():
        for run, label in enumerate(history.labels):
            sent = [row for row in wandb.rows if f"{name}/{label}" in row]
            assert [row["step"] for row in sent] == steps.tolist()
            assert [row[f"{name}/{label}"] for row in sent] == values[:, run].tolist()


def test_without_weights_and_biases_the_extra_is_named(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"rlop\[wandb\]"):
        rlop.train(make(tiny), tiny, 40, callbacks=[rlop.WandbCallback()], **OFTEN)
