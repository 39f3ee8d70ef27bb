"""Gradient descent with heavy-ball momentum, with one learning rate and momentum per run."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rlop.optim.step import RunOptimizer
from rlop.runs import per_run, run_values


@torch.no_grad()
def sgd_(
    params: list[Tensor],
    grads: list[Tensor],
    velocities: list[Tensor],
    lr: Tensor,
    momentum: Tensor,
) -> None:
    """Make one step in place, with the same numbers as `torch.optim.SGD` for every run.

        v <- momentum v + g
        w <- w - lr v

    Args:
        params: parameters w, `[R, ...]`.
        grads: gradients g, same shapes.
        velocities: v, same shapes, changed in place.
        lr: `[R]`.
        momentum: `[R]`, in [0, 1).
    Reference: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964, in
        the form of Sutskever et al., ICML 2013, except that lr multiplies v here.
    """
    for p, g, v in zip(params, grads, velocities, strict=True):
        v.mul_(per_run(momentum, v)).add_(g)
        p.sub_(per_run(lr, p) * v)


class SGD(RunOptimizer):
    """`sgd_` as a PyTorch optimizer; `apply(grads)` takes gradients directly.

    Args:
        params: parameters with a leading run axis `[R, ...]`.
        lr: `[R]` tensor, or one number for all runs.
        momentum: likewise.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: Tensor | float,
        momentum: Tensor | float = 0.0,
    ) -> None:
        params = list(params)
        rates = run_values(lr, params[0])
        momenta = run_values(momentum, params[0])
        super().__init__(params, {"lr": rates, "momentum": momenta})

        for p in params:
            self.state[p] = {"velocity": torch.zeros_like(p)}

    def apply(self, grads: list[Tensor], active: Tensor | None = None) -> None:
        """Make one step with the given gradients.

        Args:
            grads: one for each parameter, in their order.
            active: `[R]` bool; runs whose `active` is False do not move, although their velocities
                decay. None for all.
        """
        (group,) = self.param_groups
        lr = group["lr"] if active is None else group["lr"] * active
        velocities = [self.state[p]["velocity"] for p in group["params"]]
        sgd_(group["params"], grads, velocities, lr, group["momentum"])
