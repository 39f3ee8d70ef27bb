"""Weight decay is a path norm: of 200 ReLU neurons it keeps about as many as the data need knots.

Row 35: Parhi, Wolf and Nowak, "On the Sparsity of Deep Neural Networks in the Overparameterized
Regime: An Empirical Study", ICML 2021 workshop; theory arXiv:2105.03361. Since ReLU is homogeneous,
at an optimum

    (mu / 2) sum_k (v_k^2 + |w_k|^2) = mu sum_k |v_k| |w_k|

an l1 penalty over neurons: minimizers are sparse, with no more neurons than data, biases and a
linear skip connection free. A wide network is fitted to a piecewise linear function with 3 knots,
with and without weight decay, and the neurons with |v_k| |w_k| above a hundredth of the largest are
counted, and the groups that their kinks form: neurons that share a kink may stay apart at no cost.

Control: the same networks without decay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome

WIDTH = 200
N = 40
KNOTS = (-0.5, 0.1, 0.5)
BENDS = (2.0, -4.0, 4.0)  # changes of the slope at the knots
STEPS = 10000
LR = 3e-3
DECAYS = (0.0, 1e-4, 1e-3)  # mu; the first is none


class Network(NamedTuple):
    """One network per strength of decay, one input and one output each."""

    w: Tensor  # input weights [3, 200]
    b: Tensor  # biases [3, 200]
    v: Tensor  # output weights [3, 200]
    slope: Tensor  # of the skip connection [3, 1]
    offset: Tensor  # [3, 1]

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate all networks, `[N] -> [3, N]`."""
        hidden = (self.w[..., None] * x + self.b[..., None]).relu()
        return (self.v[:, None] @ hidden)[:, 0] + self.slope * x + self.offset


def run(seed: int) -> Outcome:
    """Fit three networks at once, one per strength of weight decay."""
    fitted = trained(seed, DECAYS)
    decays = [max(decay, 1e-5) for decay in DECAYS]  # 0 has no place on a logarithmic axis
    curves = {
        "groups of kinks": (decays, fitted.groups),
        "active neurons": (decays, fitted.neurons),
    }
    values = measures(fitted)
    return Outcome(values, curves, x="weight decay (none at the left end)", y="number", log="xy")


def control(seed: int) -> dict[str, float]:
    """Fit the same networks without decay."""
    return measures(trained(seed, [0.0] * len(DECAYS)))


class Fitted(NamedTuple):
    """What is left of the networks, one number for each strength of decay."""

    neurons: list[float]  # active ones
    groups: list[float]  # of their kinks
    path_norms: list[float]
    imbalances: list[float]  # largest |v^2 - w^2| / (v^2 + w^2) of an active neuron


def measures(fitted: Fitted) -> dict[str, float]:
    """Compare the strongest decay with none."""
    return {
        "groups of kinks, decay / none": fitted.groups[-1] / fitted.groups[0],
        "active neurons, decay / none": fitted.neurons[-1] / fitted.neurons[0],
        "sum |v| |w|, decay / none": fitted.path_norms[-1] / fitted.path_norms[0],
        "largest |v^2 - w^2| / (v^2 + w^2), active neurons": fitted.imbalances[-1],
    }


def trained(seed: int, decays: Sequence[float]) -> Fitted:
    """Fit one network with each strength of decay, from one start."""
    x = torch.linspace(-1, 1, N)
    net = train(start(Generator().manual_seed(seed)), x, target(x), torch.tensor(decays))

    path = net.v.abs() * net.w.abs()
    active = path > 0.01 * path.amax(-1, keepdim=True)
    kinks = -net.b / net.w
    v_squares, w_squares = net.v.square(), net.w.square()
    imbalance = (v_squares - w_squares).abs() / (v_squares + w_squares)
    return Fitted(
        neurons=active.sum(-1).tolist(),
        groups=[distinct(kinks[i][active[i]]) for i in range(len(decays))],
        path_norms=path.sum(-1).tolist(),
        imbalances=[imbalance[i][active[i]].max().item() for i in range(len(decays))],
    )


def target(x: Tensor) -> Tensor:
    """Evaluate a piecewise linear function with three knots."""
    bends = [bend * (x - knot).relu() for bend, knot in zip(BENDS, KNOTS)]
    return sum(bends) - 0.5 * x


def start(generator: Generator) -> Network:
    """Draw one network and copy it for every strength of decay."""
    w = torch.randn(WIDTH, generator=generator)
    b = torch.randn(WIDTH, generator=generator)
    v = torch.randn(WIDTH, generator=generator) / WIDTH**0.5
    parameters = (w, b, v, torch.zeros(1), torch.zeros(1))
    return Network(*(p.expand(len(DECAYS), -1).clone().requires_grad_() for p in parameters))


def train(net: Network, x: Tensor, y: Tensor, mu: Tensor) -> Network:
    """Train with weight decay on w and v by Adam at a falling rate; return it detached."""
    optimizer = torch.optim.Adam(list(net), lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)

    for _ in range(STEPS):
        optimizer.zero_grad()
        penalty = mu / 2 * (net.w.square().sum(-1) + net.v.square().sum(-1))
        loss = (net(x) - y).square().mean(-1) + penalty
        loss.sum().backward()
        optimizer.step()
        schedule.step()

    return Network(*(p.detach() for p in net))


def distinct(kinks: Tensor, gap: float = 0.02) -> int:
    """Count the groups of kinks inside the interval of the data.

    Args:
        kinks: positions.
        gap: distance, more than a data spacing, that parts two groups.
    """
    inside = kinks[kinks.abs() < 1].sort().values
    if not len(inside):
        return 0
    return int((inside.diff() > gap).sum()) + 1
