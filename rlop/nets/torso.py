"""Common structure of the networks: a torso that computes features, and a linear head on them."""

from __future__ import annotations

from torch import nn


class Torso(nn.Module):
    """Base of the networks that compute features.

    Attributes:
        n_features: D.
        activation: name of the activation that makes the features, a key of `ACTIVATIONS`.
    """

    n_features: int
    activation: str
