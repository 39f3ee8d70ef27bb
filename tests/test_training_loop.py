"""The loop: what is logged, and what a resumed, interrupted or refused training looks like."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from helpers.training import parameters_of
from rlop.agents import DQN

import rlop
from rlop.logs.logger import read_metrics
from rlop.training.checkpoint import load
from rlop.training.loop import Loop
from rlop.training.options import TrainOptions
from rlop.types import InputError, Spec

SMALL = {"hidden": (8, 8), "batch_size": 8, "target_period": 7}
OFTEN = {
    "log_every": 10,
    "probe_every": 20,
    "eval_every": 20,
    "checkpoint_every": 30,
    "progress": False,
}
NO_PROBES = {"probe_every": 0, "progress": False}


def make(tiny, **options):
    return DQN(tiny.spec, seeds=2, regularizers={"dr3": [0.0, 0.1]}, **{**SMALL, **options})


def scores(agent):
    return {"eval/return": np.arange(len(agent.runs), dtype=float)}


def assert_equal_parameters(agent, other):
    for name, parameter in parameters_of(agent).items():
        assert torch.equal(parameter, parameters_of(other)[name]), name


# --- what is logged


def test_everything_is_logged_when_due_and_parameters_move(tiny):
    agent = make(tiny)
    before = {name: parameter.clone() for name, parameter in parameters_of(agent).items()}
    history = rlop.train(agent, tiny, 50, evaluate=scores, **OFTEN)
    for name, parameter in parameters_of(agent).items():
        assert not torch.equal(parameter, before[name]), name

    # At initialization, when due, and at the end.
    assert history.get("loss/td")[0].tolist() == [10, 20, 30, 40, 50]
    assert history.get("rank/srank")[0].tolist() == [0, 20, 40, 50]
    assert history.get("eval/return")[0].tolist() == [0, 20, 40, 50]
    assert history.get("loss/td")[1].shape == (5, 4)
    for name, (_, values) in history.metrics.items():
        assert np.isfinite(values).all(), name

    of_losses = {"loss/total", "reg/dr3", "q/data", "q/target", "time/steps_per_s"}
    of_probes = {"feature/dot", "units/dormant"}
    assert of_losses | of_probes <= set(history.metrics)


def test_logged_means_are_means_over_the_interval(tiny):
    each = rlop.train(make(tiny), tiny, 20, log_every=1, **NO_PROBES).get("loss/td")[1]
    means = rlop.train(make(tiny), tiny, 20, log_every=10, **NO_PROBES).get("loss/td")[1]
    np.testing.assert_allclose(means, each.reshape(2, 10, 4).mean(1), rtol=1e-4, atol=1e-6)


def test_looking_does_not_disturb_a_training(tiny):
    first, second = make(tiny), make(tiny)
    rlop.train(first, tiny, 30, **OFTEN)
    rlop.train(second, tiny, 30, log_every=7, **NO_PROBES)
    assert_equal_parameters(first, second)


def test_a_diverged_run_is_named_and_shown_as_frozen(tiny, caplog):
    agent = DQN(tiny.spec, variants={"mad": {"lr": 1e18}, "calm": {}}, **SMALL)
    history = rlop.train(agent, tiny, 60, **OFTEN)
    assert caplog.text.count("mad,seed=0 diverged") == 1
    assert history.get("run/active")[1][-1].tolist() == [0.0, 1.0]
    assert np.isfinite(history.get("loss/td")[1][:, 1]).all()


def test_every_agent_is_probed_on_the_same_rows(tiny):
    """Rows without a next action are probed too, though `sarsa` cannot train on them."""
    maximum = Loop(make(tiny), tiny, TrainOptions())
    sarsa = Loop(DQN(tiny.spec, backup="sarsa", **SMALL), tiny, TrainOptions())
    assert len(sarsa.feed.table) < len(maximum.feed.table)
    assert torch.equal(maximum.probe_batch.index[0], sarsa.probe_batch.index[0])


def test_rows_that_an_agent_cannot_learn_from_are_counted_in_a_message(tiny, caplog):
    caplog.set_level("INFO", "rlop")
    Loop(make(tiny), tiny, TrainOptions())
    assert "leaves out" not in caplog.text
    loop = Loop(DQN(tiny.spec, backup="sarsa", **SMALL), tiny, TrainOptions())
    gone = len(tiny) - len(loop.feed.table)
    assert gone == (tiny.end & ~tiny.terminated).sum() > 0
    assert f"DQN leaves out {gone} of {len(tiny)} rows, which lack what its target" in caplog.text


def test_tensorboard_shows_a_line_per_run_and_a_hyper_parameter_tab(tiny, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    agent = make(tiny)
    rlop.train(agent, tiny, 40, logdir=tmp_path, evaluate=scores, **OFTEN)
    folders = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert sorted(folders) == sorted(agent.runs.labels)

    losses = []
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        metrics = json.loads(line)["metrics"]
        if "loss/td" in metrics:
            losses.append(metrics["loss/td"])

    for run, label in enumerate(agent.runs.labels):
        events = EventAccumulator(str(tmp_path / label))
        events.Reload()
        groups = {tag.split("/")[0] for tag in events.Tags()["scalars"]}
        assert {"loss", "q", "rank", "feature", "units", "eval", "reg", "time"} <= groups
        shown = [event.value for event in events.Scalars("loss/td")]
        assert shown == pytest.approx([values[run] for values in losses])

        plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data
        assert plugin.plugin_name == "hparams"
        assert b"regularizers.dr3" in plugin.content


# --- interrupted and resumed


def test_a_training_resumes_at_any_step_with_the_very_same_numbers(tiny, tmp_path):
    whole, half, rest = make(tiny), make(tiny), make(tiny)
    rlop.train(whole, tiny, 100, logdir=tmp_path / "whole", **OFTEN)
    rlop.train(half, tiny, 33, logdir=tmp_path / "half", **OFTEN)
    history = rlop.train(rest, tiny, 100, logdir=tmp_path / "half", resume=True, **OFTEN)
    assert_equal_parameters(whole, rest)
    assert history.get("rank/srank")[0].tolist() == [0, 20, 40, 60, 80, 100]


def test_ctrl_c_leaves_valid_logs_and_a_checkpoint_and_says_where(tiny, tmp_path, caplog):
    calls = []

    def interrupt(agent):
        calls.append(agent)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return scores(agent)

    with pytest.raises(KeyboardInterrupt):
        rlop.train(make(tiny), tiny, 100, logdir=tmp_path, evaluate=interrupt, **OFTEN)
    said = "interrupted at step 40: logs and checkpoint are written; it continues with: "
    assert f"{said}rlop.train(..., logdir={str(tmp_path)!r}, resume=True)" in caplog.text
    assert load(tmp_path / "checkpoint.pt")["step"] == 40
    assert read_metrics(tmp_path).get("loss/td")[0].tolist() == [10, 20, 30, 40]

    rlop.train(make(tiny), tiny, 60, logdir=tmp_path, resume=True, **OFTEN)
    assert load(tmp_path / "checkpoint.pt")["step"] == 60


# --- refused


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"batch_size": 1000}, {}, "batch_size"),
        ({}, {"log_evry": 3}, "log_evry"),
        ({}, {"steps": 0}, "steps"),
        ({}, {"reload_every": 5}, "expected data with a window"),
    ],
    ids=["batch_size", "log_evry", "steps", "reload_every"],
)
def test_bad_input_is_refused_before_anything_is_written(
    tiny, tmp_path, options, arguments, message
):
    logdir = tmp_path / "run"
    arguments = {"steps": 10, **arguments}
    with pytest.raises(InputError, match=message):
        rlop.train(make(tiny, **options), tiny, logdir=logdir, progress=False, **arguments)
    assert not logdir.exists()


def test_data_of_another_shape_are_refused_before_anything_is_written(tiny, tmp_path):
    agent = DQN(Spec((5,), 3), **SMALL)
    with pytest.raises(InputError, match="not what the agent was made for"):
        rlop.train(agent, tiny, 10, logdir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_an_existing_record_is_not_overwritten(tiny, tmp_path):
    rlop.train(make(tiny), tiny, 10, logdir=tmp_path, **OFTEN)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match="already holds"):
        rlop.train(make(tiny), tiny, 10, logdir=tmp_path, **OFTEN)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_resumed_training_needs_a_folder_with_a_checkpoint(tiny, tmp_path):
    with pytest.raises(InputError, match="expected a logdir that holds a checkpoint"):
        rlop.train(make(tiny), tiny, 10, resume=True, **OFTEN)
    with pytest.raises(InputError, match="no such checkpoint"):
        rlop.train(make(tiny), tiny, 10, logdir=tmp_path / "run", resume=True, **OFTEN)
