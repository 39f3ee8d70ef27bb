"""Stochastic mirror descent: gradient steps in the geometry of a potential.

The potential decides which of the interpolating solutions is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlop.config.checks import check_known
from rlop.optim.step import RunOptimizer
from rlop.runs import per_run, run_values

POTENTIALS = ("norm", "entropy")
REFERENCES = ("zero", "init")


@torch.no_grad()
def smd_(
    params: list[Tensor],
    grads: list[Tensor],
    lr: Tensor,
    q: Tensor,
    references: Sequence[Tensor | None] | None = None,
) -> None:
    """Make one mirror step in place, with the q-norm potential around a reference.

        psi(w) = sum_j |w_j - r_j|^q / q
        grad psi(w) <- grad psi(w) - lr g

    At q = 2 it is gradient descent with the same lr, for every reference. Without noise, and from r
    itself, it ends at the interpolator nearest to r in the q-norm if the model is linear: sparse
    moves for q near 1, even ones for large q. A weight without gradient keeps its bits, and so does
    one whose step overflows.

    For q > 2 a weight that is exactly at r_j jumps by |lr g|^(1/(q-1)), however small lr; for q < 2
    it barely moves. Start biases and shifts away from r where that matters. For q near 1 even a
    small distance from r matters: 1e-4 away from r the dual |w - r|^(q-1) is already 0.4 for
    q = 1.1, so only a start at r gives sparse moves. Rounding matters there, too: the map back from
    the dual raises to the power 1/(q-1), which multiplies relative errors by 10.

    Args:
        params: parameters w, `[R, ...]`.
        grads: gradients g, same shapes.
        lr: `[R]`.
        q: `[R]`, > 1.
        references: r, same shapes as `params`, None for zero.
    Reference: Azizan, Lale and Hassibi, "Stochastic Mirror Descent on Overparameterized Nonlinear
        Models", IEEE TNNLS 2022, arXiv:1906.03830.
    Differs from: the authors' code, whose potential lacks the factor 1/q: their lr is q times ours,
        and at q = 2 they take half of the usual step. Their "l1" is q = 1.1.
    """
    if references is None:
        references = [None] * len(params)

    for p, g, r in zip(params, grads, references, strict=True):
        power = per_run(q, p) - 1
        w = p if r is None else p - r
        push = per_run(lr, p) * g

        dual = torch.copysign(w.abs() ** power, w) - push
        moved = torch.copysign(dual.abs() ** (1 / power), dual)
        if r is not None:
            moved = moved + r

        takes_step = (push != 0) & moved.isfinite()
        p.copy_(torch.where(takes_step, moved, p))


@torch.no_grad()
def entropy_(params: list[Tensor], grads: list[Tensor], lr: Tensor) -> None:
    """Make one exponentiated-gradient step in place: mirror descent with the negative entropy.

        psi(w) = sum_j |w_j| log|w_j| - |w_j|
        w <- w exp(-lr g sign(w))

    Intended for weights >= 0, where it is the textbook step. A negative weight takes its mirror
    image; signs never change and a zero stays zero, so a weight of either sign needs two:
    w = w+ - w-. A step that overflows is not taken.

    Args:
        params: parameters w, `[R, ...]`.
        grads: gradients g, same shapes.
        lr: `[R]`.
    Reference: Kivinen and Warmuth, "Exponentiated Gradient versus Gradient Descent for Linear
        Predictors", 1997; as mirror descent: Beck and Teboulle, Operations Research Letters 2003.
    """
    for p, g in zip(params, grads, strict=True):
        moved = p * torch.exp(-per_run(lr, p) * g * p.sign())
        p.copy_(torch.where(moved.isfinite(), moved, p))


@torch.no_grad()
def gradient_step_(params: list[Tensor], grads: list[Tensor], lr: Tensor) -> None:
    """Make one step of plain gradient descent in place: `smd_` at q = 2, without its two powers.

    Args:
        params: parameters `[R, ...]`.
        grads: gradients, same shapes.
        lr: `[R]`.
    """
    steps = [per_run(lr, p) * g for p, g in zip(params, grads, strict=True)]
    torch._foreach_sub_(params, steps)


class SMD(RunOptimizer):
    """`smd_` or `entropy_` as a PyTorch optimizer; `apply(grads)` takes gradients directly.

    Args:
        params: parameters with a leading run axis `[R, ...]`.
        lr: `[R]` tensor, or one number for all runs.
        q: likewise, > 1; not read with the entropy.
        potential: `norm` or `entropy`.
        reference: weights at the center of the potential, a tensor for each parameter; or `zero`,
            or `init` for the current values of the parameters. The entropy has none.
    Raises:
        InputError: for an unknown potential or reference.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: Tensor | float,
        q: Tensor | float = 2.0,
        potential: str = "norm",
        reference: str | Sequence[Tensor] = "zero",
    ) -> None:
        params = list(params)
        check_known("potential", potential, POTENTIALS)
        rates = run_values(lr, params[0])
        exponents = run_values(q, params[0])
        super().__init__(params, {"lr": rates, "q": exponents})

        is_gradient_descent = potential == "norm" and bool((exponents == 2).all())
        self.rule = "plain" if is_gradient_descent else potential

        for p, center in zip(params, _centers(params, reference), strict=True):
            if center is not None:
                self.state[p] = {"reference": center.detach().clone()}

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and deepcopy keep; PyTorch alone would drop the rule."""
        return {**super().__getstate__(), "rule": self.rule}

    def apply(self, grads: list[Tensor], active: Tensor | None = None) -> None:
        """Make one step with the given gradients.

        Args:
            grads: one for each parameter, in their order.
            active: `[R]` bool; runs whose `active` is False do not move. None for all.
        """
        (group,) = self.param_groups
        params = group["params"]
        lr = group["lr"] if active is None else group["lr"] * active

        if self.rule == "entropy":
            entropy_(params, grads, lr)
        elif self.rule == "plain":
            gradient_step_(params, grads, lr)
        else:
            references = [self.state[p].get("reference") for p in params]
            smd_(params, grads, lr, group["q"], references)


def _centers(
    params: Sequence[Tensor],
    reference: str | Sequence[Tensor],
) -> Sequence[Tensor | None]:
    """Return the center of the potential of each parameter, None for zero."""
    if not isinstance(reference, str):
        if len(reference) != len(params):
            raise ValueError(f"reference: expected {len(params)} tensors, got {len(reference)}")
        return reference

    check_known("reference", reference, REFERENCES)
    return params if reference == "init" else [None] * len(params)
