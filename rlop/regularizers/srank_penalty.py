"""The penalty proposed with srank: lower the largest singular value, raise the smallest."""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.config.schema import options
from rlop.regularizers.base import Regularizer, sum_over_critics
from rlop.regularizers.shapes import check_features
from rlop.types import TDContext


def srank_penalty(features: Tensor) -> Tensor:
    """Compute the difference of the largest and the smallest squared singular value of a batch.

        sigma_max(Phi)^2 - sigma_min(Phi)^2

    The values are eigenvalues of the smaller Gram matrix, in float64: a batch with B < D has B
    singular values, and sigma_min is the smallest of these. The gradient is
    2 (u_1 v_1^T sigma_1 - u_k v_k^T sigma_k), one pair of vectors each. Where the largest value is
    repeated, any unit vector of its eigenspace gives a subgradient of sigma_max^2, which is convex
    in Phi, and the vector that the decomposition returns is used; likewise for the smallest. So the
    gradient is always finite, but it depends on rounding there and may jump from step to step. At
    sigma_min = 0 (a dead unit, when D < B) the second part of the gradient is 0, and the penalty
    cannot revive the unit.

    Args:
        features: phi(s, a), `[..., B, D]`.
    Returns:
        `[...]`, unweighted and not divided by B; NaN where features are not finite, without effect
        on the other matrices.
    Raises:
        ValueError: when `features` is not a stack of non-empty matrices.
    Reference: Kumar et al., "Implicit Under-Parameterization Inhibits Data-Efficient Deep
        Reinforcement Learning", ICLR 2021, arXiv:2010.14498.
    """
    check_features(features)
    phi = features.double()
    gram = phi @ phi.mT if phi.shape[-2] < phi.shape[-1] else phi.mT @ phi

    # `eigvalsh` raises for the whole stack when one matrix is not finite.
    finite = gram.isfinite().all(-1).all(-1)
    eigenvalues = torch.linalg.eigvalsh(gram.where(finite[..., None, None], 0))

    difference = eigenvalues[..., -1] - eigenvalues[..., 0]
    return difference.where(finite, torch.nan).to(features.dtype)


@options
class SrankPenalty(Regularizer):
    """`srank_penalty` of every critic, summed. Coefficient of the paper: 0.001."""

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        return sum_over_critics(srank_penalty(ctx.features))
