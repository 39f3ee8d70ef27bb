"""Second moments of the features: their mean square length, and the covariance between different features."""

from __future__ import annotations

from torch import Tensor

from rlop.regularizers.adapt import check_features, of_features
from rlop.types import Regularizer


def feature_norm(features: Tensor) -> Tensor:
    """Mean squared length of a feature vector: `dr3` of a state with itself.

        1/B sum_b |phi(s_b, a_b)|^2

    What of DR3 is only a matter of scale; compare with it.

    Args:
        features: phi(s, a), `[..., B, D]`.
    Returns:
        `[...]`, unweighted.
    Raises:
        ValueError: when `features` is not a stack of non-empty matrices.
    """
    check_features(features)
    return features.square().sum(-1).mean(-1)


def feature_norm_regularizer() -> Regularizer:
    """`feature_norm` as a regularizer of the run-axis update."""
    return of_features(feature_norm)


def feature_decorrelation(features: Tensor) -> Tensor:
    """Squared covariances of all pairs of different features, over the batch.

        sum_{i != j} C_ij^2,  C = 1/B sum_b (phi_b - mean)(phi_b - mean)^T

    Computed as |X X^T|_F^2 / B^2 minus the squared variances, which costs B^2 D and forms no `[D, D]`. Covariances, not
    correlations: small features have small ones.

    Args:
        features: phi(s, a), `[..., B, D]`.
    Returns:
        `[...]`, unweighted; 0 for one row.
    Raises:
        ValueError: when `features` is not a stack of non-empty matrices.
    Reference: Mavrin, Yao, Kong, "Deep Reinforcement Learning with Decorrelation", 2019, arXiv:1903.07765; the Gram
        form: Mavrin, Graves, Chan, 2019, arXiv:1911.08610. The factor 2 between i != j and i < j, and the division by
        B, are our choice: no code of the authors is known.
    """
    check_features(features)
    x = features - features.mean(-2, keepdim=True)
    total = (x @ x.mT).square().sum((-2, -1)) / x.shape[-2] ** 2
    return total - x.square().mean(-2).square().sum(-1)


def feature_decorrelation_regularizer() -> Regularizer:
    """`feature_decorrelation` as a regularizer of the run-axis update."""
    return of_features(feature_decorrelation)
