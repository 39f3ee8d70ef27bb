"""A torso that computes features, and a linear head on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlop.logs.messages import say
from rlop.nets.conv import DrQTorso, MinAtarTorso, NatureTorso
from rlop.nets.impala import ImpalaTorso
from rlop.nets.linear import Linear
from rlop.nets.mlp import ACTIVATIONS, MLP
from rlop.nets.torso import Torso
from rlop.types import InputError, Spec

NETWORKS = ("auto", "mlp", "minatar", "nature", "impala", "drq")
NATURE_MIN_SIDE = 36  # pixels; the three convolutions leave nothing of smaller images
DRQ_MIN_SIDE = 15  # the same of DrQ's four convolutions
# network -> the shape of observations that it reads, for messages
SHAPES = {
    "minatar": "(10, 10, channels)",
    "impala": "(channels, height, width)",
    "nature": f"(channels, >= {NATURE_MIN_SIDE}, >= {NATURE_MIN_SIDE})",
    "drq": f"(channels, >= {DRQ_MIN_SIDE}, >= {DRQ_MIN_SIDE})",
}

# network -> what `auto` says of it
CHOICES = {
    "minatar": "MinAtar's network, minatar,",
    "nature": "DQN's network, nature,",
    "mlp": "an MLP without convolutions (impala and nature have some)",
}


def preprocess(obs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert observations to inputs of networks.

    Bytes are divided by 255, booleans become 0 and 1.

    Args:
        obs: observations of any shape.
        dtype: dtype of the network's parameters.
    """
    if obs.dtype == torch.uint8:
        return obs.to(dtype) / 255
    return obs.to(dtype)


class QNetwork(nn.Module):
    """z(s) = W phi(s) + b for R runs: action values, or the outputs that an agent's head reads.

    Args:
        torso: maps observations `[R, B, ...]` to features `[R, B, D]`.
        n_outputs: number of rows of W, A for action values.
        runs: R.
    """

    def __init__(self, torso: Torso, n_outputs: int, runs: int) -> None:
        super().__init__()
        self.torso = torso
        self.head = Linear((runs,), torso.n_features, n_outputs)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return features `[R, B, D]` and outputs `[R, B, A]`."""
        features = self.features(obs)
        return features, self.head(features)

    def features(self, obs: Tensor) -> Tensor:
        """Return phi(s), the head's input: `[R, B, D]`."""
        return self.torso(preprocess(obs, self.head.weight.dtype))


def make_torso(
    spec: Spec,
    runs: int,
    network: str,
    hidden: Sequence[int],
    activation: str,
    layer_norm: bool = False,
    precision: str = "fp32",
) -> Torso:
    """Make a torso for the observations of a data set.

    Args:
        spec: spec of the data set.
        runs: R.
        network: `mlp`, `minatar`, `nature`, `impala`, `drq`, or `auto`, which decides by the shape
            of the observations.
        hidden: widths of the MLP's layers; the hidden layer of the convolutional networks takes the
            last.
        activation: activation of the MLP, a key of `ACTIVATIONS`.
        layer_norm: normalize before each activation of the MLP.
        precision: precision of the MLP's products between hidden layers.
    Raises:
        InputError: for an unknown name, or a network that cannot read the observations.
    """
    shape = spec.obs_shape
    if network == "auto":
        network = network_for(shape)
        if len(shape) == 3:
            say(f"network = auto: {CHOICES[network]} reads images of shape {shape}")
    check_shape(network, shape)

    if network == "minatar":
        return MinAtarTorso(runs, shape, hidden[-1])
    if network == "impala":
        return ImpalaTorso(runs, shape, hidden[-1])
    if network == "nature":
        return NatureTorso(runs, shape, hidden[-1])
    if network == "drq":
        return DrQTorso(runs, shape, hidden[-1])
    if network != "mlp" or activation not in ACTIVATIONS:
        raise InputError(
            f"network = {network}, activation = {activation}: "
            f"expected {NETWORKS}, {tuple(ACTIVATIONS)}"
        )

    n_inputs = max(1, torch.Size(shape).numel())
    return MLP((runs,), n_inputs, hidden, activation, layer_norm, precision)


def network_for(shape: tuple[int, ...]) -> str:
    """Return the network that `auto` selects for observations of this shape.

    Args:
        shape: shape of one observation.
    """
    if len(shape) == 3 and shape[:2] == (10, 10):
        return "minatar"
    if len(shape) == 3 and shape[1:] == (84, 84):
        return "nature"
    return "mlp"


def has_channels_last(shape: tuple[int, ...]) -> bool:
    """Return whether an image has its 1, 3 or 4 channels on the last axis only."""
    return len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] > 4


def check_shape(network: str, shape: tuple[int, ...], option: str = "network") -> None:
    """Raise InputError unless a network can read observations of this shape.

    Args:
        network: one of `NETWORKS`.
        shape: shape of one observation.
        option: that names the network, for messages.
    """
    is_image = len(shape) == 3
    if network == "minatar":
        fits = is_image and shape[:2] == (10, 10)
    elif network == "nature":
        fits = is_image and min(shape[1:]) >= NATURE_MIN_SIDE
    elif network == "drq":
        fits = is_image and min(shape[1:]) >= DRQ_MIN_SIDE
    elif network == "impala":
        fits = is_image
    else:
        fits = True

    if network in ("nature", "impala", "drq") and has_channels_last(shape):
        raise InputError(
            f"{option} = {network}: observations of shape {shape} have their channels last, "
            f"expected {SHAPES[network]}; transforms: {{transpose: {{}}}} brings them there"
        )
    if not fits:
        raise InputError(
            f"{option} = {network}: expected observations of shape {SHAPES[network]}, found {shape}"
        )
