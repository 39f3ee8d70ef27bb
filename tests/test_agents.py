"""What holds for every agent: one row an agent, one test a property."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.agents import ROWS, Row
from helpers.training import parameters_of, train_steps
from rlop.agents import CQL, DQN, NeuralTD

import rlop
from rlop.agent import Agent
from rlop.agent_checks import REQUIRED_METRICS
from rlop.data.dataset import Dataset
from rlop.data.sampler import Streams, Table
from rlop.training.checkpoint import load, load_agent
from rlop.types import InputError, Spec

STEPS = 25


every_agent = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


@pytest.fixture
def data_of(tiny, moves) -> Callable[[Row], Dataset]:
    return lambda row: moves if row.continuous else tiny


def obs_of(data: Dataset, runs: int) -> torch.Tensor:
    return torch.from_numpy(data.obs[:32]).expand(runs, -1, -1)


def behavior_of(agent: Agent, data: Dataset) -> torch.Tensor:
    """What the agent answers: its actions, or NeuralTD's values."""
    obs = obs_of(data, len(agent.runs))
    return agent.values(obs) if isinstance(agent, NeuralTD) else agent.act(obs)


@every_agent
def test_an_update_returns_the_required_metrics_one_number_a_run(row, data_of):
    data = data_of(row)
    agent = row.make(data, seeds=3)
    metrics = train_steps(agent, data, 2)
    assert set(REQUIRED_METRICS) <= set(metrics)
    for name, value in metrics.items():
        assert value.shape == (3,), name
        assert not value.requires_grad, name
        assert torch.isfinite(value).all(), name


@every_agent
def test_a_run_alone_equals_itself_among_others(row, data_of):
    data = data_of(row)
    many = row.make(data, seeds=[3, 7], variants=row.variants)
    among = train_steps(many, data, STEPS)
    for position, name in enumerate(row.variants):
        alone = row.make(data, seeds=[7], variants={name: {**row.off, **row.variants[name]}})
        metrics = train_steps(alone, data, STEPS)

        run = 2 * position + 1
        for key, parameter in parameters_of(many).items():
            expected = parameters_of(alone)[key][0]
            torch.testing.assert_close(parameter[run], expected, rtol=1e-4, atol=1e-5)
        for key, value in metrics.items():
            assert value[0].item() == pytest.approx(among[key][run].item(), rel=1e-3, abs=1e-4), key


@every_agent
def test_variants_train_to_other_parameters(row, data_of):
    data = data_of(row)
    agent = row.make(data, variants=row.variants)
    train_steps(agent, data, STEPS)
    for run in range(1, len(row.variants)):
        parameters = parameters_of(agent).values()
        assert any(not torch.equal(parameter[run], parameter[0]) for parameter in parameters), run


@every_agent
def test_equal_runs_report_what_one_run_reports(row, data_of):
    data = data_of(row)
    one = train_steps(row.make(data, seeds=[5]), data, 10)
    name = next(iter(row.variants))
    variants = {f"{name}{i}": {} for i in range(4)}
    four = train_steps(row.make(data, seeds=[5], variants=variants), data, 10)
    for key, value in one.items():
        torch.testing.assert_close(four[key], value.expand(4), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS.values() if row.mad],
    ids=[name for name, row in ROWS.items() if row.mad],
)
def test_a_diverging_run_is_frozen_for_good_and_its_neighbor_goes_on(row, data_of):
    data = data_of(row)
    agent = row.make(data, variants={"mad": row.mad, "calm": {}})
    alone = row.make(data, variants={"calm": {}})
    train_steps(agent, data, STEPS)
    train_steps(alone, data, STEPS)
    assert agent.active.tolist() == [False, True]
    frozen = {name: p[0].clone() for name, p in parameters_of(agent).items()}

    for name, parameter in parameters_of(agent).items():
        assert torch.isfinite(parameter).all(), name
        expected = parameters_of(alone)[name][0]
        torch.testing.assert_close(parameter[1], expected, rtol=1e-4, atol=1e-5)

    # It stays frozen, bit for bit, after a round trip through another agent.
    other = row.make(data, seeds=[9], variants={"mad": row.mad, "calm": {}})
    other.prepare(data)
    other.load_state_dict(copy.deepcopy(agent.state_dict()))
    train_steps(other, data, 5)
    assert other.active.tolist() == [False, True]
    for name, parameter in parameters_of(other).items():
        assert torch.equal(parameter[0], frozen[name]), name


