"""The IMPALA network and Dopamine's initialisation, against torch.nn."""

import pytest
import torch
from torch import nn

from rlop.nets import (
    Conv2d,
    ImpalaTorso,
    NatureTorso,
    QNetwork,
    make_torso,
    reinit_runs,
    reset_runs,
)
from rlop.types import InputError, Spec


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.first, self.second = (nn.Conv2d(n, n, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return x + self.second(torch.relu(self.first(torch.relu(x))))


def twin(channels, side, width):
    """The network in torch.nn's own words; its parameters come in the same order."""
    layers = []
    for i, o in ((channels, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(i, o, 3, padding=1), nn.MaxPool2d(3, 2, padding=1), Block(o), Block(o)]
        side = (side + 1) // 2
    return nn.Sequential(
        *layers, nn.ReLU(), nn.Flatten(), nn.Linear(32 * side * side, width), nn.ReLU()
    )


@pytest.mark.parametrize("runs", [1, 2])
def test_impala_equals_torch_run_by_run(runs):
    torso = ImpalaTorso(runs, (4, 21, 21), 8)
    reset_runs(torso, range(runs))
    x = torch.rand(runs, 3, 4, 21, 21)
    for run in range(runs):
        plain = twin(4, 21, 8)
        for p, stacked in zip(plain.parameters(), torso.parameters(), strict=True):
            p.data.copy_(stacked[run])
        torch.testing.assert_close(torso(x)[run], plain(x[run]), rtol=1e-4, atol=1e-5)


def test_padded_convolution_equals_torch():
    layer = Conv2d(2, 3, 4, 3, stride=2, padding=1)
    reset_runs(layer, [0, 1])
    x = torch.randn(2, 5, 3, 9, 9)
    for run in range(2):
        expected = nn.functional.conv2d(x[run], layer.weight[run], layer.bias[run], 2, 1)
        torch.testing.assert_close(layer(x)[run], expected, rtol=1e-5, atol=1e-6)


def test_impala_reads_images_only():
    with pytest.raises(InputError, match="impala: expected observations of shape"):
        make_torso(Spec((7,), 2), 1, "impala", (8,), "relu", False)


def test_dopamines_initialisation():
    network = QNetwork(NatureTorso(2, (4, 36, 36), 64), 5, 2)
    reset_runs(network, [0, 1])
    reinit_runs([(network, "dopamine")], [0, 1])
    for layer in (network.torso.convs[0], network.torso.hidden, network.head):
        bound = (3**0.5 / layer.weight[0][0].numel()) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert (layer.bias == 0).all()
        assert not torch.equal(layer.weight[0], layer.weight[1])
    again = QNetwork(NatureTorso(1, (4, 36, 36), 64), 5, 1)
    reset_runs(again, [1])
    reinit_runs([(again, "dopamine")], [1])
    assert torch.equal(again.head.weight[0], network.head.weight[1])
