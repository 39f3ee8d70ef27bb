"""Gaussian policies: squashed with a width of every state, or with one that all states share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlop.nets.linear import Linear
from rlop.nets.qnetwork import preprocess
from rlop.nets.torso import Torso


class GaussianPolicy(nn.Module):
    """Mean and log standard deviation of u, where the action is tanh(u).

    See `rlop.losses.tanh_gaussian`.

    Args:
        torso: maps observations `[R, B, ...]` to features `[R, B, D]`.
        n_actions: m, dimensions of an action.
        runs: R.
        log_std_range: bounds to which log std is clamped.
        log_std_affine: initial scale and shift of log std, which are trained; None for neither.
            With a scale of 0 the initial width does not depend on the state.
    """

    def __init__(
        self,
        torso: Torso,
        n_actions: int,
        runs: int,
        log_std_range: tuple[float, float] = (-20.0, 2.0),
        log_std_affine: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.torso = torso
        self.head = Linear((runs,), torso.n_features, 2 * n_actions)
        self.log_std_range = log_std_range

        self.affine: nn.Parameter | None = None
        if log_std_affine is not None:
            start = torch.tensor(log_std_affine)
            self.affine = nn.Parameter(start.repeat(runs, 1))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Map observations `[R, B, *obs_shape]` to mean and log std of u, `[R, B, m]` each."""
        outputs = self.head(self.features(obs))
        mean, log_std = outputs.chunk(2, dim=-1)

        if self.affine is not None:
            scale, shift = self.affine.view(-1, 1, 1, 2).unbind(-1)
            log_std = scale * log_std + shift

        return mean, log_std.clamp(*self.log_std_range)

    def features(self, obs: Tensor) -> Tensor:
        """Return the head's input, `[R, B, D]`."""
        return self.torso(preprocess(obs, self.head.weight.dtype))


class SharedWidthPolicy(nn.Module):
    """Mean that depends on the state, and log standard deviation that all states share.

    The action is Gaussian around tanh(mean), without a bound of its own.

    Args:
        torso: maps observations `[R, B, ...]` to features `[R, B, D]`.
        n_actions: m, dimensions of an action.
        runs: R.
        log_std_range: bounds to which log std is clamped; it starts at 0.
    """

    def __init__(
        self,
        torso: Torso,
        n_actions: int,
        runs: int,
        log_std_range: tuple[float, float] = (-20.0, 2.0),
    ) -> None:
        super().__init__()
        self.torso = torso
        self.head = Linear((runs,), torso.n_features, n_actions)
        self.log_std_range = log_std_range
        self.log_std = nn.Parameter(torch.zeros(runs, n_actions))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Map observations `[R, B, *obs_shape]` to mean and log std, `[R, B, m]` each."""
        mean = self.head(self.features(obs))
        log_std = self.log_std.clamp(*self.log_std_range).unsqueeze(1)
        return mean, log_std.expand_as(mean)

    def features(self, obs: Tensor) -> Tensor:
        """Return the head's input, `[R, B, D]`."""
        return self.torso(preprocess(obs, self.head.weight.dtype))
