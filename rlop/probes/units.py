"""Units of a layer that carry no signal: dormant, dead, or zeroed by weight decay."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlop.config.checks import check_known
from rlop.probes.shapes import shapes_of
from rlop.regularizers.path_norm import neuron_products


def _all_zero(features: Tensor) -> Tensor:
    return features.any(-2).logical_not()


def _all_negative(features: Tensor) -> Tensor:
    return features.amax(-2) < 0


def _constant(features: Tensor) -> Tensor:
    # The unbiased deviation of one row is NaN in the authors' code, which is not below 0.001.
    if features.shape[-2] == 1:
        return torch.zeros_like(features[..., 0, :], dtype=torch.bool)
    return features.std(-2) < 1e-3


# The first four rows follow Moalla et al. 2024; for the others we chose the rule that fits.
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
    """Compute the share of units whose mean activation is at most `tau` of the layer's.

        score_i = mean_x |h_i(x)| / mean_k mean_x |h_k(x)|,  dormant when score_i <= tau

    In a layer that is zero everywhere every unit is dormant. Invariant to the scale of the layer.
    For a convolution make every position a row, `[n * height * width, channels]`.

    Args:
        features: activations `[..., n, d]`.
        tau: 0.1 as in the method that recycles dormant units (ReDo); 0 counts only units that are
            exactly silent.
    Returns:
        `[...]` in [0, 1], NaN where activations are not finite.
    Raises:
        ValueError: unless features are a non-empty floating `[..., n, d]`.
    Reference: Sokar et al., "The Dormant Neuron Phenomenon in Deep Reinforcement Learning",
        ICML 2023, arXiv:2302.12902.
    Differs from: dopamine `labs/redo`, which adds 1e-9 to the denominator; here scores are compared
        without division.
    """
    dormant = dormant_units(features, tau)
    size = features.abs().mean((-2, -1))
    return _fraction(dormant, size)


@torch.no_grad()
def dormant_units(features: Tensor, tau: float = 0.1) -> Tensor:
    """Mark dormant units, bool `[..., d]`; see `dormant_fraction`.

    Args:
        features: activations `[..., n, d]`.
        tau: threshold of the score.
    """
    score = _check(features).abs().mean(-2)  # [..., d]
    return score <= tau * score.mean(-1, keepdim=True)


@torch.no_grad()
def dead_fraction(features: Tensor, activation: str = "relu") -> Tensor:
    """Compute the share of units that never leave the saturated part of their activation.

        relu, gelu: h_i(x) = 0 for all x;  leaky_relu: h_i(x) < 0 for all x
        tanh: std_x h_i(x) < 0.001, the unbiased standard deviation over the batch

    Of the activations that the reference does not treat, squared_relu uses the rule of relu; elu,
    silu, sigmoid, softplus and identity use that of tanh. A single row has no standard deviation:
    by the rule of tanh none of its units is dead.

    Args:
        features: activations `[..., n, d]`, after the non-linearity.
        activation: a key of `DEAD`.
    Returns:
        `[...]` in [0, 1], NaN where activations are not finite.
    Raises:
        InputError: for an unknown activation.
        ValueError: unless features are a non-empty floating `[..., n, d]`.
    Reference: Moalla et al., "No Representation, No Trust", NeurIPS 2024, arXiv:2405.00662; the
        rules are those of the authors' code.
    """
    check_known("activation", activation, DEAD)
    dead = DEAD[activation](_check(features))

    # In float64, because a sum in half precision overflows.
    return _fraction(dead, features.sum((-2, -1), dtype=torch.float64))


@torch.no_grad()
def active_neurons(
    incoming: Tensor,
    outgoing: Tensor,
    tol: float = 1e-3,
) -> Tensor:
    """Count the units whose incoming and outgoing weights are not zero: the width in use.

        #{ k : |v_k| |w_k| > tol }

    The product does not change when w_k is multiplied by c and v_k divided by it. It sees weights
    only, no data: a dormant unit may be counted, see `dormant_fraction`.

    Args:
        incoming: weight of the layer that makes the units, `[..., K, I]`.
        outgoing: weight of the layer that reads them, `[..., O, K]`.
        tol: in the units of the product.
    Returns:
        `[...]` float64, whole numbers in [0, K], NaN where weights are not finite.
    Raises:
        ValueError: when the layers do not follow each other.
    Reference: Parhi, Wolf, Nowak, "On the Sparsity of Deep Neural Networks in the Overparameterized
        Regime: An Empirical Study", ICML 2021 workshop; the tolerance is ours.
    """
    products = neuron_products(incoming, outgoing, incoming.ndim - 2)
    count = (products > tol).sum(-1).double()
    return count.where(products.isfinite().all(-1), torch.nan)


def unit_measures(
    features: Tensor,
    activation: str = "relu",
    tau: float = 0.1,
) -> dict[str, Tensor]:
    """Compute the dormant and the dead fraction of a layer.

    Args:
        features: activations `[..., n, d]`.
        activation: activation of the layer; determines the meaning of dead.
        tau: `tau` of `dormant_fraction`.
    Returns:
        `{"dormant": [...], "dead": [...]}`.
    """
    return {
        "dormant": dormant_fraction(features, tau),
        "dead": dead_fraction(features, activation),
    }


def _check(features: Tensor) -> Tensor:
    if features.ndim < 2 or 0 in features.shape[-2:] or not features.is_floating_point():
        described = f"{features.dtype} {shapes_of(features)}"
        raise ValueError(f"features: expected a floating [..., n, d], got {described}")
    return features


def _fraction(units: Tensor, total: Tensor) -> Tensor:
    """Compute the share of true `units`; NaN where `total`, a sum of features, is not finite."""
    return units.double().mean(-1).where(total.isfinite(), torch.nan)
