"""Networks whose parameters are stacked along a leading run axis."""

from rlop.nets.conv import Conv2d, MinAtarTorso, stacked_conv2d
from rlop.nets.linear import LayerNorm, Linear, reset_runs, stacked_affine
from rlop.nets.mlp import ACTIVATIONS, MLP
from rlop.nets.qnetwork import QNetwork, make_torso, preprocess

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Conv2d",
    "LayerNorm",
    "Linear",
    "MinAtarTorso",
    "QNetwork",
    "make_torso",
    "preprocess",
    "reset_runs",
    "stacked_affine",
    "stacked_conv2d",
]
