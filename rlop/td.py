"""Temporal-difference targets and losses as pure functions of tensors.

Written for the axes `[R, B]` (and `[R, B, A]` for values over actions) but any leading axes do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlop.types import Batch


def _same(name: str, a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{name}: shapes differ, {tuple(a.shape)} and {tuple(b.shape)}")


def select(q_values: Tensor, action: Tensor) -> Tensor:
    """Q(s, a) from Q(s, .): `[..., A]` and int64 `[...]` give `[...]`."""
    _same("select", q_values[..., 0], action)
    return q_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def td_target(reward: Tensor, next_value: Tensor, terminated: Tensor, discount: Tensor, gamma: Tensor) -> Tensor:
    """reward + gamma * discount * (1 - terminated) * next_value, detached.

    A time-out has `terminated` 0 and bootstraps; `discount` is gamma^(m-1) for an m-step reward.

    Args:
        reward: `[R, B]`, also `next_value`, `terminated`, `discount`.
        gamma: `[R]`, one discount factor a run.
    Returns:
        `[R, B]`.
    """
    _same("td_target", reward, next_value)
    return (reward + gamma.unsqueeze(-1) * discount * (1 - terminated) * next_value).detach()


def double_value(next_q_target: Tensor, next_q_online: Tensor) -> Tensor:
    """Q_target(s', argmax_a Q_online(s', a)): `[..., A]` twice gives `[...]`.

    Reference: van Hasselt, Guez, Silver, "Deep RL with Double Q-learning", AAAI 2016, arXiv:1509.06461.
    """
    _same("double_value", next_q_target, next_q_online)
    return select(next_q_target, next_q_online.argmax(-1))


def sample_action(policy: Tensor, uniform: Tensor) -> Tensor:
    """Draw an action by inversion: probabilities `[..., A]` and uniforms in [0, 1) `[...]` give int64 `[...]`."""
    _same("sample_action", policy[..., 0], uniform)
    below = policy.cumsum(-1) <= uniform.unsqueeze(-1)
    return below.sum(-1).clamp_max(policy.shape[-1] - 1)


# Value of the next state in the target: (Q_target(s', .), Q_online(s', .), batch, noise) -> V(s') [R, B]
Backup = Callable[[Any, Any, Batch, dict[str, Tensor]], Tensor]
BACKUPS: dict[str, Backup] = {
    "max": lambda target, online, batch, noise: target.amax(-1),
    "double": lambda target, online, batch, noise: double_value(target, online),
    "sarsa": lambda target, online, batch, noise: select(target, batch.extra["next_action"]),
    "behaviour": lambda target, online, batch, noise: select(
        target, sample_action(batch.extra["next_policy"], noise["action"])
    ),
}


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """e^2 / 2 for |e| <= delta, delta (|e| - delta / 2) beyond: elementwise, the DQN loss of Mnih et al. 2015."""
    size = error.abs()
    return torch.where(size <= delta, 0.5 * error * error, delta * (size - 0.5 * delta))


def mse(error: Tensor) -> Tensor:
    """e^2, elementwise: without the 1/2, as `torch.nn.functional.mse_loss` and the CQL code have it."""
    return error * error


LOSSES = {"huber": huber, "mse": mse}


def conservative_gap(q_values: Tensor, q_data: Tensor, temperature: Tensor) -> Tensor:
    """CQL(H) for discrete actions: T logsumexp_a(Q(s, a) / T) - Q(s, a_data).

    At T = 1 it is the cross-entropy of the data action under softmax logits Q(s, .).

    Args:
        q_values: `[R, B, A]`.
        q_data: `[R, B]`, value of the data action.
        temperature: `[R]`, T > 0.
    Returns:
        `[R, B]`, never negative.
    Reference: Kumar et al., "Conservative Q-Learning", NeurIPS 2020, arXiv:2006.04779, equation 4, rho uniform.
    """
    _same("conservative_gap", q_values[..., 0], q_data)
    t = temperature.view(-1, *[1] * (q_data.ndim - 1))
    return t * torch.logsumexp(q_values / t.unsqueeze(-1), dim=-1) - q_data


@torch.no_grad()
def update_target_(target: Sequence[Tensor], online: Sequence[Tensor], tau: Tensor) -> None:
    """target <- target + tau (online - target), in place: tau = 1 copies, tau << 1 is a Polyak step.

    Args:
        target: parameters `[R, ...]`, changed in place.
        online: parameters of the same shapes.
        tau: `[R]`, in (0, 1].
    """
    for old, new in zip(target, online, strict=True):
        old.lerp_(new, tau.view(-1, *[1] * (new.ndim - 1)))
