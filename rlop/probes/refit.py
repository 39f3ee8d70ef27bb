"""Plasticity by refitting: how well trained parameters learn something new within a few steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

Parameters: TypeAlias = Mapping[str, Tensor]
Outputs: TypeAlias = Callable[[Parameters], Tensor]  # parameters -> [..., n, k]

BETAS = (0.9, 0.999)  # Adam's defaults
EPS = 1e-8


def refit_error(
    outputs: Outputs,
    parameters: Parameters,
    change: Tensor,
    steps: int = 100,
    lr: float = 1e-3,
) -> Tensor:
    """Fit a change of the outputs within a budget of Adam steps; return what is left of it.

        y = f_theta(x) + c(x),   error = mean (f_theta'(x) - y)^2 / mean c^2,
        theta' = `steps` of Adam from theta on mean (f(x) - y)^2, the whole batch in each step

    1 means that nothing was learned. Compare with the same number of fresh networks (`capacity`).

    Args:
        outputs: parameters to outputs on a fixed batch, `[..., n, k]`; runs along leading axes must
            not depend on each other.
        parameters: theta by name, `[..., *shape]`; they are not changed.
        change: c, `[..., n, k]` or fewer leading axes.
        steps: budget.
        lr: step size of Adam.
    Returns:
        `[...]` float64; NaN where the fit did not stay finite.
    Reference: Lyle, Rowland, Dabney, "Understanding and Preventing Capacity Loss in Reinforcement
        Learning", ICLR 2022, arXiv:2204.09560, definition 1 (target-fitting capacity).
    Differs from: the paper, where y is the random function itself. Here it is added to what the
        network computes, so that values far from 0 do not count as lost plasticity; and the budget
        is 100 steps on one batch instead of 50,000 on many.
    """
    fitted = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
    with torch.no_grad():
        start = outputs(fitted)
        target = start + change
        scale = change.double().square().mean((-2, -1))

    optimizer = torch.optim.Adam(fitted.values(), lr=lr, betas=BETAS, eps=EPS)
    for _ in range(steps):
        # A sum over runs: their gradients do not mix.
        loss = (outputs(fitted) - target).square().mean((-2, -1)).sum()
        gradients = torch.autograd.grad(loss, list(fitted.values()), allow_unused=True)
        for parameter, gradient in zip(fitted.values(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    with torch.no_grad():
        left = (outputs(fitted) - target).double().square().mean((-2, -1))
    error = left / scale
    return error.where(error.isfinite(), torch.nan)


def standardized(values: Tensor) -> Tensor:
    """Bring every column of a batch to mean 0 and variance 1; a constant column becomes 0.

    Args:
        values: `[..., n, k]`.
    Returns:
        The same shape.
    """
    centered = values - values.mean(-2, keepdim=True)
    spread = centered.square().mean(-2, keepdim=True).sqrt()
    return centered / spread.where(spread > 0, 1.0)
