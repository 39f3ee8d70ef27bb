"""What the networks of this package have in common: a torso, and a linear head on its features."""

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
