"""Projections of the layers of a network, in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from rlop.config.checks import check_known
from rlop.config.schema import option, options
from rlop.projections.balls import (
    Parametrization,
    check_radius,
    distance_factors,
    radius_divisor,
    toward,
)
from rlop.types import InputError

Parameters: TypeAlias = Mapping[str, Tensor]  # by name
Center: TypeAlias = Literal["init", "zero"]
Bias: TypeAlias = Literal["join", "exempt"]

# Projects parameters in place: (parameters, their initial values, radius `[R]`) -> None
Project: TypeAlias = Callable[[Parameters, Parameters, Tensor], None]


@options
class Projection:
    """A constraint on the weights; a frozen dataclass whose fields are its options."""

    def attach(self, parameters: Parameters, lead: int) -> Project:
        """Prepare the projection for one network; called once, before training.

        Args:
            parameters: parameters of the network, by name, each `[*lead, ...]`.
            lead: number of leading axes: 1 for runs, 2 for runs and critics.
        Returns:
            A function that projects parameters of these shapes in place. It must be idempotent, and
            must not branch on tensor values, so that it may be part of a compiled update.
        Raises:
            InputError: for options that do not fit the network.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Layer:
    """Parameters that are projected together: a weight, and the bias that joins it."""

    names: tuple[str, ...]
    radius_divisor: float  # R of the layer over the radius of one ball


@dataclass(frozen=True)
class Attached:
    """A projection of the layers of one network.

    Args:
        layers: to project.
        lead: number of leading axes of the parameters.
        ball_axes: axes after the leading ones that have a ball for each index.
        from_initial: True for balls around the initial parameters, False around zero.
    """

    layers: tuple[Layer, ...]
    lead: int
    ball_axes: int
    from_initial: bool

    def __call__(self, parameters: Parameters, initial: Parameters, radius: float | Tensor) -> None:
        """Project in place.

        Args:
            parameters: by name.
            initial: their values at initialization; not read for balls around zero.
            radius: R of each layer, a number or a tensor over the first leading axes.
        """
        # Not a decorator: a compiled graph that creates this object cannot call a decorated method
        # of it.
        with torch.no_grad():
            for layer in self.layers:
                self._project_layer(layer, parameters, initial, radius / layer.radius_divisor)

    def _project_layer(
        self,
        layer: Layer,
        parameters: Parameters,
        initial: Parameters,
        ball_radius: float | Tensor,
    ) -> None:
        tensors = [parameters[name] for name in layer.names]
        centers: list[Tensor | None] = [None] * len(tensors)
        if self.from_initial:
            centers = [initial[name] for name in layer.names]

        factors = distance_factors(tensors, centers, ball_radius, self.lead, self.ball_axes)
        for tensor, center, factor in zip(tensors, centers, factors):
            if center is None:
                tensor.mul_(factor)
            else:
                tensor.copy_(toward(tensor, center, factor))


@options
class LayerBalls(Projection):
    """The options of projections that keep each layer, or each of its neurons, in a ball."""

    ball_axes: ClassVar[int]  # axes after the leading ones that have a ball for each index

    center: Center = option("init", "center of each ball: the initial weights, or zero")
    bias: Bias = option(
        "join", "join: a bias is one more incoming weight of its neuron; exempt: it is left alone"
    )
    layers: tuple[str, ...] | None = option(None, "names of the layers to project; null for all")
    parametrization: Parametrization = option(
        "standard", "how a ball's radius follows from R: over sqrt(n_out fan_in), sqrt(n_out) or 1"
    )

    def attach(self, parameters: Parameters, lead: int) -> Attached:
        """Find the layers to project."""
        return _attach(
            parameters,
            lead,
            self.ball_axes,
            self.center,
            self.bias,
            self.layers,
            self.parametrization,
        )


@options
class MaxNorm(LayerBalls):
    """`max_norm` of every layer: one ball for each neuron of each run and critic."""

    ball_axes: ClassVar[int] = 1


@options
class Frobenius(LayerBalls):
    """`frobenius_ball` of every layer: one ball for each layer of each run and critic."""

    ball_axes: ClassVar[int] = 0


