"""Recycling of dormant units (ReDo), for networks whose layers form a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn

from rlop.nets.conv import Conv2d
from rlop.nets.factorized import FactorizedLinear
from rlop.nets.linear import Linear
from rlop.nets.norms import HypersphericalLinear
from rlop.nets.stack import Matrix
from rlop.probes.units import dormant_units
from rlop.runs import per_run
from rlop.types import Batch, InputError

Named: TypeAlias = Mapping[str, Tensor]
# batch -> features of s (and a), and of the next state
Features: TypeAlias = Callable[[Batch], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Parts:
    """The parameters of a layer on either side of its units."""

    rows: tuple[str, ...]  # parameters with one row for each unit of the layer
    columns: str  # parameter with columns for each unit of the layer before


PARTS: Mapping[type[nn.Module], Parts] = {
    Linear: Parts(("weight", "bias"), "weight"),
    Conv2d: Parts(("weight", "bias"), "weight"),
    FactorizedLinear: Parts(("u", "bias"), "v"),
    HypersphericalLinear: Parts(("weight", "scale"), "weight"),
    # Its outputs pass no activation, so they are not recycled.
    Matrix: Parts((), "weight"),
}


@dataclass(frozen=True)
class Hidden:
    """The units between two layers: their parameters, and their activations on a batch."""

    incoming: tuple[str, ...]  # parameters `[*lead, D, ...]`, one row for each unit
    outgoing: str  # parameter `[*lead, O, D k, ...]`, k columns for each unit, side by side
    activations: Tensor  # [*lead, n, D]


@torch.no_grad()
def redo_(
    params: Named,
    fresh: Named,
    hidden: Sequence[Hidden],
    tau: float,
    active: Tensor,
) -> dict[str, Tensor]:
    """Recycle dormant units, in place: redraw their incoming weights, zero their outgoing ones.

    A weight between two recycled units becomes 0. Where the units were exactly silent, the network
    computes what it did before.

    Args:
        params: by name, `[*lead, ...]`.
        fresh: new draws of the same.
        hidden: the units, layer by layer.
        tau: a unit is dormant when its score is at most tau, see
            `rlop.probes.units.dormant_units`.
        active: `[R]` bool; other runs keep their parameters.
    Returns:
        name -> bool, broadcastable to the parameter, True where it was reset.
    Raises:
        ValueError: when the activations do not fit the parameters.
    Reference: Sokar et al., "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML
        2023, arXiv:2302.12902.
    Differs from: dopamine `labs/redo`, which sets the bias to 0, its initial value there; here the
        bias is redrawn, too.
    """
    # All layers are measured before any of them changes.
    layers = [(units, _dormant(params, units, tau, active)) for units in hidden]

    touched: dict[str, Tensor] = {}
    for units, dormant in layers:
        for name in units.incoming:
            p = params[name]
            rows = _append_axes(dormant, p.ndim)
            p.copy_(torch.where(rows, fresh[name], p))
            touched[name] = rows

    # Outgoing weights come last: a weight between two recycled units ends at 0.
    for units, dormant in layers:
        p = params[units.outgoing]
        per_unit = p.shape[dormant.ndim] // dormant.shape[-1]
        columns = dormant.repeat_interleave(per_unit, dim=-1).unsqueeze(-2)
        columns = _append_axes(columns, p.ndim)
        p.masked_fill_(columns, 0)

        earlier = touched.get(units.outgoing)
        touched[units.outgoing] = columns if earlier is None else earlier | columns
    return touched


def _dormant(params: Named, units: Hidden, tau: float, active: Tensor) -> Tensor:
    """Return which units of the active runs are dormant, `[*lead, D]`; check the shapes."""
    dormant = dormant_units(units.activations, tau)

    incoming_fits = all(
        params[name].shape[: dormant.ndim] == dormant.shape for name in units.incoming
    )
    n_columns = params[units.outgoing].shape[dormant.ndim]  # of [*lead, O, D k, ...]
    if not incoming_fits or n_columns % dormant.shape[-1]:
        raise ValueError(
            f"activations {tuple(units.activations.shape)}: do not fit {units.incoming[0]}"
        )
    return dormant & per_run(active, dormant)


def _append_axes(mask: Tensor, ndim: int) -> Tensor:
    """Append axes of length 1 until there are `ndim`."""
    return mask.view(*mask.shape, *[1] * (ndim - mask.ndim))


@torch.no_grad()
def hidden_units(network: nn.Module, features: Features, batch: Batch) -> list[Hidden]:
    """Return the units of a network, with their activations on a batch.

    Args:
        network: with layers of the types in `PARTS`, registered in the order of use, each of which
            feeds the next; images are flattened channel by channel.
        features: passes a batch through the network up to the head's input.
        batch: transitions; activations are those at s (and a).
    Raises:
        InputError: for a network whose layers do not form such a chain.
    """
    layers = []
    for name, layer in network.named_modules():
        if parts_of(layer) is not None:
            layers.append((name, layer))

    inputs: dict[str, Tensor] = {}
    hooks = []
    for name, layer in layers:
        hooks.append(layer.register_forward_pre_hook(_input_recorder(inputs, name)))
    phi, _ = features(batch)
    for hook in hooks:
        hook.remove()

    # The head itself may not have run.
    inputs.setdefault(layers[-1][0], phi)
    if list(inputs) != [name for name, _ in layers]:
        raise InputError("resets: redo: expected a network whose layers feed one another in a line")

    hidden = []
    for before, after in pairwise(layers):
        if not isinstance(before[1], Matrix):
            hidden.append(_units_between(before, after, inputs[after[0]]))
    return hidden


def _input_recorder(
    inputs: dict[str, Tensor],
    name: str,
) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """Return a hook that keeps the input of a layer's first pass, the one at s."""

    def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs.setdefault(name, args[0])

    return record


def parts_of(layer: nn.Module) -> Parts | None:
    """Return the row of `PARTS` for a layer, or None for other modules."""
    for kind, parts in PARTS.items():
        if isinstance(layer, kind):
            return parts
    return None


def _units_between(
    before: tuple[str, nn.Module],
    after: tuple[str, nn.Module],
    x: Tensor,
) -> Hidden:
    """Return the units between two named layers.

    Args:
        before: name and layer whose outputs they are.
        after: name and layer that reads them.
        x: the second layer's input.
    """
    before_name, layer = before
    after_name, next_layer = after
    parts = parts_of(layer)
    next_parts = parts_of(next_layer)
    assert parts is not None  # `hidden_units` takes such layers only
    assert next_parts is not None

    # A bias that is not trained is a buffer.
    trained = dict(layer.named_parameters(recurse=False))
    tensors = {**trained, **dict(layer.named_buffers(recurse=False))}
    n_units = tensors[parts.rows[-1]].shape[-1]
    incoming = tuple(f"{before_name}.{row}" for row in parts.rows if row in trained)

    if isinstance(next_layer, Conv2d):
        x = x.movedim(2, -1).flatten(1, 3)
    elif x.shape[-1] != n_units:  # flattened images, [*lead, B, D k]
        x = x.unflatten(-1, (n_units, -1)).mT.flatten(-3, -2)
    return Hidden(incoming, f"{after_name}.{next_parts.columns}", x)
