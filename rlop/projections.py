"""Constraints on the weights, applied in place after the optimizer step and before the target network's update.

Every set here is a product of l2 balls, hence convex: averages of feasible weights (Polyak, EMA, the averaged iterate)
are feasible, so a target network that starts at the centre needs no projection of its own.

Three things are called max-norm: the matrix norm of Srebro and Shraibman (not here), the bound on the incoming weights
of a unit from maxout and dropout practice (`center="zero"`), and the ball around the initialisation (`center="init"`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from rlop.config.checks import check_known
from rlop.types import InputError

Radius = TypeVar("Radius", float, Tensor)
Initial: TypeAlias = Mapping[str, Tensor] | None
# (parameters by name, the same at initialisation, radius) -> None; in place
Projection: TypeAlias = Callable[[Mapping[str, Tensor], Initial, Any], None]

# kind -> how many axes, after the leading ones, have a ball for each index
KINDS = {"max_norm": 1, "frobenius": 0}
# option -> its values, where they are names
OPTIONS: dict[str, tuple[str, ...]] = {
    "center": ("init", "zero"),
    "bias": ("join", "exempt"),
    "parametrization": ("standard", "ntk", "none"),
    "layers": (),
    "lead": (),
}


@torch.no_grad()
def max_norm(
    weight: Tensor, center: Tensor | None, radius: float | Tensor, lead: int = 0
) -> Tensor:
    """Project every neuron's incoming weights onto an l2 ball.

        w_i <- c_i + (w_i - c_i) min(1, radius / ||w_i - c_i||_2)

    A neuron inside its ball keeps its weights bit by bit. A bias joins its neuron as one more column.

    Args:
        weight: `[*lead, out, ...]`; what follows `out` is flattened, so a convolution's filter is one neuron. (The
            neurons of a transposed convolution lie along another axis: transpose first.)
        center: same shape, or None for zero.
        radius: of each neuron's ball, a number or a tensor over the first leading axes (`[R]`); `inf` does nothing.
        lead: number of leading (run, critic) axes.
    Returns:
        The projected weights, a new tensor.
    Reference: Cayci, Satpathi, He and Srikant, "Sample Complexity and Overparameterization Bounds for
        Temporal-Difference Learning With Neural Network Approximation", IEEE TAC 2023, arXiv:2103.01391 (around the
        initialisation, radius R / sqrt(m)); around zero it is `torch.renorm` along the neurons.
    """
    return _move_inward(weight, center, _inward([weight], [center], radius, lead, lead + 1)[0])


@torch.no_grad()
def frobenius_ball(
    weight: Tensor, center: Tensor | None, radius: float | Tensor, lead: int = 0
) -> Tensor:
    """Project a whole weight matrix onto one l2 ball.

        W <- C + (W - C) min(1, radius / ||W - C||_F)

    Contains the max-norm set of radius `radius / sqrt(out)`, but lets one neuron use up the whole radius.

    Args: as in `max_norm`; `weight` is `[*lead, ...]` and `radius` that of the whole ball.
    Returns:
        The projected weights, a new tensor.
    Reference: Cai et al., "Neural Temporal-Difference Learning Converges to Global Optima", NeurIPS 2019,
        arXiv:1905.10027 (around the initialisation).
    """
    return _move_inward(weight, center, _inward([weight], [center], radius, lead, lead)[0])


def neuron_radius(
    radius: Radius, n_out: int, fan_in: int, parametrization: str = "standard"
) -> Radius:
    """The radius of one neuron's ball, from the radius R of its layer.

        ntk: R / sqrt(n_out);  standard: R / sqrt(n_out fan_in);  none: R

    In the NTK parametrisation the layer divides by sqrt(fan_in), in the standard one the weights already have. The
    balls of a layer together lie in the Frobenius ball of radius R or R / sqrt(fan_in). `none` bounds every unit alike.

    Args:
        radius: R, a number or a tensor; the result is of the same type.
        n_out: neurons of the layer.
        fan_in: incoming weights of a neuron.
        parametrization: `standard`, `ntk` or `none`; another raises `InputError`.
    Reference: Cayci et al., arXiv:2103.01391, for two layers in the NTK parametrisation; deeper layers and the
        standard parametrisation are our extension.
    """
    check_known("parametrization", parametrization, OPTIONS["parametrization"])
    return radius / math.sqrt(
        {"standard": n_out * fan_in, "ntk": n_out, "none": 1}[parametrization]
    )


def max_norm_(
    module: nn.Module,
    initial: Initial,
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

    Every parameter called `weight` with at least two axes beside the leading ones is projected, the head included;
    gains of normalisation layers have one axis and are exempt.

    Args:
        module: a plain module, or one whose parameters carry leading run axes.
        initial: parameters at initialisation, by name; may be None with `center="zero"`.
        radius: R of each layer (see `neuron_radius`), > 0, a number or a tensor over the first leading axes; `inf` does
            nothing. The values of a tensor are not checked here: `check_radius` does that once.
        center: `init` or `zero`.
        bias: `join` makes it one more incoming weight of its neuron, `exempt` leaves it alone.
        layers: names of the layers to project, as in `module.named_modules()`; None for all.
        lead: number of leading (run, critic) axes of the parameters.
        parametrization: `standard`, `ntk` or `none`, see `neuron_radius`.
    Raises:
        InputError: for an unknown option or layer, a radius <= 0, or an `initial` that lacks a parameter or is the
            parameter itself.
    Reference: Cayci et al., arXiv:2103.01391.
    """
    options = {
        "center": center,
        "bias": bias,
        "layers": layers,
        "lead": lead,
        "parametrization": parametrization,
    }
    make_projection("max_norm", **options)(dict(module.named_parameters()), initial, radius)


