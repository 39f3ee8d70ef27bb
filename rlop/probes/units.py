"""Units of a layer that carry no signal: dormant ones, dead ones, and ones that weight decay has emptied."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlop.config.checks import check_known
from rlop.regularizers.path_norm import neuron_products


def _all_zero(features: Tensor) -> Tensor:
    return features.any(-2).logical_not()


def _all_negative(features: Tensor) -> Tensor:
    return features.amax(-2) < 0


def _constant(features: Tensor) -> Tensor:
    return features.std(-2, correction=0) < 1e-3


# The first four rows follow Moalla et al. 2024; the others are our choice of the rule that fits.
DEAD: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": _all_zero,
    "gelu": _all_zero,
    "tanh": _constant,
    "leaky_relu": _all_negative,
    "squared_relu": _all_zero,
    "elu": _constant,
    "silu": _constant,
    "sigmoid": _constant,
    "softplus": _constant,
    "identity": _constant,
}


@torch.no_grad()
def dormant_fraction(features: Tensor, tau: float = 0.1) -> Tensor:
    """Share of units whose mean activation is at most `tau` of the layer's.

        score_i = mean_x |h_i(x)| / mean_k mean_x |h_k(x)|,  dormant when score_i <= tau

    In a layer that is zero everywhere every unit is dormant. Invariant to the scale of the layer. For a convolution
    give every position its own row, `[n * height * width, channels]`.

    Args:
        features: activations `[..., n, d]`.
        tau: 0.1 as the method that recycles dormant units (ReDo) uses it; 0 counts only units that are exactly silent.
    Returns:
        `[...]` in [0, 1], NaN where activations are not finite.
    Reference: Sokar et al., "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML 2023,
        arXiv:2302.12902.
    Differs from: dopamine `labs/redo`, which adds 1e-9 to the denominator; here scores are compared without division.
    """
    return _fraction(dormant_units(features, tau), features.abs().mean((-2, -1)))


@torch.no_grad()
def dormant_units(features: Tensor, tau: float = 0.1) -> Tensor:
    """Which units are dormant, bool `[..., d]`; see `dormant_fraction`.

    Args:
        features: activations `[..., n, d]`.
        tau: threshold of the score.
    """
    score = _check(features).abs().mean(-2)  # [..., d]
    return score <= tau * score.mean(-1, keepdim=True)


@torch.no_grad()
def dead_fraction(features: Tensor, activation: str = "relu") -> Tensor:
    """Share of units that never leave the saturated part of their activation on this batch.

        relu, gelu: h_i(x) = 0 for all x;  leaky_relu: h_i(x) < 0 for all x;  tanh: std_x h_i(x) < 0.001

    Of the activations that the reference does not treat, squared_relu uses the rule of relu; elu, silu, sigmoid,
    softplus and identity use that of tanh.

    Args:
        features: activations `[..., n, d]`, after the non-linearity.
        activation: a key of `DEAD`.
    Returns:
        `[...]` in [0, 1], NaN where activations are not finite.
    Raises:
        InputError: for an unknown activation.
    Reference: Moalla et al., "No Representation, No Trust", NeurIPS 2024, arXiv:2405.00662; the rules are those of the
        authors' code.
    """
    check_known("activation", activation, DEAD)
    return _fraction(
        DEAD[activation](_check(features)), features.sum((-2, -1), dtype=torch.float64)
    )


@torch.no_grad()
def active_neurons(incoming: Tensor, outgoing: Tensor, tol: float = 1e-3) -> Tensor:
    """Number of units whose weights, in and out, are both there: the size that weight decay leaves of a wide layer.

        #{ k : |v_k| |w_k| > tol }

    The product does not change when w_k is multiplied by c and v_k divided by it. It sees weights only, no data: a
    dormant unit may count, see `dormant_fraction`.

    Args:
        incoming: weight of the layer that makes the units, `[..., K, I]`.
        outgoing: weight of the layer that reads them, `[..., O, K]`.
        tol: in the units of the product.
    Returns:
        `[...]` float64, whole numbers in [0, K], NaN where weights are not finite.
    Raises:
        ValueError: when the layers do not follow each other.
    Reference: Parhi, Wolf, Nowak, "On the Sparsity of Deep Neural Networks in the Overparameterized Regime: An
        Empirical Study", ICML 2021 workshop; the tolerance is ours.
    """
    products = neuron_products(incoming, outgoing, incoming.ndim - 2)
    count = (products > tol).sum(-1).double()
    return count.where(products.isfinite().all(-1), torch.nan)


def unit_measures(
    features: Tensor, activation: str = "relu", tau: float = 0.1
) -> dict[str, Tensor]:
    """`dormant` and `dead` fractions of a layer.

    Args:
        features: activations `[..., n, d]`.
        activation: of the layer, decides what dead means.
        tau: of `dormant_fraction`.
    Returns:
        `{"dormant": [...], "dead": [...]}`.
    """
    return {"dormant": dormant_fraction(features, tau), "dead": dead_fraction(features, activation)}


def _check(features: Tensor) -> Tensor:
    if features.ndim < 2 or 0 in features.shape[-2:] or not features.is_floating_point():
        raise ValueError(
            f"features: expected a floating [..., n, d], got {features.dtype} {tuple(features.shape)}"
        )
    return features


def _fraction(units: Tensor, total: Tensor) -> Tensor:
    """Share of `units` that are true; NaN where `total`, some sum of the features, shows that they are not finite."""
    return units.double().mean(-1).where(total.isfinite(), torch.nan)
