"""Q(s, a) for continuous actions: E critics for each of R runs, on one stacked set of parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlop.nets.linear import Linear, stacked_affine
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
        self.plain = True  # layers are `Linear`s, which also run split, or on one critic's parameters, see `candidates`
        self.torso = MLP(lead, obs_size + n_actions, hidden, activation, layer_norm, precision)
        self.head = Linear(lead, self.torso.n_features, 1)

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Observations `[R, B, *obs_shape]`, actions `[R, B, m]` to features `[R, E, B, D]` and values `[R, E, B]`.

        With K actions for each observation, `[R, B, K, m]`, the two have an axis K behind B. With the parameters of one
        network (see `one_by_one`) all of these are without R and E.
        """
        lead = self.head.weight.shape[:-2]
        batch = (*lead[:1], *action.shape[len(lead[:1]) : len(lead[:1]) + 1])
        if action.ndim - len(batch) not in (1, 2) or obs.shape[: len(batch)] != batch:
            expected = "[R, B, m] or [R, B, K, m]"
            raise ValueError(
                f"action {tuple(action.shape)}: expected {expected}, observations are {tuple(obs.shape)}"
            )
        obs, action = (
            x.to(self.head.weight.dtype) for x in (preprocess(obs).flatten(len(batch)), action)
        )
        if lead:
            obs, action = (x.unsqueeze(1).expand(*lead, *x.shape[1:]) for x in (obs, action))
        features = (
            self.pairs(obs, action) if action.ndim == obs.ndim else self.candidates(obs, action)
        )
        return features, self.head(features.flatten(len(lead), -2)).view(*features.shape[:-1])

    def pairs(self, obs: Tensor, action: Tensor) -> Tensor:
        """Features `[*lead, B, D]` of one action `[*lead, B, m]` at each observation `[*lead, B, S]`."""
        return self.torso(torch.cat([obs, action], dim=-1))

    def candidates(self, obs: Tensor, action: Tensor) -> Tensor:
        """Features `[*lead, B, K, D]` of K actions `[*lead, B, K, m]` at each observation `[*lead, B, S]`."""
        count = action.shape[-2]
        if not self.plain:
            obs = obs.unsqueeze(-2).expand(*action.shape[:-1], obs.shape[-1])
            return self.pairs(obs.flatten(-3, -2), action.flatten(-3, -2)).unflatten(
                -2, (-1, count)
            )
        size = obs.shape[-1]
        first: Linear = self.torso.layers[0]  # type: ignore[assignment]
        at_obs = stacked_affine(
            obs, first.weight[..., :size], first.bias
        )  # once an observation, not once an action
        at_action = action.flatten(-3, -2) @ first.weight[..., size:].mT
        both = at_action.unflatten(-2, (-1, count)).add_(at_obs.unsqueeze(-2))
        return self.torso.above(both.flatten(-3, -2)).unflatten(-2, (-1, count))

    def values(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Several actions at each observation: `[R, B, *obs_shape]` and `[R, B, K, m]` to `[R, E, B, K]`."""
        states, count = actions.shape[1:3]
        if not (self.plain and in_pieces(self.head.weight, states * count)):
            return self(obs, actions)[1]
        size = max(1, ROWS // count)
        found = []
        for critic, run in zip(
            one_by_one(self), (run for run in range(self.lead[0]) for _ in range(self.lead[1]))
        ):
            pieces = zip(obs[run].split(size), actions[run].split(size))
            found.append(torch.cat([functional_call(self, critic, piece)[1] for piece in pieces]))
        return torch.stack(found).unflatten(0, self.lead)
