"""Behaviour cloning: each loss against a reference, the run axis, the compiled graph, and policies it must recover."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.training import train_steps
from rlop.agents import BC

import rlop
from rlop.data.dataset import Dataset
from rlop.data.sampler import Table
from rlop.training.loop import Loop, TrainOptions, compiled
from rlop.types import InputError, Spec

SMALL = {"hidden": (16, 16), "batch_size": 8}
GAIN = np.array(
    [[0.3, -0.2], [0.1, 0.25], [-0.35, 0.05]], np.float32
)  # stays well inside the bounds


@pytest.fixture
def linear() -> Dataset:
    """A linear policy with a little noise, on 400 states in [-1, 1]."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, size=(400, 3)).astype(np.float32)
    action = (obs @ GAIN + 0.05 * rng.normal(size=(400, 2))).clip(-1, 1)
    none = np.zeros(400, bool)
    return Dataset.from_arrays(
        obs, action.astype(np.float32), np.zeros(400, np.float32), none, none, obs
    )


def whole(data, runs=1):
    return Table(data.columns()).gather(torch.arange(len(data)).expand(runs, -1))


def test_cross_entropy_equals_that_of_pytorch(tiny):
    agent = BC(tiny.spec, seeds=2, **SMALL)
    loss, metrics = agent.loss(whole(tiny, 2), {})
    for run in range(2):
        logits = agent.policy(whole(tiny, 2).obs)[1][run]
        expected = F.cross_entropy(logits, torch.from_numpy(tiny.action)).item()
        assert loss[run].item() == pytest.approx(expected, rel=1e-5)
        accuracy = (logits.argmax(-1).numpy() == tiny.action).mean()
        assert metrics["policy/accuracy"][run].item() == pytest.approx(accuracy)


def test_likelihood_equals_that_of_pytorch_in_float64(linear):
    agent = BC(linear.spec, loss="nll", **SMALL)
    agent.policy.double()
    batch = whole(linear)
    mean, log_std = agent.policy(batch.obs)
    reference = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.TanhTransform()
    )
    expected = -reference.log_prob(batch.action.double().clamp(-1 + 1e-6, 1 - 1e-6)).sum(-1).mean()
    assert agent.loss(batch, {})[0].item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("loss", ["mse", "nll"])
def test_a_linear_policy_is_recovered(linear, loss):
    agent = BC(linear.spec, loss=loss, hidden=(64, 64), lr=3e-3, batch_size=128)
    metrics = train_steps(agent, linear, 500)
    obs = torch.rand(1, 200, 3, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    np.testing.assert_allclose(agent.act(obs)[0].numpy(), obs[0].numpy() @ GAIN, atol=0.08)
    assert metrics["policy/error"].item() < 0.05**2 * 1.5
    if loss == "nll":  # the width is learned as well: the noise over the slope of tanh
        log_std = agent.policy(obs)[1].mean().item()
        assert log_std == pytest.approx(math.log(0.05), abs=0.35)


def test_a_discrete_policy_is_recovered(tiny):
    tiny.action[:] = (tiny.obs[:, 0] > 0) + (tiny.obs[:, 1] > 0)
    agent = BC(tiny.spec, hidden=(64, 64), lr=3e-3, batch_size=64)
    metrics = train_steps(agent, tiny, 300)
    assert metrics["policy/accuracy"].item() > 0.95
    assert (agent.act(torch.from_numpy(tiny.obs)[None])[0].numpy() == tiny.action).mean() > 0.95


@pytest.mark.parametrize("loss", ["mse", "nll"])
def test_a_run_alone_equals_itself_among_others(linear, loss):
    rates = [1e-3, 3e-3, 1e-2]
    many = BC(linear.spec, seeds=[3, 4], lr=rates, loss=loss, **SMALL)
    among = train_steps(many, linear, 30)
    for row in (0, 3, 4):
        alone = BC(linear.spec, seeds=[[3, 4][row % 2]], lr=rates[row // 2], loss=loss, **SMALL)
        metrics = train_steps(alone, linear, 30)
        for name, p in many.main.parameters.items():
            torch.testing.assert_close(
                p[row], alone.main.parameters[name][0], rtol=1e-5, atol=1e-5
            )
        for name in metrics:
            assert metrics[name][0].item() == pytest.approx(
                among[name][row].item(), rel=1e-4, abs=1e-5
            )


def test_compiled_equals_eager_in_one_graph(linear):
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    eager, graph = (BC(linear.spec, seeds=2, loss="nll", **SMALL) for _ in range(2))
    counter = CompileCounter()
    expected = train_steps(eager, linear, 10)
    found = train_steps(graph, linear, 10, compiled(graph.update, backend=counter))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1


def test_a_diverging_run_is_frozen_and_its_neighbour_goes_on(linear):
    agent = BC(
        linear.spec, variants={"mad": {"lr": 1e30}, "calm": {"lr": 1e-3}}, loss="nll", **SMALL
    )
    train_steps(agent, linear, 20)
    assert agent.active.tolist() == [False, True]
    assert all(torch.isfinite(p).all() for p in agent.policy.parameters())


def test_probe_loop_and_resumption(linear, tmp_path):
    agent = BC(linear.spec, seeds=2, **SMALL)
    measured = Loop(agent, linear, TrainOptions(steps=1), None).probe()
    assert measured["rank/srank"].shape == (2,)
    quiet = {"log_every": 10, "probe_every": 20, "progress": False}
    whole_run = rlop.train(BC(linear.spec, **SMALL), linear, 40, **quiet)
    rlop.train(BC(linear.spec, **SMALL), linear, 20, logdir=tmp_path, **quiet)
    resumed = rlop.train(
        BC(linear.spec, **SMALL), linear, 40, logdir=tmp_path, resume=True, **quiet
    )
    assert resumed.get("loss/bc")[1][-1] == whole_run.get("loss/bc")[1][-1]


def test_images_are_cloned_through_the_convolution():
    rng = np.random.default_rng(0)
    obs = rng.random((40, 10, 10, 4)) < 0.1
    none = np.zeros(40, bool)
    data = Dataset.from_arrays(obs, rng.integers(3, size=40), np.zeros(40), none, none, obs)
    agent = BC(data.spec, hidden=(32,), batch_size=8)
    train_steps(agent, data, 2)
    assert agent.features(whole(data))[0].shape == (1, 40, 32)
    assert agent.head_weight.shape == (1, 3, 32)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (Spec((3,), 4), {"loss": "mse"}, "loss = mse: expected cross_entropy for discrete actions"),
        (
            Spec((3,), None, (2,)),
            {"loss": "cross_entropy"},
            "expected mse or nll for continuous actions",
        ),
        (Spec((3,), None, (2, 2)), {}, r"shape \(m,\)"),
        (Spec((3,), 4), {"loss": "hinge"}, "'cross_entropy'"),
        (Spec((3,), 4), {"lr": 0.0}, "lr"),
        (Spec((3,), 4), {"regularizers": {"dr3": 0.1}}, "unknown key 'regularizers'"),
        (Spec((3,), 4), {"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_options_are_one_line_that_names_them(spec, options, message):
    with pytest.raises(InputError, match=message) as caught:
        BC(spec, **options)
    assert "\n" not in str(caught.value)


def test_actions_beyond_the_bounds_are_refused(linear):
    linear.action[3, 0] = -2.5
    with pytest.raises(InputError, match=r"actions from -2.5 to .*, expected \[-1, 1\]"):
        BC(linear.spec, **SMALL).prepare(linear)
