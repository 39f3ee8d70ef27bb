"""Temporal-difference targets and losses as pure functions of tensors.

Written for the axes `[R, B]` (and `[R, B, A]` for values over actions) but any leading axes do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rlop.runs import per_run
from rlop.types import Batch


def check_same(name: str, a: Tensor, b: Tensor) -> None:
    """Raise ValueError unless two tensors have one shape, also where they would broadcast."""
    if a.shape != b.shape:
        raise ValueError(f"{name}: shapes differ, {tuple(a.shape)} and {tuple(b.shape)}")


def select(q_values: Tensor, action: Tensor) -> Tensor:
    """Select Q(s, a) from Q(s, .): `[..., A]` and int64 `[...]` to `[...]`."""
    check_same("select", q_values[..., 0], action)
    return q_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def td_target(
    reward: Tensor, next_value: Tensor, terminated: Tensor, discount: Tensor, gamma: Tensor
) -> Tensor:
    """Compute the TD target, detached.

        reward + gamma * discount * (1 - terminated) * next_value

    A time-out has `terminated` 0 and bootstraps; `discount` is gamma^(m-1) for an m-step reward.

    Args:
        reward: `[R, B]`, also `terminated`, `discount`.
        next_value: `[R, B]`, or `[R, B, J]` with J particles of the next value.
        gamma: `[R]`, one discount factor a run.
    Returns:
        Shaped like `next_value`.
    """
    next_weight = gamma.unsqueeze(-1) * discount * (1 - terminated)
    if next_value.ndim > reward.ndim:
        check_same("td_target", reward, next_value[..., 0])
        reward = reward.unsqueeze(-1)
        next_weight = next_weight.unsqueeze(-1)
    else:
        check_same("td_target", reward, next_value)
    return (reward + next_weight * next_value).detach()


def sample_action(policy: Tensor, uniform: Tensor) -> Tensor:
    """Draw actions by inversion.

    Args:
        policy: probabilities `[..., A]`.
        uniform: in [0, 1), `[...]`.
    Returns:
        Int64 `[...]`.
    """
    check_same("sample_action", policy[..., 0], uniform)
    below = policy.cumsum(-1) <= uniform.unsqueeze(-1)
    return below.sum(-1).clamp_max(policy.shape[-1] - 1)


# The action at s' that is backed up, `[...]`, from Q_target(s', .) and Q_online(s', .), `[..., A]`.
# `double`: van Hasselt, Guez, Silver, "Deep RL with Double Q-learning", AAAI 2016,
# arXiv:1509.06461.
Backup = Callable[[Any, Any, Batch, dict[str, Tensor]], Tensor]
BACKUPS: dict[str, Backup] = {
    "max": lambda target, online, batch, noise: target.argmax(-1),
    "double": lambda target, online, batch, noise: online.argmax(-1),
    "sarsa": lambda target, online, batch, noise: batch.extra["next_action"],
    "behavior": lambda target, online, batch, noise: sample_action(
        batch.extra["next_policy"], noise["action"]
    ),
}


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Compute e^2 / 2 for |e| <= delta, delta (|e| - delta / 2) beyond: DQN's loss (Mnih 2015)."""
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def mse(error: Tensor) -> Tensor:
    """Compute e^2 without the 1/2, as `torch.nn.functional.mse_loss` and the CQL code do."""
    return error * error


LOSSES = {"huber": huber, "mse": mse}


def conservative_gap(q_values: Tensor, q_data: Tensor, temperature: Tensor) -> Tensor:
    """Compute the conservative term of CQL(H), over all discrete actions or weighted candidates.

        T logsumexp_a(Q(s, a) / T) - Q(s, a_data)

    At T = 1 it is the cross-entropy of the data action under softmax logits Q(s, .).

    Args:
        q_values: `[R, B, A]`; for candidates drawn from densities p_k, `[R, E, B, K]` values Q(s,
            a_k) - log p_k (see `importance_values`).
        q_data: without the last axis, value of the data action.
        temperature: `[R]`, T > 0.
    Returns:
        Shaped like `q_data`; never negative where the data action is among those summed over.
    Reference: Kumar et al., "Conservative Q-Learning", NeurIPS 2020, arXiv:2006.04779, equation 4,
        rho uniform.
    """
    check_same("conservative_gap", q_values[..., 0], q_data)
    t = per_run(temperature, q_data)
    return t * torch.logsumexp(q_values / t.unsqueeze(-1), dim=-1) - q_data


