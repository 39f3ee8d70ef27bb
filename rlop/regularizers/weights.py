"""Penalties on the distance of the weights from zero and from where they began."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rlop.types import Regularizer, TDContext, needs


def l2(
    parameters: Mapping[str, Tensor], center: Mapping[str, Tensor] | None = None, lead: int = 0
) -> Tensor:
    """Squared distance of all parameters, biases too, from a center.

        sum_j (theta_j - center_j)^2

    Without the half: the coefficient is half of the weight decay of `torch.optim.SGD`. As a penalty it passes through
    Adam, as `weight_decay` does in `torch.optim.Adam` and not in `AdamW`.

    Args:
        parameters: by name, `[*lead, ...]` each.
        center: of the same names and shapes; None for zero. With the initial parameters it is L2 Init.
        lead: number of leading axes.
    Returns:
        `[*lead]`, unweighted.
    Raises:
        ValueError: for no parameters, or a center of another name or shape.
    Reference: Kumar, Marklund, Van Roy, "Maintaining Plasticity in Continual Learning via Regenerative Regularization",
        2023, arXiv:2308.11958, section 3 (L2 Init, and L2 as its baseline).
    """
    if not parameters:
        raise ValueError("parameters: expected at least one")
    return torch.stack([_square(name, p, center, lead) for name, p in parameters.items()]).sum(0)


def _square(name: str, parameter: Tensor, center: Mapping[str, Tensor] | None, lead: int) -> Tensor:
    if center is not None and (name not in center or center[name].shape != parameter.shape):
        found = tuple(center[name].shape) if name in center else "none"
        raise ValueError(f"center: expected {tuple(parameter.shape)} for {name!r}, got {found}")
    move = parameter if center is None else parameter - center[name]
    return move.reshape(*parameter.shape[:lead], -1).square().sum(-1)


def l2_regularizer() -> Regularizer:
    """`l2` as a regularizer of the run-axis update: plain weight decay, of all critics together."""

    @needs()
    def penalty(ctx: TDContext) -> Tensor:
        return l2(ctx.parameters, lead=1)

    return penalty


def l2_init_regularizer() -> Regularizer:
    """`l2` about the initial parameters, L2 Init, as a regularizer of the run-axis update."""

    @needs()
    def penalty(ctx: TDContext) -> Tensor:
        return l2(ctx.parameters, ctx.initial, lead=1)

    return penalty
