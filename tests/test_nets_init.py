"""Initial parameters: they depend on the seed alone, and have the intended distribution."""

import math

import pytest
import torch

from rlop.nets import MLP, Critics, Linear, NatureTorso, QNetwork, reinit_runs, reset_runs


def test_an_initial_network_depends_on_its_seed_alone():
    many, alone = MLP((3,), 4, (8, 8)), MLP((1,), 4, (8, 8))
    reset_runs(many, [5, 7, 5])
    reset_runs(alone, [7])

    for a, b in zip(many.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a[1], b[0])
        assert torch.equal(a[0], a[2])
        assert not torch.equal(a[0], a[1])


def test_the_scale_is_that_of_torch():
    layer = Linear((1,), 100, 1000)
    reset_runs(layer, [0])
    assert layer.weight.abs().max() <= 0.1
    assert layer.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)


def nature(seeds, init):
    """A Q-network on images, drawn as `init` says."""
    network = QNetwork(NatureTorso(len(seeds), (4, 36, 36), 64), 5, len(seeds))
    reset_runs(network, seeds)
    reinit_runs([(network, init)], seeds)
    return network


def test_dopamines_initialization():
    """Uniform in +-sqrt(sqrt(3) / fan_in), biases 0."""
    network = nature([0, 1], "dopamine")
    for layer in (network.torso.convs[0], network.torso.hidden, network.head):
        bound = math.sqrt(math.sqrt(3) / layer.weight[0][0].numel())
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert (layer.bias == 0).all()
        assert not torch.equal(layer.weight[0], layer.weight[1])

    alone = nature([1], "dopamine")
    assert torch.equal(alone.head.weight[0], network.head.weight[1])


@pytest.mark.parametrize("lead", [(2,), (2, 3)])
def test_orthogonal_hidden_layers_times_sqrt_2_and_a_head_times_a_hundredth(lead):
    """W^T W = 2 I for a square matrix or one with more rows, and W W^T = 1e-4 I for the head."""
    if len(lead) == 2:
        network = Critics(3, 2, lead, (16, 16))
    else:
        network = QNetwork(MLP(lead, 5, (16, 16)), 4, 2)
    reset_runs(network, [0, 1])
    reinit_runs([(network, "orthogonal")], [0, 1])

    for layer in network.torso.layers:
        gram = layer.weight.mT @ layer.weight
        identity = torch.eye(gram.shape[-1]).expand_as(gram)
        torch.testing.assert_close(gram, 2 * identity, rtol=1e-4, atol=1e-4)
        assert not layer.bias.any()
    gram = network.head.weight @ network.head.weight.mT
    identity = torch.eye(gram.shape[-1]).expand_as(gram)
    torch.testing.assert_close(gram, 1e-4 * identity, rtol=1e-4, atol=1e-8)
    assert not torch.equal(network.head.weight[0], network.head.weight[1])


def test_a_small_head_on_layers_that_keep_their_draw():
    """Xavier's bound sqrt(6 / (I + O)) times 0.01."""
    plain, small = (QNetwork(MLP((1,), 5, (64,)), 36, 1) for _ in range(2))
    reset_runs(plain, [0])
    reset_runs(small, [0])
    reinit_runs([(small, "small_head")], [0])

    assert torch.equal(small.torso.layers[0].weight, plain.torso.layers[0].weight)
    bound = 0.01 * math.sqrt(6 / 100)
    assert 0.95 * bound < small.head.weight.abs().max() <= bound
    assert not small.head.bias.any()


def test_default_changes_nothing():
    plain, drawn = (QNetwork(MLP((1,), 5, (8,)), 3, 1) for _ in range(2))
    reset_runs(plain, [0])
    reset_runs(drawn, [0])
    reinit_runs([(drawn, "default")], [0])
    for a, b in zip(plain.parameters(), drawn.parameters(), strict=True):
        assert torch.equal(a, b)
