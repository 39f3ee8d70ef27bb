"""Rank of a feature matrix Phi `[..., n, d]`: one float64 Gram eigendecomposition serves every measure.

A measure is a pure function of the singular values `[..., k]`, k = min(n, d), sorted in descending order. All return
float64, one number per leading index; a spectrum that is all zero has rank 0, one that holds NaN has rank NaN.
A falling rank alone says nothing of the return: read it beside dead units, norms and the learning rate
(Gulcehre et al. 2022, arXiv:2207.02099).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Cumulative sums are compared with their threshold up to this relative slack: without it 99/100 >= 0.99 is decided by
# the last bit. It is far above the rounding of float64 and far below any threshold in use.
_SLACK = 1e-9


@torch.no_grad()
def singular_values(features: Tensor, center: bool = False) -> Tensor:
    """Singular values of every `[n, d]` matrix, in float64 and without gradient.

        sigma_i = sqrt(lambda_i(Phi^T Phi)),  or of Phi Phi^T where n < d

    Values below `sqrt(max(n, d) * eps) * sigma_1`, about 1e-6 sigma_1, are rounding errors of the Gram matrix and come
    back as 0. A matrix that holds NaN or infinity gets NaN throughout; its neighbours are not touched.

    Args:
        features: `[..., n, d]`, any floating or integer type.
        center: subtract the mean row first. Positive (ReLU) features have a large mean, which dominates sigma_1.
    Returns:
        `[..., min(n, d)]` float64, descending.
    Raises:
        ValueError: when `features` is not a stack of non-empty matrices.
    """
    if features.ndim < 2 or 0 in features.shape[-2:]:
        raise ValueError(f"features: expected a non-empty [..., n, d], got {tuple(features.shape)}")
    phi = features.double()
    if center:
        phi = phi - phi.mean(-2, keepdim=True)
    n, d = phi.shape[-2:]
    gram = phi @ phi.mT if n < d else phi.mT @ phi
    # eigvalsh raises for the whole stack when one matrix is not finite
    finite = gram.isfinite().all(-1).all(-1)
    eigenvalues = torch.linalg.eigvalsh(gram.where(finite[..., None, None], 0)).flip(-1)
    floor = max(n, d) * torch.finfo(torch.float64).eps * eigenvalues[..., :1]
    sigma = eigenvalues.where(eigenvalues > floor, 0).sqrt()
    return sigma.where(finite[..., None], torch.nan)


def srank(s: Tensor, delta: float = 0.01) -> Tensor:
    """Effective rank of the implicit under-parameterization paper: the fewest values that hold 1 - delta of the sum.

        min { k : sum_{i<=k} sigma_i / sum_i sigma_i >= 1 - delta }

    Uses sigma, not sigma^2. Invariant to rotations and to scale.

    Args:
        s: singular values `[..., k]`, descending.
        delta: share of the sum that may be left out, in [0, 1).
    Returns:
        `[...]` float64, whole numbers in [0, k].
    Reference: Kumar et al., "Implicit Under-Parameterization Inhibits Data-Efficient Deep Reinforcement Learning",
        ICLR 2021, arXiv:2010.14498.
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta: expected a number in [0, 1), got {delta}")
    return _count_to_share(_relative(s), 1 - delta)


def effective_rank(s: Tensor) -> Tensor:
    """Exponential of the entropy of the normalised singular values; continuous, in [1, k].

        exp(-sum_i p_i log p_i),  p_i = sigma_i / sum_j sigma_j,  0 log 0 = 0

    Invariant to rotations and to scale.

    Args:
        s: singular values `[..., k]`.
    Returns:
        `[...]` float64.
    Reference: Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.
    """
    r = _relative(s)
    p = r / r.sum(-1, keepdim=True).clamp_min(1)
    return torch.special.entr(p).sum(-1).exp() * r[..., 0]


def stable_rank(s: Tensor) -> Tensor:
    """Squared Frobenius norm over squared spectral norm; in [1, k], robust to small singular values.

        sum_i sigma_i^2 / sigma_1^2

    Invariant to rotations and to scale.

    Args:
        s: singular values `[..., k]`, descending.
    Returns:
        `[...]` float64.
    Reference: Rudelson and Vershynin, "Sampling from large matrices", J. ACM 2007, arXiv:math/0503442.
    """
    return _relative(s).square().sum(-1)


