"""Spectral decoupling against gradient starvation: two moons that a line almost separates.

Row 38: Pezeshki et al., "Gradient Starvation: A Learning Proclivity in Neural Networks", arXiv:2011.09468. The moons of
the train set lie a little apart, so a nearly straight boundary fits, and cross-entropy, once it has found it, has no
gradient left for the curved one: it fails when the moons move together. A penalty on the squared outputs in place of
weight decay keeps the logits small and learns the curve too. In CQL the same penalty applies to the Q values.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.experiments.fit import fit, network, predict
from rlop.experiments.outcome import Measure, Outcome

N, WIDTH, STEPS, SEEDS, GAP = 300, 500, 4000, 2, 0.1
ARMS = {
    "cross-entropy": (0.0, 0.0),
    "weight decay .01": (0.01, 0.0),
    "decoupled .003": (0.0, 0.003),
}


def run(seed: int = 0) -> Outcome:
    """Train 2-500-1 networks on moons `GAP` apart and test them on moons that interlock by as much."""
    decay, coef = (torch.tensor(c).repeat_interleave(SEEDS) for c in zip(*ARMS.values()))
    runs = len(decay)
    seeds = [seed + i % SEEDS for i in range(runs)]
    data = [moons(GAP, Generator().manual_seed(s)) for s in seeds]
    x, y = (torch.stack(part) for part in zip(*data))
    net = network(seeds, 2, (WIDTH,), 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        f = net(x)[..., 0]
        norm = sum(p.flatten(1).square().sum(-1) for p in net.parameters())
        return F.softplus(-y * f).mean(-1) + coef * f.square().mean(-1) + decay / 2 * norm

    fit(net, optimizer, x, y, [torch.arange(N).expand(runs, N)] * STEPS, loss)
    gaps = [0.1, 0.0, -0.05, -0.1, -0.15, -0.2]
    scores = {gap: score(net, gap, runs, seed) for gap in gaps}
    curves = {arm: (gaps, [scores[gap][i] for gap in gaps]) for i, arm in enumerate(ARMS)}
    with torch.no_grad():
        size = net(x).abs().mean((1, 2)).view(-1, SEEDS).mean(-1).tolist()
    plain, decayed, decoupled = scores[-GAP]
    measures = (
        Measure("accuracy on interlocked moons, decoupled", decoupled, 0.99, 1, "1.000 measured"),
        Measure(
            "its gain over cross-entropy",
            decoupled - plain,
            0.003,
            1,
            "1.000 against .983 measured",
        ),
        Measure(
            "its gain over weight decay",
            decoupled - decayed,
            0.003,
            1,
            "1.000 against .966 measured",
        ),
        Measure(
            "mean |f|, cross-entropy / decoupled",
            size[0] / size[2],
            2,
            20,
            "16.4 against 3.8 measured",
        ),
        Measure("accuracy on the training gap, all", min(scores[GAP]), 0.99, 1, "all arms fit"),
    )
    return Outcome(measures, curves, x="vertical gap between the test moons", y="test accuracy")


def moons(gap: float, generator: Generator, n: int = N) -> tuple[Tensor, Tensor]:
    """Points `[n, 2]` and labels +-1 `[n]`; the vertical ranges of the two moons are `gap` apart, or overlap."""
    y = torch.arange(n) % 2 * 2.0 - 1
    angle = math.pi * torch.rand(n, generator=generator)
    height = y * (angle.sin() + gap / 2)
    x = torch.stack([angle.cos() + y / 2, height], -1)
    return x, y


def score(net: nn.Module, gap: float, runs: int, seed: int) -> list[float]:
    """Accuracy of each arm, mean over its seeds, on fresh moons."""
    x, y = moons(gap, Generator().manual_seed(seed + 1000), 2000)
    right = (predict(net, x, runs)[..., 0] * y > 0).float().mean(-1)
    return right.view(-1, SEEDS).mean(-1).tolist()
