"""The parts of a network with their types, which an `nn.Module` hides from type checkers."""

from __future__ import annotations

from typing import cast

from torch import nn

from rlop.nets.linear import Linear


def torso_of(network: nn.Module) -> nn.Module:
    """Return what computes the features of a network."""
    return cast(nn.Module, network.torso)


def head_of(network: nn.Module) -> Linear:
    """Return the affine layer on the features of a network."""
    return cast(Linear, network.head)


def width_of(torso: nn.Module) -> int:
    """Return D, the number of features of a torso."""
    return cast(int, torso.n_features)


def activation_of(torso: nn.Module) -> str:
    """Return the name of the last activation of a torso."""
    return cast(str, torso.activation)
