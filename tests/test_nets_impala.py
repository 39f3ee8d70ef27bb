"""The IMPALA network against torch.nn."""

import pytest
import torch
from rlop.agents import CQL
from torch import nn

from rlop.nets import Conv2d, ImpalaTorso, make_torso, reset_runs
from rlop.types import InputError, Spec


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        inner = self.first(torch.relu(x))
        return x + self.second(torch.relu(inner))


def twin(channels, side, width):
    """The network in torch.nn's layers; its parameters come in the same order."""
    layers = []
    for n_in, n_out in ((channels, 16), (16, 32), (32, 32)):
        layers.append(nn.Conv2d(n_in, n_out, 3, padding=1))
        layers.append(nn.MaxPool2d(3, 2, padding=1))
        layers += [Block(n_out), Block(n_out)]
        side = (side + 1) // 2

    layers += [nn.ReLU(), nn.Flatten()]
    layers += [nn.Linear(32 * side * side, width), nn.ReLU()]
    return nn.Sequential(*layers)


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


@pytest.mark.parametrize("network", ["impala", "nature"])
def test_images_with_their_channels_last_are_refused_not_misread(network):
    with pytest.raises(
        InputError, match=r"\(84, 84, 3\) have their channels last, expected \(chan"
    ):
        make_torso(Spec((84, 84, 3), 2, obs_dtype="uint8"), 1, network, (16,), "relu")


def test_an_mlp_on_images_is_said(caplog):
    caplog.set_level("INFO")
    make_torso(Spec((3, 12, 12), 2, obs_dtype="uint8"), 1, "auto", (16,), "relu")
    assert "network = auto: an MLP without convolutions" in caplog.text


def test_agents_with_an_encoder_refuse_images_that_it_cannot_read():
    message = r"images.encoder = drq: expected .* \(channels, >= 15, >= 15\), found \(3, 12, 12\)"
    with pytest.raises(InputError, match=message):
        CQL(Spec((3, 12, 12), None, (2,), "uint8"))
