"""The option group `layers`: what the hidden layers of an agent's network are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import Any, Literal, TypeVar

from torch import Tensor, nn

from rlop.config.schema import Count, Index, Positive, Share, option, options
from rlop.nets.factorized import FactorizedLinear
from rlop.nets.linear import LayerNorm, Linear
from rlop.nets.masks import MaskedLinear, layer_densities, mask_
from rlop.nets.mup import ScaledLinear
from rlop.nets.norms import BatchNorm, HypersphericalLinear, Sphere, unit_rows_
from rlop.nets.stack import LinearStack
from rlop.types import InputError

Network = TypeVar("Network", bound=nn.Module)

NORMS: dict[str, Callable[[Sequence[int], int], nn.Module]] = {
    "layer": LayerNorm,
    "batch": BatchNorm,
    "batch_renorm": partial(BatchNorm, renorm=True),
}

# Each replaces the hidden layers: only one of them at a time. Option -> where it is off
KINDS: Mapping[str, Any] = {
    "factorized": None,
    "density": 1.0,
    "hyperspherical": False,
    "parametrization": "standard",
}
# Options that do nothing unless another is on. Option -> the other, and where that is off
DETAILS: Mapping[str, tuple[str, Any]] = {
    "stack_init": ("linear_stack", 0),
    "factorized_init": ("factorized", None),
    "mask": ("density", 1.0),
    "base_width": ("parametrization", "standard"),
}


@options
class Layers:
    """Options of the layers between input and head. The defaults change nothing."""

    linear_stack: Index = option(
        0, "square linear layers without bias after the last hidden layer; their output is phi"
    )
    stack_init: Literal["default", "orthogonal"] = option(
        "default", "initialization of the linear stack"
    )
    factorized: Count | None = option(
        None, "rank of the hidden layers; those that are not larger than it stay dense"
    )
    factorized_init: Literal["he", "spectral", "spectral_ones"] = option(
        "spectral", "initialization of factorized layers"
    )
    density: Share = option(1.0, "share of the hidden layers' weights that a fixed mask keeps")
    mask: Literal["er", "uniform"] = option("er", "how the density is divided among layers")
    norm: Literal["none", "layer", "batch", "batch_renorm"] = option(
        "none", "normalization before each activation"
    )
    hyperspherical: bool = option(False, "unit weights on unit inputs, learned scales")
    feature_norm: Positive | None = option(None, "length that every phi is scaled to")
    parametrization: Literal["standard", "ntk", "mup"] = option(
        "standard", "how initial weights and learning rates scale with the width"
    )
    base_width: Count = option(64, "width at which all parametrizations are the same")
    zero_head: bool = option(False, "start with the head at 0")

    def __post_init__(self) -> None:
        self._check_details()

        replacing = self.replaced
        if len(replacing) > 1:
            raise InputError(
                f"{replacing[0]}: not together with {replacing[1]}, "
                "each makes the hidden layers its own way"
            )
        if self.parametrization != "standard" and self.linear_stack:
            raise InputError(
                f"linear_stack: not with parametrization = {self.parametrization}, "
                "without a rule for it"
            )
        if self.hyperspherical and self.norm != "none":
            raise InputError(
                f"norm = {self.norm}: not with hyperspherical, "
                "whose layers normalize their own input"
            )

    def _check_details(self) -> None:
        """Refuse an option that does nothing because the option it belongs to is off."""
        defaults = {item.name: item.default for item in fields(self)}
        values = asdict(self)
        for name, (other, off) in DETAILS.items():
            is_set = values[name] != defaults[name]
            if is_set and values[other] == off:
                raise InputError(f"{name} = {values[name]}: does nothing without {other}")

    @property
    def replaced(self) -> list[str]:
        """Options that replace the hidden layers."""
        values = asdict(self)
        return [name for name, off in KINDS.items() if values[name] != off]


class Extended(nn.Module):
    """A torso with more after it; the last output is the features."""

    def __init__(self, body: nn.Module, after: Sequence[nn.Module], activation: str) -> None:
        super().__init__()
        self.body, self.after = body, nn.Sequential(*after)
        self.n_features, self.activation = body.n_features, activation

    def forward(self, obs: Tensor) -> Tensor:
        """`[*lead, B, ...] -> [*lead, B, D]`."""
        return self.after(self.body(obs))


def with_layers(network: Network, layers: Layers) -> Network:
    """Rebuild the affine layers of a network before its parameters are drawn (`reset_runs`).

    Every `Linear` of the torso, the whole of an MLP or the part after the convolutions, becomes the
    layer asked for, followed by its normalisation; what comes after the last activation is appended
    to the torso.

    Args:
        network: with a `torso` and a `Linear` `head`, parameters `[R, ...]` or `[R, E, ...]`;
            changed in place.
        layers: the options.
    Returns:
        The network.
    Raises:
        InputError: when an option cannot be followed in this network.
    """
    if layers == Layers():
        return network
    torso: Any = network.torso
    lead, n_out = _lead_and_outputs(network.head)  # type: ignore[arg-type]
    if layers.norm != "none" and any(isinstance(module, LayerNorm) for module in torso.modules()):
        raise InputError(
            f"layers.norm = {layers.norm}: the layers are normalised already, expected layer_norm = false"
        )
    owners = [
        (owner, name)
        for owner in torso.modules()
        for name, m in owner.named_children()
        if type(m) is Linear
    ]
    shapes = [getattr(owner, name).weight.shape[-2:] for owner, name in owners]
    norm = NORMS.get(layers.norm)
    for (owner, name), shape, layer in zip(
        owners, shapes, hidden_layers(lead, shapes, layers), strict=True
    ):
        if layers.norm.startswith("batch"):
            _fix_bias(layer)
        setattr(owner, name, layer if norm is None else nn.Sequential(layer, norm(lead, shape[0])))
    if layers.parametrization != "standard" or layers.zero_head:
        scaling = (layers.parametrization, "output", layers.base_width, layers.zero_head)
        network.head = ScaledLinear(lead, torso.n_features, n_out, *scaling)
    after: list[nn.Module] = []
    if layers.linear_stack:
        after.append(LinearStack(lead, torso.n_features, layers.linear_stack, layers.stack_init))
    if layers.feature_norm is not None:
        after.append(Sphere(layers.feature_norm))
    if after:
        network.torso = Extended(
            torso, after, "identity" if layers.linear_stack else torso.activation
        )
    return network


def _fix_bias(layer: nn.Module) -> None:
    """Do not train the bias of a layer, which batch normalisation subtracts.

    Its gradient would be rounding noise, of which Adam makes steps of full length.
    """
    bias = layer.bias.data
    del layer.bias
    layer.register_buffer("bias", bias)  # type: ignore[arg-type]


def _lead_and_outputs(head: Linear) -> tuple[Sequence[int], int]:
    return head.weight.shape[:-2], head.weight.shape[-2]


def hidden_layers(
    lead: Sequence[int], shapes: Sequence[tuple[int, int]], layers: Layers
) -> list[nn.Module]:
    """The hidden layers, for their shapes (O, I), first to last.

    Raises:
        InputError: when no layer is large enough to be factorized at this rank.
    """
    rank = layers.factorized
    if rank is not None:
        if all(rank >= min(shape) for shape in shapes):
            raise InputError(
                f"layers.factorized = {rank}: no hidden layer is larger, of {[tuple(s) for s in shapes]}"
            )
        thin = partial(FactorizedLinear, rank=rank, init=layers.factorized_init)
        return [(Linear if rank >= min(o, i) else thin)(lead, i, o) for o, i in shapes]
    if layers.density < 1:
        densities = layer_densities(shapes, layers.density, layers.mask)
        return [
            MaskedLinear(lead, i, o, share) for (o, i), share in zip(shapes, densities, strict=True)
        ]
    if layers.hyperspherical:
        return [
            HypersphericalLinear(lead, i, o, 3.0 if n == 0 else None)
            for n, (o, i) in enumerate(shapes)
        ]
    if layers.parametrization != "standard":
        roles = ["input"] + ["hidden"] * (len(shapes) - 1)
        scaled = partial(
            ScaledLinear, parametrization=layers.parametrization, base_width=layers.base_width
        )
        return [scaled(lead, i, o, role=role) for (o, i), role in zip(shapes, roles, strict=True)]
    return [Linear(lead, i, o) for o, i in shapes]


class Constraints:
    """What a network's own layers demand after every optimizer step: masks and unit rows.

    Args:
        network: with layers that carry a buffer `mask`, or that are `HypersphericalLinear`.
    """

    def __init__(self, network: nn.Module) -> None:
        self.masks = {}
        for name, buffer in network.named_buffers():
            layer = name.removesuffix("mask")
            if name == "mask" or name.endswith(".mask"):
                self.masks[f"{layer}weight"] = buffer

        self.spheres = []
        for name, module in network.named_modules():
            if isinstance(module, HypersphericalLinear):
                self.spheres.append(f"{name}.weight")

    def __call__(self, parameters: Mapping[str, Tensor]) -> None:
        """Restore them among the network's parameters by name, in place, without branches on
        values.
        """
        mask_(parameters, self.masks)
        for name in self.spheres:
            unit_rows_(parameters[name])
