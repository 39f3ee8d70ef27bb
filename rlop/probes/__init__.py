"""Measures of representation health: pure functions of features, for our agents and for any other network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlop.config.checks import nearest
from rlop.probes.agreement import (
    action_distance,
    action_shift,
    calibration,
    disagreement,
    nearest_center,
    other_runs,
)
from rlop.probes.alignment import layer_alignment
from rlop.probes.cka import CKA, cka_matrix, unbiased_hsic
from rlop.probes.coadaptation import feature_cosine, feature_dot, feature_norm, weight_norm
from rlop.probes.effective_parameters import effective_parameters
from rlop.probes.gradients import gradient_rows, value_function
from rlop.probes.heavy import pack
from rlop.probes.implicit import implicit_drift, implicit_regularizer
from rlop.probes.kernel import (
    kare,
    kernel_change,
    last_layer_gram,
    min_eigenvalue,
    ntk,
    predicted_risk,
    seem_eigenvalue,
    signal_capture_threshold,
)
from rlop.probes.learning import LearningTime, class_variance, quantile_bins
from rlop.probes.lipschitz import flip_radius, sensitivity
from rlop.probes.rank import (
    effective_rank,
    feature_rank,
    participation_ratio,
    pca_rank,
    rank_measures,
    singular_values,
    srank,
    stable_rank,
)
from rlop.probes.trace import gauss_newton_trace, head_trace, noise_trace
from rlop.probes.units import active_neurons, dead_fraction, dormant_fraction, unit_measures
from rlop.types import InputError

__all__ = [
    "CKA",
    "LearningTime",
    "action_distance",
    "action_shift",
    "active_neurons",
    "calibration",
    "cka_matrix",
    "class_variance",
    "dead_fraction",
    "disagreement",
    "dormant_fraction",
    "effective_parameters",
    "effective_rank",
    "feature_cosine",
    "feature_dot",
    "feature_norm",
    "feature_rank",
    "flip_radius",
    "gauss_newton_trace",
    "gradient_rows",
    "head_trace",
    "implicit_drift",
    "implicit_regularizer",
    "kare",
    "kernel_change",
    "last_layer_gram",
    "layer_alignment",
    "measure",
    "min_eigenvalue",
    "nearest_center",
    "noise_trace",
    "ntk",
    "other_runs",
    "pack",
    "participation_ratio",
    "pca_rank",
    "predicted_risk",
    "probe",
    "quantile_bins",
    "rank_measures",
    "seem_eigenvalue",
    "sensitivity",
    "signal_capture_threshold",
    "singular_values",
    "srank",
    "stable_rank",
    "unbiased_hsic",
    "unit_measures",
    "value_function",
    "weight_norm",
]


@torch.no_grad()
def measure(
    features: Tensor,
    next_features: Tensor | None = None,
    mask: Tensor | None = None,
    head_weight: Tensor | None = None,
    activation: str = "relu",
) -> dict[str, Tensor]:
    """Every measure of a feature matrix, under the names of the logs, in float64.

    Args:
        features: phi(s, a), `[..., n, d]`.
        next_features: phi(s', a'), same shape; adds `feature/dot` and `feature/cosine`.
        mask: 1 - terminated, `[..., n]`, for these two.
        head_weight: weight of the layer that reads the features, `[..., A, d]`; adds `head/norm`.
        activation: of the layer that made the features, decides what `units/dead` means.
    Returns:
        `rank/*`, `units/*`, `feature/*` and `head/norm`, each `[...]`.
    Raises:
        ValueError: when shapes do not fit.
        InputError: for an unknown activation.
    """
    phi = features.double()
    result = {f"rank/{name}": value for name, value in rank_measures(phi).items()}
    result |= {f"units/{name}": value for name, value in unit_measures(phi, activation).items()}
    result["feature/norm"] = feature_norm(phi)
    if next_features is not None:
        result["feature/dot"] = feature_dot(phi, next_features.double(), mask)
        result["feature/cosine"] = feature_cosine(phi, next_features.double(), mask)
    if head_weight is not None:
        result["head/norm"] = weight_norm(head_weight.double())
    return result


def probe(
    model: nn.Module,
    batch: Any,
    layer: str | None = None,
    next_batch: Any = None,
    mask: Tensor | None = None,
    activation: str = "relu",
) -> dict[str, Tensor]:
    """Measure one layer of somebody else's network, which is left as it was found.

    The network runs once (twice with `next_batch`) in eval mode and without gradient. Where a layer runs several times
    in one forward pass, the last time counts.

    Args:
        model: any module.
        batch: its input; a tuple is passed as positional arguments.
        layer: name of the submodule (as in `model.named_modules()`) whose output `[n, ...]` is measured, flattened to
            `[n, d]`; put it after the non-linearity. None takes the input of the `nn.Linear` that runs last, which is
            phi in the papers, and adds the norm of its weight.
        next_batch: the input at (s', a'), row by row; adds `feature/dot` and `feature/cosine`.
        mask: 1 - terminated, `[n]`, for these two.
        activation: of the measured layer, decides what `units/dead` means.
    Returns:
        The measures of `measure`, each a scalar.
    Raises:
        InputError: for a layer that does not exist, does not run, or does not give a batch of features.
    """
    features, head = _features_of(model, batch, layer)
    next_features = None if next_batch is None else _features_of(model, next_batch, layer)[0]
    return measure(features, next_features, mask, None if head is None else head.weight, activation)


@torch.no_grad()
def _features_of(
    model: nn.Module, batch: Any, layer: str | None
) -> tuple[Tensor, nn.Linear | None]:
    seen: dict[str, Any] = {}
    with _recording(model, layer, seen), _eval_mode(model):
        model(*batch) if isinstance(batch, tuple) else model(batch)
    name = (
        f"{'the last nn.Linear' if layer is None else f'layer {layer!r}'} of {type(model).__name__}"
    )
    if not seen:
        raise InputError(f"{name}: expected it to run in the forward pass, it did not")
    features = seen["features"]
    if not isinstance(features, Tensor) or features.ndim < 2:
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(f"{name}: expected a tensor [n, ...], found {found}")
    return features.flatten(1), seen["head"]


@contextmanager
def _recording(model: nn.Module, layer: str | None, seen: dict[str, Any]) -> Iterator[None]:
    def record(features: Any, head: nn.Linear | None) -> None:
        # a copy, for the next module may work in place
        seen.update(
            features=features.clone() if isinstance(features, Tensor) else features, head=head
        )

    modules = dict(model.named_modules())
    if layer is None:
        linears = [m for m in modules.values() if isinstance(m, nn.Linear)]
        handles = [m.register_forward_pre_hook(lambda m, args: record(args[0], m)) for m in linears]
    elif layer in modules:
        handles = [
            modules[layer].register_forward_hook(lambda m, args, output: record(output, None))
        ]
    else:
        raise InputError(
            f"layer = {layer!r}: not a module of {type(model).__name__}{nearest(layer, modules)}"
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    # flag by flag: model.train() would also wake up layers that their owner had frozen
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag
