"""Values of actions outside the data, against those of the data's own actions."""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.probes.shapes import check_same_shape

BOUND = 0.999  # an entry beyond it counts as being at the end of [-1, 1], as in `rlop info`


@torch.no_grad()
def unseen_gap(
    q_data: Tensor,
    q_other: Tensor,
    spread: Tensor | None = None,
) -> Tensor:
    """Compute by how much other actions are valued above the data's.

        (mean Q(s, b) - mean Q(s, a)) / spread

    b is the policy's action, the greedy one, or a random one. Bootstrapping from values of b that
    no data correct is what offline RL fails by.

    Args:
        q_data: Q(s, a) of the data's actions, `[..., n]`.
        q_other: Q(s, b) at the same states, same shape.
        spread: unit, `[...]`; None takes the standard deviation of `q_data`.
    Returns:
        `[...]` float64; NaN where the unit is 0.
    Raises:
        ValueError: when shapes differ.
    Reference: extrapolation error, Fujimoto, Meger, Precup, "Off-Policy Deep Reinforcement Learning
        without Exploration", ICML 2019, arXiv:1812.02900; the unit is ours.
    """
    check_same_shape("q_data and q_other", "n", q_data, q_other)
    data = q_data.double()
    unit = data.std(-1, correction=0) if spread is None else spread.double()
    gap = q_other.double().mean(-1) - data.mean(-1)
    return gap / unit.where(unit > 0, torch.nan)


@torch.no_grad()
def at_bound(action: Tensor, bound: float = BOUND) -> Tensor:
    """Compute the share of entries of actions that are at the end of [-1, 1].

    A squashed policy that is pushed to the end has lost its gradient: tanh is flat there.

    Args:
        action: `[..., n, m]` in [-1, 1].
        bound: absolute value from which an entry counts.
    Returns:
        `[...]` float64.
    """
    return (action.abs() >= bound).double().mean((-2, -1))
