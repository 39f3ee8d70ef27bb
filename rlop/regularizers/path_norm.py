"""Path norm: neuron-wise weight decay when every neuron has its best scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from rlop.config.schema import option, options
from rlop.regularizers.base import Regularizer, head_weight, sum_over_critics
from rlop.types import InputError, Penalty, TDContext


def neuron_products(incoming: Tensor, outgoing: Tensor, lead: int = 0) -> Tensor:
    """Multiply the lengths of the incoming and outgoing weights of every unit: |v_k| |w_k|.

    Between convolutions, and from one to a linear layer that reads it flattened channel by channel,
    a unit is a channel. Biases are not included.

    Args:
        incoming: weight of the layer that makes the units, `[*lead, K, ...]`.
        outgoing: weight of the layer that reads them, `[*lead, O, K, ...]`, or `[*lead, O, K P]`
            for units with P positions each.
        lead: number of leading axes.
    Returns:
        `[*lead, K]`.
    Raises:
        ValueError: when the layers do not follow each other.
    """
    axes = incoming.shape[:lead]
    units = incoming.shape[lead] if incoming.ndim > lead + 1 else 0
    inputs = outgoing.shape[lead + 1 :].numel() if outgoing.ndim > lead + 1 else 0

    follows = units > 0 and inputs > 0 and inputs % units == 0 and outgoing.shape[:lead] == axes
    if not follows:
        shapes = f"{tuple(incoming.shape)} and {tuple(outgoing.shape)}"
        raise ValueError(
            f"incoming and outgoing: expected [*lead, K, ...] and [*lead, O, K, ...], got {shapes}"
        )

    by_unit = outgoing.reshape(*axes, outgoing.shape[lead], units, -1)
    w = torch.linalg.vector_norm(incoming.flatten(lead + 1), dim=-1)
    v = torch.linalg.vector_norm(by_unit, dim=(-3, -1))
    return v * w


def path_norm(weights: Sequence[Tensor], lead: int = 0) -> Tensor:
    """Sum the products of incoming and outgoing length over hidden layers and their units.

        sum_l sum_k |W_{l+1}[:, k]| |W_l[k, :]|

    With one hidden layer: (|v_k|^2 + |w_k|^2) / 2 summed over units is never less than this, and
    equals it if the two lengths of each unit agree. Multiplying w_k by c and dividing v_k by c
    changes neither the function of a network with ReLU, leaky ReLU or no activation, nor the path
    norm, so both have the same minima there. With several hidden layers an inner matrix counts
    twice, once by rows and once by columns.

    Args:
        weights: weights of successive layers, `[*lead, O, I, ...]` each, at least two.
        lead: number of leading axes.
    Returns:
        `[*lead]`, unweighted.
    Raises:
        ValueError: when there are fewer than two, or they do not follow each other.
    Reference: Parhi and Nowak, "What Kinds of Functions Do Deep Neural Networks Learn? Insights
        from Variational Spline Theory", 2022, arXiv:2105.03361 (the RBV2 norm), and the workshop
        paper "On the Sparsity of Deep Neural Networks in the Overparameterized Regime" (with Wolf).
    """
    if len(weights) < 2:
        raise ValueError(f"weights: expected those of at least two layers, got {len(weights)}")
    products = [neuron_products(w, v, lead).sum(-1) for w, v in pairwise(weights)]
    return torch.stack(products).sum(0)


def layer_weights(parameters: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the weights of a network's layers, in the order of its parameters.

    Args:
        parameters: by name, as `named_parameters` gives them; every `*.weight` is a layer.
    """
    return [parameter for name, parameter in parameters.items() if name.endswith("weight")]


@options
class PathNorm(Regularizer):
    """`path_norm` of the online network, all critics together.

    Layer normalization undoes the scale of the weights before it, and activations other than those
    of `path_norm` are not invariant to it; the penalty is then an ordinary penalty on weights.
    """

    depth: Literal["all", "last"] = option("all", "all hidden layers, or the last one and the head")

    def attach(self, network: nn.Module, activation: str, seeds: Sequence[int]) -> Penalty:
        """Reject a network without hidden layers."""
        try:
            self._path_norm(dict(network.named_parameters()), head_weight(network).ndim - 2)
        except ValueError as error:
            raise InputError(f"path_norm: {error}") from None
        return self

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        return sum_over_critics(self._path_norm(ctx.parameters, ctx.features.ndim - 2))

    def _path_norm(self, parameters: Mapping[str, Tensor], lead: int) -> Tensor:
        weights = layer_weights(parameters)
        return path_norm(weights if self.depth == "all" else weights[-2:], lead)
