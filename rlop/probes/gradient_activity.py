"""Gradient activity of units (GraMa): which units of a layer still receive a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, islice

import torch
from torch import Tensor, nn

from rlop.probes.units import dormant_fraction


@torch.no_grad()
def inactive_fraction(gradients: Tensor, tau: float = 0.01) -> Tensor:
    """Compute the share of units whose mean gradient is at most `tau` of the layer's.

        score_i = mean_x |dL/dz_i(x)| / mean_k mean_x |dL/dz_k(x)|,  inactive when score_i <= tau

    A dormant unit may still learn, and an active one may not: activations say what a unit
    expresses, gradients what it can still become. In a layer without any gradient every unit is
    inactive. Invariant to the scale of the loss.

    Args:
        gradients: of a loss with respect to the outputs z of a layer, before its activation,
            `[..., n, d]`, row x from the loss of row x.
        tau: 0.01 as in the method that resets such units (ReGraMa).
    Returns:
        `[...]` in [0, 1], NaN where gradients are not finite.
    Raises:
        ValueError: unless gradients are a non-empty floating `[..., n, d]`.
    Reference: Liu et al., "Measure gradients, not activations! Enhancing neuronal activity in deep
        reinforcement learning", 2025, arXiv:2505.24061.
    """
    return dormant_fraction(gradients, tau)


def layer_gradients(
    layers: Sequence[nn.Module],
    loss: Callable[[], Tensor],
) -> list[Tensor]:
    """Compute the gradient of a loss with respect to the outputs of layers; nothing is stored.

    If a layer runs several times, its rows of all calls stand one after another. Calls without
    gradient, such as those of a target, do not count.

    Args:
        layers: modules of the network, each with output `[..., n, d]`.
        loss: runs the network and returns a scalar.
    Returns:
        `[..., n, d]` for every layer that took part in the loss.
    """
    outputs: list[list[Tensor]] = [[] for _ in layers]

    def recorder(calls: list[Tensor]) -> Callable[[nn.Module, object, Tensor], None]:
        def record(module: nn.Module, args: object, output: Tensor) -> None:
            if output.requires_grad:
                calls.append(output)

        return record

    handles = []
    for layer, calls in zip(layers, outputs, strict=True):
        handles.append(layer.register_forward_hook(recorder(calls)))
    try:
        value = loss()
    finally:
        for handle in handles:
            handle.remove()

    flat = list(chain.from_iterable(outputs))
    gradients = iter(torch.autograd.grad(value, flat, allow_unused=True))
    of_layers = []
    for calls in outputs:
        of_calls = islice(gradients, len(calls))
        parts = [gradient for gradient in of_calls if gradient is not None]
        if parts:
            of_layers.append(torch.cat(parts, dim=-2))
    return of_layers
