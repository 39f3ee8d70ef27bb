"""Churn: how far the outputs at states outside a minibatch move when one update is made."""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.probes.shapes import check_same_shape


@torch.no_grad()
def value_churn(before: Tensor, after: Tensor) -> Tensor:
    """Compute the mean change of values over a reference batch.

        C_Q = mean_x | Q_theta'(x) - Q_theta(x) |

    theta' are the parameters after an update on a minibatch without these rows.

    Args:
        before: Q_theta of the reference batch, `[..., n]`.
        after: Q_theta' of the same rows.
    Returns:
        `[...]`, in the units of the values.
    Raises:
        ValueError: when shapes differ.
    Reference: Tang and Berseth, "Improving Deep Reinforcement Learning by Reducing the Chain Effect
        of Value and Policy Churn", NeurIPS 2024, arXiv:2409.04792.
    """
    check_same_shape("before and after", "n", before, after)
    return (after - before).abs().mean(-1)


@torch.no_grad()
def policy_churn(before: Tensor, after: Tensor) -> Tensor:
    """Compute how far the actions at a reference batch move in an update.

        C_pi = mean_x [ a'(x) != a(x) ]  of greedy actions among a few,
               mean_x || a'(x) - a(x) ||_1 / m  of vectors of m numbers

    Args:
        before: actions before the update, int64 `[..., n]`, or floating `[..., n, m]`.
        after: actions after it.
    Returns:
        `[...]`.
    Raises:
        ValueError: when shapes differ.
    Reference: Tang and Berseth, arXiv:2409.04792; for greedy actions Schaul et al., "The Phenomenon
        of Policy Churn", NeurIPS 2022, arXiv:2206.00730.
    """
    check_same_shape("before and after", "n or n, m", before, after)
    if not before.is_floating_point():
        return (after != before).double().mean(-1)
    return (after - before).abs().mean((-2, -1))
