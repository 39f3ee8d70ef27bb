"""Values against Monte-Carlo returns: how far Q(s, a) lies from what the data earned."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlop.probes.shapes import check_same_shape


class ReturnGap(NamedTuple):
    """Distances of values from returns, `[...]` float64 each, in standard deviations of returns.

    NaN where fewer than two returns are known, or all are equal.
    """

    mean: Tensor  # mean Q(s, a) above the mean return; negative below
    best: Tensor  # mean Q(s, a) above the best return; negative below
    worst: Tensor  # mean Q(s, a) below the worst return; negative above
    spread: Tensor  # the unit, in that of returns


@torch.no_grad()
def return_gap(
    q: Tensor,
    returns: Tensor,
    known: Tensor | None = None,
) -> ReturnGap:
    """Compare the values of the data's actions with the discounted returns that followed.

        mean  = (mean Q - mean G) / sd G
        best  = (mean Q - max G) / sd G,  worst = (min G - mean Q) / sd G

    Returns are of the policies that collected the data: an improved policy may earn more than any
    of them, so `mean` alone says nothing of a fault.

    Args:
        q: Q(s, a), `[..., n]`.
        returns: G, the discounted sum of rewards from each row on, same shape.
        known: bool, same shape; False where the episode was cut. None counts every row.
    Returns:
        The three distances, and their unit.
    Raises:
        ValueError: when shapes differ.
    Reference: over-estimation as the gap to Monte-Carlo returns: Fujimoto, van Hoof, Meger,
        "Addressing Function Approximation Error in Actor-Critic Methods", ICML 2018,
        arXiv:1802.09477, figure 1; the units are ours.
    """
    check_same_shape("q and returns", "n", q, returns)
    counts = torch.ones_like(returns, dtype=torch.bool) if known is None else known
    check_same_shape("q and known", "n", q, counts)

    value = _mean(q.double(), counts)
    target = returns.double()
    center = _mean(target, counts)
    spread = _mean((target - center.unsqueeze(-1)).square(), counts).sqrt()
    best = target.where(counts, -torch.inf).amax(-1)
    worst = target.where(counts, torch.inf).amin(-1)

    # Rounding leaves a spread of equal returns that is tiny rather than 0.
    is_flat = spread <= 1e-9 * center.abs().clamp_min(1e-9)
    unit = spread.where(~is_flat, torch.nan)
    return ReturnGap((value - center) / unit, (value - best) / unit, (worst - value) / unit, unit)


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    """Average over the rows that count."""
    weight = counts.to(values.dtype)
    return (values * weight).sum(-1) / weight.sum(-1)
