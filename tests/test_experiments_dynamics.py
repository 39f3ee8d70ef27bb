"""The experiments on the course of training: formulas by hand or a second way."""

import pytest
import torch
from torch import Generator

from rlop.experiments import smoothed_relu


def test_the_huberized_relu_by_hand():
    """With h = .1: 0, z^2 / .2 at .05 and .1, and .3 - .05; its slope is 1 beyond h."""
    z = torch.tensor([-1.0, 0.05, 0.1, 0.3], requires_grad=True)
    value = smoothed_relu.huberized_relu(z)
    torch.testing.assert_close(value, torch.tensor([0.0, 0.0125, 0.05, 0.25]))
    (slope,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(slope, torch.tensor([0.0, 0.5, 1.0, 1.0]))


@pytest.mark.parametrize(("power", "expected"), [(1.0, 1.0), (2.0, 3.0), (0.5, 0.41421)])
def test_the_growth_of_the_inverse_loss_by_hand(power, expected):
    """J = 1 / t^p from t = 0 on: (2^p - 1) / 1."""
    t = torch.arange(2001, dtype=torch.float64)
    losses = 1 / (1e-9 + t**power)
    assert smoothed_relu.growth(losses[:, None]) == pytest.approx(expected, rel=0.01)
    assert smoothed_relu.growth(torch.ones(10, 1)) == 0


def test_a_loss_on_inputs_with_both_labels_cannot_fall_below_log_2():
    generator = Generator().manual_seed(0)
    data = smoothed_relu.sample(generator, separated=False)
    weights = smoothed_relu.start(2, generator)
    losses = smoothed_relu.descend(weights, data, smoothed_relu.huberized_relu, 50)
    assert losses.min() >= torch.tensor(2.0).log() - 1e-6
