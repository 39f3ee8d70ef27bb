"""InFeR: let random linear heads go on predicting what they read from the initial features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from rlop.config.checks import check_range
from rlop.regularizers.adapt import check_pair, over_critics, required
from rlop.types import InputError, TDContext


def infer(
    features: Tensor, initial_features: Tensor, heads: Tensor, initial_heads: Tensor, beta: float
) -> Tensor:
    """Mean square error of k linear heads that regress on what they gave at the start, scaled.

        1/(B k) sum_{b, i} ( w_i . phi(x_b) - beta w0_i . phi0(x_b) )^2

    Args:
        features: phi, `[..., B, D]`.
        initial_features: phi0, of the network at initialisation, same shape; detached here.
        heads: w, `[..., k, D]`, trained with the features.
        initial_heads: w0, same shape; detached here.
        beta: scale of the targets; above 1 it keeps the features large.
    Returns:
        `[...]`, unweighted.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Lyle, Rowland, Dabney, "Understanding and Preventing Capacity Loss in Reinforcement Learning", ICLR 2022,
        arXiv:2204.09560, section 5.
    Differs from: the PyTorch re-implementation timoklein/infer, whose heads have biases.
    """
    check_pair(features, initial_features)
    expected = (*features.shape[:-2], heads.shape[-2], features.shape[-1])
    if heads.shape != expected or initial_heads.shape != expected:
        shapes = f"{tuple(heads.shape)} and {tuple(initial_heads.shape)}"
        raise ValueError(f"heads and initial_heads: expected {expected}, got {shapes}")
    target = beta * (initial_features.detach() @ initial_heads.detach().mT)
    return (features @ heads.mT - target).square().mean((-2, -1))


@torch.no_grad()
def initial_features(learner: Any, *inputs: Tensor) -> Tensor:
    """The features that a network gave at initialisation; it needs no copy of itself for that.

    Args:
        learner: with the network, `online`, whose forward returns features first, and its `initial` parameters.
        inputs: of the forward.
    """
    return functional_call(learner.online, dict(learner.initial), inputs)[0]


class InFeR(nn.Module):
    """`infer` as a regularizer of the run-axis update, with heads of its own for each run (and critic).

    The heads are parameters of the network that the penalty belongs to: trained by its optimizer, clipped and frozen
    with their run, saved with it. Each run draws them from its seed, uniform in +-1/sqrt(D).

    Args:
        heads: k, how many.
        beta: scale of the targets.
    Raises:
        InputError: for impossible values.
    Reference: Lyle, Rowland, Dabney, ICLR 2022, arXiv:2204.09560. The defaults are those of the PyTorch
        re-implementation timoklein/infer, with the coefficient 0.05; those of the paper are not verified here.
    """

    needs = frozenset({"initial_features"})
    initial_heads: Tensor  # [R, k, D] or [R, E, k, D]

    def __init__(self, heads: int = 10, beta: float = 175.0) -> None:
        super().__init__()
        check_range("infer: heads", heads, low=1)
        check_range("infer: beta", beta)
        if heads != int(heads):
            raise InputError(f"infer: heads = {heads}: expected a whole number")
        self.count, self.beta = int(heads), beta

    def prepare(self, network: Any, seeds: Sequence[int]) -> None:
        """Draw heads for a network whose `head.weight` is `[R, A, D]` or `[R, E, A, D]`, run by run."""
        runs, *critics, _, width = network.head.weight.shape
        heads, bound = torch.empty(runs, *critics, self.count, width), width**-0.5
        for run, seed in zip(
            heads, seeds, strict=True
        ):  # from other numbers than the network's, which start at `seed`
            run.uniform_(-bound, bound, generator=Generator().manual_seed(seed ^ 0xFFFFFFFF))
        self.heads = nn.Parameter(heads)
        self.register_buffer("initial_heads", heads.clone())

    def forward(self, ctx: TDContext) -> Tensor:
        """The penalty `[R]`, summed over critics."""
        start = required(ctx, "initial_features", "infer")
        return over_critics(infer(ctx.features, start, self.heads, self.initial_heads, self.beta))
