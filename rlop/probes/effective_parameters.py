"""The effective number of parameters of a network of low-rank layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlop.probes.rank import singular_values, srank


def low_rank_parameters(
    rank: Tensor,
    n_out: int,
    n_in: int,
) -> Tensor:
    """Count the free parameters of a matrix of a given rank.

        r (n_in + n_out - r)

    This is the dimension of the manifold of such matrices.

    Args:
        rank: r, `[...]`, in [0, min(n_in, n_out)].
        n_out, n_in: shape of the matrix.
    Returns:
        `[...]`; n_in n_out at full rank.
    """
    return rank * (n_in + n_out - rank)


@torch.no_grad()
def effective_parameters(weights: Sequence[Tensor], delta: float = 0.01) -> Tensor:
    """Count parameters at the rank of each layer, once for every layer that they act through.

        sum_{l=1..L} (L - l + 1) r_l (n_in_l + n_out_l - r_l),  r_l = srank_delta(W_l)

    Bounds on the VC dimension of piecewise linear networks of W parameters are of order W times the
    mean depth that a parameter acts at; this is that product (a "Bartlett-weighted" count), with
    the parameters of each layer counted at its rank.

    Args:
        weights: L matrices `[..., O_l, I_l]`, input layer first.
        delta: threshold of `srank`; 0 counts every singular value above rounding error.
    Returns:
        `[...]` float64.
    Raises:
        ValueError: for no matrices.
    Reference: for the weights Bartlett, Harvey, Liaw, Mehrabian, "Nearly-tight VC-dimension and
        pseudodimension bounds for piecewise linear neural networks", JMLR 2019, arXiv:1703.02930;
        for the idea of counting low-rank layers Seo, Wang, Papailiopoulos, Lee, ICML 2021 workshop
        on overparameterization.
    Differs from: the workshop's abstract, which does not state its weights; these are ours.
    """
    if not weights:
        raise ValueError("weights: expected at least one [..., O, I]")

    total = torch.zeros((), dtype=torch.float64, device=weights[0].device)
    for layer, weight in enumerate(weights):
        n_out, n_in = weight.shape[-2:]
        rank = srank(singular_values(weight), delta)
        layers_from_here = len(weights) - layer
        total = total + layers_from_here * low_rank_parameters(rank, n_out, n_in)
    return total