def importance_values(q_values: Tensor, log_density: Tensor) -> Tensor:
    """Compute Q(s, a_k) - log p_k(a_k | s), which `conservative_gap` sums over a_k drawn from p_k.

    The sum over 3N candidates estimates 3N times an integral over actions, and the authors' code
    does not divide by 3N: the gap holds a constant T log(3N), harmless but for a Lagrange
    threshold, which shifts with it.

    Args:
        q_values: `[R, E, B, K]`, of E critics.
        log_density: `[R, B, K]`, detached here.
    Returns:
        `[R, E, B, K]`.
    Reference: Kumar et al., arXiv:2006.04779; the authors' code, `min_q_version` 3 (the formula
        here is the code's).
    """
    check_same("importance_values", q_values[:, 0], log_density)
    return q_values - log_density.detach().unsqueeze(1)


class Lagrange(NamedTuple):
    """How a code trains the weight alpha' of the conservative term toward a given gap."""

    scales_threshold: bool  # alpha' alpha (gap - threshold), or else alpha' (alpha gap - threshold)
    log_initial: float  # log alpha' at the start


LAGRANGES = {
    # aviralkumar2907/CQL; its threshold 5 at alpha 5 is a threshold of 1 for the others
    "official": Lagrange(False, 0.0),
    "corl": Lagrange(True, 1.0),  # young-geng/CQL and CORL: alpha' starts at e
    "d3rlpy": Lagrange(True, 0.0),
}
LAGRANGE_MAX = 1e6  # alpha' is clipped there in all three


def lagrange_penalty(
    gap: Tensor, log_weight: Tensor, alpha: Tensor, threshold: Tensor, form: str
) -> Tensor:
    """Compute the conservative term with a trained weight alpha'.

    The weight grows while the gap is above a threshold, and falls below it.

        official:      alpha' (alpha gap - threshold),    alpha' = min(exp(log_weight), 1e6)
        corl, d3rlpy:  alpha' alpha (gap - threshold)

    Critics descend it, log_weight ascends it.

    Args:
        gap: `[R, E]`, mean over the batch of `conservative_gap`.
        log_weight: `[R]`.
        alpha: `[R]`.
        threshold: `[R]`, called tau in the paper, `lagrange_thresh`, `alpha_threshold` or target
            action gap in codes.
        form: a key of `LAGRANGES`.
    Returns:
        `[R, E]`.
    Reference: Kumar et al., arXiv:2006.04779; the formulas are those of the codes named in
        `LAGRANGES`.
    """
    check_same("lagrange_penalty", gap[:, 0], log_weight)
    weight = log_weight.exp().clamp_max(LAGRANGE_MAX).unsqueeze(-1)
    scale = alpha.unsqueeze(-1)
    level = threshold.unsqueeze(-1)
    if LAGRANGES[form].scales_threshold:
        return weight * scale * (gap - level)
    return weight * (scale * gap - level)


def pessimistic_max(q_values: Tensor, min_first: bool) -> tuple[Tensor, Tensor]:
    """Find the largest value among K actions as E critics see it, and its action.

        min_first:  max_k min_e Q_e(s, a_k)  (Geng, CORL, d3rlpy)
        otherwise:  min_e max_k Q_e(s, a_k)  (the authors)

    Args:
        q_values: `[R, E, B, K]`.
        min_first: the order.
    Returns:
        Value `[R, B]` and index of the action `[R, B]`: in the second form, that of the critic
        which is lowest.
    """
    if q_values.ndim != 4:
        raise ValueError(f"q_values: expected [R, E, B, K], got {tuple(q_values.shape)}")
    if min_first:
        return q_values.amin(1).max(-1)

    best, action = q_values.max(-1)
    value, critic = best.min(1)
    return value, select(action.movedim(1, -1), critic)


@torch.no_grad()
def update_target_(target: Sequence[Tensor], online: Sequence[Tensor], tau: Tensor) -> None:
    """Move target parameters by tau toward the online ones, in place.

    tau = 1 copies, tau << 1 is a Polyak step.

    Args:
        target: parameters `[R, ...]`, changed in place.
        online: parameters of the same shapes.
        tau: `[R]`, in (0, 1].
    """
    for old, new in zip(target, online, strict=True):
        old.lerp_(new, per_run(tau, new))
