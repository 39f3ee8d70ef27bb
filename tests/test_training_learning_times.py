"""When transitions are learned, recorded at the probes of a training."""

import json

import pytest
import yaml
from helpers.training import SMALL_CONFIG
from rlop.agents import BC, CQL, DQN

import rlop
from rlop.cli import main
from rlop.types import InputError

QUIET = {"progress": False, "log_every": 0, "probe_every": 5, "checkpoint_every": 0}


def followed(agent, data, steps=20, **options):
    """The record of a training."""
    times = rlop.LearningTimes(agent, data, **options)
    rlop.train(agent, data, steps, callbacks=[times], **QUIET)
    return times


def test_every_transition_is_learned_at_once_where_any_error_is_small(tiny):
    agent = DQN(tiny.spec, seeds=2, hidden=(8,), batch_size=8)
    times = followed(agent, tiny, tau=1e9, size=16)
    assert times.summary() == {"learned": [1, 1], "time": [0, 0], "forgotten": [0, 0]}
    assert times.record.seen.shape == (2, 16)


def test_nothing_is_learned_where_no_error_is_small_enough(tiny):
    agent = DQN(tiny.spec, hidden=(8,), batch_size=8)
    summary = followed(agent, tiny, tau=1e-12).summary()
    assert summary == {"learned": [0], "time": [None], "forgotten": [None]}


def test_the_error_is_that_of_the_td_loss(tiny):
    agent = DQN(tiny.spec, hidden=(8,), batch_size=8, gamma=0.5)
    times = rlop.LearningTimes(agent, tiny, tau=0.1, size=32)
    times.on_probe(3, {})

    batch = times.batch
    q = agent.online(batch.obs)[1].gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
    best = agent.main.target(batch.next_obs)[1].amax(-1)
    error = q - batch.reward - 0.5 * (1 - batch.terminated) * best
    small = error.abs() < 0.1
    assert 0 < small.sum() < 32
    assert (times.record.first_step == 3).equal(small)


def test_critics_are_averaged(moves):
    agent = CQL(moves.spec, hidden=(8,), policy_hidden=(8,), action_samples=2, batch_size=8)
    summary = followed(agent, moves, steps=5, tau=1e9).summary()
    assert summary["learned"] == [1]


def test_what_cannot_be_followed_is_refused(tiny):
    with pytest.raises(InputError, match="BC: expected an agent with action values"):
        rlop.LearningTimes(BC(tiny.spec), tiny, tau=0.1)
    with pytest.raises(InputError, match="tau"):
        rlop.LearningTimes(DQN(tiny.spec), tiny, tau=0)


def test_a_configuration_records_learning_times_and_heavier_probes(tmp_path):
    path = tmp_path / "small.yaml"
    probes = ["trace/head", "masks/seeds"]
    config = {**SMALL_CONFIG, "probe_every": 10, "probes": probes, "learning_time": {"tau": 0.1}}
    path.write_text(yaml.safe_dump(config))
    assert main(["train", str(path), "--steps", "20", "--logdir", str(tmp_path / "run")]) in (
        0,
        None,
    )

    summary = json.loads((tmp_path / "run" / "learning_time.json").read_text())
    assert len(summary["learned"]) == len(summary["labels"])
    history = rlop.logs.history.read_metrics(tmp_path / "run")
    for name in probes:
        steps, _ = history.get(name)
        assert list(steps) == [0, 10, 20], name


def test_an_unknown_heavier_probe_is_named_before_any_update(tiny):
    agent = DQN(tiny.spec, hidden=(8,), batch_size=8)
    with pytest.raises(InputError, match="probe 'trace/heads': unknown, did you mean"):
        rlop.train(agent, tiny, 10, probes=["trace/heads"], **QUIET)
    assert agent.main.steps == 0
