"""The loop: what is logged, what is saved, what a resumed or interrupted training looks like."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from rlop.agents import DQN

import rlop
from rlop.logs.logger import read_metrics
from rlop.training.checkpoint import load, load_agent
from rlop.training.loop import Loop, TrainOptions
from rlop.types import InputError, Spec

SMALL = {"hidden": (8, 8), "batch_size": 8, "target_period": 7}
OFTEN = {
    "log_every": 10,
    "probe_every": 20,
    "eval_every": 20,
    "checkpoint_every": 30,
    "progress": False,
}


def make(tiny, **options):
    return DQN(tiny.spec, seeds=2, regularizers={"dr3": [0.0, 0.1]}, **{**SMALL, **options})


def parameters(agent):
    return torch.cat([p.detach().flatten() for p in agent.online.parameters()])


def scores(agent):
    return {"eval/return": np.arange(len(agent.runs), dtype=float)}


def test_everything_is_logged_when_due_and_parameters_move(tiny):
    agent = make(tiny)
    before = parameters(agent).clone()
    history = rlop.train(agent, tiny, 50, evaluate=scores, **OFTEN)
    assert not torch.equal(before, parameters(agent))
    assert history.get("loss/td")[0].tolist() == [10, 20, 30, 40, 50]
    assert history.get("rank/srank")[0].tolist() == [
        0,
        20,
        40,
        50,
    ]  # at initialisation, when due, at the end
    assert history.get("eval/return")[0].tolist() == [0, 20, 40, 50]
    assert history.get("loss/td")[1].shape == (5, 4)
    assert np.isfinite(np.concatenate([v.ravel() for _, v in history.metrics.values()])).all()
    names = {
        "loss/total",
        "reg/dr3",
        "q/data",
        "q/target",
        "feature/dot",
        "units/dormant",
        "time/steps_per_s",
    }
    assert names <= set(history.metrics)


def test_logged_means_are_means_over_the_interval(tiny):
    each = rlop.train(make(tiny), tiny, 20, log_every=1, probe_every=0, progress=False).get(
        "loss/td"
    )[1]
    mean = rlop.train(make(tiny), tiny, 20, log_every=10, probe_every=0, progress=False).get(
        "loss/td"
    )[1]
    np.testing.assert_allclose(mean, each.reshape(2, 10, 4).mean(1), rtol=1e-4, atol=1e-6)


def test_two_identical_trainings_are_identical(tiny):
    first, second = make(tiny), make(tiny)
    rlop.train(first, tiny, 30, **OFTEN)
    rlop.train(
        second, tiny, 30, log_every=7, probe_every=0, progress=False
    )  # looking does not disturb
    assert torch.equal(parameters(first), parameters(second))


def test_a_resumed_training_equals_an_uninterrupted_one(tiny, tmp_path):
    whole, half = make(tiny), make(tiny)
    rlop.train(whole, tiny, 100, logdir=tmp_path / "whole", **OFTEN)
    rlop.train(half, tiny, 33, logdir=tmp_path / "half", **OFTEN)
    rest = make(tiny)
    history = rlop.train(rest, tiny, 100, logdir=tmp_path / "half", resume=True, **OFTEN)
    assert torch.equal(parameters(whole), parameters(rest))
    assert history.get("rank/srank")[0].tolist() == [0, 20, 33, 40, 60, 80, 100]


def test_ctrl_c_leaves_valid_logs_and_a_checkpoint_and_says_where(tiny, tmp_path, capsys):
    calls = []

    def interrupt(agent):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return scores(agent)

    with pytest.raises(KeyboardInterrupt):
        rlop.train(make(tiny), tiny, 100, logdir=tmp_path / "run", evaluate=interrupt, **OFTEN)
    assert str(tmp_path / "run") in capsys.readouterr().err
    assert load(tmp_path / "run" / "checkpoint.pt")["step"] == 40
    assert read_metrics(tmp_path / "run").get("loss/td")[0].tolist() == [10, 20, 30, 40]
    rlop.train(make(tiny), tiny, 60, logdir=tmp_path / "run", resume=True, **OFTEN)


def test_checkpoint_rebuilds_the_agent(tiny, tmp_path):
    agent = make(tiny, projections={"max_norm": 1.0})
    rlop.train(agent, tiny, 20, logdir=tmp_path / "run", **OFTEN)
    again, content = load_agent(tmp_path / "run" / "checkpoint.pt")
    assert content["step"] == 20
    assert torch.equal(parameters(agent), parameters(again))
    assert again.runs == agent.runs
    obs = torch.from_numpy(tiny.obs)[None].expand(4, -1, -1)
    assert torch.equal(agent.act(obs), again.act(obs))


def test_a_checkpoint_of_something_else(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match="not a checkpoint"):
        load(tmp_path / "text.pt")
    torch.save({"a": 1}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="format"):
        load(tmp_path / "other.pt")


def test_a_pickled_object_is_not_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save(Trap(), tmp_path / "trap.pt")
    with pytest.raises(InputError, match="not a checkpoint"):
        load(tmp_path / "trap.pt")


def test_a_diverged_run_is_named_and_shown_as_frozen(tiny, caplog):
    agent = DQN(tiny.spec, variants={"mad": {"lr": 1e18}, "calm": {}}, **SMALL)
    history = rlop.train(agent, tiny, 60, **OFTEN)
    assert caplog.text.count("mad,seed=0 diverged") == 1
    assert history.get("run/active")[1][-1].tolist() == [0.0, 1.0]
    assert np.isfinite(history.get("loss/td")[1][:, 1]).all()


def test_tensorboard_shows_a_line_per_run_and_a_hyper_parameter_tab(tiny, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    agent = make(tiny)
    rlop.train(agent, tiny, 40, logdir=tmp_path, evaluate=scores, **OFTEN)
    folders = sorted(p.name for p in tmp_path.iterdir() if p.is_dir())
    assert folders == sorted(agent.runs.labels)
    record = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for run, label in enumerate(agent.runs.labels):
        events = EventAccumulator(str(tmp_path / label))
        events.Reload()
        tags = events.Tags()["scalars"]
        assert {tag.split("/")[0] for tag in tags} >= {
            "loss",
            "q",
            "rank",
            "feature",
            "units",
            "eval",
            "reg",
            "time",
        }
        expected = [
            line["metrics"]["loss/td"][run] for line in record if "loss/td" in line["metrics"]
        ]
        assert [e.value for e in events.Scalars("loss/td")] == pytest.approx(expected)
        plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data
        assert plugin.plugin_name == "hparams"
        assert b"regularizers.dr3" in plugin.content


def test_bad_input_is_refused_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(InputError, match="batch_size"):
        rlop.train(make(tiny, batch_size=1000), tiny, 10, logdir=tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="log_evry"):
        rlop.train(make(tiny), tiny, 10, logdir=tmp_path / "run", log_evry=3)
    with pytest.raises(InputError, match="steps"):
        rlop.train(make(tiny), tiny, 0, logdir=tmp_path / "run")
    with pytest.raises(InputError, match="not what the agent was made for"):
        rlop.train(DQN(Spec((5,), 3), **SMALL), tiny, 10, logdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_existing_record_is_not_overwritten(tiny, tmp_path):
    rlop.train(make(tiny), tiny, 10, logdir=tmp_path, **OFTEN)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match="already holds"):
        rlop.train(make(tiny), tiny, 10, logdir=tmp_path, **OFTEN)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_every_agent_is_probed_on_the_same_rows(tiny):
    a = Loop(make(tiny), tiny, TrainOptions(), None)
    b = Loop(DQN(tiny.spec, backup="sarsa", **SMALL), tiny, TrainOptions(), None)
    assert len(b.table) < len(
        a.table
    )  # sarsa cannot train on rows without a next action; they are still probed
    assert torch.equal(a.probe_batch.index[0], b.probe_batch.index[0])
