"""The penalty that came with srank: lower the largest singular value of the features, raise the smallest."""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.regularizers.adapt import check_features, of_features
from rlop.types import Regularizer


def srank_penalty(features: Tensor) -> Tensor:
    """Difference of the largest and the smallest squared singular value of the feature matrix of a batch.

        sigma_max(Phi)^2 - sigma_min(Phi)^2

    From the eigenvalues of the smaller Gram matrix, in float64: sigma_min is that of the thin matrix, so B < D leaves B
    singular values. The gradient is 2 (u_1 v_1^T sigma_1 - u_k v_k^T sigma_k), one pair of vectors each. Where the
    largest value is repeated, any unit vector of its eigenspace gives a subgradient of sigma_max^2, which is convex in
    Phi, and the one that the decomposition returns is used; with the smallest likewise. So the gradient is always
    finite, but there it depends on rounding and may jump from step to step; at sigma_min = 0 (a dead unit, when D < B)
    that half of it is 0, and the penalty cannot revive the unit.

    Args:
        features: phi(s, a), `[..., B, D]`.
    Returns:
        `[...]`, unweighted and not divided by B; NaN where features are not finite, neighbours untouched.
    Raises:
        ValueError: when `features` is not a stack of non-empty matrices.
    Reference: Kumar et al., "Implicit Under-Parameterization Inhibits Data-Efficient Deep Reinforcement Learning",
        ICLR 2021, arXiv:2010.14498.
    """
    check_features(features)
    phi = features.double()
    gram = phi @ phi.mT if phi.shape[-2] < phi.shape[-1] else phi.mT @ phi
    finite = (
        gram.isfinite().all(-1).all(-1)
    )  # eigvalsh raises for the whole stack when one matrix is not finite
    eigenvalues = torch.linalg.eigvalsh(gram.where(finite[..., None, None], 0))
    return (eigenvalues[..., -1] - eigenvalues[..., 0]).where(finite, torch.nan).to(features.dtype)


def srank_penalty_regularizer() -> Regularizer:
    """`srank_penalty` as a regularizer of the run-axis update. Coefficient of the paper: 0.001."""
    return of_features(srank_penalty)
