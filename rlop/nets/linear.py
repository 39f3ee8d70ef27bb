"""Affine layers whose parameters carry leading run (and critic) axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn


def stacked_affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `x @ weight.mT + bias`, one product for each leading index.

    For small layers a single batched product measured at least as fast as a loop over slices on a
    CPU, and it is one launch on a GPU. Large batches on a CPU go through `rlop.nets.pieces`,
    network by network.

    Args:
        x: `[*lead, B, I]`; the lead may be empty.
        weight: `[*lead, O, I]`.
        bias: `[*lead, O]`.
    Returns:
        `[*lead, B, O]`.
    Raises:
        ValueError: for shapes that do not fit.
    """
    lead = weight.shape[:-2]
    n_inputs = weight.shape[-1]
    if x.shape[:-2] != lead or x.shape[-1] != n_inputs:
        raise ValueError(
            f"x {tuple(x.shape)} does not fit weight {tuple(weight.shape)}: expected [*lead, B, I]"
        )

    # One network, stacked or not, is a plain layer.
    if lead.numel() == 1:
        matrix, shift = weight.view(weight.shape[-2:]), bias.view(-1)
        if _is_added_later(x):
            return F.linear(x, matrix) + shift
        return F.linear(x, matrix, shift)

    # The product is written for columns, so that the gradient of the weight is laid out as the
    # weight is; that of `x @ weight.mT` is transposed, which slows all that reads it down.
    if len(lead) == 1:
        return _biased_product(bias.unsqueeze(2), weight, x.mT).mT

    flat_bias = bias.reshape(-1, bias.shape[-1], 1)
    flat_weight = weight.flatten(0, -3)
    flat = _biased_product(flat_bias, flat_weight, x.flatten(0, -3).mT)
    return flat.mT.unflatten(0, lead)


def _is_added_later(x: Tensor) -> bool:
    """Return whether the bias of a product with x is added after it.

    A compiler adds it where it computes the activation, while a product that adds it copies it
    first, as large as the result. In bf16 that would round twice.
    """
    return torch.compiler.is_compiling() and x.dtype == torch.float32


def _biased_product(bias: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    """Compute `bias + weight @ x` of N networks: `[N, O, 1]`, `[N, O, I]`, `[N, I, B]`."""
    if _is_added_later(x):
        return torch.bmm(weight, x) + bias
    return torch.baddbmm(bias, weight, x)


def undrawn(*shape: int) -> nn.Parameter:
    """Return a parameter of NaN, to be drawn by `reset_runs`: one that never is does not go unseen.

    Args:
        shape: `[R, ...]` or `[R, E, ...]`.
    """
    return nn.Parameter(torch.full(shape, torch.nan))


class Linear(nn.Module):
    """Stacked `nn.Linear`: weight `[*lead, O, I]`, bias `[*lead, O]`, input `[*lead, B, I]`.

    Initialized like `nn.Linear`, uniform in +-1/sqrt(fan_in), each run from its own generator.

    Args:
        lead: leading axes of the parameters, `(R,)` or `(R, E)`.
        in_features: I.
        out_features: O.
    """

    def __init__(self, lead: Sequence[int], in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = undrawn(*lead, out_features, in_features)
        self.bias = undrawn(*lead, out_features)

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw the parameters of one run."""
        fan_in = self.weight.shape[-1]
        bound = fan_in**-0.5
        for parameter in (self.weight, self.bias):
            parameter.data[run].uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[*lead, B, I]` to `[*lead, B, O]`, computed in the dtype of `x`."""
        return stacked_affine(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class LayerNorm(nn.Module):
    """Stacked `nn.LayerNorm` over the last axis of `[*lead, B, D]`; gain and shift `[*lead, D]`.

    Args:
        lead: leading axes of the parameters, `(R,)` or `(R, E)`.
        features: D.
    """

    def __init__(self, lead: Sequence[int], features: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(*lead, features))
        self.shift = nn.Parameter(torch.zeros(*lead, features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `[*lead, B, D]` over its last axis."""
        normal = F.layer_norm(x, x.shape[-1:])
        gain = self.gain.unsqueeze(-2)
        shift = self.shift.unsqueeze(-2)
        return normal * gain + shift


@runtime_checkable
class Drawn(Protocol):
    """A layer whose parameters are drawn run by run."""

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw the parameters of one run."""
        ...


def reset_runs(module: nn.Module, seeds: Sequence[int]) -> None:
    """Draw the parameters of every run from its own seed; no run depends on its neighbors.

    Runs with the same seed start from the same network: comparisons of hyper-parameter values are
    paired.

    Args:
        module: changed in place.
        seeds: one per run.
    """
    for run, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        for layer in module.modules():
            if isinstance(layer, Drawn):
                layer.reset_run(run, generator)
