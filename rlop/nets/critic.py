"""Q(s, a) of E critics for each of R runs, in stacked parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlop.losses.td import select
from rlop.nets.linear import Linear, stacked_affine
from rlop.nets.mlp import MLP
from rlop.nets.pieces import ROWS, in_pieces, one_by_one
from rlop.nets.qnetwork import preprocess
from rlop.types import KEPT


def only_output(outputs: Tensor) -> Tensor:
    """Return the values of critics with one output: `[..., 1]` to `[...]`."""
    return outputs.squeeze(-1)


class Critics(nn.Module):
    """Q_e(s, a) = w_e^T phi_e(s, a) + b_e of continuous actions, for E critics of R runs.

    The torso reads observation and action together. With K outputs z = W_e phi_e + b_e, which
    describe the distribution of a return, Q_e(s, a) is its mean.

    Args:
        obs_size: numbers in one flattened observation.
        n_actions: m, dimensions of an action.
        lead: `(R, E)`.
        hidden: widths of the hidden layers.
        activation: a key of `ACTIVATIONS`.
        layer_norm: normalize before each activation.
        precision: precision of the products between hidden layers, see `MLP`.
        n_outputs: K, rows of the head.
        mean: outputs `[..., K]` -> values `[...]`.
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
        n_outputs: int = 1,
        mean: Callable[[Tensor], Tensor] = only_output,
    ) -> None:
        super().__init__()
        self.lead = lead
        self.mean = mean
        self.torso = MLP(lead, obs_size + n_actions, hidden, activation, layer_norm, precision)
        self.head = Linear(lead, self.torso.n_features, n_outputs)

        # Only plain `Linear` layers can be split (see `candidates`), or run on one critic's
        # parameters (see `values`).
        self.plain = True

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Map observations `[R, B, *obs_shape]` and actions `[R, B, m]` to features and values.

        See `outputs`.

        Returns:
            Features `[R, E, B, D]` and values `[R, E, B]`.
        """
        features, outputs = self.outputs(obs, action)
        return features, self.mean(outputs)

    def outputs(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Map observations `[R, B, *obs_shape]` and actions `[R, B, m]` to features and outputs.

        With several actions for each observation, `[R, B, N, m]`, features and outputs have an
        axis N after B. With the parameters of one network (see `one_by_one`), R and E are absent
        everywhere.

        Returns:
            Features `[R, E, B, D]` and outputs `[R, E, B, K]`.
        Raises:
            ValueError: for shapes that do not fit.
        """
        lead = self.head.weight.shape[:-2]
        runs = lead[:1]
        batch = (*runs, *action.shape[len(runs) : len(runs) + 1])
        has_action_axes = action.ndim - len(batch) in (1, 2)
        if not has_action_axes or obs.shape[: len(batch)] != batch:
            raise ValueError(
                f"action {tuple(action.shape)}: expected [R, B, m] or [R, B, N, m], "
                f"observations are {tuple(obs.shape)}"
            )

        dtype = self.head.weight.dtype
        obs = preprocess(obs, dtype).flatten(len(batch))
        action = action.to(dtype)
        if lead:
            obs = obs.unsqueeze(1).expand(*lead, *obs.shape[1:])
            action = action.unsqueeze(1).expand(*lead, *action.shape[1:])

        one_action = action.ndim == obs.ndim
        features = self.pairs(obs, action) if one_action else self.candidates(obs, action)
        outputs = self.head(features.flatten(len(lead), -2))
        return features, outputs.view(*features.shape[:-1], outputs.shape[-1])

    def pairs(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return features `[*lead, B, D]` of one action `[*lead, B, m]` at each `[*lead, B, S]`."""
        return self.torso(torch.cat([obs, action], dim=-1))

    def candidates(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return features `[*lead, B, N, D]` of N actions at each observation.

        Args:
            obs: `[*lead, B, S]`.
            action: `[*lead, B, N, m]`.
        """
        count = action.shape[-2]
        if not self.plain:
            obs = obs.unsqueeze(-2).expand(*action.shape[:-1], obs.shape[-1])
            features = self.pairs(obs.flatten(-3, -2), action.flatten(-3, -2))
            return features.unflatten(-2, (-1, count))

        # The first layer's product is a sum: the observation's part is shared by all of its N
        # actions.
        first = self.torso.layers[0]
        assert isinstance(first, Linear)  # guaranteed by `plain`
        size = obs.shape[-1]
        at_obs = stacked_affine(obs, first.weight[..., :size], first.bias)
        at_action = action.flatten(-3, -2) @ first.weight[..., size:].mT

        both = at_action.unflatten(-2, (-1, count)).add_(at_obs.unsqueeze(-2))
        features = self.torso.above(both.flatten(-3, -2))
        return features.unflatten(-2, (-1, count))

    def with_slopes(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map as `outputs` does, and return dQ_e/da as well, which can be differentiated again.

        Args:
            obs: `[R, B, *obs_shape]`.
            action: `[R, B, m]`.
        Returns:
            Features `[R, E, B, D]`, outputs `[R, E, B, K]` and slopes `[R, E, B, m]`.
        """
        dtype = self.head.weight.dtype
        obs = preprocess(obs, dtype).flatten(2).unsqueeze(1).expand(*self.lead, -1, -1)
        own = action.to(dtype).unsqueeze(1).expand(*self.lead, -1, -1)
        with torch.enable_grad():
            own = own.detach().requires_grad_()  # each critic's, so that slopes do not add up
            features = self.pairs(obs, own)
            outputs = self.head(features)
            values = self.mean(outputs)
            (slopes,) = torch.autograd.grad(values.sum(), own, create_graph=True)
        return features, outputs, slopes

    def values(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Evaluate several actions at each observation.

        Args:
            obs: `[R, B, *obs_shape]`.
            actions: `[R, B, N, m]`.
        Returns:
            `[R, E, B, N]`.
        """
        states, count = actions.shape[1:3]
        if not (self.plain and in_pieces(self.head.weight, states * count)):
            return self(obs, actions)[1]

        n_runs, n_critics = self.lead
        networks = iter(one_by_one(self))
        size = max(1, ROWS // count)
        values = []
        for run in range(n_runs):
            pieces = list(zip(obs[run].split(size), actions[run].split(size)))
            for _ in range(n_critics):
                network = next(networks)
                parts = [functional_call(self, network, piece)[1] for piece in pieces]
                values.append(torch.cat(parts))
        return torch.stack(values).unflatten(0, self.lead)


def first_value(critics: Critics, obs: Tensor, action: Tensor) -> Tensor:
    """Return the first critic's values alone: `[R, B, *obs_shape]`, `[R, B, m]` to `[R, B]`."""
    if not critics.plain:  # other layers may keep more than their parameters
        return critics(obs, action)[1][:, 0]
    first = {}
    for name, parameter in critics.named_parameters():
        if not name.startswith(KEPT):
            first[name] = parameter[:, :1]
    return functional_call(critics, first, (obs, action))[1].squeeze(1)


class DiscreteCritics(nn.Module):
    """Q_e(s, a) of A discrete actions, for E critics of R runs: one row of the head for each.

    Args:
        obs_size: numbers in one flattened observation.
        n_actions: A.
        lead: `(R, E)`.
        hidden: widths of the hidden layers.
        activation: a key of `ACTIVATIONS`.
        layer_norm: normalize before each activation.
        precision: precision of the products between hidden layers, see `MLP`.
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
        self.torso = MLP(lead, obs_size, hidden, activation, layer_norm, precision)
        self.head = Linear(lead, self.torso.n_features, n_actions)

    def forward(self, obs: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map observations `[R, B, *obs_shape]` to features and values.

        Args:
            obs: observations.
            action: int64 `[R, B]`; None for the values of all actions.
        Returns:
            Features `[R, E, B, D]`, and values `[R, E, B]`, or `[R, E, B, A]` of all actions.
        """
        obs = preprocess(obs, self.head.weight.dtype).flatten(2).unsqueeze(1)
        features = self.torso(obs.expand(*self.lead, *obs.shape[2:]))
        values = self.head(features)
        if action is None:
            return features, values
        return features, select(values, action.unsqueeze(1).expand(*self.lead, -1))

    def outputs(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and the only output of `Critics.outputs`, `[R, E, B, 1]`."""
        features, values = self(obs, action)
        return features, values.unsqueeze(-1)
