"""A loss for actions that are unequally frequent in the data: the vector-scaling loss."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rlop.config.schema import NonNegative, Sweep, option, options
from rlop.losses.td import select
from rlop.runs import SweptOptions


@options
class LogitAdjustment(SweptOptions):
    """The vector-scaling loss in place of the cross-entropy of the data's actions.

    See `vs_logits`.
    """

    swept: ClassVar[tuple[str, ...]] = ("gamma", "tau")
    gamma: Sweep[NonNegative] = option(0.3, "multiplies logits by (N_a / N_max)^gamma")
    tau: Sweep[NonNegative] = option(1.0, "adds tau log(N_a / N)")


def action_counts(action: np.ndarray, n_actions: int, device: torch.device) -> Tensor:
    """Count how often the data take each action.

    Args:
        action: int64 `[N]`.
        n_actions: A.
        device: device of the result.
    Returns:
        Float `[A]`.
    """
    counts = torch.bincount(torch.from_numpy(action), minlength=n_actions)
    return counts.float().to(device)


def vs_logits(logits: Tensor, counts: Tensor, gamma: Tensor | float, tau: Tensor | float) -> Tensor:
    """Scale and shift each action's logit by how rare the action is in the data.

        z_a = (N_a / N_max)^gamma logit_a + tau log(N_a / N)

    These are the logits of the vector-scaling loss. The shift moves a margin only until the data
    are fitted, the factor also after that. In place of Q(s, .) in `conservative_gap` they give
    CQL(H) a margin for rare actions: `gap = conservative_gap(z, select(z, action), T)`.

    Args:
        logits: `[R, B, A]`.
        counts: N_a, how often each action was taken in the data, `[A]`; an action that was never
            taken counts as taken once, so that its value is still pushed down.
        gamma, tau: numbers >= 0, or one for each run `[R]`. gamma = 0 is logit adjustment, tau = 0
            is CDT.
    Returns:
        `[R, B, A]`.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Kini et al., "Label-Imbalanced and Group-Sensitive Classification under
        Overparameterization", NeurIPS 2021, arXiv:2103.01550. Defaults of the authors' code: gamma
        0.3, tau 1.
    """
    if logits.ndim < 2 or counts.shape != logits.shape[-1:]:
        raise ValueError(
            f"counts: expected [A] for logits {tuple(logits.shape)}, got {tuple(counts.shape)}"
        )

    count = counts.to(logits.dtype).clamp_min(1)
    power = torch.as_tensor(gamma, dtype=logits.dtype, device=logits.device)[..., None, None]
    weight = torch.as_tensor(tau, dtype=logits.dtype, device=logits.device)[..., None, None]

    factor = (count / count.max()) ** power
    shift = weight * (count / count.sum()).log()
    return logits * factor + shift


def vs_loss(
    logits: Tensor,
    action: Tensor,
    counts: Tensor,
    gamma: Tensor | float,
    tau: Tensor | float,
    class_weight: Tensor | None = None,
) -> Tensor:
    """Compute the vector-scaling loss: cross-entropy of the data's action under `vs_logits`.

        w_a [ logsumexp_b z_b - z_a ]

    With gamma = tau = 0 and no weights it is the cross-entropy, and so `conservative_gap` at T = 1.

    Args:
        logits: logits of a cloned policy, or Q(s, .), `[R, B, A]`.
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
    if class_weight is None:
        return loss
    return class_weight.to(loss.dtype)[action] * loss
