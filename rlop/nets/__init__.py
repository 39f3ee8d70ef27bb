"""Networks whose parameters are stacked along a leading run axis."""

from rlop.nets.conv import Conv2d, DrQTorso, MinAtarTorso, NatureTorso, stacked_conv2d
from rlop.nets.critic import Critics, DiscreteCritics
from rlop.nets.encoder import Encoder, ImageOptions, random_shift
from rlop.nets.factorized import FactorizedLinear
from rlop.nets.impala import ImpalaTorso
from rlop.nets.init import reinit_runs
from rlop.nets.layers import Layers, with_layers
from rlop.nets.linear import LayerNorm, Linear, reset_runs, stacked_affine
from rlop.nets.masks import MaskedLinear
from rlop.nets.mlp import ACTIVATIONS, MLP
from rlop.nets.mup import ScaledLinear
from rlop.nets.norms import BatchNorm, HypersphericalLinear, Sphere
from rlop.nets.policy import GaussianPolicy, SharedWidthPolicy
from rlop.nets.qnetwork import QNetwork, make_torso, preprocess
from rlop.nets.stack import LinearStack

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "BatchNorm",
    "Conv2d",
    "Critics",
    "DiscreteCritics",
    "DrQTorso",
    "Encoder",
    "FactorizedLinear",
    "GaussianPolicy",
    "HypersphericalLinear",
    "ImageOptions",
    "ImpalaTorso",
    "LayerNorm",
    "Layers",
    "Linear",
    "LinearStack",
    "MaskedLinear",
    "MinAtarTorso",
    "NatureTorso",
    "QNetwork",
    "ScaledLinear",
    "SharedWidthPolicy",
    "Sphere",
    "make_torso",
    "preprocess",
    "random_shift",
    "reinit_runs",
    "reset_runs",
    "stacked_affine",
    "stacked_conv2d",
    "with_layers",
]
