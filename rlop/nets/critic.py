"""Q(s, a) for continuous actions: E critics for each of R runs, on one stacked set of parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlop.nets.linear import Linear
from rlop.nets.mlp import MLP
from rlop.nets.qnetwork import preprocess


class Critics(nn.Module):
    """Q_e(s, a) = w_e^T phi_e(s, a) + b_e, for E critics of R runs; observation and action enter together.

    Args:
        obs_size: numbers in one flattened observation.
        n_actions: m, dimensions of an action.
        lead: `(R, E)`.
        hidden: widths of the hidden layers.
        activation: a key of `ACTIVATIONS`.
        layer_norm: normalise before each activation.
    """

    def __init__(
        self,
        obs_size: int,
        n_actions: int,
        lead: tuple[int, int],
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.lead = lead
        self.torso = MLP(lead, obs_size + n_actions, hidden, activation, layer_norm)
        self.head = Linear(lead, self.torso.n_features, 1)

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Observations `[R, B, *obs_shape]`, actions `[R, B, m]` to features `[R, E, B, D]` and values `[R, E, B]`."""
        if obs.shape[:2] != action.shape[:2] or action.ndim != 3:
            raise ValueError(f"action {tuple(action.shape)}: expected [R, B, m], observations are {tuple(obs.shape)}")
        pair = torch.cat([preprocess(obs).flatten(2), action], dim=-1).to(self.head.weight.dtype)
        features = self.torso(pair.unsqueeze(1).expand(*self.lead, *pair.shape[1:]))
        return features, self.head(features).squeeze(-1)

    def values(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Several actions at each observation: `[R, B, *obs_shape]` and `[R, B, K, m]` to `[R, E, B, K]`."""
        runs, batch, count, _ = actions.shape
        repeated = obs.flatten(2).unsqueeze(2).expand(runs, batch, count, -1)
        return self(repeated.flatten(1, 2), actions.flatten(1, 2))[1].unflatten(2, (batch, count))