def pca_rank(s: Tensor, threshold: float = 0.99) -> Tensor:
    """Approximate rank: the fewest components that hold `threshold` of the squared sum.

        min { k : sum_{i<=k} sigma_i^2 >= threshold * sum_i sigma_i^2 }

    Uses sigma^2, so at the same share it is never larger than `srank`. Invariant to rotations and to scale. A share of
    variance only for centred features (`singular_values(center=True)`); published code does not centre.

    Args:
        s: singular values `[..., k]`, descending.
        threshold: share of the squared sum, in (0, 1].
    Returns:
        `[...]` float64, whole numbers in [0, k].
    Reference: Yang et al., "Harnessing Structures for Value-Based Planning and Reinforcement Learning", ICLR 2020,
        arXiv:1909.12255.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: expected a number in (0, 1], got {threshold}")
    return _count_to_share(_relative(s).square(), threshold)


def feature_rank(s: Tensor, n: int, eps: float = 0.01, normalize: bool = True) -> Tensor:
    """Number of singular values above an absolute threshold.

        #{ i : sigma_i / sqrt(n) > eps }

    Invariant to rotations but NOT to scale, so it also sees features that shrink to zero. With 1/sqrt(n) it does not
    change when every row is repeated; some published curves leave that factor out (`normalize=False`).

    Args:
        s: singular values `[..., k]`.
        n: number of rows of the feature matrix.
        eps: threshold, in the units of the features.
        normalize: divide by sqrt(n).
    Returns:
        `[...]` float64, whole numbers in [0, k].
    Reference: Lyle et al., "Understanding and Preventing Capacity Loss in Reinforcement Learning", ICLR 2022,
        arXiv:2204.09560.
    """
    if n < 1:
        raise ValueError(f"n: expected at least one row, got {n}")
    count = (s > eps * (n**0.5 if normalize else 1.0)).sum(-1).double()
    return count.where(s.isfinite().all(-1), torch.nan)


def participation_ratio(s: Tensor) -> Tensor:
    """Inverse participation of the eigenvalues of Phi^T Phi; continuous, in [1, k].

        (sum_i sigma_i^2)^2 / sum_i sigma_i^4

    Invariant to rotations and to scale.

    Args:
        s: singular values `[..., k]`, descending.
    Returns:
        `[...]` float64.
    Reference: Gao et al., "A theory of multineuronal dimensionality, dynamics and measurement", 2017,
        doi:10.1101/214262.
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
    """Every rank measure of every feature matrix, from one eigendecomposition.

    Args:
        features: `[..., n, d]`, best with n >= 4 d and the same rows throughout training.
        delta: of `srank`.
        threshold: of `pca_rank`.
        eps: of `feature_rank`.
        center: subtract the mean row first.
    Returns:
        `srank`, `effective_rank`, `stable_rank`, `pca_rank`, `feature_rank`, `feature_rank_unscaled` (without
        1/sqrt(n)) and `participation_ratio`, each `[...]` float64; NaN where a matrix is not finite.
    """
    s, n = singular_values(features, center), features.shape[-2]
    return {
        "srank": srank(s, delta),
        "effective_rank": effective_rank(s),
        "stable_rank": stable_rank(s),
        "pca_rank": pca_rank(s, threshold),
        "feature_rank": feature_rank(s, n, eps),
        "feature_rank_unscaled": feature_rank(s, n, eps, normalize=False),
        "participation_ratio": participation_ratio(s),
    }


def _relative(s: Tensor) -> Tensor:
    """`sigma_i / sigma_1`: leads with 1, or with 0 where all is zero, or with NaN where something is not finite."""
    if s.ndim < 1 or s.shape[-1] == 0:
        raise ValueError(f"singular values: expected a non-empty [..., k], got {tuple(s.shape)}")
    top = s[..., :1].double()
    return s / top.where(top != 0, 1)


def _count_to_share(r: Tensor, share: float) -> Tensor:
    cumulative = r.cumsum(-1)
    below = cumulative < share * (1 - _SLACK) * cumulative[..., -1:]
    return (
        below.sum(-1) + r[..., 0]
    )  # the value that reaches the share counts too, unless there is none
