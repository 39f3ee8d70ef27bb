"""Adam whose learning rate is one number per run."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from rlop.optim.step import step_from_grad
from rlop.runs import on_the_host, per_run


@torch.no_grad()
def adam_(
    params: list[Tensor],
    grads: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    step: Tensor,
    lr: Tensor,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> None:
    """Make one Adam step in place, with the numbers of `torch.optim.Adam` for every run.

    Args:
        params: parameters `[R, ...]`.
        grads: gradients, same shapes.
        means: running means of the gradients, changed in place.
        squares: running means of their squares, changed in place.
        step: number of steps before this one, a float tensor `[]`, changed in place.
        lr: `[R]`.
        betas: decay of `means` and `squares`.
        eps: added to the root after bias correction.
    Reference: Kingma and Ba, "Adam", ICLR 2015, arXiv:1412.6980, algorithm 1.
    """
    step.add_(1)
    torch._foreach_lerp_(means, grads, 1 - betas[0])
    torch._foreach_mul_(squares, betas[1])
    torch._foreach_addcmul_(squares, grads, grads, 1 - betas[1])

    denominators = torch._foreach_sqrt(squares)
    torch._foreach_div_(denominators, (1 - betas[1] ** step).sqrt())
    torch._foreach_add_(denominators, eps)

    updates = torch._foreach_div(means, denominators)
    scale = -lr / (1 - betas[0] ** step)
    torch._foreach_mul_(updates, [per_run(scale, p) for p in params])
    torch._foreach_add_(params, updates)


@torch.no_grad()
def fused_adam_(
    params: list[Tensor],
    grads: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    step: Tensor,
    lr: Tensor,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> None:
    """Make the step of `adam_` in one pass over memory, by PyTorch's fused kernel.

    One call for each stretch of runs with the same lr; arguments as in `adam_`. On a CPU it is 3 to
    8 times faster than pass by pass, which is bound by memory.
    """
    step.add_(1)

    # The kernel walks memory, and autograd may return transposed gradients.
    grads = [g.contiguous() for g in grads]

    stop = 0
    for rate, stretch in groupby(lr.tolist()):
        start = stop
        stop += len(list(stretch))
        p, g, m, s = params, grads, means, squares
        if stop - start < len(lr):
            p, g = [t[start:stop] for t in params], [t[start:stop] for t in grads]
            m, s = [t[start:stop] for t in means], [t[start:stop] for t in squares]
        torch._fused_adam_(
            p,
            g,
            m,
            s,
            [],
            [step] * len(params),
            lr=rate,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=0.0,
            eps=eps,
            amsgrad=False,
            maximize=False,
        )


class Adam(torch.optim.Optimizer):
    """`adam_` as a PyTorch optimizer; `step()` reads `.grad`, `apply(grads)` takes gradients
    directly.

    Args:
        params: parameters with a leading run axis `[R, ...]`.
        lr: `[R]` tensor, or one number for all runs.
        betas: decay rates.
        eps: see `adam_`.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: Tensor | float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        params = list(params)
        device = params[0].device
        rates = torch.as_tensor(lr, dtype=torch.float32, device=device)
        rates = rates.expand(params[0].shape[0]).clone()
        step = torch.zeros((), device=device)
        super().__init__(params, {"lr": rates, "betas": betas, "eps": eps, "step": step})

        for p in params:
            self.state[p] = {"mean": torch.zeros_like(p), "square": torch.zeros_like(p)}

    def apply(self, grads: list[Tensor], active: Tensor | None = None) -> None:
        """Make one step with these gradients; runs whose `active` `[R]` is False do not move."""
        (group,) = self.param_groups
        params = group["params"]
        lr = group["lr"] if active is None else group["lr"] * active
        means = [self.state[p]["mean"] for p in params]
        squares = [self.state[p]["square"] for p in params]

        fits = on_the_host(lr) and all(p.dtype == lr.dtype and p.is_contiguous() for p in params)
        update_ = fused_adam_ if fits else adam_
        update_(params, grads, means, squares, group["step"], lr, group["betas"], group["eps"])

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closures
        """Make one step with the gradients in `.grad`; closures are not supported."""
        step_from_grad(self, closure)
