"""Temporal-difference targets and losses as pure functions of tensors.

They are written for the axes `[R, B]` (and `[R, B, A]` for values over actions), but accept any
leading axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from rlop.runs import per_run
from rlop.types import Batch


def _check_same(name: str, a: torch.Size, b: torch.Size) -> None:
    """Raise ValueError when two shapes differ, which would broadcast."""
    if a != b:
        raise ValueError(f"{name}: shapes differ, {tuple(a)} and {tuple(b)}")


# --- targets


def select(q_values: Tensor, action: Tensor) -> Tensor:
    """Select Q(s, a) from Q(s, .): `[..., A]` and int64 `[...]` give `[...]`."""
    _check_same("select", q_values.shape[:-1], action.shape)
    return q_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def td_target(
    reward: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    discount: Tensor,
    gamma: Tensor,
) -> Tensor:
    """Return reward + gamma * discount * (1 - terminated) * next_value, detached.

    A time-out has `terminated` 0 and bootstraps; `discount` is gamma^(m-1) for an m-step reward.

    Args:
        reward: `[R, B]`, also `terminated`, `discount`.
        next_value: `[R, B]`, or `[R, B, J]` with J particles of the next value.
        gamma: `[R]`, one discount factor per run.
    Returns:
        Shaped like `next_value`.
    """
    kept = gamma.unsqueeze(-1) * discount * (1 - terminated)

    has_particles = next_value.ndim > reward.ndim
    if has_particles:
        _check_same("td_target", reward.shape, next_value.shape[:-1])
        reward = reward.unsqueeze(-1)
        kept = kept.unsqueeze(-1)
    else:
        _check_same("td_target", reward.shape, next_value.shape)
    return (reward + kept * next_value).detach()


def sample_action(policy: Tensor, uniform: Tensor) -> Tensor:
    """Draw an action by inversion of the distribution function.

    Args:
        policy: probabilities `[..., A]`.
        uniform: random numbers in [0, 1), `[...]`.
    Returns:
        int64 `[...]`.
    """
    _check_same("sample_action", policy.shape[:-1], uniform.shape)
    below = policy.cumsum(-1) <= uniform.unsqueeze(-1)
    index = below.sum(-1)
    # Probabilities that are rounded may sum to less than the uniform number.
    return index.clamp_max(policy.shape[-1] - 1)


def max_action(
    target: Tensor,
    online: Tensor | None,
    batch: Batch,
    noise: Mapping[str, Tensor],
) -> Tensor:
    """Back up the action with the largest value in the target network."""
    return target.argmax(-1)


def double_action(
    target: Tensor,
    online: Tensor | None,
    batch: Batch,
    noise: Mapping[str, Tensor],
) -> Tensor:
    """Back up the action with the largest value in the online network.

    Reference: van Hasselt, Guez, Silver, "Deep RL with Double Q-learning", AAAI 2016,
        arXiv:1509.06461.
    """
    assert online is not None
    return online.argmax(-1)


def sarsa_action(
    target: Tensor,
    online: Tensor | None,
    batch: Batch,
    noise: Mapping[str, Tensor],
) -> Tensor:
    """Back up the action that the data took next."""
    return batch.extra["next_action"]


def behavior_action(
    target: Tensor,
    online: Tensor | None,
    batch: Batch,
    noise: Mapping[str, Tensor],
) -> Tensor:
    """Back up an action that is drawn from the behavior policy."""
    return sample_action(batch.extra["next_policy"], noise["action"])


# (Q_target(s', .), Q_online(s', .) or None, batch, noise) -> the action at s' that is backed up,
# `[...]` of values `[..., A]`
Backup: TypeAlias = Callable[[Tensor, Tensor | None, Batch, Mapping[str, Tensor]], Tensor]
BACKUPS: dict[str, Backup] = {
    "max": max_action,
    "double": double_action,
    "sarsa": sarsa_action,
    "behavior": behavior_action,
}


def pessimistic_max(q_values: Tensor, min_first: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest value among K actions under E critics, and who has it.

        min_first:  max_k min_e Q_e(s, a_k)      Geng, CORL, d3rlpy
        else:       min_e max_k Q_e(s, a_k)      the authors

    Args:
        q_values: `[R, E, B, K]`.
        min_first: the order.
    Returns:
        Value, index of its action and index of its critic, `[R, B]` each.
    """
    if q_values.ndim != 4:
        raise ValueError(f"q_values: expected [R, E, B, K], got {tuple(q_values.shape)}")
    if min_first:
        lowest, critic = q_values.min(1)
        value, action = lowest.max(-1)
        return value, action, select(critic, action)

    best, action = q_values.max(-1)
    value, critic = best.min(1)
    return value, select(action.movedim(1, -1), critic), critic


@torch.no_grad()
def update_target_(target: Sequence[Tensor], online: Sequence[Tensor], tau: Tensor) -> None:
    """Move target parameters toward the online ones, in place.

        target <- target + tau (online - target)

    tau = 1 copies, tau << 1 is a Polyak step.

    Args:
        target: parameters `[R, ...]`, changed in place.
        online: parameters of the same shapes.
        tau: `[R]`, in (0, 1].
    """
    for old, new in zip(target, online, strict=True):
        old.lerp_(new, per_run(tau, new))


