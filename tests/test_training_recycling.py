"""Recycling of dormant units: what is drawn again, what becomes zero, and what stays."""

from itertools import product

import numpy as np
import pytest
import torch
from rlop.agents import CQL, DQN
from torch import nn

from rlop.data.sampler import probe_batch
from rlop.nets import MLP, MinAtarTorso, QNetwork, reset_runs
from rlop.probes.units import dormant_fraction, dormant_units
from rlop.training.recycling import Hidden, hidden_units, redo_
from rlop.types import InputError

SIZES = {"0": (4, 3), "1": (5, 4), "head": (2, 5)}  # (O, I) of the layers
ALL = torch.tensor([True, True])


def network(lead):
    """Random parameters of 3 -> 4 -> 5 -> 2 for every leading index."""
    params = {}
    for name, (n_out, n_in) in SIZES.items():
        params[f"{name}.weight"] = torch.randn(*lead, n_out, n_in)
        params[f"{name}.bias"] = torch.randn(*lead, n_out)
    return params


def units(first, second):
    """The units of that network, with what they do."""
    return [
        Hidden(("0.weight", "0.bias"), "1.weight", first),
        Hidden(("1.weight", "1.bias"), "head.weight", second),
    ]


def copies(params):
    """Copies by name."""
    return {name: p.clone() for name, p in params.items()}


def numpy_redo(params, fresh, activations, tau):
    """Of one network, in loops."""
    scores = [np.abs(h).mean(0) / np.abs(h).mean() for h in activations]
    for layer, score in zip(("0", "1"), scores, strict=True):
        for unit in np.flatnonzero(score <= tau):
            for kind in ("weight", "bias"):
                params[f"{layer}.{kind}"][unit] = fresh[f"{layer}.{kind}"][unit]
    for layer, score in zip(("1", "head"), scores, strict=True):
        params[f"{layer}.weight"][:, score <= tau] = 0
    return params


@pytest.mark.parametrize("lead", [(2,), (2, 3)])
def test_redo_equals_a_loop_over_units(lead):
    torch.manual_seed(0)
    params, fresh = network(lead), network(lead)
    before = copies(params)
    activations = []
    for size in (4, 5):
        strength = torch.rand(*lead, 1, size).square()
        activations.append(torch.rand(*lead, 9, size) * strength)

    touched = redo_(params, fresh, units(*activations), 0.4, ALL)
    assert 0 < touched["0.bias"].double().mean() < 1
    for index in product(*map(range, lead)):
        expected = numpy_redo(
            {name: p[index].clone().numpy() for name, p in before.items()},
            {name: p[index].numpy() for name, p in fresh.items()},
            [h[index].numpy() for h in activations],
            0.4,
        )
        for name, value in expected.items():
            np.testing.assert_array_equal(params[name][index].numpy(), value)

    # What is not reported as touched has kept its bits.
    for name, p in params.items():
        kept = ~touched.get(name, torch.zeros(1, dtype=torch.bool)).expand_as(p)
        assert torch.equal(p[kept], before[name][kept])


def test_recycling_a_silent_unit_leaves_the_function_and_revives_the_unit():
    net = QNetwork(MLP((2,), 3, (6, 6)), 2, 2)
    reset_runs(net, [0, 1])
    layer = net.torso.layers[0]
    layer.weight.data[0, 2] = 0.0
    layer.bias.data[0, 2] = -1.0  # dead in run 0
    params = dict(net.named_parameters())
    fresh = {name: torch.randn_like(p) for name, p in params.items()}
    x = torch.randn(2, 50, 3)
    before = net(x)[1].detach()

    first = Hidden(
        ("torso.layers.0.weight", "torso.layers.0.bias"),
        "torso.layers.1.weight",
        torch.relu(layer(x)).detach(),
    )
    redo_(params, fresh, [first], 0.0, ALL)
    torch.testing.assert_close(net(x)[1], before)
    assert dormant_units(torch.relu(layer(x)), 0.0)[0].sum() == 0
    assert torch.equal(layer.weight[0, 2], fresh["torso.layers.0.weight"][0, 2])


