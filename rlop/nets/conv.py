"""Convolutions with a leading run axis, and the torsos of MinAtar and of DQN on Atari."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.nets.linear import Linear


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
    images_and_filters = x.ndim == 5 and weight.ndim == 5
    fits = images_and_filters and x.shape[0] == weight.shape[0] and x.shape[2] == weight.shape[2]
    if not fits:
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

    grouped = x.transpose(0, 1).flatten(1, 2)
    y = F.conv2d(grouped, weight.flatten(0, 1), bias.flatten(), stride, padding, groups=x.shape[0])
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
        self.weight = nn.Parameter(torch.empty(runs, out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(runs, out_channels))

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw one run, uniform in +-1/sqrt(fan_in) like `nn.Conv2d`."""
        bound = self.weight[run][0].numel() ** -0.5
        for parameter in (self.weight, self.bias):
            parameter.data[run].uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[R, B, C, H, W]` to `[R, B, O, H', W']`."""
        return stacked_conv2d(x, self.weight, self.bias, self.stride, self.padding)


class MinAtarTorso(nn.Module):
    """The network of the MinAtar paper: 16 filters of 3x3, then `width` hidden ReLU units.

    Takes channel-last images `[R, B, 10, 10, C]` as MinAtar gives them.

    Reference: Young and Tian, "MinAtar", arXiv:1903.03176.
    """

    def __init__(self, runs: int, obs_shape: tuple[int, ...], width: int = 128) -> None:
        super().__init__()
        height, columns, channels = obs_shape
        self.conv = Conv2d(runs, channels, 16, 3)
        self.hidden = Linear((runs,), 16 * (height - 2) * (columns - 2), width)
        self.activation = "relu"
        self.n_features = width

    def forward(self, obs: Tensor) -> Tensor:
        """Map `[R, B, H, W, C]` to features `[R, B, D]`."""
        # Contiguous, since everything after would work on strided memory.
        images = obs.movedim(-1, 2).contiguous()
        x = F.relu(self.conv(images))
        return F.relu(self.hidden(x.flatten(2)))


NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # filters, side of a filter, stride


class NatureTorso(nn.Module):
    """The network of DQN on Atari.

    It has 32 filters of 8x8 with stride 4, 64 of 4x4 with stride 2, 64 of 3x3, then `width` units.

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
