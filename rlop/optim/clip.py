"""Gradient norms and clipping, run by run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlop.runs import on_the_host, per_run

SMALLEST_NORM = 1e-12  # keeps the quotient finite where a gradient is 0


def run_norms(grads: Sequence[Tensor]) -> Tensor:
    """Return the global l2 norm of each run's gradient: tensors `[R, ...]` give `[R]`."""
    is_one_run = len(grads[0]) == 1
    if is_one_run and on_the_host(grads[0]):
        norms = torch.stack(torch._foreach_norm(list(grads)))
        return torch.linalg.vector_norm(norms, dim=0, keepdim=True)

    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads])
    return torch.linalg.vector_norm(norms, dim=0)


def clip_runs(
    grads: Sequence[Tensor],
    norms: Tensor,
    active: Tensor,
    max_norm: float | None,
) -> list[Tensor]:
    """Scale each run's gradient to norm at most `max_norm`; zero it in runs that are not active.

    Args:
        grads: tensors `[R, ...]`.
        norms: `[R]`, from `run_norms`.
        active: `[R]` bool; a run that is not active may hold NaN.
        max_norm: None for no clipping.
    """
    if max_norm is not None:
        scale = (max_norm / norms.clamp_min(SMALLEST_NORM)).clamp_max(1.0)
        grads = [g * per_run(scale, g) for g in grads]

    if on_the_host(active) and all(active.tolist()):
        return list(grads)
    # A product with 0 would keep NaN.
    return [torch.where(per_run(active, g), g, 0.0) for g in grads]
