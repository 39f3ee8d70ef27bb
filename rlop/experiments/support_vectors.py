"""Hard-margin classifiers by their dual, for the experiments on mixtures of Gaussians."""

from __future__ import annotations

import torch
from torch import Tensor


def dual(q: Tensor, sweeps: int = 300) -> Tensor:
    """Solve for the multipliers of hard-margin classifiers without bias, coordinate by coordinate.

        argmin over a >= 0 of  a Q a / 2 - sum a

    Args:
        q: `[..., N, N]`, the Gram matrix with the signs of the labels multiplied in.
        sweeps: passes over the coordinates.
    Returns:
        `[..., N]`.
    """
    alpha = torch.zeros(q.shape[:-1], dtype=q.dtype)
    for _ in range(sweeps):
        before = alpha.clone()
        for i in range(q.shape[-1]):
            slope = (q[..., i, :] * alpha).sum(-1) - 1
            alpha[..., i] = (alpha[..., i] - slope / q[..., i, i]).clamp_min(0)
        if (alpha - before).abs().max() <= 1e-12 * alpha.max():
            break
    return alpha
