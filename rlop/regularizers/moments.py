"""Second moments of the features: mean square length, and covariances between features."""

from __future__ import annotations

from torch import Tensor

from rlop.config.schema import options
from rlop.regularizers.base import Regularizer, sum_over_critics
from rlop.regularizers.shapes import check_features
from rlop.types import TDContext


def feature_norm(features: Tensor) -> Tensor:
    """Compute the mean squared length of a feature vector: `dr3` of a state with itself.

        1/B sum_b |phi(s_b, a_b)|^2

    Compare DR3 with it to see how much of DR3 is only a matter of scale.

    Args:
        features: phi(s, a), `[..., B, D]`.
    Returns:
        `[...]`, unweighted.
    Raises:
        ValueError: when `features` is not a stack of non-empty matrices.
    """
    check_features(features)
    return features.square().sum(-1).mean(-1)


@options
class FeatureNorm(Regularizer):
    """`feature_norm` of every critic, summed."""

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        return sum_over_critics(feature_norm(ctx.features))


def feature_decorrelation(features: Tensor) -> Tensor:
    """Compute the squared covariances of all pairs of different features, over the batch.

        sum_{i != j} C_ij^2,  C = 1/B sum_b (phi_b - mean)(phi_b - mean)^T

    Computed as |X X^T|_F^2 / B^2 minus the squared variances, which costs B^2 D and forms no
    `[D, D]`. It takes covariances, not correlations: small features have small covariances.

    Args:
        features: phi(s, a), `[..., B, D]`.
    Returns:
        `[...]`, unweighted; 0 for one row.
    Raises:
        ValueError: when `features` is not a stack of non-empty matrices.
    Reference: Mavrin, Yao, Kong, "Deep Reinforcement Learning with Decorrelation", 2019,
        arXiv:1903.07765; the Gram form: Mavrin, Graves, Chan, 2019, arXiv:1911.08610. The factor 2
        between i != j and i < j, and the division by B, are our choice: no code of the authors is
        known.
    """
    check_features(features)
    centered = features - features.mean(-2, keepdim=True)
    total = (centered @ centered.mT).square().sum((-2, -1)) / centered.shape[-2] ** 2
    return total - centered.square().mean(-2).square().sum(-1)


@options
class FeatureDecorrelation(Regularizer):
    """`feature_decorrelation` of every critic, summed."""

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        return sum_over_critics(feature_decorrelation(ctx.features))
