"""The networks in a file of weights, and how each is rebuilt from the names of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rlop.config.checks import nearest, within
from rlop.interop.stacks import Affine, OfPairs, Weights, chain
from rlop.types import InputError

# Layers with a ReLU also where the rest of the network has another activation: they see images.
_SEES_IMAGES = re.compile(r"(^|vf_|\.)(features_extractor|network)\.")


@dataclass(frozen=True)
class Part:
    """One network of a file.

    Args:
        name: `q`, `actor`, `value`, or `critic_1` and the like.
        pattern: regular expression that the names of its weights begin with.
        activation: after every layer but the last.
        end: layers after the last one.
        of_pairs: whether it reads observations and actions.
    """

    name: str
    pattern: str
    activation: type[nn.Module] = nn.ReLU
    end: tuple[nn.Module, ...] = ()
    of_pairs: bool = False

    def weights(self, weights: Weights) -> dict[str, Tensor]:
        """Return the part's weights, in the order of the file."""
        return {name: w for name, w in weights.items() if re.match(self.pattern, name)}


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Args:
        weights: name -> tensor.
        parts: networks that such a file can hold.
        start: layers that a network begins with.
    """

    weights: Weights
    parts: tuple[Part, ...]
    start: tuple[nn.Module, ...] = ()

    def network(
        self, path: Path, name: str | None, activation: type[nn.Module] | None
    ) -> nn.Module:
        """Build one of the networks.

        Args:
            path: the file, for messages.
            name: of the part; None for the action values, or else the policy.
            activation: instead of the part's own.
        Raises:
            InputError: the file has no such network.
        """
        parts = {part.name: part for part in self.parts if part.weights(self.weights)}
        if name is None:
            name = "q" if "q" in parts else "actor"
        if name not in parts:
            some = next(iter(self.weights), None)
            hint = nearest(name, parts) or f"; its first weights are named {some}"
            raise InputError(f"{path}: holds no network '{name}'{hint}")
        part = parts[name]

        def activation_of(layer: str) -> type[nn.Module]:
            if activation is not None:
                return activation
            return nn.ReLU if _SEES_IMAGES.search(layer) else part.activation

        with within(str(path)):
            layers = chain(part.weights(self.weights), activation_of)
        kind = OfPairs if part.of_pairs else nn.Sequential
        return kind(*self.start, *layers, *part.end).eval()


def pixel_scale(weights: Weights) -> tuple[nn.Module, ...]:
    """Return the division of pixels by 255 if the weights have convolutions."""
    has_images = any(weight.ndim == 4 for weight in weights.values())
    return (Affine(1 / 255),) if has_images else ()


def read_state_dicts(path: Path, file: object, levels: int = 6) -> dict[str, Tensor]:
    """Read the tensors of a file written by `torch.save`, executing nothing.

    Args:
        path: the file, for messages.
        file: path or binary file.
        levels: depth to which dictionaries and sequences are searched.
    Returns:
        `key.key...` -> floating-point tensor on the CPU.
    Raises:
        InputError: it cannot be read, or holds other things than plain values and tensors.
    """
    expected = "expected weights saved as torch.save(network.state_dict(), path)"
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), {expected}") from None
    except Exception as error:  # a reader of pickles can raise anything on damaged bytes
        reason = type(error).__name__
        raise InputError(
            f"{path}: holds other things than weights ({reason}), {expected}"
        ) from None

    weights: dict[str, Tensor] = {}
    _collect(content, "", levels, weights)
    if not weights:
        raise InputError(f"{path}: holds no weights, {expected}")
    return weights


def _collect(value: object, name: str, levels: int, weights: dict[str, Tensor]) -> None:
    """Add the floating-point tensors within nested dictionaries and sequences."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and not value.is_sparse:
            weights[name] = value
        return

    items: list[tuple[object, object]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    if levels:
        for key, item in items:
            _collect(item, f"{name}.{key}" if name else str(key), levels - 1, weights)
