"""Parametrizations: exponents, foldings that are the same training, and the coordinate check."""

import math

import pytest
import torch

from rlop.nets import MLP, Layers, QNetwork, reset_runs, with_layers
from rlop.nets.linear import Linear
from rlop.nets.mup import EXPONENTS, ScaledLinear, abc_exponent, exponents
from rlop.optim import Adam
from rlop.probes.coordinates import coordinate_check
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


def test_draws_are_those_of_the_table():
    """W is drawn at n^-(a + b): 1, n^-1/2 and n^-1 in muP, however the constants are folded."""
    roles = ("input", "hidden", "output")
    for optimizer in ("adam", "sgd"):
        assert [sum(exponents("mup", role, optimizer)) for role in roles] == [0, 0.5, 1]
        assert [sum(exponents("standard", role, optimizer)) for role in roles] == [0, 0.5, 0.5]
        assert [sum(exponents("ntk", role, optimizer)) for role in roles] == [0, 0.5, 0.5]
    with pytest.raises(InputError, match="parametrization 'mu'"):
        exponents("mu", "input")


# Learning rate of W relative to the base width: tables of muP for Adam in arXiv:2203.03466.
ADAM_RATES = {"input": 1.0, "hidden": 1 / 4, "output": 1 / 4}


@pytest.mark.parametrize("eps", [1e-12, 3.125e-4, 1e-2])
def test_a_network_trains_as_with_learning_rates_set_layer_by_layer_at_every_epsilon(eps):
    """PyTorch's Adam with parameter groups on plain weights, and muP's readout multiplier."""
    width, base, lr = 32, 8, 1e-2
    shapes = {"input": (5, width), "hidden": (width, width), "output": (width, 3)}
    generator = torch.Generator().manual_seed(0)
    layers = {}
    weights = {}
    groups = []
    for role, (n_in, n_out) in shapes.items():
        layer = ScaledLinear((1,), n_in, n_out, "mup", role, base).double()
        layer.weight.data.normal_(0, 0.3, generator=generator)
        layer.bias.data.zero_()
        layers[role] = layer

        # The output's multiplier stays in front of its weight; the hidden layer's is a learning
        # rate.
        scale = layer.multiplier if role == "hidden" else 1.0
        weight = (scale * layer.weight[0]).detach().clone().requires_grad_()
        bias = torch.zeros(n_out, dtype=torch.float64, requires_grad=True)
        weights[role] = (weight, bias)
        rate = lr * ADAM_RATES[role] if role == "hidden" else lr
        groups += [{"params": [weight], "lr": rate}, {"params": [bias], "lr": lr}]

    def reference(x):
        for role in ("input", "hidden"):
            weight, bias = weights[role]
            x = torch.relu(x @ weight.T + bias)
        weight, bias = weights["output"]
        return layers["output"].multiplier * (x @ weight.T) + bias

    parameters = [p for layer in layers.values() for p in layer.parameters()]
    ours = Adam(parameters, torch.tensor([lr], dtype=torch.float64), eps=eps)
    ours.param_groups[0]["lr"] = ours.param_groups[0]["lr"].double()
    ours.param_groups[0]["step"] = ours.param_groups[0]["step"].double()
    theirs = torch.optim.Adam(groups, eps=eps)
    for _ in range(20):
        x = torch.randn(1, 16, 5, generator=generator, dtype=torch.float64)
        hidden = torch.relu(layers["hidden"](torch.relu(layers["input"](x))))
        outputs = layers["output"](hidden)
        torch.testing.assert_close(outputs[0], reference(x[0]), rtol=1e-6, atol=1e-9)
        ours.apply(list(torch.autograd.grad((outputs - 1).square().mean(), parameters)))
        theirs.zero_grad()
        (reference(x[0]) - 1).square().mean().backward()
        theirs.step()


def test_biases_start_as_wide_as_at_the_base_width():
    """A bias is drawn in +-1/sqrt(inputs at the base width), not in +-1/sqrt(inputs)."""
    layer = ScaledLinear((1,), 64, 4096, "mup", "hidden", base_width=16)
    reset_runs(layer, [0])
    assert layer.bias.abs().max().item() == pytest.approx(16**-0.5, rel=1e-2)


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
