"""Spectral decoupling: an L2 penalty on outputs in the place of one on weights."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from rlop.config.checks import check_known
from rlop.regularizers.adapt import over_critics
from rlop.types import Regularizer, TDContext, needs

REFERENCES = ("zero", "batch_mean", "a number")


def spectral_decoupling(q_values: Tensor, reference: Tensor | float = 0.0) -> Tensor:
    """Half the mean square distance of action values from a reference.

        1/(2 B A) sum_{b, a} (Q(s_b, a) - reference)^2

    CQL(H)'s term at T = 1 is the cross-entropy of the data's action under logits Q(s, .), and beside a cross-entropy
    the penalty keeps features that are learnt fast from starving the others. It also bounds |Q|.

    Args:
        q_values: `[..., B, A]`, of all actions or of candidates.
        reference: a number, or one for each leading index `[...]`. 0 pulls values down where returns are far from 0.
    Returns:
        `[...]`, unweighted.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Pezeshki et al., "Gradient Starvation: A Learning Proclivity in Neural Networks", NeurIPS 2021,
        arXiv:2011.09468, the penalty lambda/2 |y|^2.
    Differs from: the released code, `coef * (y ** 2).mean()` without the half: its coef is half of ours.
    """
    reference = torch.as_tensor(reference, dtype=q_values.dtype, device=q_values.device)
    if q_values.ndim < 2 or (reference.ndim and reference.shape != q_values.shape[:-2]):
        shapes = f"{tuple(q_values.shape)} and {tuple(reference.shape)}"
        raise ValueError(
            f"q_values and reference: expected [..., B, A] and [...] or a number, got {shapes}"
        )
    return 0.5 * (q_values - reference[..., None, None]).square().mean((-2, -1))


def spectral_decoupling_regularizer(reference: str | float = "zero") -> Regularizer:
    """`spectral_decoupling` as a regularizer of the run-axis update; with E critics each one's candidates, summed.

    Coefficients of the released code, twice as large here: 0.006 on two moons; 2, after 450 steps of 4e-5 beside an
    unscaled loss, on coloured MNIST. They do not carry over to values of another scale.

    Args:
        reference: `zero`; `batch_mean`, the mean of the values themselves without gradient, for each run and critic;
            or a number such as the data set's mean return.
    Returns:
        A function of `TDContext` that returns `[R]`.
    Raises:
        InputError: for another reference.
    """
    is_number = (
        isinstance(reference, Real) and not isinstance(reference, bool) and math.isfinite(reference)
    )
    if not is_number:
        check_known("spectral_decoupling: reference", reference, REFERENCES[:2])
    number = float(reference) if is_number else 0.0

    @needs()
    def penalty(ctx: TDContext) -> Tensor:
        center = ctx.q_values.detach().mean((-2, -1)) if reference == "batch_mean" else number
        return over_critics(spectral_decoupling(ctx.q_values, center))

    return penalty
