"""All cheap measures of a feature matrix in one call, under the names of the logs."""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.probes.coadaptation import feature_cosine, feature_dot, feature_norm, weight_norm
from rlop.probes.rank import rank_measures
from rlop.probes.units import unit_measures


@torch.no_grad()
def measure(
    features: Tensor,
    next_features: Tensor | None = None,
    mask: Tensor | None = None,
    head_weight: Tensor | None = None,
    activation: str = "relu",
) -> dict[str, Tensor]:
    """Compute every cheap measure of a feature matrix, in float64.

    Args:
        features: phi(s, a), `[..., n, d]`.
        next_features: phi(s', a'), same shape; adds `feature/dot` and `feature/cosine`.
        mask: 1 - terminated, `[..., n]`, for these two measures.
        head_weight: weight of the layer that reads the features, `[..., A, d]`; adds `head/norm`.
        activation: activation of the layer that made the features; determines the meaning of
            `units/dead`.
    Returns:
        `rank/*`, `units/*`, `feature/*` and `head/norm`, each `[...]`.
    Raises:
        ValueError: when shapes do not fit.
        InputError: for an unknown activation.
    """
    phi = features.double()
    measures: dict[str, Tensor] = {}

    for name, value in rank_measures(phi).items():
        measures[f"rank/{name}"] = value

    for name, value in unit_measures(phi, activation).items():
        measures[f"units/{name}"] = value

    measures["feature/norm"] = feature_norm(phi)
    if next_features is not None:
        next_phi = next_features.double()
        measures["feature/dot"] = feature_dot(phi, next_phi, mask)
        measures["feature/cosine"] = feature_cosine(phi, next_phi, mask)

    if head_weight is not None:
        measures["head/norm"] = weight_norm(head_weight.double())

    return measures
