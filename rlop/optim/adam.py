"""Adam whose learning rate is one number per run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby

import torch
from torch import Tensor

from rlop.optim.step import RunOptimizer
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
    """Make one Adam step in place, with the same numbers as `torch.optim.Adam` for every run.

        m <- beta_1 m + (1 - beta_1) g
        v <- beta_2 v + (1 - beta_2) g^2
        w <- w - lr / (1 - beta_1^t) m / (sqrt(v / (1 - beta_2^t)) + eps)

    Args:
        params: parameters w, `[R, ...]`.
        grads: gradients g, same shapes.
        means: m, changed in place.
        squares: v, changed in place.
        step: number of steps before this one, t - 1, a float tensor `[]`, changed in place.
        lr: `[R]`.
        betas: decay of `means` and `squares`.
        eps: added to the root after bias correction.
    Reference: Kingma and Ba, "Adam", ICLR 2015, arXiv:1412.6980, algorithm 1.
    """
    step.add_(1)

    torch._foreach_lerp_(means, grads, 1 - betas[0])
    torch._foreach_mul_(squares, betas[1])
    torch._foreach_addcmul_(squares, grads, grads, 1 - betas[1])

    # Both bias corrections go into two numbers of a run. They are written with `exp`: what holds it
    # the compiler computes once, and a power or a root again for all eight elements.
    first, second = (torch.log1p(-(step.double() * math.log(beta)).exp()) for beta in betas)
    scale = (-lr * (second / 2 - first).exp()).to(lr.dtype)  # [R]
    floor = (eps * (second / 2).exp()).to(lr.dtype).expand_as(lr)  # [R]

    denominators = torch._foreach_sqrt(squares)
    torch._foreach_add_(denominators, [per_run(floor, p) for p in params])
    updates = torch._foreach_div(means, denominators)
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

    Takes one call for each stretch of runs with the same learning rate. On a CPU it is 3 to 8 times
    faster than one pass per operation, which is bound by memory.

    Args:
        params, grads, means, squares, step, lr, betas, eps: as in `adam_`.
    """
    step.add_(1)

    # The kernel walks memory, and autograd may hand out transposed gradients.
    grads = [g.contiguous() for g in grads]
    states = (params, grads, means, squares)

    stop = 0
    for rate, stretch in groupby(lr.tolist()):
        start = stop
        stop += len(list(stretch))
        has_all_runs = stop - start == len(lr)
        if has_all_runs:
            p, g, m, s = states
        else:
            p, g, m, s = (_runs_of(tensors, start, stop) for tensors in states)

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


def _runs_of(tensors: list[Tensor], start: int, stop: int) -> list[Tensor]:
    """Return views of a stretch of runs."""
    return [tensor[start:stop] for tensor in tensors]


class Adam(RunOptimizer):
    """`adam_` as a PyTorch optimizer; `step()` reads `.grad`, `apply(grads)` takes gradients.

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
        runs = params[0].shape[0]
        rates = torch.as_tensor(lr, dtype=torch.float32, device=device).expand(runs).clone()
        step = torch.zeros((), device=device)
        super().__init__(params, {"lr": rates, "betas": betas, "eps": eps, "step": step})

        for p in params:
            self.state[p] = {"mean": torch.zeros_like(p), "square": torch.zeros_like(p)}

    def apply(self, grads: list[Tensor], active: Tensor | None = None) -> None:
        """Make one step with the given gradients.

        Args:
            grads: one for each parameter, in their order.
            active: `[R]` bool; runs whose `active` is False do not move. None for all.
        """
        (group,) = self.param_groups
        params = group["params"]
        lr = group["lr"] if active is None else group["lr"] * active
        means = [self.state[p]["mean"] for p in params]
        squares = [self.state[p]["square"] for p in params]

        may_fuse = on_the_host(lr) and all(
            p.dtype == lr.dtype and p.is_contiguous() for p in params
        )
        step_ = fused_adam_ if may_fuse else adam_
        step_(params, grads, means, squares, group["step"], lr, group["betas"], group["eps"])
