"""Rebuild a network from the shapes of its weights alone: a chain of layers, and what ends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from rlop.types import InputError

# Kernel size -> stride of the convolutions of Mnih et al. 2015, which weights do not show.
STRIDES = {8: 4, 4: 2, 3: 1}
Weights: TypeAlias = Mapping[str, Tensor]  # `layer.weight`, in the order in which the layers run


class Affine(nn.Module):
    """Compute scale * x + shift, entry by entry.

    Args:
        scale, shift: numbers, or one per entry of x.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: object, shift: object = 0.0) -> None:
        super().__init__()
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x."""
        return x * self.scale + self.shift


class FirstHalf(nn.Module):
    """Take the first half of the outputs: the mean, where the other half is its deviation."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., 2 m]` to `[..., m]`."""
        return x[..., : x.shape[-1] // 2]


class QuantileMean(nn.Module):
    """Average the quantiles of every action.

    Args:
        count: K quantiles.
        actions_last: whether outputs are ordered `[K, A]` and not `[A, K]`.
    """

    def __init__(self, count: int, actions_last: bool = False) -> None:
        super().__init__()
        self.count = count
        self.actions_last = actions_last

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., A K]` to values `[..., A]`."""
        if self.actions_last:
            return x.unflatten(-1, (self.count, -1)).mean(-2)
        return x.unflatten(-1, (-1, self.count)).mean(-1)


class AtomMean(nn.Module):
    """Average the atoms of every action, weighted by their probabilities.

    Args:
        atoms: `[K]`.
    """

    atoms: Tensor

    def __init__(self, atoms: Tensor) -> None:
        super().__init__()
        self.register_buffer("atoms", atoms)

    def forward(self, x: Tensor) -> Tensor:
        """Map logits `[..., A K]` to values `[..., A]`."""
        logits = x.unflatten(-1, (-1, len(self.atoms)))
        return logits.softmax(-1) @ self.atoms


class OfPairs(nn.Sequential):
    """A network of observations and actions, which it reads side by side."""

    # nn.Sequential declares one argument, but calls a network with whatever it is called with.
    def forward(self, obs: Tensor, action: Tensor) -> Tensor:  # type: ignore[override]
        """Map `[..., k]` and `[..., m]` to the values of the pairs, `[..., 1]`."""
        return super().forward(torch.cat([obs, action], dim=-1))


def chain(weights: Weights, activation_of: Callable[[str], type[nn.Module]]) -> list[nn.Module]:
    """Build the layers of a chain, with an activation after every layer but the last.

    A normalization comes after the activation where their numbers in the names leave room for one
    between them, as in `0.weight`, `2.weight`, and before it otherwise. Convolutions have the
    strides of `STRIDES`; their outputs are flattened for a linear layer.

    Args:
        weights: those of linear layers, convolutions and normalizations, in the order in which they
            run.
        activation_of: name of a layer -> its activation.

    Raises:
        InputError: for another kind of layer, or one that does not read what the one before gives.
    """
    layers: list[nn.Module] = []
    pending: type[nn.Module] | None = None  # activation of the last layer
    before = ""  # name of that layer
    width: int | None = None  # number of its outputs or channels

    for name, parameters in _by_layer(weights).items():
        layer = _layer(name, parameters)
        is_norm = not isinstance(layer, nn.Linear | nn.Conv2d)
        if pending is not None and not (is_norm and _follows(before, name)):
            layers.append(pending())
            pending = None
        if is_norm:
            layers.append(layer)
            continue

        flattens = isinstance(layer, nn.Linear) and _ends_in_conv(layers)
        _check_fits(name, parameters["weight"].shape[1], width, flattens)
        if flattens:
            layers.append(nn.Flatten())
        layers.append(layer)

        before = name
        width = len(parameters["weight"])
        pending = activation_of(name)

    return layers


def _by_layer(weights: Weights) -> dict[str, dict[str, Tensor]]:
    """Group `layer.parameter` by layer."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        layer, _, parameter = name.rpartition(".")
        layers.setdefault(layer, {})[parameter] = tensor
    return layers


def _layer(name: str, parameters: Mapping[str, Tensor]) -> nn.Module:
    """Build one layer from its parameters."""
    weight = parameters.get("weight", torch.empty(()))
    layer: nn.Module | None = None
    has_bias = "bias" in parameters

    if weight.ndim == 2:
        layer = nn.Linear(weight.shape[1], weight.shape[0], has_bias)
    elif weight.ndim == 4 and weight.shape[2] in STRIDES:
        outputs, inputs, *kernel = weight.shape
        layer = nn.Conv2d(
            inputs, outputs, (kernel[0], kernel[1]), STRIDES[kernel[0]], bias=has_bias
        )
    elif "running_mean" in parameters:
        layer = nn.BatchNorm1d(len(weight))
    elif weight.ndim == 1:
        layer = nn.LayerNorm(len(weight), bias=has_bias)

    try:
        if layer is None:
            raise RuntimeError
        layer.load_state_dict(dict(parameters))
    except RuntimeError:
        shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in parameters.items())
        raise InputError(
            f"{name}: expected a linear layer, a convolution or a normalization, found {shapes}"
        ) from None
    return layer


def _follows(before: str, name: str) -> bool:
    """Whether the number at the end of a name is the next one, as in `net.0` and `net.1`."""
    first, second = before.rpartition(".")[2], name.rpartition(".")[2]
    return first.isdigit() and second.isdigit() and int(second) == int(first) + 1


def _ends_in_conv(layers: list[nn.Module]) -> bool:
    """Whether the last layer that is no activation is a convolution."""
    kinds = [layer for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)]
    return bool(kinds) and isinstance(kinds[-1], nn.Conv2d)


def _check_fits(name: str, reads: int, width: int | None, flattens: bool) -> None:
    """Raise InputError for a layer that cannot read the one before."""
    fits = width is None or reads == width or (flattens and reads % width == 0)
    if not fits:
        raise InputError(
            f"{name}: reads {reads} features, expected the {width} of the layer before; only plain "
            "chains of layers can be rebuilt"
        )
