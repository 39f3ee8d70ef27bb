"""The action values of a model of Stable-Baselines3, for the heavier probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlop.interop.values import ActionValues, HeavierProbes, transitions
from rlop.types import Batch, InputError, Spec

TRIED_ROWS = 32  # before the first real ones exist: enough for every probe to run


class _MeanOfQuantiles(nn.Module):
    """Action values `[n, A]` of a network of quantiles `[n, K, A]`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, obs: Tensor) -> Tensor:
        """Average the quantiles."""
        return self.network(obs).mean(1)


class _Critic(nn.Module):
    """One of several critics; of a critic with quantiles, their mean."""

    def __init__(self, critics: Any, number: int) -> None:
        super().__init__()
        self.extractor = critics.features_extractor
        self.network = critics.q_networks[number]
        self.space = critics.observation_space
        self.normalizes = critics.normalize_images

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return Q(s, a), `[n]`."""
        from stable_baselines3.common.preprocessing import preprocess_obs

        features = self.extractor(preprocess_obs(obs, self.space, self.normalizes))
        return self.network(torch.cat([features, action], dim=1)).mean(1)


def values_of(model: Any, names: Sequence[str]) -> ActionValues:
    """Return the action values of a model, on which the probes were tried.

    Args:
        model: a model of Stable-Baselines3 or its contrib, before it learns: its parameters count
            as its initialization.
        names: keys of `rlop.probes.heavy.PROBES`.
    Raises:
        InputError: for a model without action values, or observations that are not one array, or
            naming a probe that cannot be taken.
    """
    policy, algorithm = model.policy, type(model).__name__
    space = type(model.observation_space).__name__
    if space != "Box":
        raise InputError(f"probes: expected observations in a Box, {algorithm} has a {space}")
    obs_shape = tuple(model.observation_space.shape)

    if hasattr(policy, "q_net"):
        spec = Spec(obs_shape, n_actions=int(model.action_space.n))
        values = ActionValues(policy.q_net, spec, model.gamma, policy.q_net_target)
    elif hasattr(policy, "quantile_net"):
        spec = Spec(obs_shape, n_actions=int(model.action_space.n))
        online, target = (
            _MeanOfQuantiles(network)
            for network in (policy.quantile_net, policy.quantile_net_target)
        )
        values = ActionValues(online, spec, model.gamma, target)
    elif has_critics(policy):
        spec = Spec(obs_shape, action_shape=tuple(model.action_space.shape))
        values = ActionValues(
            _critics(policy.critic),
            spec,
            model.gamma,
            _critics(policy.critic_target),
            lambda obs: policy._predict(obs, deterministic=True),
        )
    else:
        raise InputError(f"probes: expected action values, {algorithm} has none")

    HeavierProbes(values, _placeholders(values), names)
    return values


def has_critics(policy: object) -> bool:
    """Return whether a policy has critics of continuous actions."""
    return hasattr(getattr(policy, "critic", None), "q_networks")


def _critics(critics: Any) -> list[nn.Module]:
    return [_Critic(critics, number) for number in range(len(critics.q_networks))]


def _placeholders(values: ActionValues) -> Batch:
    """Draw transitions on which a probe shows whether it can be taken."""
    generator = torch.Generator().manual_seed(0)
    spec = values.spec
    obs = torch.rand(TRIED_ROWS, *spec.obs_shape, generator=generator).to(values.device)
    if spec.n_actions is None:
        action = torch.rand(TRIED_ROWS, *spec.action_shape, generator=generator)
    else:
        action = torch.arange(TRIED_ROWS) % spec.n_actions
    reward, terminated = torch.ones(TRIED_ROWS), torch.zeros(TRIED_ROWS)
    fields = (part.to(values.device) for part in (action, reward, obs.flip(0), terminated))
    return transitions(obs, *fields)