def max_norm_(
    module: nn.Module,
    initial: Parameters | None,
    radius: float | Tensor,
    *,
    center: str = "init",
    bias: str = "join",
    layers: Sequence[str] | None = None,
    lead: int = 0,
    parametrization: str = "standard",
) -> None:
    """Project every neuron of a module onto a ball, in place; see `max_norm`.

        init = {name: p.detach().clone() for name, p in net.named_parameters()}
        ...
        optimizer.step(); max_norm_(net, init, radius=10.0)

    Every parameter called `weight` with at least two axes after the leading ones is projected, the
    head included; gains of normalization layers have one axis and are exempt.

    Args:
        module: a plain module, or one whose parameters carry leading run axes.
        initial: parameters at initialization, by name; may be None with `center="zero"`.
        radius: R of each layer (see `neuron_radius`), > 0, a number or a tensor over the first
            leading axes; `inf` does nothing. The values of a tensor are not checked here:
            `check_radius` does that once.
        center: `init` or `zero`.
        bias: `join` makes it one more incoming weight of its neuron, `exempt` leaves it alone.
        layers: names of the layers to project, as in `module.named_modules()`; None for all.
        lead: number of leading (run, critic) axes of the parameters.
        parametrization: `standard`, `ntk` or `none`, see `neuron_radius`.
    Raises:
        InputError: for an unknown option or layer, a radius <= 0, or an `initial` that lacks a
            parameter or is the parameter itself.
    Reference: Cayci et al., arXiv:2103.01391.
    """
    parameters = dict(module.named_parameters())
    attached = _attach(parameters, lead, MaxNorm.ball_axes, center, bias, layers, parametrization)
    _check_arguments(attached, parameters, initial, radius)
    attached(parameters, initial or {}, radius)


def frobenius_ball_(
    module: nn.Module,
    initial: Parameters | None,
    radius: float | Tensor,
    *,
    center: str = "init",
    bias: str = "join",
    layers: Sequence[str] | None = None,
    lead: int = 0,
    parametrization: str = "standard",
) -> None:
    """Project every layer of a module onto one ball each, in place; see `frobenius_ball`.

    At the same R, over sqrt(fan_in) in the standard parametrization, this set contains the one of
    `max_norm_`.

    Args:
        module, initial, radius, center, bias, layers, lead, parametrization: as in `max_norm_`.
    Raises:
        InputError: as in `max_norm_`.
    Reference: Cai et al., arXiv:1905.10027.
    """
    parameters = dict(module.named_parameters())
    attached = _attach(parameters, lead, Frobenius.ball_axes, center, bias, layers, parametrization)
    _check_arguments(attached, parameters, initial, radius)
    attached(parameters, initial or {}, radius)


def _attach(
    parameters: Parameters,
    lead: int,
    ball_axes: int,
    center: str,
    bias: str,
    layers: Sequence[str] | None,
    parametrization: str,
) -> Attached:
    """Find the layers that the options select; options and errors as in `max_norm_`."""
    check_known("projection: center", center, get_args(Center))
    check_known("projection: bias", bias, get_args(Bias))
    if isinstance(layers, str):
        raise InputError(f"projection: layers {layers!r}: expected a list of names")

    by_name = _find_layers(parameters, lead, ball_axes, bias == "join", parametrization)
    selected = list(by_name) if layers is None else layers
    for name in selected:
        check_known("projection: layer", name, by_name)
    return Attached(
        layers=tuple(layer for name, layer in by_name.items() if name in selected),
        lead=lead,
        ball_axes=ball_axes,
        from_initial=center == "init",
    )


def _find_layers(
    parameters: Parameters, lead: int, ball_axes: int, join_bias: bool, parametrization: str
) -> dict[str, Layer]:
    """Find every parameter called `weight` with at least two axes after the leading ones."""
    layers = {}
    for name, tensor in parameters.items():
        layer_name, _, kind = name.rpartition(".")
        shape = tensor.shape[lead:]
        if kind != "weight" or len(shape) < 2:
            continue

        names = [name]
        bias_name = name.removesuffix("weight") + "bias"
        if join_bias and bias_name in parameters:
            names.append(bias_name)

        n_balls, fan_in = shape[:ball_axes].numel(), shape[1:].numel()
        divisor = radius_divisor(n_balls, fan_in, parametrization)
        layers[layer_name] = Layer(tuple(names), divisor)
    return layers


def _check_arguments(
    attached: Attached,
    parameters: Parameters,
    initial: Parameters | None,
    radius: float | Tensor,
) -> None:
    """Raise `InputError` for arguments that the projection cannot be called with."""
    if isinstance(radius, (int, float)):
        check_radius(radius)
    if not attached.from_initial:
        return

    for layer in attached.layers:
        for name in layer.names:
            _check_initial(name, parameters, initial or {})


def _check_initial(name: str, parameters: Parameters, initial: Parameters) -> None:
    if name not in initial:
        raise InputError(
            f"projection: initial value of {name!r} not found, expected it with center = 'init'"
        )

    if torch.compiler.is_compiling():  # a graph has no data pointers
        return
    if initial[name].data_ptr() == parameters[name].data_ptr():
        raise InputError(
            f"projection: initial value of {name!r} is the parameter itself, expected a clone of it"
        )
