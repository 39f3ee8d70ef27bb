"""Alignment of adjacent layers: whether their strongest directions match."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from rlop.probes.shapes import shapes_of


@torch.no_grad()
def layer_alignment(weights: Sequence[Tensor], top: int | None = None) -> Tensor:
    """Score how well the output directions of each layer match the input directions of the next.

        1/k sum_j | u_j(W_i) . v_j(W_{i+1}) |,  W = U S V^T, singular values descending

    1 for the aligned networks of linear theory. Two random directions in D dimensions score
    sqrt(2 / (pi D)). Where singular values coincide the pairing is arbitrary, and so is the score.

    Args:
        weights: matrices `[..., O_i, I_i]` in the order in which they are applied, O_i = I_{i+1}.
        top: k, directions compared; None compares as many as both matrices have.
    Returns:
        `[..., L - 1]` float64 for L matrices; NaN where a matrix is not finite.
    Raises:
        ValueError: when matrices do not follow each other, or there are fewer than two.
    Reference: Radhakrishnan, Nichani, Bernstein, Uhler, "On Alignment in Deep Linear Neural
        Networks", 2020, arXiv:2003.06340, whose definition of alignment this turns into a score.
    """
    shapes = [tuple(weight.shape) for weight in weights]
    are_matrices = all(len(shape) >= 2 and 0 not in shape[-2:] for shape in shapes)
    if len(weights) < 2 or not are_matrices:
        raise ValueError(f"weights: expected at least two [..., O, I], got {shapes}")

    scores = [_alignment(first, second, top) for first, second in pairwise(weights)]
    return torch.stack(scores, dim=-1)


def _alignment(
    first: Tensor,
    second: Tensor,
    top: int | None,
) -> Tensor:
    """Score one pair of adjacent matrices, `[...]`."""
    if first.shape[-2] != second.shape[-1]:
        raise ValueError(f"weights: {shapes_of(second)} does not follow {shapes_of(first)}")

    count = min(*first.shape[-2:], *second.shape[-2:])
    if top is not None and not 1 <= top <= count:
        raise ValueError(f"top = {top}: expected 1 to {count}")
    k = top or count

    # svd raises for the whole stack when one matrix is not finite.
    first = first.double()
    second = second.double()
    total = first.sum((-2, -1)) + second.sum((-2, -1))
    finite = total.isfinite()
    keep = finite[..., None, None]
    first = first.where(keep, 0)
    second = second.where(keep, 0)

    outputs = torch.linalg.svd(first, full_matrices=False).U[..., :k]
    inputs = torch.linalg.svd(second, full_matrices=False).Vh.mT[..., :k]
    cosine = (outputs * inputs).sum(-2)
    return cosine.abs().mean(-1).where(finite, torch.nan)
