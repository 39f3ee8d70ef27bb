"""Keep the first principal component of the features from taking all of their variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlop.config.checks import check_range
from rlop.regularizers.adapt import check_features, over_critics
from rlop.types import TDContext


def pc_share(features: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Share of the variance in the first principal component, by one step of power iteration.

        X = features - mean over the batch,  v = X^T X u,  share = |v| / |X|_F^2,  next u = v / |v|

    With u the leading right singular vector of X this is lambda_1 / sum_i lambda_i; with any other unit vector it is
    less. u carries over from update to update. Gradient flows through X alone.

    Args:
        features: phi(s, a), `[..., B, D]`.
        u: unit vectors, `[..., D]`, detached here.
    Returns:
        Share `[...]` in [0, 1], 0 for features that do not vary; and the next u `[..., D]`, detached, which stays where
        it was when v is zero.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Nguyen, Raghu, Kornblith, "On the Origins of the Block Structure Phenomenon in Neural Network
        Representations", TMLR 2022, arXiv:2202.07184; the step is that of the authors' code.
    """
    check_features(features)
    if u.shape != features.shape[:-2] + features.shape[-1:]:
        raise ValueError(
            f"u: expected {(*features.shape[:-2], features.shape[-1])}, got {tuple(u.shape)}"
        )
    old = u.detach().unsqueeze(-1)
    x = features - features.mean(-2, keepdim=True)
    v = (x.mT @ (x @ old)).squeeze(-1)
    s, total = torch.linalg.vector_norm(v, dim=-1), x.square().sum((-2, -1))
    moved = (v / s.where(s > 0, 1).unsqueeze(-1)).where(s.unsqueeze(-1) > 0, old.squeeze(-1))
    return s / total.where(total > 0, 1), moved.detach()


class PCShare(nn.Module):
    """relu(share - threshold), with a vector u for each run (and critic) that takes one power step an update.

    u starts as the same vector for every run, all entries 1/sqrt(D), is a buffer of the network that the penalty
    belongs to, and so is saved and restored with it. Strength of the authors' code: 10, the coefficient here.

    Args:
        threshold: share that is free, in [0, 1).
    Raises:
        InputError: for an impossible threshold.
    Reference: Nguyen, Raghu, Kornblith, TMLR 2022, arXiv:2202.07184; default threshold of the authors' code.
    Differs from: that code, which puts the penalty after every layer; here it acts on phi(s, a) alone.
    """

    needs: frozenset[str] = frozenset()
    u: Tensor  # [R, D] or [R, E, D]

    def __init__(self, threshold: float = 0.1) -> None:
        super().__init__()
        check_range("pc_share: threshold", threshold, low=0, high=1, high_open=True)
        self.threshold = threshold

    def prepare(self, network: Any, seeds: Sequence[int]) -> None:
        """Make u for a network whose `head.weight` is `[R, A, D]` or `[R, E, A, D]`."""
        *lead, _, width = network.head.weight.shape
        self.register_buffer("u", torch.full((*lead, width), width**-0.5))

    def forward(self, ctx: TDContext) -> Tensor:
        """The penalty `[R]`, summed over critics; moves u."""
        share, moved = pc_share(ctx.features, self.u.clone())  # the graph keeps the u that it used
        self.u.copy_(moved)
        return over_critics(torch.relu(share - self.threshold))
