"""Path norm: what neuron-wise weight decay comes to once every neuron has found its best scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from rlop.config.checks import check_known
from rlop.regularizers.adapt import over_critics
from rlop.types import InputError, Regularizer, TDContext, needs

DEPTHS = ("all", "last")


def neuron_products(incoming: Tensor, outgoing: Tensor, lead: int = 0) -> Tensor:
    """|v_k| |w_k| of every unit k: the length of its incoming weights times that of its outgoing ones.

    Between convolutions, and from one to a linear layer that reads it flattened channel by channel, a unit is a
    channel. Biases do not count.

    Args:
        incoming: weight of the layer that makes the units, `[*lead, K, ...]`.
        outgoing: weight of the layer that reads them, `[*lead, O, K, ...]`, or `[*lead, O, K P]` of units with P
            positions each.
        lead: number of leading axes.
    Returns:
        `[*lead, K]`.
    Raises:
        ValueError: when the layers do not follow each other.
    """
    axes, units = incoming.shape[:lead], incoming.shape[lead] if incoming.ndim > lead + 1 else 0
    rest = outgoing.shape[lead + 1 :].numel() if outgoing.ndim > lead + 1 else -1
    if not units or outgoing.shape[:lead] != axes or rest < 1 or rest % units:
        shapes = f"{tuple(incoming.shape)} and {tuple(outgoing.shape)}"
        raise ValueError(
            f"incoming and outgoing: expected [*lead, K, ...] and [*lead, O, K, ...], got {shapes}"
        )
    w = torch.linalg.vector_norm(incoming.flatten(lead + 1), dim=-1)
    v = torch.linalg.vector_norm(
        outgoing.reshape(*axes, outgoing.shape[lead], units, -1), dim=(-3, -1)
    )
    return v * w


def path_norm(weights: Sequence[Tensor], lead: int = 0) -> Tensor:
    """Sum over hidden layers and their units of the length of incoming times the length of outgoing weights.

        sum_l sum_k |W_{l+1}[:, k]| |W_l[k, :]|

    With one hidden layer: (|v_k|^2 + |w_k|^2) / 2 summed over units is never less than this and equal to it where the
    two lengths of each unit agree. Multiplying w_k by c and dividing v_k by c changes neither the function of a network
    with ReLU, leaky ReLU or no activation, nor the path norm, so both have the same minima there. With several hidden
    layers an inner matrix counts twice, once by rows and once by columns.

    Args:
        weights: of successive layers, `[*lead, O, I, ...]` each, at least two.
        lead: number of leading axes.
    Returns:
        `[*lead]`, unweighted.
    Raises:
        ValueError: when there are fewer than two, or they do not follow each other.
    Reference: Parhi and Nowak, "What Kinds of Functions Do Deep Neural Networks Learn? Insights from Variational Spline
        Theory", 2022, arXiv:2105.03361 (the RBV2 norm), and the workshop paper "On the Sparsity of Deep Neural Networks
        in the Overparameterized Regime" (with Wolf).
    """
    if len(weights) < 2:
        raise ValueError(f"weights: expected those of at least two layers, got {len(weights)}")
    products = [neuron_products(w, v, lead).sum(-1) for w, v in pairwise(weights)]
    return torch.stack(products).sum(0)


def layer_weights(parameters: Mapping[str, Tensor]) -> list[Tensor]:
    """The weights of a network's layers, in the order of its parameters.

    Args:
        parameters: by name, as `named_parameters` gives them; every `*.weight` is a layer.
    """
    return [parameter for name, parameter in parameters.items() if name.endswith("weight")]


def path_norm_regularizer(depth: str = "all") -> Regularizer:
    """`path_norm` as a regularizer of the run-axis update, of all critics together.

    Layer normalisation undoes the scale of the weights before it, and other activations than those above are no longer
    invariant; the penalty is then one on weights like any other.

    Args:
        depth: `all` hidden layers, or the `last` one and the head.
    Returns:
        A function of `TDContext` that returns `[R]`.
    Raises:
        InputError: for an unknown depth; when the agent is made, for a network without hidden layers.
    """
    check_known("path_norm: depth", depth, DEPTHS)
    first = 0 if depth == "all" else -2

    @needs()
    def penalty(ctx: TDContext) -> Tensor:
        return over_critics(path_norm(layer_weights(ctx.parameters)[first:], ctx.features.ndim - 2))

    def prepare(network: Any, seeds: Sequence[int]) -> None:
        try:
            path_norm(
                layer_weights(dict(network.named_parameters()))[first:],
                network.head.weight.ndim - 2,
            )
        except ValueError as error:
            raise InputError(f"path_norm: {error}") from None

    penalty.prepare = prepare  # type: ignore[attr-defined]
    return penalty
