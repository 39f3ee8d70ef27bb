"""Parametrizations: exponents, foldings that are the same training, and the coordinate check."""

import math

import pytest
import torch
from helpers.nets import descend

from rlop.nets import MLP, Layers, QNetwork, reset_runs, with_layers
from rlop.nets.linear import Linear
from rlop.nets.mup import EXPONENTS, ScaledLinear, abc_exponent, exponents
from rlop.optim import Adam
from rlop.probes.coordinates import coordinate_check
from rlop.types import InputError

ROLES = ("input", "hidden", "output")
F64 = torch.float64


# --- exponents ---

HIDDEN = 3  # layers
STANDARD = [0.0] * (HIDDEN + 1), [0.0] + [0.5] * HIDDEN
NTK = [0.0] + [0.5] * HIDDEN, [0.0] * (HIDDEN + 1)
MUP = [-0.5] + [0.0] * (HIDDEN - 1) + [0.5], [0.5] * (HIDDEN + 1)


@pytest.mark.parametrize(
    ("a", "b", "c", "r"),
    [(*STANDARD, 1.0, 0.5), (*STANDARD, 0.0, -1.0), (*NTK, 0.0, 0.5), (*MUP, 0.0, 0.0)],
    ids=["standard", "standard blows up", "ntk", "mup"],
)
def test_abc_exponent_of_the_known_parametrizations(a, b, c, r):
    assert abc_exponent(a, b, c) == r


@pytest.mark.parametrize(("name", "r"), [("standard", -1.0), ("ntk", 0.5), ("mup", 0.0)])
def test_the_table_has_the_exponents_of_its_names(name, r):
    first, hidden, last = EXPONENTS[name]["sgd"]
    a, b = zip(first, hidden, hidden, last, strict=True)
    assert abc_exponent(a, b) == r


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(
    ("name", "scales"), [("standard", [0, 0.5, 0.5]), ("ntk", [0, 0.5, 0.5]), ("mup", [0, 0.5, 1])]
)
def test_draws_are_those_of_the_table(name, scales, optimizer):
    """W is drawn at n^-(a + b): 1, n^-1/2 and n^-1 in muP, however the constants are folded."""
    assert [sum(exponents(name, role, optimizer)) for role in ROLES] == scales


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="at least 2 layers"):
        abc_exponent([0.0], [0.0])
    with pytest.raises(InputError, match="parametrization 'mu'"):
        exponents("mu", "input")


# --- layers ---


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", EXPONENTS)
def test_at_the_base_width_all_are_the_plain_layer(kind, role):
    plain = Linear((2,), 16, 5)
    layer = ScaledLinear((2,), 16, 5, kind, role, base_width=16)
    reset_runs(plain, [0, 1])
    reset_runs(layer, [0, 1])
    assert layer.multiplier == 1.0
    assert torch.equal(layer.weight, plain.weight)
    assert torch.equal(layer.bias, plain.bias)


@pytest.mark.parametrize("kind", EXPONENTS)
def test_a_zero_head_starts_at_zero(kind):
    layer = ScaledLinear((2,), 16, 5, kind, "output", 16, zero=True)
    reset_runs(layer, [0, 1])
    assert not layer(torch.randn(2, 3, 16)).any()


@pytest.mark.parametrize("role", ["hidden", "output"])
@pytest.mark.parametrize("kind", ["ntk", "mup"])
def test_biases_start_as_wide_as_at_the_base_width(kind, role):
    """A bias is drawn in +-1/sqrt(inputs at the base width), not in +-1/sqrt(inputs)."""
    layer = ScaledLinear((1,), 64, 4096, kind, role, base_width=16)
    reset_runs(layer, [0])
    assert layer.bias.abs().max().item() == pytest.approx(16**-0.5, rel=1e-2)


@pytest.mark.parametrize("kind", EXPONENTS)
def test_the_layer_is_an_affine_map_with_the_multiplier_in_front_of_its_weight(kind):
    layer = ScaledLinear((2,), 64, 5, kind, "hidden", base_width=16)
    reset_runs(layer, [0, 1])
    x = torch.randn(2, 3, 64)
    expected = x @ (layer.multiplier * layer.weight).mT + layer.bias.unsqueeze(1)
    torch.testing.assert_close(layer(x), expected)


# --- the same training as with a learning rate for each layer ---


