"""Convolutions with a leading run axis, and the torsos of MinAtar, of DQN on Atari, and of DrQ."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.nets.linear import LayerNorm, Linear, undrawn
from rlop.nets.torso import Torso


def stacked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: int = 1,
    padding: int = 0,
) -> Tensor:
    """Apply one convolution per run.

    On a CPU, a loop over runs measured 1.3 to 1.8 times faster than one grouped convolution (4 to 8
    runs, 3x3 filters, 10x10 images); on a GPU the grouped form is a single launch.

    Args:
        x: `[R, B, C, H, W]`.
        weight: `[R, O, C, k, k]`.
        bias: `[R, O]`.
        stride: step of the window.
        padding: zeros on each side.
    Returns:
        `[R, B, O, H', W']`.
    """
    has_all_axes = x.ndim == 5 and weight.ndim == 5
    if not has_all_axes or x.shape[0] != weight.shape[0] or x.shape[2] != weight.shape[2]:
        raise ValueError(
            f"x {tuple(x.shape)} does not fit weight {tuple(weight.shape)}: "
            "expected [R, B, C, H, W]"
        )

    # One network is a plain layer, without a copy of its output.
    if x.shape[0] == 1:
        return F.conv2d(x[0], weight[0], bias[0], stride, padding).unsqueeze(0)

    if not x.is_cuda:
        runs = zip(x, weight, bias, strict=True)
        return torch.stack([F.conv2d(*run, stride, padding) for run in runs])

    images = x.transpose(0, 1).flatten(1, 2)
    filters = weight.flatten(0, 1)
    y = F.conv2d(images, filters, bias.flatten(), stride, padding, groups=x.shape[0])
    return y.unflatten(1, weight.shape[:2]).transpose(0, 1)


class Conv2d(nn.Module):
    """Stacked `nn.Conv2d`: weight `[R, O, C, k, k]`, bias `[R, O]`.

    Args:
        runs: R.
        in_channels: C.
        out_channels: O.
        kernel: k, side of the filters.
        stride: step of the window.
        padding: zeros on each side.
    """

    def __init__(
        self,
        runs: int,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.weight = undrawn(runs, out_channels, in_channels, kernel, kernel)
        self.bias = undrawn(runs, out_channels)

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw one run, uniform in +-1/sqrt(fan_in) like `nn.Conv2d`."""
        fan_in = self.weight[run][0].numel()
        bound = fan_in**-0.5
        for parameter in (self.weight, self.bias):
            parameter.data[run].uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[R, B, C, H, W]` to `[R, B, O, H', W']`."""
        return stacked_conv2d(x, self.weight, self.bias, self.stride, self.padding)


MINATAR_FILTERS = 16


class MinAtarTorso(Torso):
    """The network of the MinAtar paper: 16 filters of 3x3, then `width` hidden ReLU units.

    Takes channel-last images `[R, B, 10, 10, C]` as MinAtar gives them.

    Reference: Young and Tian, "MinAtar", arXiv:1903.03176.
    """

    def __init__(self, runs: int, obs_shape: tuple[int, ...], width: int = 128) -> None:
        super().__init__()
        height, columns, channels = obs_shape
        self.conv = Conv2d(runs, channels, MINATAR_FILTERS, 3)
        n_positions = (height - 2) * (columns - 2)  # the filters use no padding
        self.hidden = Linear((runs,), MINATAR_FILTERS * n_positions, width)
        self.activation = "relu"
        self.n_features = width

    def forward(self, obs: Tensor) -> Tensor:
        """Map `[R, B, H, W, C]` to features `[R, B, D]`."""
        # Contiguous, so that later operations do not work on strided memory.
        images = obs.movedim(-1, 2).contiguous()
        filtered = F.relu(self.conv(images))
        return F.relu(self.hidden(filtered.flatten(2)))


NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # filters, side of a filter, stride


class NatureTorso(Torso):
    """The network of DQN on Atari: three convolutions, see `NATURE`, then `width` units.

    Takes stacked frames, channels first, `[R, B, C, H, W]` with H and W of at least 36: (4, 84, 84)
    on Atari.

    Reference: Mnih et al., "Human-level control through deep reinforcement learning", Nature 518,
        2015.
    """

    def __init__(self, runs: int, obs_shape: tuple[int, ...], width: int = 512) -> None:
        super().__init__()
        channels, *size = obs_shape

        self.convs = nn.ModuleList()
        for filters, kernel, stride in NATURE:
            self.convs.append(Conv2d(runs, channels, filters, kernel, stride))
            size = [(side - kernel) // stride + 1 for side in size]
            channels = filters

        self.hidden = Linear((runs,), channels * size[0] * size[1], width)
        self.activation = "relu"
        self.n_features = width

    def forward(self, obs: Tensor) -> Tensor:
        """Map `[R, B, C, H, W]` to features `[R, B, D]`."""
        x = obs
        for conv in self.convs:
            x = F.relu(conv(x))

        return F.relu(self.hidden(x.flatten(2)))


DRQ = ((32, 2), (32, 1), (32, 1), (32, 1))  # filters, stride; all are 3x3


class DrQTorso(Torso):
    """The encoder of DrQ: four convolutions, see `DRQ`, then `width` normalized tanh units.

    Takes stacked frames, channels first, `[R, B, C, H, W]` with H and W of at least 15.

    Reference: Yarats, Kostrikov, Fergus, "Image Augmentation Is All You Need", ICLR 2021,
        arXiv:2004.13649; DrQ-v2, arXiv:2107.09645.
    Differs from: DrQ-v2, where policy and critics each have the last layer of their own and pixels
        are centered at 0.
    """

    def __init__(self, runs: int, obs_shape: tuple[int, ...], width: int = 50) -> None:
        super().__init__()
        channels, *size = obs_shape

        self.convs = nn.ModuleList()
        for filters, stride in DRQ:
            self.convs.append(Conv2d(runs, channels, filters, 3, stride))
            size = [(side - 3) // stride + 1 for side in size]
            channels = filters

        self.hidden = Linear((runs,), channels * size[0] * size[1], width)
        self.norm = LayerNorm((runs,), width)
        self.activation = "tanh"
        self.n_features = width

    def forward(self, obs: Tensor) -> Tensor:
        """Map `[R, B, C, H, W]` to features `[R, B, D]`."""
        x = obs
        for conv in self.convs:
            x = F.relu(conv(x))
        return torch.tanh(self.norm(self.hidden(x.flatten(2))))
