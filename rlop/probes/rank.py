"""Ranks of a feature matrix Phi `[..., n, d]`, all from one float64 Gram eigendecomposition.

A measure is a pure function of the singular values `[..., k]`, k = min(n, d), in descending order.
All return float64, one number per leading index. A spectrum that is all zero has rank 0; one that
contains NaN has rank NaN. A falling rank alone says nothing about the return: read it together with
dead units, norms and the learning rate (Gulcehre et al. 2022, arXiv:2207.02099).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.probes.shapes import shapes_of

# Cumulative sums are compared with their threshold up to this relative slack: without it the last
# bit decides whether 99/100 >= 0.99. It is far above the rounding of float64 and far below any
# threshold in use.
_SLACK = 1e-9


@torch.no_grad()
def singular_values(
    features: Tensor,
    center: bool = False,
    resolve: float | None = None,
) -> Tensor:
    """Compute the singular values of every `[n, d]` matrix, in float64 and without gradient.

        sigma_i = sqrt(lambda_i(Phi^T Phi)),  or of Phi Phi^T where n < d

    Values below `sqrt(max(n, d) * eps) * sigma_1`, about 1e-6 sigma_1, are rounding errors of the
    Gram matrix and become 0. That floor is relative: in features of size 1e5 it removes values that
    are large in absolute terms; `resolve` keeps them. A matrix that contains NaN or infinity gets
    NaN throughout; the others are not affected.

    Args:
        features: `[..., n, d]`, any floating or integer type.
        center: subtract the mean row first. Positive (ReLU) features have a large mean, which
            dominates sigma_1.
        resolve: smallest singular value that must not be lost. Matrices whose floor lies above it
            are decomposed by a full SVD, which is slower but accurate to 1e-13 sigma_1. None never
            uses it.
    Returns:
        `[..., min(n, d)]` float64, descending.
    Raises:
        ValueError: when `features` is not a stack of non-empty matrices.
    """
    phi = _matrices(features, center)
    s = _gram_spectrum(phi)
    return s if resolve is None else _resolved(s, phi, resolve)


def srank(s: Tensor, delta: float = 0.01) -> Tensor:
    """Count the fewest singular values that hold a share 1 - delta of their sum.

        min { k : sum_{i<=k} sigma_i / sum_i sigma_i >= 1 - delta }

    This is the "effective rank" of the paper on implicit under-parameterization. It uses sigma, not
    sigma^2. Invariant to rotations and to scale.

    Args:
        s: singular values `[..., k]`, descending.
        delta: share of the sum that may be missing, in [0, 1).
    Returns:
        `[...]` float64, whole numbers in [0, k].
    Raises:
        ValueError: for a delta out of range.
    Reference: Kumar et al., "Implicit Under-Parameterization Inhibits Data-Efficient Deep
        Reinforcement Learning", ICLR 2021, arXiv:2010.14498.
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta: expected a number in [0, 1), got {delta}")
    return _count_to_share(_relative(s), 1 - delta)


def effective_rank(s: Tensor) -> Tensor:
    """Compute the exponential of the entropy of the normalized singular values.

        exp(-sum_i p_i log p_i),  p_i = sigma_i / sum_j sigma_j,  0 log 0 = 0

    Continuous, in [1, k]. Invariant to rotations and to scale.

    Args:
        s: singular values `[..., k]`.
    Returns:
        `[...]` float64.
    Reference: Roy and Vetterli, "The effective rank: a measure of effective dimensionality",
        EUSIPCO 2007.
    """
    r = _relative(s)
    p = r / r.sum(-1, keepdim=True).clamp_min(1)
    return torch.special.entr(p).sum(-1).exp() * r[..., 0]


def stable_rank(s: Tensor) -> Tensor:
    """Divide the squared Frobenius norm by the squared spectral norm.

        sum_i sigma_i^2 / sigma_1^2

    In [1, k], robust to small singular values. Invariant to rotations and to scale.

    Args:
        s: singular values `[..., k]`, descending.
    Returns:
        `[...]` float64.
    Reference: Rudelson and Vershynin, "Sampling from large matrices", J. ACM 2007,
        arXiv:math/0503442.
    """
    return _relative(s).square().sum(-1)


