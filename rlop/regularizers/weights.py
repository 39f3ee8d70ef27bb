"""Penalties on the distance of the weights from zero and from their initial values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rlop.config.schema import options
from rlop.regularizers.base import Regularizer
from rlop.types import TDContext


def l2(
    parameters: Mapping[str, Tensor], center: Mapping[str, Tensor] | None = None, lead: int = 0
) -> Tensor:
    """Compute the squared distance of all parameters, including biases, from a center.

        sum_j (theta_j - center_j)^2

    There is no factor 1/2: the coefficient is half of the weight decay of `torch.optim.SGD`. As a
    penalty it passes through Adam, as `weight_decay` does in `torch.optim.Adam` and not in `AdamW`.

    Args:
        parameters: by name, `[*lead, ...]` each.
        center: tensors of the same names and shapes; None for zero. With the initial parameters
            this is L2 Init.
        lead: number of leading axes.
    Returns:
        `[*lead]`, unweighted.
    Raises:
        ValueError: for no parameters, or a center with other names or shapes.
    Reference: Kumar, Marklund, Van Roy, "Maintaining Plasticity in Continual Learning via
        Regenerative Regularization", 2023, arXiv:2308.11958, section 3 (L2 Init, and L2 as its
        baseline).
    """
    if not parameters:
        raise ValueError("parameters: expected at least one")

    squares = []
    for name, parameter in parameters.items():
        difference = (
            parameter if center is None else parameter - _center_of(name, parameter, center)
        )
        squares.append(difference.reshape(*parameter.shape[:lead], -1).square().sum(-1))
    return torch.stack(squares).sum(0)


def _center_of(name: str, parameter: Tensor, center: Mapping[str, Tensor]) -> Tensor:
    """Return the center of one parameter, of its shape."""
    if name not in center or center[name].shape != parameter.shape:
        actual = tuple(center[name].shape) if name in center else "none"
        raise ValueError(f"center: expected {tuple(parameter.shape)} for {name!r}, got {actual}")
    return center[name]


@options
class L2(Regularizer):
    """`l2` of all parameters: plain weight decay, all critics together."""

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        return l2(ctx.parameters, lead=1)


@options
class L2Init(Regularizer):
    """`l2` around the initial parameters, L2 Init, all critics together."""

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        return l2(ctx.parameters, ctx.initial, lead=1)
