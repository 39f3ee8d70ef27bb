"""Networks whose parameters are stacked along a leading run axis."""

from rlop.nets.conv import Conv2d, MinAtarTorso, NatureTorso, stacked_conv2d
from rlop.nets.critic import Critics
from rlop.nets.init import INITS, reinit_runs
from rlop.nets.linear import LayerNorm, Linear, reset_runs, stacked_affine
from rlop.nets.mlp import ACTIVATIONS, MLP
from rlop.nets.policy import GaussianPolicy
from rlop.nets.qnetwork import QNetwork, make_torso, preprocess

__all__ = [
    "ACTIVATIONS",
    "INITS",
    "MLP",
    "Conv2d",
    "Critics",
    "GaussianPolicy",
    "LayerNorm",
    "Linear",
    "MinAtarTorso",
    "NatureTorso",
    "QNetwork",
    "make_torso",
    "preprocess",
    "reinit_runs",
    "reset_runs",
    "stacked_affine",
    "stacked_conv2d",
]