@every_agent
def test_state_carries_on_exactly_in_another_agent(row, data_of):
    data = data_of(row)
    first = row.make(data, seeds=2)
    train_steps(first, data, 10)
    second = row.make(data, seeds=[8, 9])
    second.prepare(data)
    second.load_state_dict(copy.deepcopy(first.state_dict()))

    table = Table(first.prepare(data).columns())
    streams = Streams([1, 2], first.batch_size, len(table), first.noise)
    for _ in range(5):
        index, noise = streams.next()
        for agent in (first, second):
            agent.update(table.gather(index), noise)
            agent.update_target()
    for name, parameter in parameters_of(first).items():
        assert torch.equal(parameters_of(second)[name], parameter), name
    for name, learner in first.learners.items():
        for key, start in learner.initial.items():
            assert torch.equal(second.learners[name].initial[key], start), key


@every_agent
def test_a_resumed_training_equals_an_uninterrupted_one(row, data_of, tmp_path):
    data = data_of(row)
    options = {"log_every": 5, "probe_every": 10, "progress": False}
    whole, half, rest = (row.make(data, seeds=2) for _ in range(3))
    expected = rlop.train(whole, data, 20, logdir=tmp_path / "whole", **options)
    rlop.train(half, data, 10, logdir=tmp_path / "half", **options)
    history = rlop.train(rest, data, 20, logdir=tmp_path / "half", resume=True, **options)
    for name, parameter in parameters_of(whole).items():
        assert torch.equal(parameters_of(rest)[name], parameter), name
    for name, (steps, values) in expected.metrics.items():
        if not name.startswith("time/"):
            np.testing.assert_array_equal(history.get(name)[0], steps, name)
            np.testing.assert_array_equal(history.get(name)[1], values, name)


@every_agent
def test_a_checkpoint_rebuilds_the_agent_from_names_and_numbers(row, data_of, tmp_path):
    data = data_of(row)
    agent = row.make(data, seeds=2, variants=row.variants)
    rlop.train(agent, data, 5, logdir=tmp_path, log_every=5, probe_every=0, progress=False)
    again, content = load_agent(tmp_path / "checkpoint.pt")
    assert content["step"] == 5
    assert again.runs == agent.runs
    assert again.config == agent.config
    assert torch.equal(behavior_of(again, data), behavior_of(agent, data))


@every_agent
def test_copies_act_alike(row, data_of):
    data = data_of(row)
    agent = row.make(data, seeds=2)
    train_steps(agent, data, 3)
    expected = behavior_of(agent, data)
    for twin in (pickle.loads(pickle.dumps(agent)), copy.deepcopy(agent)):
        assert torch.equal(behavior_of(twin, data), expected)
        train_steps(twin, data, 2)  # and train on, apart from the original
    assert torch.equal(behavior_of(agent, data), expected)


@every_agent
def test_targets_get_no_gradient_and_move_only_when_asked(row, data_of):
    data = data_of(row)
    agent = row.make(data)
    table = Table(agent.prepare(data).columns())
    streams = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise)
    learners = [learner for learner in agent.learners.values() if learner.target is not None]
    start = [[p.clone() for p in learner.target.parameters()] for learner in learners]
    for _ in range(3):
        index, noise = streams.next()
        agent.update(table.gather(index), noise)

    for learner, before in zip(learners, start):
        for parameter, old in zip(learner.target.parameters(), before):
            assert not parameter.requires_grad
            assert parameter.grad is None
            assert torch.equal(parameter, old)
    agent.update_target()
    for learner, before in zip(learners, start):
        moved = [not torch.equal(p, old) for p, old in zip(learner.target.parameters(), before)]
        assert any(moved)


