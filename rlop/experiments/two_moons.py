"""Spectral decoupling against gradient starvation: two moons that a line almost separates.

Row 38: Pezeshki et al., "Gradient Starvation: A Learning Proclivity in Neural Networks",
arXiv:2011.09468. The moons of the train set lie a little apart, so a nearly straight boundary fits,
and cross-entropy, once it has found it, has no gradient left for the curved one: it fails when the
moons move together. A penalty on the squared outputs instead of weight decay keeps the logits small
and learns the curve too. In CQL the same penalty applies to the Q values.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.experiments.fit import fit, network, predict
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
    seeds = [seed + i % SEEDS for i in range(RUNS)]
    data = [moons(GAP, Generator().manual_seed(s), N) for s in seeds]
    x = torch.stack([points for points, _ in data])
    y = torch.stack([labels for _, labels in data])
    net = trained(x, y, seeds)

    scores = {gap: score(net, gap, seed) for gap in TEST_GAPS}
    with torch.no_grad():
        sizes = seed_means(net(x).abs().mean((1, 2)), SEEDS)

    plain, decayed, decoupled = scores[-GAP]

    values = {
        "accuracy on interlocked moons, decoupled": decoupled,
        "its gain over cross-entropy": decoupled - plain,
        "its gain over weight decay": decoupled - decayed,
        "mean |f|, cross-entropy / decoupled": sizes[0] / sizes[2],
        "accuracy on the training gap, all": min(scores[GAP]),
    }

    by_arm = columns(scores.values())
    curves = {arm: (TEST_GAPS, accuracies) for arm, accuracies in zip(ARMS, by_arm)}
    return Outcome(values, curves, x="vertical gap between the test moons", y="test accuracy")


def trained(x: Tensor, y: Tensor, seeds: list[int]) -> nn.Module:
    """Train all arms and seeds on all points at once, by SGD with momentum."""
    settings = torch.tensor(list(ARMS.values())).repeat_interleave(SEEDS, 0)
    decay, coef = settings[:, 0], settings[:, 1]
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
    x, y = moons(gap, Generator().manual_seed(seed + 1000), 2000)
    right = (predict(net, x, RUNS)[..., 0] * y > 0).float().mean(-1)
    return seed_means(right, SEEDS)