def test_frozen_runs_are_left_alone():
    params, fresh = network((2,)), network((2,))
    before = copies(params)
    busy = torch.rand(2, 7, 5) + 0.5
    silent_unit = torch.rand(2, 7, 4) + 0.5
    silent_unit[:, :, 1] = 0.0

    touched = redo_(params, fresh, units(silent_unit, busy), 0.1, torch.tensor([True, False]))
    assert touched["0.bias"].double().mean(-1).tolist() == [0.25, 0.0]
    assert not touched["1.bias"].any()
    for name, p in params.items():
        assert torch.equal(p[1], before[name][1])


def test_activations_of_another_layer_are_refused():
    params, fresh = network((2,)), network((2,))
    misfit = Hidden(("0.weight", "0.bias"), "1.weight", torch.rand(2, 7, 5))
    with pytest.raises(ValueError, match=r"do not fit 0\.weight"):
        redo_(params, fresh, [misfit], 0.1, ALL)


def test_dormant_units_are_those_that_the_probe_counts():
    h = torch.rand(3, 20, 8) * torch.rand(3, 1, 8).square()
    torch.testing.assert_close(dormant_units(h, 0.3).double().mean(-1), dormant_fraction(h, 0.3))

    h = torch.tensor([[1.0, 0.1, 0.0], [1.0, 0.1, 0.0]])  # scores 2.73, 0.27, 0
    assert dormant_units(h, 0.1).tolist() == [False, False, True]
    assert dormant_units(h, 0.28).tolist() == [False, True, True]


# --- the units of networks ---


@pytest.mark.parametrize(
    "layers",
    [
        {},
        {"norm": "batch"},
        {"linear_stack": 2},
        {"factorized": 3},
        {"density": 0.5},
        {"hyperspherical": True},
    ],
)
@pytest.mark.parametrize("kind", [DQN, CQL])
def test_the_units_of_an_agent_are_found(kind, layers, tiny, moves):
    data = moves if kind is CQL else tiny
    agent = kind(data.spec, seeds=2, layers=layers, hidden=(12, 10), batch_size=8)
    batch = probe_batch(data.columns(), 50, 2)
    lead = (2, 2) if kind is CQL else (2,)

    first, second = hidden_units(agent.main.online, agent.features, batch)
    for hidden, size in ((first, 12), (second, 10)):
        assert hidden.activations.shape == (*lead, 50, size)
        assert agent.main.parameters[hidden.outgoing].shape[-1] == size
        for name in hidden.incoming:
            assert agent.main.parameters[name].shape[len(lead)] == size

    if not layers:
        torch.testing.assert_close(second.activations, agent.features(batch)[0])
        assert second.outgoing == "head.weight"


def test_channels_are_the_units_of_a_convolution():
    net = QNetwork(MinAtarTorso(2, (10, 10, 4), 32), 3, 2)
    reset_runs(net, [0, 1])
    net.torso.conv.weight.data[0, 5] = 0
    net.torso.conv.bias.data[0, 5] = -1  # a silent channel
    obs = torch.rand(2, 6, 10, 10, 4)
    before = net(obs)[1].detach()

    channels = hidden_units(net, lambda batch: (net.features(batch), None), obs)[0]
    assert channels.activations.shape == (2, 6 * 64, 16)
    dormant = dormant_units(channels.activations, 0.0)
    assert dormant[0, 5]
    assert not dormant[:, 6].any()

    params = dict(net.named_parameters())
    fresh = {name: torch.randn_like(p) for name, p in params.items()}
    redo_(params, fresh, [channels], 0.0, ALL)
    columns = params["torso.hidden.weight"][0].unflatten(-1, (16, 64))
    assert not columns[:, 5].any()
    assert columns[:, 6].all()
    torch.testing.assert_close(net(obs)[1], before)


def test_layers_out_of_order_are_refused():
    class Backward(nn.Module):
        """Registers its layers in the opposite order of their use."""

        def __init__(self):
            super().__init__()
            self.last = QNetwork(MLP((1,), 3, (3,)), 3, 1)
            self.first = MLP((1,), 3, (3,))

    net = Backward()
    with pytest.raises(InputError, match="feed one another in a line"):
        hidden_units(net, lambda x: net.last(net.first(x)), torch.randn(1, 5, 3))
