"""A torso that gives features, and a linear head on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlop.nets.conv import MinAtarTorso, NatureTorso
from rlop.nets.impala import ImpalaTorso
from rlop.nets.linear import Linear
from rlop.nets.mlp import ACTIVATIONS, MLP
from rlop.types import InputError, Spec

NETWORKS = ("auto", "mlp", "minatar", "nature", "impala")


def preprocess(obs: Tensor) -> Tensor:
    """Observations as the network reads them: bytes are divided by 255, booleans become 0 and 1."""
    return obs.float() / 255 if obs.dtype == torch.uint8 else obs.float()


class QNetwork(nn.Module):
    """z(s) = W phi(s) + b for R runs side by side: action values, or what an agent's head makes them of.

    Args:
        torso: maps observations `[R, B, ...]` to features `[R, B, D]`.
        n_outputs: number of rows of W, A for action values.
        runs: R.
    """

    def __init__(self, torso: nn.Module, n_outputs: int, runs: int) -> None:
        super().__init__()
        self.torso = torso
        self.head = Linear((runs,), torso.n_features, n_outputs)  # type: ignore[arg-type]

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Features `[R, B, D]` and outputs `[R, B, A]`."""
        features = self.features(obs)
        return features, self.head(features)

    def features(self, obs: Tensor) -> Tensor:
        """phi(s), the head's input: `[R, B, D]`."""
        return self.torso(preprocess(obs))


def make_torso(
    spec: Spec,
    runs: int,
    network: str,
    hidden: Sequence[int],
    activation: str,
    layer_norm: bool,
    precision: str = "fp32",
) -> nn.Module:
    """The torso for a data set: `mlp`, `minatar`, `nature`, `impala`, or by the shape of the observations (`auto`).

    Raises:
        InputError: for an unknown name, or a network that cannot read the observations.
    """
    shape = spec.obs_shape
    is_minatar, is_frames = (
        len(shape) == 3 and shape[:2] == (10, 10),
        len(shape) == 3 and shape[1:] == (84, 84),
    )
    if network == "auto":
        network = "minatar" if is_minatar else "nature" if is_frames else "mlp"
    if network == "minatar":
        if not is_minatar:
            raise InputError(
                f"network = minatar: expected observations of shape (10, 10, channels), found {shape}"
            )
        return MinAtarTorso(runs, shape, hidden[-1])
    if network == "impala":
        if len(shape) != 3:
            raise InputError(
                f"network = impala: expected observations of shape (channels, height, width), found {shape}"
            )
        return ImpalaTorso(runs, shape, hidden[-1])
    if network == "nature":
        if len(shape) != 3 or min(shape[1:]) < 36:
            raise InputError(
                f"network = nature: expected observations of shape (channels, >= 36, >= 36), found {shape}"
            )
        return NatureTorso(runs, shape, hidden[-1])
    if network != "mlp" or activation not in ACTIVATIONS:
        raise InputError(
            f"network = {network}, activation = {activation}: expected {NETWORKS}, {tuple(ACTIVATIONS)}"
        )
    return MLP(
        (runs,), max(1, torch.Size(shape).numel()), hidden, activation, layer_norm, precision
    )
