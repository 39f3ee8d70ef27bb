"""InFeR: keep random linear heads on the features at their scaled initial outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from rlop.config.schema import Count, Number, option, options
from rlop.regularizers.base import Regularizer, head_weight, required, sum_over_critics
from rlop.regularizers.shapes import check_pair
from rlop.types import Penalty, TDContext


def infer(
    features: Tensor, initial_features: Tensor, heads: Tensor, initial_heads: Tensor, beta: float
) -> Tensor:
    """Compute the mean square error of k linear heads on their own scaled initial outputs.

        1/(B k) sum_{b, i} ( w_i . phi(x_b) - beta w0_i . phi0(x_b) )^2

    Args:
        features: phi, `[..., B, D]`.
        initial_features: phi0, of the network at initialization, same shape; detached here.
        heads: w, `[..., k, D]`, trained with the features.
        initial_heads: w0, same shape; detached here.
        beta: scale of the targets; above 1 it keeps the features large.
    Returns:
        `[...]`, unweighted.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Lyle, Rowland, Dabney, "Understanding and Preventing Capacity Loss in Reinforcement
        Learning", ICLR 2022, arXiv:2204.09560, section 5.
    Differs from: the PyTorch re-implementation timoklein/infer, whose heads have biases.
    """
    check_pair(features, initial_features)
    expected = (*features.shape[:-2], heads.shape[-2], features.shape[-1])
    if heads.shape != expected or initial_heads.shape != expected:
        shapes = f"{tuple(heads.shape)} and {tuple(initial_heads.shape)}"
        raise ValueError(f"heads and initial_heads: expected {expected}, got {shapes}")

    target = beta * (initial_features.detach() @ initial_heads.detach().mT)
    return (features @ heads.mT - target).square().mean((-2, -1))


class KeepsInitial(Protocol):
    """A learner that keeps the initial parameters of its network."""

    online: nn.Module  # its forward returns features first
    initial: dict[str, Tensor]


@torch.no_grad()
def initial_features(learner: KeepsInitial, *inputs: Tensor) -> Tensor:
    """Compute the features that a network gave at initialization, without a copy of the network.

    Args:
        learner: with the network and its initial parameters.
        inputs: inputs of the network's forward.
    """
    initial: Mapping[str, Tensor] = learner.initial
    features: Tensor = functional_call(learner.online, dict(initial), inputs)[0]
    return features


@options
class InFeR(Regularizer):
    """`infer` of every critic, summed.

    Reference: Lyle, Rowland, Dabney, ICLR 2022, arXiv:2204.09560. The defaults are those of the
        PyTorch re-implementation timoklein/infer, with the coefficient 0.05; those of the paper
        are not verified here.
    """

    heads: Count = option(10, "linear heads for each run and critic")
    beta: Number = option(175.0, "scale of the targets; above 1 it keeps the features large")

    @property
    def needs(self) -> frozenset[str]:
        """The features at initialization."""
        return frozenset({"initial_features"})

    def attach(self, network: nn.Module, activation: str, seeds: Sequence[int]) -> Penalty:
        """Draw the heads, uniform in +-1/sqrt(D), run by run from its seed."""
        runs, *critics, _, width = head_weight(network).shape
        heads = torch.empty(runs, *critics, self.heads, width)
        bound = width**-0.5

        # The network is drawn from `seed`; the heads need other random numbers.
        for run_heads, seed in zip(heads, seeds, strict=True):
            generator = Generator().manual_seed(seed ^ 0xFFFFFFFF)
            run_heads.uniform_(-bound, bound, generator=generator)
        return InFeRHeads(heads, self.beta)

    def __call__(self, ctx: TDContext) -> Tensor:
        """Raise TypeError: the penalty needs the heads that `attach` makes."""
        raise TypeError("InFeR: expected a call of what its `attach` returns")


class InFeRHeads(nn.Module):
    """The penalty of `InFeR`, with heads for each run and critic.

    The heads are parameters of the network that the penalty belongs to: trained by its optimizer,
    clipped and frozen with their run, saved with it.

    Args:
        heads: initial heads, `[R, k, D]` or `[R, E, k, D]`.
        beta: scale of the targets.
    """

    initial_heads: Tensor

    def __init__(self, heads: Tensor, beta: float) -> None:
        super().__init__()
        self.heads = nn.Parameter(heads)
        self.register_buffer("initial_heads", heads.clone())
        self.beta = beta

    def forward(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        initial = required(ctx.initial_features, "initial_features", self)
        return sum_over_critics(
            infer(ctx.features, initial, self.heads, self.initial_heads, self.beta)
        )
