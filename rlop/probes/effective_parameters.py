"""How many parameters a network of low-rank layers has in effect."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlop.probes.rank import singular_values, srank


def low_rank_parameters(rank: Tensor, n_out: int, n_in: int) -> Tensor:
    """Free parameters of a matrix of a given rank: the dimension of the manifold of such matrices.

        r (n_in + n_out - r)

    Args:
        rank: r, `[...]`, in [0, min(n_in, n_out)].
        n_out, n_in: shape of the matrix.
    Returns:
        `[...]`; n_in n_out at full rank.
    """
    return rank * (n_in + n_out - rank)


@torch.no_grad()
def effective_parameters(weights: Sequence[Tensor], delta: float = 0.01) -> Tensor:
    """Bartlett-weighted low-rank count: a layer counts once for itself and once for every layer above it.

        sum_{l=1..L} (L - l + 1) r_l (n_in_l + n_out_l - r_l),  r_l = srank_delta(W_l)

    Bounds on the VC dimension of piecewise linear networks of W parameters are of order W times the mean depth that a
    parameter acts at; this is that product, with each layer's parameters counted at its rank.

    Args:
        weights: L matrices `[..., O_l, I_l]`, input layer first.
        delta: of `srank`; 0 counts every singular value that is not rounding.
    Returns:
        `[...]` float64.
    Raises:
        ValueError: for no matrices.
    Reference: Bartlett, Harvey, Liaw, Mehrabian, "Nearly-tight VC-dimension and pseudodimension bounds for piecewise
        linear neural networks", JMLR 2019, arXiv:1703.02930, for the weights; the idea of counting low-rank layers is
        of Seo, Wang, Papailiopoulos, Lee, ICML 2021 workshop on overparameterization.
    Differs from: the workshop's abstract, which does not state its weights; these are ours.
    """
    if not weights:
        raise ValueError("weights: expected at least one [..., O, I]")
    counts = [low_rank_parameters(srank(singular_values(w), delta), *w.shape[-2:]) for w in weights]
    return sum((len(counts) - i) * count for i, count in enumerate(counts))  # type: ignore[return-value]
