"""Size and alignment of consecutive features, the quantities that DR3 acts on."""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.probes.shapes import check_matrices, check_same_shape, check_shape


@torch.no_grad()
def feature_norm(features: Tensor) -> Tensor:
    """Compute the mean length of a feature vector.

        mean_i ||phi_i||_2

    Args:
        features: `[..., n, d]`.
    Returns:
        `[...]`.
    """
    check_matrices("features", features)
    return torch.linalg.vector_norm(features, dim=-1).mean(-1)


@torch.no_grad()
def feature_dot(
    features: Tensor,
    next_features: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Compute the mean dot product of consecutive features.

        sum_i m_i phi_i . phi'_i / sum_i m_i

    This measurement divides by the number of rows that count, while the penalty `rlop.dr3` divides
    by the batch size.

    Args:
        features: phi(s, a), `[..., n, d]`.
        next_features: phi(s', a'), same shape.
        mask: 1 - terminated, `[..., n]`; None counts every row.
    Returns:
        `[...]`; NaN where no row counts.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716, section 3.1 (co-adaptation of
        consecutive features).
    """
    _check_pair(features, next_features, mask)
    return _masked_mean((features * next_features).sum(-1), mask)


@torch.no_grad()
def feature_cosine(
    features: Tensor,
    next_features: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Compute the mean cosine of the angle between consecutive features.

    It is `feature_dot` without the lengths.

        sum_i m_i cos(phi_i, phi'_i) / sum_i m_i

    Args:
        features: phi(s, a), `[..., n, d]`.
        next_features: phi(s', a'), same shape.
        mask: 1 - terminated, `[..., n]`; None counts every row.
    Returns:
        `[...]` in [-1, 1]; a zero vector counts as orthogonal; NaN where no row counts.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716, section 3.1.
    """
    _check_pair(features, next_features, mask)
    length = torch.linalg.vector_norm(features, dim=-1)
    next_length = torch.linalg.vector_norm(next_features, dim=-1)

    # Zero vectors have dot product 0: any positive denominator gives 0.
    product = (length * next_length).clamp_min(torch.finfo(features.dtype).tiny)
    cosine = (features * next_features).sum(-1) / product
    return _masked_mean(cosine, mask)


@torch.no_grad()
def weight_norm(weight: Tensor) -> Tensor:
    """Compute the Frobenius norm of a weight matrix.

    Together with `feature_norm` it reveals features that shrink while the head grows.

        sqrt(sum_{ij} w_ij^2)

    Args:
        weight: `[..., A, D]`.
    Returns:
        `[...]`.
    """
    check_matrices("weight", weight, "A, D")
    return torch.linalg.vector_norm(weight, dim=(-2, -1))


def _check_pair(
    features: Tensor,
    next_features: Tensor,
    mask: Tensor | None,
) -> None:
    check_matrices("features", features)
    check_same_shape("features and next_features", "n, d", features, next_features)
    if mask is not None:
        check_shape("mask", mask, features.shape[:-1])


def _masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Average over the rows that count."""
    if mask is None:
        return values.mean(-1)

    weight = mask.to(values.dtype)
    return (values * weight).sum(-1) / weight.sum(-1)
