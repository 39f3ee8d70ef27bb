"""Weight decay is a path norm: of 200 ReLU neurons it keeps about as many as the data need knots.

Row 35: Parhi, Wolf and Nowak, "On the Sparsity of Deep Neural Networks in the Overparameterized Regime: An Empirical
Study", ICML 2021 workshop; theory arXiv:2105.03361. Since ReLU is homogeneous, at an optimum

    (mu / 2) sum_k (v_k^2 + |w_k|^2) = mu sum_k |v_k| |w_k|

an l1 penalty over neurons: minimisers are sparse, with no more neurons than data, biases and a linear skip connection
free. A wide network is fitted to a piecewise linear function with 3 knots, with and without weight decay, and the
neurons with |v_k| |w_k| above a hundredth of the largest are counted, and the groups that their kinks form: neurons
that share a kink may stay apart at no cost.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

WIDTH, N, KNOTS, STEPS, LR = 200, 40, (-0.5, 0.1, 0.5), 10000, 3e-3
DECAYS = (0.0, 1e-4, 1e-3)


def run(seed: int = 0) -> Outcome:
    """Fit three networks at once, one per strength of weight decay."""
    generator = Generator().manual_seed(seed)
    x = torch.linspace(-1, 1, N)
    y = target(x)
    parameters = start(generator)
    mu = torch.tensor(DECAYS)
    optimizer = torch.optim.Adam(parameters, lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        w, _, v, *_ = parameters
        penalty = mu / 2 * (w.square().sum(-1) + v.square().sum(-1))
        ((network(parameters, x) - y).square().mean(-1) + penalty).sum().backward()
        optimizer.step()
        schedule.step()
    w, b, v, *_ = (p.detach() for p in parameters)
    path = v.abs() * w.abs()
    active = path > 0.01 * path.amax(-1, keepdim=True)
    groups = [distinct((-b / w)[i][active[i]]) for i in range(len(DECAYS))]
    neurons = active.sum(-1).tolist()
    with torch.no_grad():
        error = (network(parameters, x) - y).square().mean(-1)
    unbalance = (
        ((v.square() - w.square()).abs() / (v.square() + w.square()))[-1][active[-1]].max().item()
    )
    measures = (
        Measure(
            "groups of kinks, mu = .001", groups[-1], len(KNOTS), len(KNOTS), "one for each knot"
        ),
        Measure("groups of kinks without decay", groups[0], 2 * len(KNOTS), WIDTH, "many more"),
        Measure("active neurons, with decay / without", neurons[-1] / neurons[0], 0, 0.6, "fewer"),
        Measure(
            "sum |v| |w|, with decay / without",
            (path[-1].sum() / path[0].sum()).item(),
            0,
            0.8,
            "a path norm",
        ),
        Measure(
            "largest |v^2 - w^2| / (v^2 + w^2), active",
            unbalance,
            0,
            0.05,
            "balanced: both norms agree",
        ),
        Measure("train error, mu = .001", error[-1].item(), 0, 0.005, "still fits"),
    )
    decays = [max(d, 1e-5) for d in DECAYS]
    curves = {"groups of kinks": (decays, groups), "active neurons": (decays, neurons)}
    return Outcome(measures, curves, x="weight decay (none at the left end)", y="number", log="xy")


def target(x: Tensor) -> Tensor:
    """Piecewise linear with three knots."""
    return sum(slope * (x - knot).relu() for slope, knot in zip((2.0, -4.0, 4.0), KNOTS)) - 0.5 * x


def start(generator: Generator) -> list[Tensor]:
    """Input weights, biases and output weights `[3, 200]`, slope and offset of the skip connection `[3, 1]`."""
    w, b, v = (torch.randn(WIDTH, generator=generator) for _ in range(3))
    values = [w, b, v / WIDTH**0.5, torch.zeros(1), torch.zeros(1)]
    return [value.expand(len(DECAYS), -1).clone().requires_grad_() for value in values]


def network(parameters: list[Tensor], x: Tensor) -> Tensor:
    """Outputs `[3, N]`."""
    w, b, v, slope, offset = parameters
    hidden = (w[..., None] * x + b[..., None]).relu()
    return (v[:, None] @ hidden)[:, 0] + slope * x + offset


def distinct(kinks: Tensor, gap: float = 0.02) -> int:
    """Number of groups of kinks inside the interval of the data; a gap of more than a data spacing parts two groups."""
    inside = kinks[kinks.abs() < 1].sort().values
    return int((inside.diff() > gap).sum()) + 1 if len(inside) else 0
