"""Q(s, a) for continuous actions: E critics for each of R runs, on one stacked set of parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlop.nets.linear import Linear
from rlop.nets.mlp import MLP
from rlop.nets.pieces import ROWS, in_pieces, one_by_one
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
        precision: of the products between hidden layers, see `MLP`.
    """

    def __init__(
        self,
        obs_size: int,
        n_actions: int,
        lead: tuple[int, int],
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        layer_norm: bool = False,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        self.lead = lead
        self.divisible = True  # whether layers also run on the parameters of one critic, see `values`
        self.torso = MLP(lead, obs_size + n_actions, hidden, activation, layer_norm, precision)
        self.head = Linear(lead, self.torso.n_features, 1)

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Observations `[R, B, *obs_shape]`, actions `[R, B, m]` to features `[R, E, B, D]` and values `[R, E, B]`.

        With the parameters of one network (see `one_by_one`) all of these are without R and E.
        """
        lead = self.head.weight.shape[:-2]
        batch = (*lead[:1], action.shape[-2])
        if action.ndim != len(batch) + 1 or obs.shape[: len(batch)] != batch:
            raise ValueError(f"action {tuple(action.shape)}: expected [R, B, m], observations are {tuple(obs.shape)}")
        pair = torch.cat([preprocess(obs).flatten(len(batch)), action], dim=-1).to(self.head.weight.dtype)
        features = self.torso(pair.unsqueeze(1).expand(*lead, *pair.shape[1:]) if lead else pair)
        return features, self.head(features).squeeze(-1)

    def values(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Several actions at each observation: `[R, B, *obs_shape]` and `[R, B, K, m]` to `[R, E, B, K]`."""
        states, count = actions.shape[1:3]
        if not (self.divisible and in_pieces(self.head.weight, states * count)):
            return self(*each_action(obs, actions))[1].unflatten(-1, (states, count))
        size = max(1, ROWS // count)
        found = []
        for critic, run in zip(one_by_one(self), (run for run in range(self.lead[0]) for _ in range(self.lead[1]))):
            pieces = zip(obs[run].split(size), actions[run].split(size))
            q = [functional_call(self, critic, each_action(*piece))[1] for piece in pieces]
            found.append(torch.cat(q).unflatten(0, (states, count)))
        return torch.stack(found).unflatten(0, self.lead)


def each_action(obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """One row for each action: `[*, B, *obs_shape]` and `[*, B, K, m]` to `[*, B K, *obs_shape]` and `[*, B K, m]`."""
    states = actions.ndim - 3
    return obs.repeat_interleave(actions.shape[-2], states), actions.flatten(states, states + 1)