def frobenius_ball_(
    module: nn.Module, initial: Initial, radius: float | Tensor, **options: Any
) -> None:
    """Project every layer of a module onto one ball each, in place; options and errors as in `max_norm_`.

    At the same R, over sqrt(fan_in) in the standard parametrisation, this set contains that of `max_norm_`.

    Args: as in `max_norm_`.
    Reference: Cai et al., arXiv:1905.10027.
    """
    make_projection("frobenius", **{"lead": 0, **options})(
        dict(module.named_parameters()), initial, radius
    )


def make_projection(kind: str, **options: Any) -> Projection:
    """A projection of named parameters, for agents.

    Args:
        kind: `max_norm` or `frobenius`.
        options: those of `max_norm_`; here `lead` defaults to 1, the run axis.
    Returns:
        A function `(params, initial, radius) -> None` without branches on tensor values, so that it may stand in a
        compiled update.
    Raises:
        InputError: for an unknown kind or option.
    """
    check_known("projection", kind, KINDS)
    for option, value in options.items():
        check_known(f"projection {kind}: option", option, OPTIONS)
        if OPTIONS[option]:
            check_known(f"projection {kind}: {option}", value, OPTIONS[option])
    if isinstance(options.get("layers"), str):
        raise InputError(
            f"projection {kind}: layers {options['layers']!r}: expected a list of names"
        )
    return functools.partial(_apply, own=KINDS[kind], **options)


def check_radius(radius: float | Sequence[float] | Tensor) -> None:
    """Raise `InputError` unless every radius is above zero; `inf` is allowed, NaN is not.

    Args:
        radius: one number or several.
    """
    if not (
        radius > 0
        if isinstance(radius, (int, float))
        else bool((torch.as_tensor(radius) > 0).all())
    ):
        raise InputError(f"projection radius {radius}: expected a number above 0")


@torch.no_grad()
def _apply(
    params: Mapping[str, Tensor],
    initial: Initial,
    radius: Any,
    own: int,
    center: str = "init",
    bias: str = "join",
    layers: Sequence[str] | None = None,
    lead: int = 1,
    parametrization: str = "standard",
) -> None:
    if not isinstance(radius, Tensor):
        check_radius(radius)
    for names in _rows(params, bias, layers, lead):
        tensors = [params[name] for name in names]
        centers = [None if center == "zero" else _center(name, params, initial) for name in names]
        shape = tensors[0].shape[lead:]
        r = neuron_radius(radius, shape[:own].numel(), shape[1:].numel(), parametrization)
        for tensor, center_, inward in zip(
            tensors, centers, _inward(tensors, centers, r, lead, lead + own)
        ):
            tensor.mul_(1 - inward) if center_ is None else tensor.lerp_(center_, inward)


def _rows(
    params: Mapping[str, Tensor], bias: str, layers: Sequence[str] | None, lead: int
) -> list[list[str]]:
    """Names of the parameters that are projected together: a weight, and the bias that joins it."""
    found = {}
    for name, tensor in params.items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and tensor.ndim - lead >= 2:
            sibling = name.removesuffix("weight") + "bias"
            found[layer] = [name, sibling] if bias == "join" and sibling in params else [name]
    for layer in layers or ():
        check_known("projection: layer", layer, found)
    return [names for layer, names in found.items() if layers is None or layer in layers]


def _center(name: str, params: Mapping[str, Tensor], initial: Initial) -> Tensor:
    if initial is None or name not in initial:
        raise InputError(
            f"projection: initial value of {name!r} not found, expected it with center = 'init'"
        )
    if not torch.compiler.is_compiling() and initial[name].data_ptr() == params[name].data_ptr():
        raise InputError(
            f"projection: initial value of {name!r} is the parameter itself, expected a clone of it"
        )
    return initial[name]


def _inward(
    tensors: Sequence[Tensor],
    centers: Sequence[Tensor | None],
    radius: float | Tensor,
    lead: int,
    keep: int,
) -> list[Tensor]:
    """How far each tensor goes towards its center, 0 to 1, so that together they lie in the ball of each index.

    One factor for each index of the first `keep` axes, shaped to broadcast against each tensor.
    """
    for tensor, center in zip(tensors, centers):
        if tensor.ndim < keep or tensor.shape[:keep] != tensors[0].shape[:keep]:
            raise ValueError(
                f"weight: expected {lead} leading axes and neurons, got {tuple(tensor.shape)}"
            )
        if center is not None and center.shape != tensor.shape:
            raise ValueError(f"center: expected {tuple(tensor.shape)}, got {tuple(center.shape)}")
    if isinstance(radius, Tensor):
        if radius.ndim > lead or radius.shape != tensors[0].shape[: radius.ndim]:
            raise ValueError(
                f"radius: expected one per leading axis {tensors[0].shape[:lead]}, got {radius.shape}"
            )
        radius = radius.to(tensors[0].dtype).reshape(radius.shape + (1,) * (keep - radius.ndim))
    moves = [t if c is None else t - c for t, c in zip(tensors, centers)]
    norms = [
        m.abs() if m.ndim == keep else torch.linalg.vector_norm(m, dim=tuple(range(keep, m.ndim)))
        for m in moves
    ]
    norm = norms[0] if len(norms) == 1 else torch.hypot(*norms)
    inward = 1 - (radius / norm).clamp_max(1)  # radius inf and norm 0 give 0, which changes no bit
    return [inward.reshape(norm.shape + (1,) * (t.ndim - keep)) for t in tensors]


def _move_inward(tensor: Tensor, center: Tensor | None, inward: Tensor) -> Tensor:
    return tensor.lerp(torch.zeros_like(tensor) if center is None else center, inward)
