"""Turn the action slopes of an agent's critics apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlop.config.schema import options
from rlop.regularizers.base import Regularizer, head_weight, required
from rlop.types import InputError, Penalty, TDContext


def diversity(gradients: Tensor) -> Tensor:
    """Compute how much the critics' action gradients point the same way.

        1/(E - 1) sum_{i != j} < g_i / |g_i|, g_j / |g_j| >,  g_e = dQ_e(s, a) / da

    It is E where all agree, and at least -E / (E - 1).

    Args:
        gradients: g, `[R, E, B, m]` of E > 1 critics.
    Returns:
        `[R, B]`.
    Raises:
        ValueError: for a single critic.
    Reference: An et al., "Uncertainty-Based Offline Reinforcement Learning with Diversified
        Q-Ensemble", NeurIPS 2021, arXiv:2110.01548, equation 4.
    Differs from: nothing in value: like the authors' code, it sums ordered pairs, and adds 1e-10 to
        the lengths.
    """
    critics = gradients.shape[1]
    if critics < 2:
        raise ValueError(f"gradients {tuple(gradients.shape)}: expected [R, E, B, m] with E > 1")
    unit = gradients / (torch.linalg.vector_norm(gradients, dim=-1, keepdim=True) + 1e-10)
    # The sum over pairs is |sum_e u_e|^2 less the pairs of a critic with itself.
    pairs = unit.sum(1).square().sum(-1) - unit.square().sum((1, -1))
    return pairs / (critics - 1)


@options
class Diversity(Regularizer):
    """`diversity` of the critics' slopes at the data's actions, averaged over the batch.

    `EDAC` has it as its option `eta`, where it costs less: there the slopes come from the pass that
    the TD loss takes, here from one of their own.

    Reference: An et al., NeurIPS 2021, arXiv:2110.01548, equation 4; their strengths are 0.1 to
        1,000, see the presets of `EDAC`.
    """

    @property
    def needs(self) -> frozenset[str]:
        """The critics' slopes."""
        return frozenset({"slopes"})

    def attach(self, network: nn.Module, activation: str, seeds: Sequence[int]) -> Penalty:
        """Raise InputError for a single critic."""
        if head_weight(network).shape[1] == 1:
            raise InputError("regularizers.diversity: expected at least 2 critics, n_critics = 1")
        return self

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        return diversity(required(ctx.slopes, "slopes", self)).mean(-1)
