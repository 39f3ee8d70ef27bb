"""The part of DR3 that rescaling cannot lower: the angle between consecutive features."""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.config.checks import check_known
from rlop.config.schema import option, options
from rlop.regularizers.base import PairRegularizer, sum_over_critics
from rlop.regularizers.dr3 import FORMS, Form
from rlop.regularizers.shapes import check_pair, masked_mean
from rlop.types import TDContext


def cosine(
    features: Tensor, next_features: Tensor, mask: Tensor | None = None, form: str = "signed"
) -> Tensor:
    """Compute the mean cosine of the angle between consecutive features.

        1/B sum_b m_b f( cos(phi(s_b, a_b), phi(s'_b, a'_b)) ),  f(x) = x, |x| or x^2

    Unlike `dr3` it does not depend on the length of the features, and is bounded even where they
    are negative. A zero vector counts as orthogonal.

    Args:
        features: phi(s, a), `[..., B, D]`.
        next_features: phi(s', a'), same shape.
        mask: 1 - terminated, `[..., B]`, float or bool; the sum is divided by B with a mask as
            well.
        form: `signed`, `abs` or `squared`.
    Returns:
        `[...]` in [-1, 1], unweighted.
    Raises:
        ValueError: when shapes differ.
        InputError: for an unknown form.
    Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716, section 3.1, names cosine and
        length as the two ways in which the dot product grows; its use as a penalty is ours.
    """
    check_known("cosine: form", form, FORMS)
    return masked_mean(FORMS[form](cosines(features, next_features, mask)), mask)


def cosines(features: Tensor, next_features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the cosine of every pair of rows; 0, with a finite gradient, where a row is zero.

    Args:
        features: `[..., B, D]`.
        next_features: same shape.
        mask: only its shape is checked.
    Returns:
        `[..., B]`.
    """
    check_pair(features, next_features, mask)
    length = torch.linalg.vector_norm(features, dim=-1)
    next_length = torch.linalg.vector_norm(next_features, dim=-1)

    lengths = length * next_length
    return (features * next_features).sum(-1) / lengths.where(lengths > 0, 1)


@options
class Cosine(PairRegularizer):
    """`cosine` of every critic, summed."""

    form: Form = option("signed", "what counts: the cosine, its absolute value or its square")

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        return sum_over_critics(cosine(*self.pair(ctx), self.form))
