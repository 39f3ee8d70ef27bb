"""The part of DR3 that no change of scale can lower: the angle between consecutive features."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from rlop.config.checks import check_known
from rlop.regularizers.adapt import check_pair, masked_mean, of_pairs
from rlop.regularizers.dr3 import FORMS
from rlop.types import Regularizer


def cosine(
    features: Tensor, next_features: Tensor, mask: Tensor | None = None, form: str = "signed"
) -> Tensor:
    """Mean cosine of the angle between consecutive features.

        1/B sum_b m_b f( cos(phi(s_b, a_b), phi(s'_b, a'_b)) ),  f(x) = x, |x| or x^2

    Unlike `dr3` it does not see the length of the features, and is bounded whatever their sign. A zero vector counts as
    orthogonal.

    Args:
        features: phi(s, a), `[..., B, D]`.
        next_features: phi(s', a'), same shape.
        mask: 1 - terminated, `[..., B]`, float or bool; the sum is divided by B with a mask as well.
        form: `signed`, `abs` or `squared`.
    Returns:
        `[...]` in [-1, 1], unweighted.
    Raises:
        ValueError: when shapes differ.
        InputError: for an unknown form.
    Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716, section 3.1, names cosine and length as the two ways
        in which the dot product grows; as a penalty it is ours.
    """
    check_known("cosine: form", form, FORMS)
    return masked_mean(FORMS[form](cosines(features, next_features, mask)), mask)


def cosines(features: Tensor, next_features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cosine of every pair of rows, 0 where one of them is zero, with a gradient that is finite there too.

    Args:
        features: `[..., B, D]`.
        next_features: same shape.
        mask: only its shape is checked.
    Returns:
        `[..., B]`.
    """
    check_pair(features, next_features, mask)
    lengths = torch.linalg.vector_norm(features, dim=-1) * torch.linalg.vector_norm(
        next_features, dim=-1
    )
    return (features * next_features).sum(-1) / lengths.where(lengths > 0, 1)


def cosine_regularizer(
    form: str = "signed",
    stop_gradient: bool = False,
    next_features: str = "online",
    mask_terminal: bool = True,
) -> Regularizer:
    """`cosine` as a regularizer of the run-axis update; options as those of `dr3_regularizer`.

    Args:
        form: `signed`, `abs` or `squared`.
        stop_gradient: no gradient through phi(s', a').
        next_features: phi(s', a') of the `online` or of the `target` network.
        mask_terminal: leave out terminal transitions.
    Returns:
        A function of `TDContext` that returns `[R]`.
    Raises:
        InputError: for an unknown form or side.
    """
    check_known("cosine: form", form, FORMS)
    return of_pairs(
        "cosine", partial(cosine, form=form), next_features, stop_gradient, mask_terminal
    )
