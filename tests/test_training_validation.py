"""Validation: episodes that are held out, the loss on them, and stopping by it."""

import numpy as np
import pytest
import torch
import yaml
from helpers.agents import ROWS
from helpers.training import SMALL_CONFIG, all_rows, parameters_of
from rlop.agents import BC, DQN

import rlop
from rlop.cli import main
from rlop.data.dqn_replay.window import RollingWindow
from rlop.logs.history import read_metrics
from rlop.training.checkpoint import load
from rlop.training.options import TrainOptions
from rlop.training.validation import split, validation_of
from rlop.types import InputError

METRIC = "loss/validation"
SCHEDULE = {"log_every": 10, "probe_every": 10, "eval_every": 0, "progress": False}
every_agent = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


def same_parameters(one, other):
    pairs = zip(parameters_of(one).items(), parameters_of(other).values())
    return all(torch.equal(value, twin) for (_, value), twin in pairs)


def test_whole_episodes_are_held_out_in_their_order(tiny):
    rest, held_out = split(tiny, 0.25)
    assert (len(rest), len(held_out)) == (150, 50)
    for part in (rest, held_out):
        assert part.episode_lengths().tolist() == [10] * (len(part) // 10)
    row_of = {reward: row for row, reward in enumerate(tiny.reward.tolist())}
    rows = [[row_of[reward] for reward in part.reward.tolist()] for part in (rest, held_out)]
    assert sorted(rows[0] + rows[1]) == list(range(200))
    assert all(part == sorted(part) for part in rows)
    assert rest.spec.changes == ("hold_out(share=0.25)",)
    assert split(tiny, 0.25)[1].reward.tolist() == held_out.reward.tolist()


def test_a_large_share_leaves_an_episode_to_train_on(tiny):
    rest, held_out = split(tiny, 0.999)
    assert (len(rest), len(held_out)) == (10, 190)


@every_agent
def test_measuring_changes_nothing_for_every_agent(row, tiny, moves):
    data = moves if row.continuous else tiny
    whole, rest = row.make(data, variants=row.variants), row.make(data, variants=row.variants)
    options = {"compile": False, **SCHEDULE}
    curves = rlop.train(whole, data, 10, validation=0.3, **options)
    expected = rlop.train(rest, split(data, 0.3)[0], 10, **options)

    steps, values = curves.get(METRIC)
    assert steps.tolist() == [0, 10]
    assert values.shape == (2, len(whole.runs))
    assert np.isfinite(values).all()
    assert same_parameters(whole, rest)
    assert set(curves.metrics) - set(expected.metrics) == {METRIC}
    np.testing.assert_array_equal(curves.get("loss/total")[1], expected.get("loss/total")[1])


def test_running_statistics_are_not_moved(tiny):
    agents = [DQN(tiny.spec, hidden=(8,), batch_size=8, layers={"norm": "batch"}) for _ in "ab"]
    rlop.train(agents[0], tiny, 20, validation=0.3, compile=False, **SCHEDULE)
    rlop.train(agents[1], split(tiny, 0.3)[0], 20, compile=False, **SCHEDULE)
    assert same_parameters(*agents)
    for one, other in zip(agents[0].online.buffers(), agents[1].online.buffers(), strict=True):
        assert torch.equal(one, other)


def test_the_loss_is_that_of_all_transitions_held_out(tiny):
    agent = DQN(tiny.spec, seeds=2, hidden=(8,), batch_size=20, regularizers={"dr3": 1.0})
    curves = rlop.train(agent, tiny, 1, validation=0.3, compile=False, **SCHEDULE)
    held_out = split(tiny, 0.3)[1]  # 60 transitions, three batches

    with torch.no_grad():
        agent.main.allot(60)
        _, metrics = agent.losses(all_rows(held_out, runs=2), {})
    np.testing.assert_allclose(curves.get(METRIC)[1][-1], metrics["loss/td"], rtol=1e-5)


def test_of_cloning_it_is_the_cross_entropy(tiny):
    agent = BC(tiny.spec, hidden=(8,), batch_size=64)
    curves = rlop.train(agent, tiny, 1, validation=0.3, compile=False, **SCHEDULE)

    # 60 transitions for a batch of 64: the first four in the order drawn count twice.
    held_out = split(tiny, 0.3)[1]
    rows = np.resize(np.random.default_rng(0).permutation(60), 64)
    logits = agent.actor(torch.from_numpy(held_out.obs)[None])[1][0].detach().numpy()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -log_p[np.arange(60), held_out.action][rows].mean()
    assert curves.get(METRIC)[1][-1, 0] == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def noisy():
    """Labels that are chance: whoever learns them by heart predicts others worse."""
    rng = np.random.default_rng(1)
    return rlop.data.Dataset.from_arrays(
        rng.normal(size=(80, 3)).astype(np.float32),
        rng.integers(2, size=80),
        rng.normal(size=80).astype(np.float32),
        np.arange(80) % 4 == 3,
        np.zeros(80, bool),
        rng.normal(size=(80, 3)).astype(np.float32),
        n_actions=2,
    )


def overfitting(data):
    return DQN(data.spec, seeds=2, hidden=(64, 64), batch_size=32, lr=3e-3, backup="mc")


def stopping():
    return rlop.EarlyStopping(metric=METRIC, mode="min", patience=3)


OVERFIT = {**SCHEDULE, "compile": False, "validation": 0.4, "checkpoint_every": 10}


def test_a_training_that_learns_by_heart_is_stopped(noisy, tmp_path):
    curves = rlop.train(
        overfitting(noisy), noisy, 1000, logdir=tmp_path, callbacks=[stopping()], **OVERFIT
    )
    steps, values = curves.get(METRIC)
    means = values.mean(1)
    assert steps[-1] < 1000
    assert steps[-1] - steps[means.argmin()] == 30  # the patience
    assert means[-1] > means.min()
    training = curves.get("loss/td")[1].mean(1)
    assert training[-1] < training[0]


def test_a_resume_measures_and_stops_as_the_whole_training(noisy, tmp_path):
    whole, half = tmp_path / "whole", tmp_path / "half"
    expected = overfitting(noisy)
    rlop.train(expected, noisy, 200, logdir=whole, callbacks=[stopping()], **OVERFIT)

    class Crash(rlop.Callback):
        def on_checkpoint(self, step, path):
            raise RuntimeError("pulled the plug")

    crashing = [stopping(), Crash()]
    with pytest.raises(RuntimeError, match="the plug"):
        rlop.train(overfitting(noisy), noisy, 200, logdir=half, callbacks=crashing, **OVERFIT)
    agent = overfitting(noisy)
    rlop.train(agent, noisy, 200, logdir=half, resume=True, callbacks=[stopping()], **OVERFIT)

    assert same_parameters(agent, expected)
    curves, first = read_metrics(half), read_metrics(whole)
    assert curves.steps[-1] == first.steps[-1] < 200
    for name in first.metrics.keys() - {"time/steps_per_s"}:
        np.testing.assert_array_equal(curves.get(name)[1], first.get(name)[1], err_msg=name)


def test_another_share_is_refused_and_known_to_the_checkpoint(tiny, tmp_path):
    def train(**options):
        agent = DQN(tiny.spec, hidden=(8,), batch_size=8)
        rlop.train(agent, tiny, 10, logdir=tmp_path, compile=False, **SCHEDULE, **options)
        return agent

    assert train(validation=0.3).spec.changes == ("hold_out(share=0.3)",)
    content = load(tmp_path / "checkpoint.pt")
    assert content["spec"]["changes"] == ("hold_out(share=0.3)",)
    assert '"validation": 0.3' in (tmp_path / "run.json").read_text()
    with pytest.raises(InputError, match=r"validation = 0\.3 -> 0\.2"):
        train(validation=0.2, resume=True)
    with pytest.raises(InputError, match=r"validation = 0\.3 -> unset"):
        train(resume=True)


def test_without_it_a_checkpoint_says_what_those_of_earlier_versions_say(tiny, tmp_path):
    agent = DQN(tiny.spec, hidden=(8,), batch_size=8)
    rlop.train(agent, tiny, 1, logdir=tmp_path, compile=False, **SCHEDULE)
    assert "validation" not in load(tmp_path / "checkpoint.pt")["training"]["identity"]


def test_the_command_line_stops_by_it(tmp_path, capsys):
    path = tmp_path / "held_out.yaml"
    settings = {
        **SMALL_CONFIG,
        "steps": 50,
        "probe_every": 5,
        "validation": 0.2,
        "early_stopping": {"metric": METRIC, "mode": "min", "patience": 1},
    }
    settings["agent"] = {**settings["agent"], "lr": 0.5}
    path.write_text(yaml.safe_dump(settings))
    logdir = tmp_path / "run"
    assert main(["train", str(path), "--logdir", str(logdir)]) == 0
    assert read_metrics(logdir).steps[-1] < 50
    assert "by EarlyStopping: loss/validation has not improved" in capsys.readouterr().err
    assert main(["info", str(logdir)]) == 0
    assert "hold_out(share=0.2)" in capsys.readouterr().out


def test_what_it_cannot_work_with_is_named(tiny):
    agent = DQN(tiny.spec, hidden=(8,), batch_size=8)
    with pytest.raises(InputError, match=r"probe_every = 0: measured with the probe"):
        rlop.train(agent, tiny, 1, validation=0.1, probe_every=0)
    window = RollingWindow.__new__(RollingWindow)
    with pytest.raises(InputError, match=r"expected data without a window"):
        validation_of(agent, window, TrainOptions(validation=0.1))
    with pytest.raises(InputError, match=r"expected several episodes, arrays has one"):
        rlop.train(agent, tiny.subset(np.arange(10)), 1, validation=0.1)
    with pytest.raises(InputError, match=r"validation = 1: expected a number in \[0, 1\)"):
        rlop.train(agent, tiny, 1, validation=1)


def test_an_agent_that_needs_gradients_for_its_loss_is_named(tiny):
    class Sharp(DQN):
        def losses(self, batch, noise):
            losses, metrics = super().losses(batch, noise)
            torch.autograd.grad(losses["q"].sum(), self.online.head.weight, retain_graph=True)
            return losses, metrics

    agent = Sharp(tiny.spec, hidden=(8,), batch_size=8)
    with pytest.raises(InputError, match="losses of Sharp that need no gradients"):
        rlop.train(agent, tiny, 1, validation=0.1, compile=False, **SCHEDULE)