# --- losses


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Return e^2 / 2 for |e| <= delta and delta (|e| - delta / 2) beyond, elementwise.

    Reference: the DQN loss of Mnih et al. 2015.
    """
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def mse(error: Tensor) -> Tensor:
    """Return e^2, elementwise, without 1/2, as `torch.nn.functional.mse_loss` and CQL's code do."""
    return error * error


LOSSES = {"huber": huber, "mse": mse}


def conservative_gap(q_values: Tensor, q_data: Tensor, temperature: Tensor) -> Tensor:
    """Return the term of CQL(H): T logsumexp_a(Q(s, a) / T) - Q(s, a_data).

    The sum is over all discrete actions, or over weighted candidates. At T = 1 it is the
    cross-entropy of the data action under softmax logits Q(s, .).

    Args:
        q_values: `[R, B, A]`; for candidates drawn from densities p_k, `[R, E, B, K]` values
            Q(s, a_k) - log p_k (see `importance_values`).
        q_data: without the last axis, value of the data action.
        temperature: `[R]`, T > 0.
    Returns:
        Shaped like `q_data`; never negative where the data action is in the sum.
    Reference: Kumar et al., "Conservative Q-Learning", NeurIPS 2020, arXiv:2006.04779, equation 4,
        rho uniform.
    """
    _check_same("conservative_gap", q_values.shape[:-1], q_data.shape)
    t = per_run(temperature, q_data)
    scaled = q_values / t.unsqueeze(-1)
    soft_maximum = t * torch.logsumexp(scaled, dim=-1)
    return soft_maximum - q_data


def importance_values(q_values: Tensor, log_density: Tensor) -> Tensor:
    """Return Q(s, a_k) - log p_k(a_k | s), the summands of `conservative_gap` for a_k from p_k.

    The sum over 3N candidates estimates 3N times an integral over actions, and the authors' code
    does not divide by 3N: the gap holds a constant T log(3N), harmless except for a Lagrange
    threshold, which shifts with it.

    Args:
        q_values: `[R, E, B, K]`, of E critics.
        log_density: `[R, B, K]`, detached here.
    Returns:
        `[R, E, B, K]`.
    Reference: Kumar et al., arXiv:2006.04779; the authors' code, `min_q_version` 3 (the formula
        here is the code's).
    """
    _check_same("importance_values", q_values.select(1, 0).shape, log_density.shape)
    return q_values - log_density.detach().unsqueeze(1)


class Lagrange(NamedTuple):
    """How a published code trains the weight alpha' of the conservative term to a given gap."""

    scales_threshold: bool  # alpha' alpha (gap - threshold), or else alpha' (alpha gap - threshold)
    log_initial: float  # log alpha' at the start


LAGRANGES = {
    # aviralkumar2907/CQL; its threshold 5 at alpha 5 is a threshold of 1 for the others
    "official": Lagrange(scales_threshold=False, log_initial=0.0),
    # young-geng/CQL and CORL: alpha' starts at e
    "corl": Lagrange(scales_threshold=True, log_initial=1.0),
    "d3rlpy": Lagrange(scales_threshold=True, log_initial=0.0),
}
LAGRANGE_MAX = 1e6  # alpha' is clipped there in all three


def lagrange_penalty(
    gap: Tensor,
    log_weight: Tensor,
    alpha: Tensor,
    threshold: Tensor,
    form: str,
) -> Tensor:
    """Return the conservative term with a trained weight alpha'.

        official:      alpha' (alpha gap - threshold),    alpha' = min(exp(log_weight), 1e6)
        corl, d3rlpy:  alpha' alpha (gap - threshold)

    The weight grows while the gap is above a threshold, and shrinks below it. Critics minimize the
    term, log_weight maximizes it.

    Args:
        gap: `[R, E]`, mean over the batch of `conservative_gap`.
        log_weight: `[R]`.
        alpha: `[R]`.
        threshold: `[R]`, called tau in the paper, `lagrange_thresh`, `alpha_threshold` or target
            action gap in codes.
        form: a key of `LAGRANGES`.
    Returns:
        `[R, E]`.
    Reference: Kumar et al., arXiv:2006.04779; the formulas come from the codes named in
        `LAGRANGES`.
    """
    _check_same("lagrange_penalty", gap.shape[:1], log_weight.shape)
    weight = log_weight.exp().clamp_max(LAGRANGE_MAX).unsqueeze(-1)
    scale = alpha.unsqueeze(-1)
    level = threshold.unsqueeze(-1)

    if LAGRANGES[form].scales_threshold:
        return weight * scale * (gap - level)
    return weight * (scale * gap - level)


def expectile_loss(error: Tensor, expectile: Tensor) -> Tensor:
    """Return |expectile - 1(error < 0)| error^2, elementwise.

    The value that minimizes its mean over errors `sample - value` is the samples' expectile: their
    mean at 0.5, and their maximum in the limit of 1.

    Args:
        error: `[R, ...]`.
        expectile: `[R]`, in (0, 1).
    Reference: Newey and Powell, Econometrica 55, 1987; Kostrikov, Nair and Levine, "Offline
        Reinforcement Learning with Implicit Q-Learning", ICLR 2022, arXiv:2110.06169, equation 4.
    """
    level = per_run(expectile, error)
    weight = (level - (error < 0).to(error.dtype)).abs()
    return weight * error.square()
