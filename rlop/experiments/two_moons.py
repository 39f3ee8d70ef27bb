"""Spectral decoupling against gradient starvation: two moons that a line almost separates.

Row 38: Pezeshki et al., "Gradient Starvation: A Learning Proclivity in Neural Networks",
arXiv:2011.09468. The moons of the train set lie a little apart, so a nearly straight boundary fits,
and cross-entropy, once it has found it, has no gradient left for the curved one: it fails when the
moons move together. A penalty on the squared outputs instead of weight decay keeps the logits small
and learns the curve too. In CQL the same penalty applies to the Q values.

Control: plain cross-entropy in all arms, on train moons that interlock as the test moons do.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.experiments.fit import child_seeds, fit, network, predict
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import columns, seed_means

N = 300
WIDTH = 500
STEPS = 4000
SEEDS = 2
GAP = 0.1
TEST_GAPS = [0.1, 0.0, -0.05, -0.1, -0.15, -0.2]
ARMS = {  # weight decay, coefficient of the squared outputs
    "cross-entropy": (0.0, 0.0),
    "weight decay .01": (0.01, 0.0),
    "decoupled .003": (0.0, 0.003),
}
RUNS = len(ARMS) * SEEDS


def run(seed: int) -> Outcome:
    """Train 2-500-1 networks on moons `GAP` apart; test on moons that interlock by as much."""
    settings = torch.tensor(list(ARMS.values()))
    scores = trained_scores(seed, GAP, settings)
    by_arm = columns(scores.values())
    curves = {arm: (TEST_GAPS, accuracies) for arm, accuracies in zip(ARMS, by_arm)}
    values = measures(scores)
    return Outcome(values, curves, x="vertical gap between the test moons", y="test accuracy")


def control(seed: int) -> dict[str, float]:
    """Train on moons that interlock, so that nothing is starved, and penalize nothing."""
    return measures(trained_scores(seed, -GAP, torch.zeros(len(ARMS), 2)))


def measures(scores: dict[float, list[float]]) -> dict[str, float]:
    """Name the numbers; `scores` holds the accuracy of each arm at each gap."""
    apart, interlocked = scores[GAP], scores[-GAP]
    plain, decayed, decoupled = interlocked
    return {
        "accuracy of cross-entropy, moons apart - interlocked": apart[0] - plain,
        "accuracy on interlocked moons, decoupled - cross-entropy": decoupled - plain,
        "accuracy on interlocked moons, decoupled - weight decay": decoupled - decayed,
    }


def trained_scores(seed: int, gap: float, settings: Tensor) -> dict[float, list[float]]:
    """Train every arm on moons at one gap, and score it at all gaps.

    Args:
        seed: of moons and networks; the arms share both.
        gap: of the train moons.
        settings: weight decay and coefficient of the squared outputs, `[arms, 2]`.
    Returns:
        Test gap -> accuracy of each arm.
    """
    moon_seed, net_seed, test_seed = child_seeds(seed, 3)
    seeds = child_seeds(net_seed, SEEDS) * len(settings)
    data = [moons(gap, Generator().manual_seed(s), N) for s in child_seeds(moon_seed, SEEDS)]
    x = torch.stack([points for points, _ in data]).repeat(len(settings), 1, 1)
    y = torch.stack([labels for _, labels in data]).repeat(len(settings), 1)
    net = trained(x, y, seeds, settings)
    return {test_gap: score(net, test_gap, test_seed) for test_gap in TEST_GAPS}


def trained(x: Tensor, y: Tensor, seeds: list[int], settings: Tensor) -> nn.Module:
    """Train all arms and seeds on all points at once, by SGD with momentum."""
    decay, coef = settings.repeat_interleave(SEEDS, 0).T
    net = network(seeds, 2, (WIDTH,), 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        f = net(x)[..., 0]
        norm = sum(p.flatten(1).square().sum(-1) for p in net.parameters())
        return F.softplus(-y * f).mean(-1) + coef * f.square().mean(-1) + decay / 2 * norm

    all_points = torch.arange(N).expand(RUNS, N)
    fit(net, optimizer, x, y, [all_points] * STEPS, loss)
    return net


def moons(gap: float, generator: Generator, n: int) -> tuple[Tensor, Tensor]:
    """Draw points of two moons.

    Args:
        gap: distance between the vertical ranges of the moons; they overlap where it is negative.
        generator: generator of the angles.
        n: number of points.
    Returns:
        Points `[n, 2]` and labels +-1 `[n]`.
    """
    y = torch.arange(n) % 2 * 2.0 - 1
    angle = math.pi * torch.rand(n, generator=generator)
    height = y * (angle.sin() + gap / 2)
    return torch.stack([angle.cos() + y / 2, height], -1), y


def score(net: nn.Module, gap: float, seed: int) -> list[float]:
    """Compute the accuracy of each arm on new moons, averaged over its seeds."""
    x, y = moons(gap, Generator().manual_seed(seed), 2000)
    right = (predict(net, x, RUNS)[..., 0] * y > 0).float().mean(-1)
    return seed_means(right, SEEDS)
