"""Projections of one weight tensor onto l2 balls, and the radius of a ball."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, TypeVar, get_args

import torch
from torch import Tensor

from rlop.config.checks import check_known
from rlop.types import InputError

Radius = TypeVar("Radius", float, Tensor)
Parametrization: TypeAlias = Literal["standard", "ntk", "none"]


@torch.no_grad()
def max_norm(
    weight: Tensor, center: Tensor | None, radius: float | Tensor, lead: int = 0
) -> Tensor:
    """Project every neuron's incoming weights onto an l2 ball.

        w_i <- c_i + (w_i - c_i) min(1, radius / ||w_i - c_i||_2)

    A neuron inside its ball keeps its weights bit by bit. A bias joins its neuron as one more
    column.

    Args:
        weight: `[*lead, out, ...]`; what follows `out` is flattened, so that a convolution's filter
            is one neuron. (The neurons of a transposed convolution lie along another axis:
            transpose first.)
        center: same shape, or None for zero.
        radius: radius of each neuron's ball, a number or a tensor over the first leading axes
            (`[R]`); `inf` does nothing.
        lead: number of leading (run, critic) axes.
    Returns:
        The projected weights, a new tensor.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Cayci, Satpathi, He and Srikant, "Sample Complexity and Overparameterization Bounds
        for Temporal-Difference Learning With Neural Network Approximation", IEEE TAC 2023,
        arXiv:2103.01391 (around the initialization, radius R / sqrt(m)); around zero it is
        `torch.renorm` along the neurons.
    """
    (factor,) = distance_factors([weight], [center], radius, lead, ball_axes=1)
    return toward(weight, center, factor)


@torch.no_grad()
def frobenius_ball(
    weight: Tensor, center: Tensor | None, radius: float | Tensor, lead: int = 0
) -> Tensor:
    """Project a whole weight matrix onto one l2 ball.

        W <- C + (W - C) min(1, radius / ||W - C||_F)

    The ball contains the max-norm set of radius `radius / sqrt(out)`, but lets one neuron use the
    whole radius.

    Args:
        weight: `[*lead, ...]`.
        center: same shape, or None for zero.
        radius: radius of the whole ball, a number or a tensor over the first leading axes (`[R]`);
            `inf` does nothing.
        lead: number of leading (run, critic) axes.
    Returns:
        The projected weights, a new tensor.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Cai et al., "Neural Temporal-Difference Learning Converges to Global Optima", NeurIPS
        2019, arXiv:1905.10027 (around the initialization).
    """
    (factor,) = distance_factors([weight], [center], radius, lead, ball_axes=0)
    return toward(weight, center, factor)


def neuron_radius(
    radius: Radius, n_out: int, fan_in: int, parametrization: str = "standard"
) -> Radius:
    """Compute the radius of one neuron's ball from the radius R of its layer.

        ntk: R / sqrt(n_out);  standard: R / sqrt(n_out fan_in);  none: R

    In the NTK parametrization the layer divides by sqrt(fan_in), in the standard one the weights
    are already scaled so. The balls of a layer together lie in the Frobenius ball of radius R or
    R / sqrt(fan_in). `none` bounds every unit by the same radius.

    Args:
        radius: R, a number or a tensor; the result is of the same type.
        n_out: neurons of the layer.
        fan_in: incoming weights of a neuron.
        parametrization: `standard`, `ntk` or `none`.
    Raises:
        InputError: for another parametrization.
    Reference: Cayci et al., arXiv:2103.01391, for two layers in the NTK parametrization; deeper
        layers and the standard parametrization are our extension.
    """
    return radius / radius_divisor(n_out, fan_in, parametrization)


def check_radius(radius: float | Sequence[float] | Tensor) -> None:
    """Raise `InputError` unless every radius is above zero; `inf` is allowed, NaN is not.

    Args:
        radius: one number or several.
    """
    if isinstance(radius, (int, float)):
        is_positive = radius > 0
    else:
        is_positive = bool((torch.as_tensor(radius) > 0).all())
    if not is_positive:
        raise InputError(f"projection radius {radius}: expected a number above 0")


def radius_divisor(n_balls: int, fan_in: int, parametrization: str) -> float:
    """Compute R of a layer over the radius of one of its balls; see `neuron_radius`.

    Args:
        n_balls: neurons with a ball of their own, or 1 for one ball around the layer.
        fan_in: incoming weights of a neuron.
        parametrization: `standard`, `ntk` or `none`.
    """
    check_known("parametrization", parametrization, get_args(Parametrization))
    divisors = {"standard": n_balls * fan_in, "ntk": n_balls, "none": 1}
    return math.sqrt(divisors[parametrization])


def distance_factors(
    tensors: Sequence[Tensor],
    centers: Sequence[Tensor | None],
    radius: float | Tensor,
    lead: int,
    ball_axes: int,
) -> list[Tensor]:
    """Compute min(1, radius / distance from the center) of each ball.

    The tensors are parts of the same balls: their squared distances add up.

    Args:
        tensors: `[*lead, ...]` each, of equal size in the axes that have a ball for each index.
        centers: centers of the same shapes, or None for zero.
        radius: radius of a ball, a number or a tensor over the first leading axes.
        lead: number of leading axes.
        ball_axes: axes after the leading ones that have a ball for each index.
    Returns:
        The factor of each ball, for each tensor, shaped to broadcast against it.
    """
    axes = lead + ball_axes
    _check_shapes(tensors, centers, lead, axes)
    if isinstance(radius, Tensor):
        radius = _over_balls(radius, tensors[0], lead, axes)

    norms = []
    for tensor, center in zip(tensors, centers):
        move = tensor if center is None else tensor - center
        trailing = tuple(range(axes, move.ndim))
        norms.append(torch.linalg.vector_norm(move, dim=trailing) if trailing else move.abs())
    norm = norms[0] if len(norms) == 1 else torch.hypot(*norms)

    # A radius of infinity, or a norm of zero, gives 1, which changes no bit.
    factor = (radius / norm).clamp_max(1)
    return [factor.reshape(norm.shape + (1,) * (tensor.ndim - axes)) for tensor in tensors]


def _check_shapes(
    tensors: Sequence[Tensor], centers: Sequence[Tensor | None], lead: int, axes: int
) -> None:
    for tensor, center in zip(tensors, centers):
        if tensor.ndim < axes or tensor.shape[:axes] != tensors[0].shape[:axes]:
            shape = tuple(tensor.shape)
            raise ValueError(f"weight: expected {lead} leading axes and neurons, got {shape}")
        if center is not None and center.shape != tensor.shape:
            raise ValueError(f"center: expected {tuple(tensor.shape)}, got {tuple(center.shape)}")


def _over_balls(radius: Tensor, tensor: Tensor, lead: int, axes: int) -> Tensor:
    """Shape a radius over the first leading axes to broadcast against one number for each ball."""
    if radius.ndim > lead or radius.shape != tensor.shape[: radius.ndim]:
        leading = tuple(tensor.shape[:lead])
        raise ValueError(
            f"radius: expected one per leading axis {leading}, got {tuple(radius.shape)}"
        )
    return radius.to(tensor.dtype).reshape(radius.shape + (1,) * (axes - radius.ndim))


def toward(tensor: Tensor, center: Tensor | None, factor: Tensor) -> Tensor:
    """Scale the difference from the center: c + (w - c) factor.

    `lerp` computes that from the nearer end: w - (w - c) (1 - factor) for factors of .5 and more,
    so that a factor of 1 keeps every bit.

    Args:
        tensor: w.
        center: c, of the same shape, or None for zero.
        factor: 0 to 1, broadcast against the tensor.
    """
    if center is None:
        return tensor * factor
    return center.lerp(tensor, factor)
