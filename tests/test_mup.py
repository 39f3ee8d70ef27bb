"""Parametrizations: exponents, foldings that are the same training, and the coordinate check."""

import math

import pytest
import torch

from rlop.nets import MLP, Layers, QNetwork, reset_runs, with_layers
from rlop.nets.linear import Linear
from rlop.nets.mup import (
    EXPONENTS,
    ScaledLinear,
    abc_exponent,
    coordinate_check,
    exponents,
    rate_exponent,
)
from rlop.optim import Adam
from rlop.types import InputError


def test_abc_exponent_of_the_known_parametrizations():
    depth = 3  # hidden layers
    standard = [0.0] * (depth + 1), [0.0] + [0.5] * depth
    assert abc_exponent(*standard, c=1.0) == 0.5
    assert abc_exponent(*standard, c=0.0) == -1.0  # blows up
    assert abc_exponent([0.0] + [0.5] * depth, [0.0] * (depth + 1)) == 0.5  # NTK
    assert abc_exponent([-0.5] + [0.0] * (depth - 1) + [0.5], [0.5] * (depth + 1)) == 0.0  # muP
    for name, expected in (("standard", -1.0), ("ntk", 0.5), ("mup", 0.0)):
        first, hidden, last = EXPONENTS[name]["sgd"]
        a, b = zip(first, hidden, hidden, last, strict=True)
        assert abc_exponent(a, b) == expected
    with pytest.raises(ValueError, match="at least 2 layers"):
        abc_exponent([0.0], [0.0])


def test_rates_and_draws_are_those_of_the_table():
    """muP: Adam's rate 1, 1/n, 1/n and SGD's n, 1, 1/n; W drawn at 1, n^-1/2, n^-1, whatever the folding."""
    roles = ("input", "hidden", "output")
    assert [rate_exponent("mup", role, "adam") for role in roles] == [0, -1, -1]
    assert [rate_exponent("mup", role, "sgd") for role in roles] == [1, 0, -1]
    for optimizer in ("adam", "sgd"):
        assert [sum(exponents("mup", role, optimizer)) for role in roles] == [0, 0.5, 1]
        assert [sum(exponents("standard", role, optimizer)) for role in roles] == [0, 0.5, 0.5]
        assert [sum(exponents("ntk", role, optimizer)) for role in roles] == [0, 0.5, 0.5]
    with pytest.raises(InputError, match="parametrization 'mu'"):
        exponents("mu", "input")


@pytest.mark.parametrize("role", ["input", "hidden", "output"])
def test_folded_constants_are_learning_rates_of_the_layer(role):
    """A folded layer under Adam is a plain layer whose weight has the learning rate of the table."""
    ratio = 4
    layer = ScaledLinear((1,), 32, 6, "mup", role, base_width=32 // ratio)
    reset_runs(layer, [0])
    effective = (layer.multiplier * layer.weight).detach().clone().requires_grad_()
    bias = layer.bias.detach().clone().requires_grad_()
    folded = Adam(layer.parameters(), 1e-3, eps=0.0)
    plain = [
        Adam([effective], 1e-3 * float(ratio) ** rate_exponent("mup", role), eps=0.0),
        Adam([bias], 1e-3, eps=0.0),
    ]
    for step in range(10):
        x = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(step))
        params = list(layer.parameters())
        folded.apply(list(torch.autograd.grad((layer(x) - 1).square().sum(), params)))
        loss = (x @ effective.mT + bias.unsqueeze(1) - 1).square().sum()
        for optimizer, gradient in zip(
            plain, torch.autograd.grad(loss, [effective, bias]), strict=True
        ):
            optimizer.apply([gradient])
    torch.testing.assert_close(layer.multiplier * layer.weight, effective, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(layer.bias, bias, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["standard", "ntk", "mup"])
def test_at_the_base_width_all_are_the_plain_layer(kind):
    plain = Linear((2,), 16, 5)
    reset_runs(plain, [0, 1])
    for role in ("input", "hidden", "output"):
        layer = ScaledLinear((2,), 16, 5, kind, role, base_width=16)
        reset_runs(layer, [0, 1])
        assert layer.multiplier == 1.0
        assert torch.equal(layer.weight, plain.weight)
        assert torch.equal(layer.bias, plain.bias)
    zero = ScaledLinear((2,), 16, 5, kind, "output", 16, zero=True)
    reset_runs(zero, [0, 1])
    assert not zero(torch.randn(2, 3, 16)).any()


def build(kind, runs=2, zero=False):
    def make(width):
        network = QNetwork(MLP((runs,), 8, (width, width)), 3, runs)
        reset_runs(with_layers(network, Layers(parametrization=kind, zero_head=zero)), range(runs))
        return network

    return make


def slope(sizes, widths):
    """Of log size over log width, by least squares."""
    x = torch.tensor([math.log(width) for width in widths])
    y = sizes.log() - sizes.log().mean()
    return ((x - x.mean()) * y).sum().item() / (x - x.mean()).square().sum().item()


@pytest.mark.parametrize("zero", [False, True])
def test_coordinates_are_flat_over_widths_in_mup_and_not_in_the_standard_parametrization(zero):
    generator = torch.Generator().manual_seed(0)
    obs, target = (
        torch.randn(2, 16, 8, generator=generator),
        torch.randn(2, 16, 3, generator=generator),
    )
    widths = (64, 128, 256, 512, 1024)
    mup = coordinate_check(build("mup", zero=zero), obs, target, widths)
    standard = coordinate_check(build("standard", zero=zero), obs, target, widths)
    assert list(mup) == ["torso.layers.0", "torso.layers.1", "head"]
    for name, sizes in mup.items():
        assert sizes.shape == (5,)
        assert abs(slope(sizes, widths)) < 0.1, name
    assert slope(standard["torso.layers.1"], widths) > 0.5
