"""Keep the first principal component of the features from taking all of their variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from rlop.config.schema import Range, option, options
from rlop.regularizers.base import Regularizer, head_weight, sum_over_critics
from rlop.regularizers.shapes import check_features
from rlop.types import Penalty, TDContext


def pc_share(features: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the share of the variance in the first principal component, by one power iteration.

        X = features - mean over the batch,  v = X^T X u,
        share = |v| / |X|_F^2,  next u = v / |v|

    With u the leading right singular vector of X this is lambda_1 / sum_i lambda_i; with any other
    unit vector it is less. u is kept from update to update. Gradient flows through X only.

    Args:
        features: phi(s, a), `[..., B, D]`.
        u: unit vectors, `[..., D]`, detached here.
    Returns:
        Share `[...]` in [0, 1], 0 for features that do not vary; and the next u `[..., D]`,
        detached, which equals the old one when v is zero.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Nguyen, Raghu, Kornblith, "On the Origins of the Block Structure Phenomenon in Neural
        Network Representations", TMLR 2022, arXiv:2202.07184; the step is the one in the authors'
        code.
    """
    check_features(features)
    expected = (*features.shape[:-2], features.shape[-1])
    if u.shape != expected:
        raise ValueError(f"u: expected {expected}, got {tuple(u.shape)}")

    u = u.detach()
    centered = features - features.mean(-2, keepdim=True)
    v = (centered.mT @ (centered @ u.unsqueeze(-1))).squeeze(-1)
    length = torch.linalg.vector_norm(v, dim=-1)
    total = centered.square().sum((-2, -1))

    # Divide by 1 where a length is zero, so that the gradient stays finite.
    direction = v / length.where(length > 0, 1).unsqueeze(-1)
    next_u = direction.where(length.unsqueeze(-1) > 0, u)
    return length / total.where(total > 0, 1), next_u.detach()


@options
class PCShare(Regularizer):
    """relu(share - threshold) of every critic, summed.

    Strength in the authors' code: 10, the coefficient here.

    Reference: Nguyen, Raghu, Kornblith, TMLR 2022, arXiv:2202.07184; default threshold of the
        authors' code.
    Differs from: that code, which penalizes the output of every layer; here the penalty acts on
        phi(s, a) alone.
    """

    threshold: Annotated[float, Range(low=0, high=1, high_open=True)] = option(
        0.1, "share of the variance that is free"
    )

    def attach(self, network: nn.Module, activation: str, seeds: Sequence[int]) -> Penalty:
        """Make the vectors of the power iteration."""
        *lead, _, width = head_weight(network).shape
        return PowerIteration(torch.full((*lead, width), width**-0.5), self.threshold)

    def __call__(self, ctx: TDContext) -> Tensor:
        """Raise TypeError: the penalty needs the vectors that `attach` makes."""
        raise TypeError("PCShare: expected a call of what its `attach` returns")


class PowerIteration(nn.Module):
    """The penalty of `PCShare`, with one vector for each run and critic.

    Each call takes one power step. The vectors are a buffer of the network that the penalty
    belongs to, and so they are saved and restored with it.

    Args:
        u: initial unit vectors, `[R, D]` or `[R, E, D]`.
        threshold: share of the variance that is free.
    """

    u: Tensor

    def __init__(self, u: Tensor, threshold: float) -> None:
        super().__init__()
        self.register_buffer("u", u)
        self.threshold = threshold

    def forward(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`, and move u by one step."""
        # A clone: the graph keeps the u that it used.
        share, next_u = pc_share(ctx.features, self.u.clone())
        self.u.copy_(next_u)
        return sum_over_critics(torch.relu(share - self.threshold))
