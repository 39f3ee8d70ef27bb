"""The residual convolutional network of IMPALA, with a leading run axis."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rlop.nets.conv import Conv2d
from rlop.nets.linear import Linear

CHANNELS = (16, 32, 32)  # of the stages
BLOCKS = 2  # residual blocks in a stage


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), both 3x3 with padding."""

    def __init__(self, runs: int, channels: int) -> None:
        super().__init__()
        self.first = Conv2d(runs, channels, channels, 3, padding=1)
        self.second = Conv2d(runs, channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[R, B, C, H, W]` to the same shape."""
        return x + self.second(F.relu(self.first(F.relu(x))))


class Stage(nn.Module):
    """A 3x3 convolution, max pooling 3x3 of stride 2, and residual blocks.

    Halves the image, rounding up.
    """

    def __init__(self, runs: int, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(runs, in_channels, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(runs, channels) for _ in range(BLOCKS)))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[R, B, C, H, W]` to `[R, B, O, H', W']`."""
        x = self.conv(x)
        pooled = F.max_pool2d(x.flatten(0, 1), 3, 2, padding=1)
        return self.blocks(pooled.unflatten(0, x.shape[:2]))


class ImpalaTorso(nn.Module):
    """The larger network of IMPALA: three stages, then `width` hidden ReLU units (paper: 256).

    Takes stacked frames, channels first, `[R, B, C, H, W]`.

    Reference: Espeholt et al., "IMPALA", ICML 2018, arXiv:1802.01561, figure 3, right; without its
        LSTM.
    """

    def __init__(self, runs: int, obs_shape: tuple[int, ...], width: int = 256) -> None:
        super().__init__()
        channels, *size = obs_shape

        self.stages = nn.ModuleList()
        for filters in CHANNELS:
            self.stages.append(Stage(runs, channels, filters))
            size = [(side + 1) // 2 for side in size]
            channels = filters

        self.hidden = Linear((runs,), channels * size[0] * size[1], width)
        self.activation = "relu"
        self.n_features = width

    def forward(self, obs: Tensor) -> Tensor:
        """Map `[R, B, C, H, W]` to features `[R, B, D]`."""
        x = obs
        for stage in self.stages:
            x = stage(x)
        return F.relu(self.hidden(F.relu(x).flatten(2)))