@every_agent
def test_each_loss_descends_only_its_own_network(row, data_of):
    data = data_of(row)
    agent = row.make(data)
    table = Table(agent.prepare(data).columns())
    streams = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise)
    index, noise = streams.next()
    batch = agent.main.relaxed(table.gather(index))
    losses, _ = agent.losses(batch, noise)
    assert next(iter(losses)) == next(iter(agent.learners))
    assert set(losses) == set(agent.learners)
    for name, loss in losses.items():
        parameters = list(agent.learners[name].parameters.values())
        gradients = torch.autograd.grad(loss.sum(), parameters, retain_graph=True)
        assert any(gradient.abs().sum() > 0 for gradient in gradients), name


@every_agent
def test_features_and_head_have_the_shapes_of_the_contract(row, data_of):
    data = data_of(row)
    agent = row.make(data, seeds=3)
    table = Table(data.columns())
    batch = table.gather(torch.arange(16).expand(3, -1))
    features, next_features = agent.features(batch)
    assert features.shape == next_features.shape
    assert features.shape[0] == 3
    assert features.shape[-2] == 16
    assert not features.requires_grad
    weight = agent.head_weight
    assert weight.shape[: weight.ndim - 2] == features.shape[:-2]
    assert weight.shape[-1] == features.shape[-1]
    if not isinstance(agent, NeuralTD):
        actions = agent.act(batch.obs)
        assert actions.shape == batch.action.shape
        assert actions.dtype == batch.action.dtype


@every_agent
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, r"agent.*lr = -1"),
        ({"lr": [1e-3, "fast"]}, "lr"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_sise": 8}, "did you mean 'batch_size'"),
        ({"seeds": []}, "seeds"),
        ({"variants": {"x": {"lr": 0.0}}}, r"variants\.x.*lr = 0"),
        ({"variants": {"x": {"hidden": 3}}}, r"variants\.x.*hidden"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_options_are_one_line_that_names_them(row, data_of, options, message):
    with pytest.raises(InputError, match=message) as caught:
        row.make(data_of(row), **options)
    assert "\n" not in str(caught.value)


def test_a_missing_metric_is_named_at_the_first_update(tiny):
    class Silent(DQN):
        def update(self, batch, noise):
            metrics = super().update(batch, noise)
            del metrics["loss/total"]
            return metrics

    with pytest.raises(InputError, match=r"Silent\.update: metric 'loss/total' is missing"):
        rlop.train(Silent(tiny.spec, hidden=(8,), batch_size=8), tiny, 5, progress=False)


def test_a_metric_of_another_shape_is_named_at_the_first_update(tiny):
    class Scalar(DQN):
        def update(self, batch, noise):
            return {**super().update(batch, noise), "mine": torch.zeros(())}

    with pytest.raises(InputError, match=r"Scalar\.update: metric 'mine' has shape \(\)"):
        rlop.train(Scalar(tiny.spec, hidden=(8,), batch_size=8), tiny, 5, progress=False)


def test_an_infinite_loss_with_finite_gradients_freezes_the_run(tiny):
    """Under the Huber loss an infinite target gives gradients of size 1."""
    tiny.reward[:] = np.inf
    agent = DQN(tiny.spec, hidden=(8,), batch_size=8)
    before = {name: p.clone() for name, p in parameters_of(agent).items()}
    train_steps(agent, tiny, 1)
    assert agent.active.tolist() == [False]
    for name, parameter in parameters_of(agent).items():
        assert torch.equal(parameter, before[name]), name


def test_continuous_and_discrete_agents_refuse_the_other_data():
    with pytest.raises(InputError, match="expected discrete actions"):
        DQN(Spec((4,), None, (2,)))
    with pytest.raises(InputError, match=r"expected continuous actions of shape \(m,\)"):
        CQL(Spec((4,), 3))


def test_checkpoints_of_the_first_format_are_read(tiny, tmp_path):
    agent = DQN(tiny.spec, hidden=(8,), batch_size=8, backup="max")
    rlop.train(agent, tiny, 5, logdir=tmp_path, log_every=5, probe_every=0, progress=False)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    old_config = {**content["config"], "backup": "behaviour"}
    old = {**content, "format": 1, "state": content["state"]["q"], "config": old_config}
    torch.save(old, tmp_path / "old.pt")
    assert load(tmp_path / "old.pt")["config"]["backup"] == "behavior"

    again, _ = load_agent(tmp_path / "old.pt")
    assert again.config.backup == "behavior"
    assert torch.equal(behavior_of(again, tiny), behavior_of(agent, tiny))
