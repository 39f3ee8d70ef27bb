"""Gradient norms and clipping, run by run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlop.runs import on_the_host, per_run

SMALLEST = 1e-12  # a gradient of 0 is divided by it


def run_norms(grads: Sequence[Tensor]) -> Tensor:
    """Return the l2 norm of each run's whole gradient: tensors `[R, ...]` to `[R]`."""
    if len(grads[0]) == 1:
        norms = torch.stack(torch._foreach_norm(list(grads)))
        return torch.linalg.vector_norm(norms, dim=0, keepdim=True)

    flat = torch.cat([grad.flatten(1) for grad in grads], dim=1)
    return torch.linalg.vector_norm(flat, dim=1)


def clip_runs(
    grads: Sequence[Tensor], norms: Tensor, active: Tensor, max_norm: float | None
) -> list[Tensor]:
    """Scale each run's gradient to norm at most `max_norm`; zero it in runs that are not active.

    Args:
        grads: tensors `[R, ...]`.
        norms: `[R]`, from `run_norms`.
        active: `[R]` bool; a run that is not active may hold NaN.
        max_norm: None for no clipping.
    """
    if max_norm is not None:
        scale = (max_norm / norms.clamp_min(SMALLEST)).clamp_max(1.0)
        grads = [grad * per_run(scale, grad) for grad in grads]

    if on_the_host(active) and all(active.tolist()):
        return list(grads)
    return [torch.where(per_run(active, grad), grad, 0.0) for grad in grads]
