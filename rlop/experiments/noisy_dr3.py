"""DR3's penalty with the covariance that label noise gives, in place of the identity.

    Delta = mean_i phi_i^T Sigma phi'_i,   Sigma = A^T C A,  rows of A the batch's phi
    C = sum_{k < 64} M^k (M^k)^T,          M = I - eta (A - gamma B) A^T,  rows of B its phi'

C is the spread of noisy TD after 64 steps of size eta = 1 / |(A - gamma B) A^T|_F, which exists
also where TD diverges. Sigma is held fixed and scaled so that phi^T Sigma phi averages |phi|^2: a
coefficient means the same as with the identity.

Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716, section 4 and its figure on choices of
the covariance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.config.schema import options
from rlop.regularizers.base import PairRegularizer, required, sum_over_critics
from rlop.regularizers.shapes import masked_mean
from rlop.types import TDContext

DOUBLINGS = 6  # 64 steps


@torch.no_grad()
def label_noise_spread(rows: Tensor, next_rows: Tensor) -> Tensor:
    """Compute C of the module's docstring, scaled, `[..., B, B]` float64.

    Args:
        rows: A, `[..., B, D]`.
        next_rows: gamma B, same shape; 0 where terminal.
    """
    a, b = rows.double(), next_rows.double()
    kernel = a @ a.mT
    drift = kernel - b @ a.mT
    size = drift.flatten(-2).norm(dim=-1)[..., None, None]
    step = torch.eye(drift.shape[-1], dtype=a.dtype, device=a.device) - drift / (size + 1e-12)

    spread = torch.eye(drift.shape[-1], dtype=a.dtype, device=a.device).expand_as(drift)
    for _ in range(DOUBLINGS):
        spread = spread + step @ spread @ step.mT
        step = step @ step

    lengths = kernel.diagonal(dim1=-2, dim2=-1).sum(-1)
    under_spread = (kernel @ spread @ kernel).diagonal(dim1=-2, dim2=-1).sum(-1)
    return spread * (lengths / (under_spread + 1e-12))[..., None, None]


@options
class NoisyDR3(PairRegularizer):
    """DR3 under the covariance of label noise; a regularizer of the study, not of the library."""

    @property
    def needs(self) -> frozenset[str]:
        """The features of the next state, and the discount."""
        return super().needs | {"discount"}

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        features, following, mask = self.pair(ctx)
        weight = required(ctx.discount, "discount", self) * (1 - ctx.terminated)
        spread = label_noise_spread(features, weight.unsqueeze(-1) * following)

        fixed = features.detach()
        left = features @ fixed.mT @ spread.to(features.dtype)
        dots = (left * (following @ fixed.mT)).sum(-1)
        return sum_over_critics(masked_mean(dots, mask))
