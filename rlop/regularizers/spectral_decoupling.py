"""Spectral decoupling: an L2 penalty on outputs instead of weights."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from rlop.config.schema import Number, option, options
from rlop.regularizers.base import Regularizer, sum_over_critics
from rlop.types import InputError, TDContext


def spectral_decoupling(q_values: Tensor, reference: Tensor | float = 0.0) -> Tensor:
    """Compute half the mean square distance of action values from a reference.

        1/(2 B A) sum_{b, a} (Q(s_b, a) - reference)^2

    CQL(H)'s term at T = 1 is the cross-entropy of the data's action under logits Q(s, .). Together
    with a cross-entropy, the penalty keeps features that are learned fast from starving the others.
    It also bounds |Q|.

    Args:
        q_values: `[..., B, A]`, of all actions or of candidates.
        reference: a number, or one for each leading index `[...]`. 0 pulls values down where
            returns are far from 0.
    Returns:
        `[...]`, unweighted.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Pezeshki et al., "Gradient Starvation: A Learning Proclivity in Neural Networks",
        NeurIPS 2021, arXiv:2011.09468, the penalty lambda/2 |y|^2.
    Differs from: the released code, `coef * (y ** 2).mean()` without the half: its coefficient is
        half of ours.
    """
    reference = torch.as_tensor(reference, dtype=q_values.dtype, device=q_values.device)
    reference_fits = reference.ndim == 0 or reference.shape == q_values.shape[:-2]
    if q_values.ndim < 2 or not reference_fits:
        shapes = f"{tuple(q_values.shape)} and {tuple(reference.shape)}"
        raise ValueError(
            f"q_values and reference: expected [..., B, A] and [...] or a number, got {shapes}"
        )

    return 0.5 * (q_values - reference[..., None, None]).square().mean((-2, -1))


@options
class SpectralDecoupling(Regularizer):
    """`spectral_decoupling` of the values of every critic's actions or candidates, summed.

    Coefficients of the released code, doubled for the factor 1/2 here: 0.006 on two moons; 2, after
    450 steps of 4e-5 with an unscaled loss, on colored MNIST. They do not carry over to values of
    another scale.
    """

    reference: Literal["zero", "batch_mean"] | Number = option(
        "zero",
        "zero; batch_mean, the mean of the values without gradient, for each run and critic; "
        "or a number such as the data set's mean return",
    )

    def __post_init__(self) -> None:
        """Reject an infinite reference."""
        if isinstance(self.reference, float) and math.isinf(self.reference):
            raise InputError(f"reference = {self.reference}: expected a finite number")

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        return sum_over_critics(spectral_decoupling(ctx.q_values, self._center(ctx)))

    def _center(self, ctx: TDContext) -> Tensor | float:
        if self.reference == "batch_mean":
            return ctx.q_values.detach().mean((-2, -1))
        return 0.0 if self.reference == "zero" else self.reference
