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


def _same(name: str, a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{name}: shapes differ, {tuple(a.shape)} and {tuple(b.shape)}")


def select(q_values: Tensor, action: Tensor) -> Tensor:
    """Q(s, a) from Q(s, .): `[..., A]` and int64 `[...]` give `[...]`."""
    _same("select", q_values[..., 0], action)
    return q_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def td_target(
    reward: Tensor, next_value: Tensor, terminated: Tensor, discount: Tensor, gamma: Tensor
) -> Tensor:
    """reward + gamma * discount * (1 - terminated) * next_value, detached.

    A time-out has `terminated` 0 and bootstraps; `discount` is gamma^(m-1) for an m-step reward.

    Args:
        reward: `[R, B]`, also `terminated`, `discount`.
        next_value: `[R, B]`, or `[R, B, J]` with J particles of the next value.
        gamma: `[R]`, one discount factor a run.
    Returns:
        Shaped like `next_value`.
    """
    kept = gamma.unsqueeze(-1) * discount * (1 - terminated)
    if next_value.ndim > reward.ndim:
        _same("td_target", reward, next_value[..., 0])
        reward, kept = reward.unsqueeze(-1), kept.unsqueeze(-1)
    else:
        _same("td_target", reward, next_value)
    return (reward + kept * next_value).detach()


def sample_action(policy: Tensor, uniform: Tensor) -> Tensor:
    """Draw an action by inversion: probabilities `[..., A]` and uniforms in [0, 1) `[...]` give int64 `[...]`."""
    _same("sample_action", policy[..., 0], uniform)
    below = policy.cumsum(-1) <= uniform.unsqueeze(-1)
    return below.sum(-1).clamp_max(policy.shape[-1] - 1)


# The action at s' that is backed up: (Q_target(s', .), Q_online(s', .), batch, noise) -> a', `[...]` of `[..., A]`.
# `double` is that of van Hasselt, Guez, Silver, "Deep RL with Double Q-learning", AAAI 2016, arXiv:1509.06461.
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
    """e^2 / 2 for |e| <= delta, delta (|e| - delta / 2) beyond: elementwise, the DQN loss of Mnih et al. 2015."""
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def mse(error: Tensor) -> Tensor:
    """e^2, elementwise: without the 1/2, as `torch.nn.functional.mse_loss` and the CQL code have it."""
    return error * error


LOSSES = {"huber": huber, "mse": mse}


def conservative_gap(q_values: Tensor, q_data: Tensor, temperature: Tensor) -> Tensor:
    """CQL(H): T logsumexp_a(Q(s, a) / T) - Q(s, a_data), over all discrete actions or over weighted candidates.

    At T = 1 it is the cross-entropy of the data action under softmax logits Q(s, .).

    Args:
        q_values: `[R, B, A]`; for candidates drawn from densities p_k, `[R, E, B, K]` values Q(s, a_k) - log p_k
            (see `importance_values`).
        q_data: without the last axis, value of the data action.
        temperature: `[R]`, T > 0.
    Returns:
        Shaped like `q_data`; never negative where the data action is among those summed over.
    Reference: Kumar et al., "Conservative Q-Learning", NeurIPS 2020, arXiv:2006.04779, equation 4, rho uniform.
    """
    _same("conservative_gap", q_values[..., 0], q_data)
    t = per_run(temperature, q_data)
    return t * torch.logsumexp(q_values / t.unsqueeze(-1), dim=-1) - q_data


def importance_values(q_values: Tensor, log_density: Tensor) -> Tensor:
    """Q(s, a_k) - log p_k(a_k | s): what `conservative_gap` sums over when a_k was drawn from p_k.

    The sum over 3N candidates estimates 3N times an integral over actions, and the authors' code does not divide by
    3N: the gap holds a constant T log(3N), harmless but for a Lagrange threshold, which shifts with it.

    Args:
        q_values: `[R, E, B, K]`, of E critics.
        log_density: `[R, B, K]`, detached here.
    Returns:
        `[R, E, B, K]`.
    Reference: Kumar et al., arXiv:2006.04779; the authors' code, `min_q_version` 3 (the formula here is the code's).
    """
    _same("importance_values", q_values[:, 0], log_density)
    return q_values - log_density.detach().unsqueeze(1)


class Lagrange(NamedTuple):
    """How a code trains the weight alpha' of the conservative term towards a given gap."""

    scales_threshold: bool  # alpha' alpha (gap - threshold), or else alpha' (alpha gap - threshold)
    log_initial: float  # log alpha' at the start


LAGRANGES = {
    "official": Lagrange(
        False, 0.0
    ),  # aviralkumar2907/CQL; threshold 5 at alpha 5 is a threshold of 1 for the others
    "corl": Lagrange(True, 1.0),  # young-geng/CQL and CORL: alpha' starts at e
    "d3rlpy": Lagrange(True, 0.0),
}
LAGRANGE_MAX = 1e6  # alpha' is clipped there in all three


def lagrange_penalty(
    gap: Tensor, log_weight: Tensor, alpha: Tensor, threshold: Tensor, form: str
) -> Tensor:
    """Conservative term whose weight alpha' grows while the gap is above a threshold, and falls below it.

        official:      alpha' (alpha gap - threshold),    alpha' = min(exp(log_weight), 1e6)
        corl, d3rlpy:  alpha' alpha (gap - threshold)

    Critics descend it, log_weight ascends it.

    Args:
        gap: `[R, E]`, mean over the batch of `conservative_gap`.
        log_weight: `[R]`.
        alpha: `[R]`.
        threshold: `[R]`, called tau in the paper, `lagrange_thresh`, `alpha_threshold` or target action gap in codes.
        form: a key of `LAGRANGES`.
    Returns:
        `[R, E]`.
    Reference: Kumar et al., arXiv:2006.04779; the formulas are those of the codes named in `LAGRANGES`.
    """
    _same("lagrange_penalty", gap[:, 0], log_weight)
    weight, scale, level = (
        x.unsqueeze(-1) for x in (log_weight.exp().clamp_max(LAGRANGE_MAX), alpha, threshold)
    )
    return (
        weight * scale * (gap - level)
        if LAGRANGES[form].scales_threshold
        else weight * (scale * gap - level)
    )


def pessimistic_max(q_values: Tensor, min_first: bool) -> tuple[Tensor, Tensor]:
    """The largest value among K actions as E critics see it, and the action that has it.

        min_first:  max_k min_e Q_e(s, a_k)  (Geng, CORL, d3rlpy);  else  min_e max_k Q_e(s, a_k)  (the authors)

    Args:
        q_values: `[R, E, B, K]`.
        min_first: the order.
    Returns:
        Value `[R, B]` and index of the action `[R, B]`: in the second form, that of the critic which is lowest.
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
    """target <- target + tau (online - target), in place: tau = 1 copies, tau << 1 is a Polyak step.

    Args:
        target: parameters `[R, ...]`, changed in place.
        online: parameters of the same shapes.
        tau: `[R]`, in (0, 1].
    """
    for old, new in zip(target, online, strict=True):
        old.lerp_(new, per_run(tau, new))


def vs_logits(logits: Tensor, counts: Tensor, gamma: Tensor | float, tau: Tensor | float) -> Tensor:
    """Logits of the vector-scaling loss: each action's scaled and shifted by how rare it is in the data.

        z_a = (N_a / N_max)^gamma logit_a + tau log(N_a / N)

    The shift moves a margin only until the data are fitted, the factor also after that. In the place of Q(s, .) in
    `conservative_gap` they give CQL(H) a margin for rare actions: `gap = conservative_gap(z, select(z, action), T)`.

    Args:
        logits: `[R, B, A]`.
        counts: N_a, how often each action was taken in the data, `[A]`; an action that never was counts as one that was
            taken once, so that it stays among those that are pushed down.
        gamma, tau: numbers >= 0, or one for each run `[R]`. gamma = 0 is logit adjustment, tau = 0 is CDT.
    Returns:
        `[R, B, A]`.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Kini et al., "Label-Imbalanced and Group-Sensitive Classification under Overparameterization",
        NeurIPS 2021, arXiv:2103.01550. Defaults of the authors' code: gamma 0.3, tau 1.
    """
    if logits.ndim < 2 or counts.shape != logits.shape[-1:]:
        raise ValueError(
            f"counts: expected [A] for logits {tuple(logits.shape)}, got {tuple(counts.shape)}"
        )
    n = counts.to(logits.dtype).clamp_min(1)
    g, t = (
        torch.as_tensor(x, dtype=logits.dtype, device=logits.device)[..., None, None]
        for x in (gamma, tau)
    )
    return logits * (n / n.max()) ** g + t * (n / n.sum()).log()


def vs_loss(
    logits: Tensor,
    action: Tensor,
    counts: Tensor,
    gamma: Tensor | float,
    tau: Tensor | float,
    class_weight: Tensor | None = None,
) -> Tensor:
    """Vector-scaling loss: cross-entropy of the data's action under `vs_logits`.

        w_a [ logsumexp_b z_b - z_a ]

    With gamma = tau = 0 and no weights it is the cross-entropy, and so `conservative_gap` at T = 1.

    Args:
        logits: `[R, B, A]`: of a cloned policy, or Q(s, .).
        action: the data's, int64 `[R, B]`.
        counts, gamma, tau: see `vs_logits`.
        class_weight: w, `[A]`; None for 1.
    Returns:
        `[R, B]`.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Kini et al., NeurIPS 2021, arXiv:2103.01550, the loss VS.
    """
    z = vs_logits(logits, counts, gamma, tau)
    loss = torch.logsumexp(z, dim=-1) - select(z, action)
    return loss if class_weight is None else class_weight.to(loss.dtype)[action] * loss