class Reference:
    """Plain weights, PyTorch's Adam with a group for each parameter, and muP's rules beside them.

    With Adam the learning rate of hidden weights is divided by the ratio of widths; the output is
    multiplied by the inverse ratio, and learns at the base rate (muP for Adam, arXiv:2203.03466).
    """

    def __init__(self, layers, ratio, lr, eps):
        self.layers = layers
        self.ratio = ratio
        self.parameters = []
        groups = []
        for role, layer in layers.items():
            scale = 1 / ratio if role == "hidden" else 1.0
            weight = (scale * layer.weight[0]).detach().clone().requires_grad_()
            bias = layer.bias[0].detach().clone().requires_grad_()
            self.parameters.append((weight, bias))
            groups += [{"params": [weight], "lr": scale * lr}, {"params": [bias], "lr": lr}]
        self.optimizer = torch.optim.Adam(groups, eps=eps)

    def __call__(self, x):
        *below, (weight, bias) = self.parameters
        for hidden_weight, hidden_bias in below:
            x = torch.relu(x @ hidden_weight.T + hidden_bias)
        return x @ weight.T / self.ratio + bias

    def step(self, x, target):
        self.optimizer.zero_grad()
        (self(x) - target).square().mean().backward()
        self.optimizer.step()


def mup_layers(width, base, generator):
    """Input, hidden and output layer, with weights of size one half."""
    shapes = {"input": (5, width), "hidden": (width, width), "output": (width, 3)}
    layers = {}
    for role, (n_in, n_out) in shapes.items():
        layers[role] = ScaledLinear((1,), n_in, n_out, "mup", role, base).double()
        for p in layers[role].parameters():
            p.data.normal_(0, 0.5, generator=generator)
    return layers


@pytest.mark.parametrize("width", [8, 32, 128])
@pytest.mark.parametrize("eps", [1e-12, 1e-8, 3.125e-4, 1e-2])
def test_a_network_trains_as_with_learning_rates_set_layer_by_layer_at_every_epsilon(eps, width):
    base, lr = 8, 1e-2
    generator = torch.Generator().manual_seed(0)
    layers = mup_layers(width, base, generator)
    reference = Reference(layers, width / base, lr, eps)
    parameters = [p for layer in layers.values() for p in layer.parameters()]
    optimizer = Adam(parameters, lr, eps=eps)
    optimizer.param_groups[0]["lr"] = torch.tensor([lr], dtype=F64)
    optimizer.param_groups[0]["step"] = torch.zeros((), dtype=F64)

    for _ in range(20):
        x = torch.randn(1, 16, 5, generator=generator, dtype=F64)
        target = torch.randn(16, 3, generator=generator, dtype=F64)
        features = torch.relu(layers["hidden"](torch.relu(layers["input"](x))))
        outputs = layers["output"](features)
        torch.testing.assert_close(outputs[0], reference(x[0]), rtol=1e-6, atol=1e-8)
        descend(optimizer, parameters, (outputs[0] - target).square().mean())
        reference.step(x[0], target)


# --- the coordinate check ---

WIDTHS = (64, 128, 256, 512, 1024)


def network_of(kind, zero_head):
    """Width -> a Q-network in this parametrization, with two runs."""

    def make(width):
        network = QNetwork(MLP((2,), 8, (width, width)), 3, 2)
        with_layers(network, Layers(parametrization=kind, zero_head=zero_head))
        reset_runs(network, [0, 1])
        return network

    return make


def slope(sizes):
    """Of log size over log width, by least squares."""
    x = torch.tensor([math.log(width) for width in WIDTHS])
    x -= x.mean()
    y = sizes.log() - sizes.log().mean()
    return ((x * y).sum() / x.square().sum()).item()


@pytest.mark.parametrize("zero_head", [False, True])
def test_coordinates_are_flat_over_widths_in_mup_and_not_in_the_standard_parametrization(zero_head):
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(2, 16, 8, generator=generator)
    target = torch.randn(2, 16, 3, generator=generator)

    mup = coordinate_check(network_of("mup", zero_head), obs, target, WIDTHS)
    assert list(mup) == ["torso.layers.0", "torso.layers.1", "head"]
    for name, sizes in mup.items():
        assert sizes.shape == (5,)
        assert abs(slope(sizes)) < 0.1, name

    standard = coordinate_check(network_of("standard", zero_head), obs, target, WIDTHS)
    assert slope(standard["torso.layers.1"]) > 0.5
