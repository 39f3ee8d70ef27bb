"""The option group `layers`: the kind of hidden layers in an agent's network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import Literal, TypeVar

from torch import Tensor, nn

from rlop.config.schema import Count, Index, Positive, Share, option, options
from rlop.nets.critic import Critics
from rlop.nets.factorized import FactorizedLinear
from rlop.nets.linear import LayerNorm, Linear
from rlop.nets.masks import MaskedLinear, layer_densities, mask_
from rlop.nets.mup import ScaledLinear
from rlop.nets.norms import BatchNorm, HypersphericalLinear, Sphere, unit_rows_
from rlop.nets.stack import LinearStack
from rlop.nets.torso import Torso
from rlop.types import InputError

Network = TypeVar("Network", bound=nn.Module)

NORMS: dict[str, Callable[[Sequence[int], int], nn.Module]] = {
    "layer": LayerNorm,
    "batch": BatchNorm,
    "batch_renorm": partial(BatchNorm, renorm=True),
}

INPUT_SHIFT = 3.0  # of the first hyperspherical layer, as in SimbaV2

# Each option replaces the hidden layers, so that only one may be on. Option -> its value when off.
KINDS: Mapping[str, object] = {
    "factorized": None,
    "density": 1.0,
    "hyperspherical": False,
    "parametrization": "standard",
}
# Options that do nothing unless another is on. Option -> the other, and its value when off.
DETAILS: Mapping[str, tuple[str, object]] = {
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
        """Reject an option that does nothing because the option it belongs to is off."""
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


class Extended(Torso):
    """A torso followed by more layers; their output is the features.

    Args:
        body: the torso.
        after: applied to its features, in this order.
        activation: name of the last activation.
    """

    def __init__(self, body: Torso, after: Sequence[nn.Module], activation: str) -> None:
        super().__init__()
        self.body = body
        self.after = nn.Sequential(*after)
        self.n_features = body.n_features
        self.activation = activation

    def forward(self, obs: Tensor) -> Tensor:
        """Map `[*lead, B, ...]` to features `[*lead, B, D]`."""
        return self.after(self.body(obs))


def with_layers(network: Network, layers: Layers) -> Network:
    """Rebuild the affine layers of a network before its parameters are drawn (`reset_runs`).

    Every `Linear` of the torso, the whole of an MLP or the part after the convolutions, becomes the
    configured layer, followed by its normalization; what comes after the last activation is
    appended to the torso.

    Args:
        network: with a `torso` and a `Linear` `head`, parameters `[R, ...]` or `[R, E, ...]`;
            changed in place.
        layers: the options.
    Returns:
        The network.
    Raises:
        InputError: when an option does not fit this network.
    """
    if layers == Layers():
        return network

    torso = network.get_submodule("torso")
    head = network.get_submodule("head")
    assert isinstance(torso, Torso)
    assert isinstance(head, Linear)
    *lead, n_outputs, _ = head.weight.shape

    if isinstance(network, Critics):
        network.plain = False
    _replace_hidden(torso, lead, layers)
    if layers.parametrization != "standard" or layers.zero_head:
        network.head = ScaledLinear(
            lead,
            torso.n_features,
            n_outputs,
            layers.parametrization,
            "output",
            layers.base_width,
            layers.zero_head,
        )

    after: list[nn.Module] = []
    if layers.linear_stack:
        after.append(LinearStack(lead, torso.n_features, layers.linear_stack, layers.stack_init))
    if layers.feature_norm is not None:
        after.append(Sphere(layers.feature_norm))
    if after:
        activation = "identity" if layers.linear_stack else torso.activation
        network.torso = Extended(torso, after, activation)
    return network


def _replace_hidden(torso: nn.Module, lead: Sequence[int], layers: Layers) -> None:
    """Replace every `Linear` of a torso by the configured layer, with its norm."""
    normalizes_already = any(isinstance(module, LayerNorm) for module in torso.modules())
    if layers.norm != "none" and normalizes_already:
        raise InputError(
            f"layers.norm = {layers.norm}: the layers are normalized already, "
            "expected layer_norm = false"
        )

    places: list[tuple[nn.Module, str]] = []
    shapes: list[tuple[int, int]] = []
    for owner in torso.modules():
        for name, module in owner.named_children():
            if type(module) is Linear:
                n_out, n_in = module.weight.shape[-2:]
                places.append((owner, name))
                shapes.append((n_out, n_in))

    made = hidden_layers(lead, shapes, layers)
    norm = NORMS.get(layers.norm)
    for (owner, name), (n_out, _), layer in zip(places, shapes, made, strict=True):
        if layers.norm.startswith("batch"):
            _fix_bias(layer)
        if norm is not None:
            layer = nn.Sequential(layer, norm(lead, n_out))
        owner.register_module(name, layer)


def _fix_bias(layer: nn.Module) -> None:
    """Exclude the bias of a layer, which batch normalization subtracts, from training.

    Its gradient would be rounding noise, which Adam turns into steps of full length.
    """
    bias = layer.get_parameter("bias").data
    del layer.bias
    layer.register_buffer("bias", bias)


def hidden_layers(
    lead: Sequence[int],
    shapes: Sequence[tuple[int, int]],
    layers: Layers,
) -> list[nn.Module]:
    """Make the hidden layers of a network.

    Args:
        lead: leading axes of the parameters, `(R,)` or `(R, E)`.
        shapes: (O, I) of each layer, first to last.
        layers: the options.
    Raises:
        InputError: when no layer is large enough to be factorized at this rank.
    """
    if layers.factorized is not None:
        return _factorized(lead, shapes, layers.factorized, layers.factorized_init)

    made: list[nn.Module] = []
    if layers.density < 1:
        densities = layer_densities(shapes, layers.density, layers.mask)
        for (n_out, n_in), share in zip(shapes, densities, strict=True):
            made.append(MaskedLinear(lead, n_in, n_out, share))
    elif layers.hyperspherical:
        for position, (n_out, n_in) in enumerate(shapes):
            shift = INPUT_SHIFT if position == 0 else None
            made.append(HypersphericalLinear(lead, n_in, n_out, shift))
    elif layers.parametrization != "standard":
        for position, (n_out, n_in) in enumerate(shapes):
            role = "input" if position == 0 else "hidden"
            made.append(
                ScaledLinear(lead, n_in, n_out, layers.parametrization, role, layers.base_width)
            )
    else:
        made = [Linear(lead, n_in, n_out) for n_out, n_in in shapes]
    return made


def _factorized(
    lead: Sequence[int],
    shapes: Sequence[tuple[int, int]],
    rank: int,
    init: str,
) -> list[nn.Module]:
    """Make factorized layers; those that are not larger than the rank stay dense."""
    if all(rank >= min(shape) for shape in shapes):
        raise InputError(
            f"layers.factorized = {rank}: no hidden layer is larger, of {list(shapes)}"
        )

    made: list[nn.Module] = []
    for n_out, n_in in shapes:
        if rank >= min(n_out, n_in):
            made.append(Linear(lead, n_in, n_out))
        else:
            made.append(FactorizedLinear(lead, n_in, n_out, rank, init))
    return made


class Constraints:
    """Constraints that a network's layers impose after every optimizer step: masks and unit rows.

    Args:
        network: with layers that carry a buffer `mask`, or that are `HypersphericalLinear`.
    """

    def __init__(self, network: nn.Module) -> None:
        self.masks: dict[str, Tensor] = {}
        for name, buffer in network.named_buffers():
            if name == "mask" or name.endswith(".mask"):
                layer = name.removesuffix("mask")
                self.masks[f"{layer}weight"] = buffer

        self.spheres: list[str] = []
        for name, module in network.named_modules():
            if isinstance(module, HypersphericalLinear):
                self.spheres.append(f"{name}.weight")

    def __call__(self, parameters: Mapping[str, Tensor]) -> None:
        """Restore masks and unit rows, in place, without branches on values.

        Args:
            parameters: parameters of the network, by name.
        """
        mask_(parameters, self.masks)
        for name in self.spheres:
            unit_rows_(parameters[name])
