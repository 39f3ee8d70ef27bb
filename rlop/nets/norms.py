"""Batch normalization, batch renormalization and spheres, separate for each run and critic."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.nets.linear import undrawn

EPS = 1e-5  # added to variances, as in PyTorch
SHORTEST = 1e-8  # lower bound on the length that vectors are divided by


def batch_norm(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return (x - mean) / sqrt(variance + 1e-5).

    Args:
        x: `[*lead, B, D]`.
        mean: `[*lead, D]`.
        variance: same shape.
    Reference: Ioffe and Szegedy, "Batch Normalization", ICML 2015, arXiv:1502.03167.
    """
    if mean.shape != variance.shape or mean.shape != x.shape[:-2] + x.shape[-1:]:
        raise ValueError(
            f"x {tuple(x.shape)}, mean {tuple(mean.shape)}: expected [*lead, B, D] and [*lead, D]"
        )
    centered = x - mean.unsqueeze(-2)
    scale = (variance + EPS).rsqrt()
    return centered * scale.unsqueeze(-2)


class BatchNorm(nn.Module):
    """Stacked `nn.BatchNorm1d`, or batch renormalization.

    Gain and shift are `[*lead, D]`, the input `[*lead, B, D]`.

    A pass that records a gradient for `gain` normalizes with its own batch and moves the running
    statistics; every other pass (no_grad, a target network, `eval()`) normalizes with the running
    ones. So no mode has to be switched: a differentiated pass is training; acting, bootstrapping
    and probing are not.

        batch          y = (x - m_B) / s_B
        batch_renorm   y = (x - m_B) / s_B r + d
                       r = s_B / s in [1/3, 3],  d = (m_B - m) / s in [-5, 5]

    r and d carry no gradient; unless they are clipped, y is the input normalized by the running
    statistics, so that passes over differently distributed batches share one function.

    Args:
        lead: leading axes, `(R,)` or `(R, E)`.
        features: D.
        renorm: batch renormalization, once `warmup` passes have moved the running statistics.
        momentum: weight of the old running statistics.
        warmup: training passes of plain batch normalization before that.
    Reference: Ioffe, "Batch Renormalization", NeurIPS 2017, arXiv:1702.03275; Bhatt et al.,
        "CrossQ", ICLR 2024, arXiv:1902.05605.
    Differs from: CrossQ. Here the target is bootstrapped from a target network with its running
        statistics, copied from the online network whenever it moves. There is no joint pass over
        (s, a) and (s', a') (except in `DQN` where a regularizer reads the features of both), so
        CrossQ's training without a target network is not reproduced. In `CQL` every pass with
        gradient counts: data, candidates and the policy's actions. Layers are normalized before the
        activation, CrossQ's after it and at the input; its warm-up is 100,000 steps, its epsilon
        0.001.
    """

    mean: Tensor
    variance: Tensor
    passes: Tensor

    def __init__(
        self,
        lead: Sequence[int],
        features: int,
        renorm: bool = False,
        momentum: float = 0.99,
        warmup: int = 1000,
    ) -> None:
        super().__init__()
        self.renorm = renorm
        self.momentum = momentum
        self.warmup = warmup
        self.gain = nn.Parameter(torch.ones(*lead, features))
        self.shift = nn.Parameter(torch.zeros(*lead, features))
        self.register_buffer("mean", torch.zeros(*lead, features))
        self.register_buffer("variance", torch.ones(*lead, features))
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `[*lead, B, D]` over the batch, in the precision of the statistics."""
        x = x.to(self.mean.dtype)
        records_gradient = self.gain.requires_grad and torch.is_grad_enabled()
        if self.training and records_gradient:
            normal = self.train_pass(x)
        else:
            normal = batch_norm(x, self.mean, self.variance)

        gain = self.gain.unsqueeze(-2)
        shift = self.shift.unsqueeze(-2)
        return normal * gain + shift

    def train_pass(self, x: Tensor) -> Tensor:
        """Normalize with the batch's statistics, and move the running ones toward them."""
        mean = x.mean(-2)
        variance = x.var(-2, correction=0)
        normal = batch_norm(x, mean, variance)

        with torch.no_grad():
            # The correction refers to the statistics before this batch.
            scale, offset = self.correction(mean, variance)
            self.move_running(self.mean, mean)
            self.move_running(self.variance, variance)
            self.passes.add_(1)

        if self.renorm:
            return normal * scale + offset
        return normal

    def move_running(self, running: Tensor, batch: Tensor) -> None:
        """Move running statistics `[*lead, D]` toward the batch's, except in a diverged run."""
        moved = running.lerp(batch, 1 - self.momentum)
        running.copy_(torch.where(moved.isfinite(), moved, running))

    def correction(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return r and d of renormalization, `[*lead, 1, D]` each; 1 and 0 during the warm-up."""
        deviation = (self.variance + EPS).sqrt()
        batch_deviation = (variance + EPS).sqrt()
        scale = (batch_deviation / deviation).clamp(1 / 3, 3)
        offset = ((mean - self.mean) / deviation).clamp(-5, 5)

        warm = self.passes >= self.warmup
        scale = torch.where(warm, scale, 1.0)
        offset = torch.where(warm, offset, 0.0)
        return scale.unsqueeze(-2), offset.unsqueeze(-2)


class Sphere(nn.Module):
    """Features of constant length, radius x / ||x||.

    Dot products of features are cosines times radius squared.

    Args:
        radius: the length, > 0.
    Reference: Lee et al., "Hyperspherical Normalization for Scalable Deep Reinforcement Learning"
        (SimbaV2), ICML 2025, arXiv:2502.15280.
    """

    def __init__(self, radius: float = 1.0) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, x: Tensor) -> Tensor:
        """Scale `[..., D]` to the radius."""
        return self.radius * F.normalize(x, dim=-1, eps=SHORTEST)


class HypersphericalLinear(nn.Module):
    """Unit weights on unit inputs, a learned scale for each unit and no bias.

        scale * (W x / ||x||),  ||W_i|| = 1

    All length is in `scale`, so that neither growing weights nor growing features change the effect
    of a step of Adam. `unit_rows_` must be applied to the weight after every training step
    (`rlop.optim.learner.Learner` does).

    Args:
        lead: leading axes of the parameters, `(R,)` or `(R, E)`.
        in_features: I.
        out_features: O.
        shift: appended to the input before it is normalized, so that its length is not lost; for
            the first layer.
    Reference: Lee et al., "SimbaV2", arXiv:2502.15280.
    Differs from: SimbaV2 is built of residual blocks, with a categorical critic and normalized
        rewards; this is only its layer: orthogonal rows made unit, scale sqrt(2/O) at the start,
        shift 3.
    """

    def __init__(
        self,
        lead: Sequence[int],
        in_features: int,
        out_features: int,
        shift: float | None = None,
    ) -> None:
        super().__init__()
        self.shift = shift
        n_inputs = in_features if shift is None else in_features + 1
        self.weight = undrawn(*lead, out_features, n_inputs)

        initial_scale = (2 / out_features) ** 0.5
        self.scale = nn.Parameter(torch.full((*lead, out_features), initial_scale))

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw the parameters of one run."""
        weight = self.weight.data[run]
        matrices = weight.reshape(-1, *weight.shape[-2:])  # views, one for each critic
        for matrix in matrices:
            nn.init.orthogonal_(matrix, generator=generator)
        unit_rows_(weight)

        self.scale.data[run].fill_((2 / self.scale.shape[-1]) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[*lead, B, I]` to `[*lead, B, O]`."""
        if self.shift is not None:
            shift = torch.full_like(x[..., :1], self.shift)
            x = torch.cat([x, shift], dim=-1)

        direction = F.normalize(x, dim=-1, eps=SHORTEST)
        product = direction @ self.weight.to(x.dtype).mT
        return self.scale.unsqueeze(-2) * product


@torch.no_grad()
def unit_rows_(weight: Tensor) -> None:
    """Scale every row of `[..., O, I]` to length 1, in place: an idempotent projection.

    Args:
        weight: changed in place; a row of zeros stays.
    """
    if weight.ndim < 2:
        raise ValueError(f"weight: expected [..., O, I], got {tuple(weight.shape)}")
    lengths = torch.linalg.vector_norm(weight, dim=-1, keepdim=True)
    weight.div_(lengths.clamp_min(SHORTEST))
