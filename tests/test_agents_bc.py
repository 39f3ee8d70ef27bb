"""Behavior cloning: each loss against a reference, and policies that it must recover."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.training import all_rows, first_batch, train_steps
from rlop.agents import BC

from rlop.data.dataset import Dataset
from rlop.types import InputError, Spec

SMALL = {"hidden": (16, 16), "batch_size": 8}
# A linear policy that stays well inside the bounds.
GAIN = np.array([[0.3, -0.2], [0.1, 0.25], [-0.35, 0.05]], np.float32)


@pytest.fixture
def linear() -> Dataset:
    """A linear policy with a little noise, on 400 states in [-1, 1]."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, size=(400, 3)).astype(np.float32)
    action = (obs @ GAIN + 0.05 * rng.normal(size=(400, 2))).clip(-1, 1).astype(np.float32)
    reward = np.zeros(400, np.float32)
    never = np.zeros(400, bool)
    return Dataset.from_arrays(obs, action, reward, never, never, obs)


def test_cross_entropy_equals_that_of_pytorch(tiny):
    agent = BC(tiny.spec, seeds=2, **SMALL)
    batch = all_rows(tiny, runs=2)
    losses, metrics = agent.losses(batch, {})
    logits = agent.actor(batch.obs)[1]

    for run in range(2):
        expected = F.cross_entropy(logits[run], torch.from_numpy(tiny.action))
        accuracy = (logits[run].argmax(-1).numpy() == tiny.action).mean()
        assert losses["policy"][run].item() == pytest.approx(expected.item(), rel=1e-5)
        assert metrics["policy/accuracy"][run].item() == pytest.approx(accuracy)


@pytest.mark.parametrize("loss", ["mse", "nll"])
def test_the_squared_error_is_that_of_the_squashed_output(moves, loss):
    """Outputs far beyond 1 count as actions on the bound."""
    agent = BC(moves.spec, loss=loss, **SMALL)
    bias = agent.actor.head.bias.data
    bias.copy_(torch.linspace(-5, 5, bias.numel()).view_as(bias))

    batch = all_rows(moves)
    outputs = agent.actor(batch.obs)
    mean = outputs[1] if loss == "mse" else outputs[0]
    assert mean.abs().max() > 1

    action = np.tanh(mean[0].detach().double().numpy())
    expected = ((action - moves.action) ** 2).mean()
    losses, metrics = agent.losses(batch, {})
    assert metrics["policy/error"].item() == pytest.approx(expected, rel=1e-5)
    if loss == "mse":
        assert losses["policy"].item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(agent.act(batch.obs)[0].numpy(), action, rtol=1e-4, atol=1e-6)


def test_the_likelihood_equals_that_of_pytorch_in_float64(linear):
    agent = BC(linear.spec, loss="nll", **SMALL)
    agent.actor.double()
    batch = all_rows(linear)
    mean, log_std = agent.actor(batch.obs)
    reference = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.TanhTransform()
    )

    action = batch.action.double().clamp(-1 + 1e-6, 1 - 1e-6)
    expected = -reference.log_prob(action).sum(-1).mean()
    assert agent.losses(batch, {})[0]["policy"].item() == pytest.approx(expected.item(), rel=1e-9)


def test_labels_are_noisy_in_the_first_steps_only(tiny):
    """With probability 1, every label is flipped up to `off_after` and none from then on."""
    noise_options = {"probability": 1.0, "off_after": 3}
    noisy = BC(tiny.spec, label_noise=noise_options, lr=1e-9, **SMALL)
    clean = BC(tiny.spec, lr=1e-9, **SMALL)
    batch, noise = first_batch(noisy, tiny)
    expected = clean.losses(batch, {})[1]["loss/bc"].item()

    differs = []
    for _ in range(5):
        loss = noisy.losses(batch, noise)[1]["loss/bc"].item()
        differs.append(loss != pytest.approx(expected, rel=1e-5))
        noisy.update(batch, noise)
    assert differs == [True, True, True, False, False]


@pytest.mark.parametrize("loss", ["mse", "nll"])
def test_a_linear_policy_is_recovered(linear, loss):
    agent = BC(linear.spec, loss=loss, hidden=(64, 64), lr=3e-3, batch_size=128)
    metrics = train_steps(agent, linear, 500)

    obs = torch.rand(1, 200, 3, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    np.testing.assert_allclose(agent.act(obs)[0].numpy(), obs[0].numpy() @ GAIN, atol=0.08)
    assert metrics["policy/error"].item() < 0.05**2 * 1.5

    # The width is learned as well: the noise over the slope of tanh.
    if loss == "nll":
        log_std = agent.actor(obs)[1].mean().item()
        assert log_std == pytest.approx(math.log(0.05), abs=0.35)


def test_a_discrete_policy_is_recovered(tiny):
    tiny.action[:] = (tiny.obs[:, 0] > 0).astype(int) + (tiny.obs[:, 1] > 0)
    agent = BC(tiny.spec, hidden=(64, 64), lr=3e-3, batch_size=64)
    metrics = train_steps(agent, tiny, 300)

    assert metrics["policy/accuracy"].item() > 0.95
    action = agent.act(torch.from_numpy(tiny.obs)[None])[0].numpy()
    assert (action == tiny.action).mean() > 0.95


def test_images_are_cloned_through_the_convolution():
    rng = np.random.default_rng(0)
    obs = rng.random((40, 10, 10, 4)) < 0.1
    never = np.zeros(40, bool)
    data = Dataset.from_arrays(obs, rng.integers(3, size=40), np.zeros(40), never, never, obs)
    agent = BC(data.spec, hidden=(32,), batch_size=8)
    train_steps(agent, data, 2)
    assert agent.features(all_rows(data))[0].shape == (1, 40, 32)
    assert agent.head_weight.shape == (1, 3, 32)


DISCRETE, VECTORS, MATRICES = Spec((3,), 4), Spec((3,), None, (2,)), Spec((3,), None, (2, 2))


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (DISCRETE, {"loss": "mse"}, "loss = mse: expected cross_entropy for discrete actions"),
        (VECTORS, {"loss": "cross_entropy"}, "expected mse or nll for continuous actions"),
        (MATRICES, {}, r"shape \(m,\)"),
        (DISCRETE, {"loss": "hinge"}, "'cross_entropy'"),
        (DISCRETE, {"regularizers": {"dr3": 0.1}}, "unknown key 'regularizers'"),
    ],
    ids=["mse", "cross_entropy", "matrices", "hinge", "regularizers"],
)
def test_bad_options_are_one_line_that_names_them(spec, options, message):
    with pytest.raises(InputError, match=message) as caught:
        BC(spec, **options)
    assert "\n" not in str(caught.value)


def test_actions_beyond_the_bounds_are_refused(linear):
    linear.action[3, 0] = -2.5
    with pytest.raises(InputError, match=r"actions from -2.5 to .*, expected \[-1, 1\]"):
        BC(linear.spec, **SMALL).prepare(linear)