def pca_rank(s: Tensor, threshold: float = 0.99) -> Tensor:
    """Count the fewest components that hold a share `threshold` of the squared sum.

        min { k : sum_{i<=k} sigma_i^2 >= threshold * sum_i sigma_i^2 }

    It uses sigma^2, so at the same share it is never larger than `srank`. Invariant to rotations
    and to scale. It is a share of variance only for centered features
    (`singular_values(center=True)`); published code does not center.

    Args:
        s: singular values `[..., k]`, descending.
        threshold: share of the squared sum, in (0, 1].
    Returns:
        `[...]` float64, whole numbers in [0, k].
    Raises:
        ValueError: for a threshold out of range.
    Reference: Yang et al., "Harnessing Structures for Value-Based Planning and Reinforcement
        Learning", ICLR 2020, arXiv:1909.12255.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: expected a number in (0, 1], got {threshold}")
    return _count_to_share(_relative(s).square(), threshold)


def lyle_rank(
    s: Tensor,
    n: int,
    eps: float = 0.01,
    normalize: bool = True,
) -> Tensor:
    """Count the singular values above an absolute threshold.

        #{ i : sigma_i / sqrt(n) > eps }

    Invariant to rotations but NOT to scale, so it also sees features that shrink to zero. With
    1/sqrt(n) it does not change when every row is repeated; some published curves omit that factor
    (`normalize=False`). For float32 features larger than about 1e5, the rounding error of the
    features themselves exceeds the default threshold, and is counted.

    Args:
        s: singular values `[..., k]`. Compute those of large features with
            `singular_values(features, resolve=eps)`.
        n: number of rows of the feature matrix.
        eps: threshold, in the units of the features.
        normalize: divide by sqrt(n).
    Returns:
        `[...]` float64, whole numbers in [0, k].
    Raises:
        ValueError: for fewer than one row.
    Reference: Lyle et al., "Understanding and Preventing Capacity Loss in Reinforcement Learning",
        ICLR 2022, arXiv:2204.09560.
    """
    if n < 1:
        raise ValueError(f"n: expected at least one row, got {n}")
    scale = n**0.5 if normalize else 1.0
    count = (s > eps * scale).sum(-1).double()
    return count.where(s.isfinite().all(-1), torch.nan)


def participation_ratio(s: Tensor) -> Tensor:
    """Compute the inverse participation of the eigenvalues of Phi^T Phi.

        (sum_i sigma_i^2)^2 / sum_i sigma_i^4

    Continuous, in [1, k]. Invariant to rotations and to scale.

    Args:
        s: singular values `[..., k]`, descending.
    Returns:
        `[...]` float64.
    Reference: Gao et al., "A theory of multineuronal dimensionality, dynamics and measurement",
        2017, doi:10.1101/214262.
    """
    w = _relative(s).square()
    return w.sum(-1).square() / w.square().sum(-1).clamp_min(1)


@torch.no_grad()
def rank_measures(
    features: Tensor,
    delta: float = 0.01,
    threshold: float = 0.99,
    eps: float = 0.01,
    center: bool = False,
) -> dict[str, Tensor]:
    """Compute every rank measure of every feature matrix.

    Args:
        features: `[..., n, d]`, best with n >= 4 d and the same rows throughout training.
        delta: `delta` of `srank`.
        threshold: `threshold` of `pca_rank`.
        eps: `eps` of `lyle_rank`.
        center: subtract the mean row first.
    Returns:
        `srank`, `effective_rank`, `stable_rank`, `pca_rank`, `feature_rank` (the key of `lyle_rank`
        in every record), `feature_rank_unscaled` (the same without 1/sqrt(n)) and
        `participation_ratio`, each `[...]` float64; NaN where a matrix is not finite.
    """
    phi = _matrices(features, center)
    n = phi.shape[-2]
    s = _gram_spectrum(phi)

    # Only the absolute threshold can lie below the relative floor of `s`.
    resolved = _resolved(s, phi, eps)

    return {
        "srank": srank(s, delta),
        "effective_rank": effective_rank(s),
        "stable_rank": stable_rank(s),
        "pca_rank": pca_rank(s, threshold),
        "feature_rank": lyle_rank(resolved, n, eps),
        "feature_rank_unscaled": lyle_rank(resolved, n, eps, normalize=False),
        "participation_ratio": participation_ratio(s),
    }


def _matrices(features: Tensor, center: bool) -> Tensor:
    """Check a stack of matrices and return it in float64, centered on request."""
    if features.ndim < 2 or 0 in features.shape[-2:]:
        raise ValueError(f"features: expected a non-empty [..., n, d], got {shapes_of(features)}")

    phi = features.double()
    if center:
        phi = phi - phi.mean(-2, keepdim=True)
    return phi


def _rounding(phi: Tensor) -> float:
    """Bound the rounding of float64, relative to the largest value.

    It holds for the eigenvalues of the Gram matrix and for the singular values of an SVD.
    """
    return max(phi.shape[-2:]) * torch.finfo(torch.float64).eps


def _gram_spectrum(phi: Tensor) -> Tensor:
    """Compute singular values `[..., k]` from the smaller Gram matrix; 0 below its rounding."""
    n, d = phi.shape[-2:]
    gram = phi @ phi.mT if n < d else phi.mT @ phi

    # eigvalsh raises for the whole stack when one matrix is not finite.
    finite = gram.isfinite().all(-1).all(-1)
    gram = gram.where(finite[..., None, None], 0)
    eigenvalues = torch.linalg.eigvalsh(gram).flip(-1)

    floor = _rounding(phi) * eigenvalues[..., :1]
    sigma = eigenvalues.where(eigenvalues > floor, 0).sqrt()
    return sigma.where(finite[..., None], torch.nan)


def _resolved(
    s: Tensor,
    phi: Tensor,
    smallest: float,
) -> Tensor:
    """Replace the spectra whose floor lies above `smallest` by those of an SVD.

    Args:
        s: from `_gram_spectrum(phi)`, `[..., k]`.
        phi: `[..., n, d]` float64.
        smallest: absolute value that the floor must not exceed.
    Returns:
        `[..., k]`; `s` itself where nothing is lost.
    """
    floor = _rounding(phi) ** 0.5 * s[..., 0]
    lost = floor > smallest  # False for NaN
    if not lost.any():
        return s

    exact = torch.linalg.svdvals(phi[lost])
    floor = _rounding(phi) * exact[..., :1]
    resolved = s.clone()
    resolved[lost] = exact.where(exact > floor, 0)
    return resolved


def _relative(s: Tensor) -> Tensor:
    """Divide by sigma_1: leads with 1, or with 0 for a zero spectrum, or NaN if not finite."""
    if s.ndim < 1 or s.shape[-1] == 0:
        raise ValueError(f"singular values: expected a non-empty [..., k], got {shapes_of(s)}")
    top = s[..., :1].double()
    return s / top.where(top != 0, 1)


def _count_to_share(r: Tensor, share: float) -> Tensor:
    """Count the leading values of `r` that are needed to reach a share of its sum."""
    cumulative = r.cumsum(-1)
    below = cumulative < share * (1 - _SLACK) * cumulative[..., -1:]

    # The value that reaches the share counts too, unless the spectrum is zero.
    return below.sum(-1) + r[..., 0]
