"""Agreement of runs that differ only in their seed, and of a policy with the data's actions."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rlop.probes.shapes import check_same_shape, shapes_of


class Calibration(NamedTuple):
    """How well disagreement estimates the error rate, `[...]` each."""

    disagreement: Tensor  # two runs drawn with replacement differ
    error: Tensor  # a run drawn at random differs from the label
    gap: Tensor  # class-aggregated calibration error, an upper bound of |disagreement - error|


class ActionShift(NamedTuple):
    """Total variation between greedy and behavior actions."""

    total: Tensor  # [...] mean over clusters, weighted by their size
    by_cluster: Tensor  # [..., C]; NaN for an empty cluster


@torch.no_grad()
def disagreement(actions: Tensor) -> Tensor:
    """Compute the share of states in which two runs act differently, for every pair of runs.

        Dis(h, h') = 1/n sum_i 1[ h(s_i) != h'(s_i) ]

    On held-out states it equals the test error of classifiers whose ensemble is calibrated. This
    does not always hold (small networks trained on the same data disagree less than they err), so
    read it together with `calibration`.

    Args:
        actions: greedy actions, `[..., R, n]`, whole numbers.
    Returns:
        `[..., R, R]` float64, symmetric, 0 on the diagonal.
    Raises:
        ValueError: for actions that are not whole numbers `[..., R, n]`.
    Reference: Jiang, Nagarajan, Baek, Kolter, "Assessing Generalization of SGD via Disagreement",
        ICLR 2022, arXiv:2106.13799.
    """
    if actions.ndim < 2 or actions.is_floating_point():
        described = f"{actions.dtype} {shapes_of(actions)}"
        raise ValueError(f"actions: expected whole numbers [..., R, n], got {described}")

    differs = actions.unsqueeze(-2) != actions.unsqueeze(-3)
    return differs.double().mean(-1)


@torch.no_grad()
def action_distance(actions: Tensor) -> Tensor:
    """Compute the mean distance between the continuous actions of two runs, for every pair.

        1/n sum_i || h(s_i) - h'(s_i) ||_2

    Args:
        actions: `[..., R, n, m]`.
    Returns:
        `[..., R, R]` float64, symmetric, 0 on the diagonal.
    Raises:
        ValueError: for fewer than three axes.
    """
    if actions.ndim < 3:
        raise ValueError(f"actions: expected [..., R, n, m], got {shapes_of(actions)}")

    actions = actions.double()
    difference = actions.unsqueeze(-3) - actions.unsqueeze(-4)
    return torch.linalg.vector_norm(difference, dim=-1).mean(-1)


def other_runs(pairs: Tensor, group: Tensor | None = None) -> Tensor:
    """Average a run's row over the other runs of its group.

    Args:
        pairs: `[..., R, R]`, from `disagreement` or `action_distance`.
        group: `[R]` whole numbers, the same where runs differ in their seed alone; None takes all
            runs together.
    Returns:
        `[..., R]`, over the pairs that are finite; NaN where a run has none.
    Raises:
        ValueError: when shapes do not fit.
    """
    runs = pairs.shape[-1]
    is_square = pairs.ndim >= 2 and pairs.shape[-2] == runs
    if not is_square or (group is not None and group.shape != (runs,)):
        raise ValueError(f"pairs: expected [..., R, R] and group [R], got {shapes_of(pairs)}")

    if group is None:
        group = torch.zeros(runs, device=pairs.device)
    same_group = group.unsqueeze(-1) == group
    others = same_group.fill_diagonal_(False) & pairs.isfinite()
    total = pairs.where(others, 0).sum(-1)
    return total / others.sum(-1)


@torch.no_grad()
def calibration(
    actions: Tensor,
    label: Tensor,
    n_actions: int,
) -> Calibration:
    """Measure the class-aggregated calibration of an ensemble of greedy policies.

        share  p_k(s) = 1/R sum_r 1[h_r(s) = k]
        gap    sum_q | sum_k P(y = k, p_k = q) - q sum_k P(p_k = q) |,  q = 0, 1/R, ..., 1

    The gap relates two rates, which are returned as well: disagreement and error.

    Args:
        actions: `[..., R, n]` int64, greedy actions of R runs.
        label: y, `[..., n]` int64: the data's action, or one that is known to be optimal.
        n_actions: A.
    Returns:
        Disagreement, error and gap, `[...]` float64 each.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Jiang et al. 2022, arXiv:2106.13799, class-aggregated calibration error and the bound
        by it. Kirsch and Gal, TMLR 2022, arXiv:2202.01851, point out that labels are needed to
        compute it.
    """
    if actions.ndim < 2 or label.shape != actions.shape[:-2] + actions.shape[-1:]:
        expected = f"expected [..., n] for actions {shapes_of(actions)}"
        raise ValueError(f"label: {expected}, got {shapes_of(label)}")

    runs = actions.shape[-2]
    votes = F.one_hot(actions, n_actions).sum(-3)  # [..., n, A]
    is_label = F.one_hot(label, n_actions).double()
    share = votes.double() / runs

    # Mass and hits at every level q of the share, summed over actions.
    level = F.one_hot(votes, runs + 1).double()  # [..., n, A, R + 1]
    hits = level * is_label.unsqueeze(-1)
    hit = hits.sum(-2).mean(-2)
    mass = level.sum(-2).mean(-2)
    q = torch.arange(runs + 1, dtype=hit.dtype, device=hit.device) / runs

    agree = share.square().sum(-1)
    correct = (share * is_label).sum(-1)
    miscalibration = hit - q * mass
    return Calibration(
        disagreement=1 - agree.mean(-1),
        error=1 - correct.mean(-1),
        gap=miscalibration.abs().sum(-1),
    )


@torch.no_grad()
def action_shift(
    greedy: Tensor,
    behavior: Tensor,
    cluster: Tensor,
    n_actions: int,
    n_clusters: int,
) -> ActionShift:
    """Compare a policy's distribution of actions with the data's, in every cluster of states.

        TV_c = 1/2 sum_a | P(h(s) = a | c) - P(a_data = a | c) |,  total = sum_c P(c) TV_c

    A classifier that interpolates noisy labels reproduces their noise rate in every cluster it can
    tell apart (distributional generalization), and so has a small total variation: imitation rather
    than improvement.

    Args:
        greedy: `[..., n]` int64.
        behavior: the data's actions, same shape.
        cluster: cluster of each state in [0, C), same shape, e.g. by `nearest_center`.
        n_actions: A.
        n_clusters: C.
    Returns:
        Total and by cluster, float64 in [0, 1].
    Raises:
        ValueError: when shapes differ.
    Reference: Nakkiran and Bansal, "Distributional Generalization", 2020, arXiv:2009.08092.
    """
    check_same_shape("greedy, behavior and cluster", "n", greedy, behavior, cluster)
    member = F.one_hot(cluster, n_clusters).double()  # [..., n, C]
    size = member.sum(-2)

    # Each row adds its difference: sums over a cluster are its size times probabilities.
    difference = F.one_hot(greedy, n_actions) - F.one_hot(behavior, n_actions)
    excess = member.mT @ difference.double()  # [..., C, A]
    variation = 0.5 * excess.abs().sum(-1)  # [..., C], times the size
    return ActionShift(
        total=variation.sum(-1) / greedy.shape[-1],
        by_cluster=variation / size,
    )


@torch.no_grad()
def nearest_center(states: Tensor, n_clusters: int) -> Tensor:
    """Assign each row to the nearest of C rows that are evenly spaced in the batch.

    Args:
        states: `[..., n, d]`.
        n_clusters: C, at most n.
    Returns:
        Index of the cluster, `[..., n]` int64.
    Raises:
        ValueError: for a number of clusters out of range.
    """
    n = states.shape[-2]
    if not 1 <= n_clusters <= n:
        raise ValueError(f"n_clusters = {n_clusters}: expected 1 to the number of rows, {n}")

    rows = torch.arange(n_clusters, device=states.device) * n // n_clusters
    points = states.double()
    centers = points.index_select(-2, rows)
    return torch.cdist(points, centers).argmin(-1)
