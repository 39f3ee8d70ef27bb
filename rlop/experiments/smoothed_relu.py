"""Gradient descent drives the logistic loss of smoothed-ReLU networks to zero, as fast as 1 / t.

Row 19: Chatterji, Long and Bartlett, "When Does Gradient Descent with Logistic Loss Interpolate
Using Deep Networks with Smoothed ReLU Activations?", arXiv:2102.04998.

Claims of the abstract: plain gradient descent on networks of fixed width and any depth drives the
logistic loss to zero, with bounds on the rate (the theorem's: J_t <= const / t); this holds for
smoothed approximations of the ReLU such as Swish and the Huberized ReLU. Two conditions suffice:
(1) a small loss at the start, (2) data that are separated enough, from a random start.

Setting: 20 unit vectors in 10 dimensions with random labels, width 64, two hidden layers of
Huberized ReLUs and three of Swishes, full batches, constant rate. J_t <= const / t means that 1 / J
grows at least linearly:

- condition 2: from a random start, the slope of log J against log t is at most -1, and J becomes
  small;
- condition 1: from a start with J below 1 / n^2 (found by Adam, whose weights are arbitrary
  otherwise), 1 / J grows at least as much in the second half of the time as in the first.

Without separation no network interpolates: in the control every input stands twice, with both
labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Curve, Outcome
from rlop.experiments.series import power_law_exponent

N = 20
D = 10
WIDTH = 64
NETWORKS = 2  # for each setting, each with its own data
LR = 0.2
STEPS = 3000
FROM = 300  # first step of the slope
SHORT = 800  # steps from a small loss
BEND = 0.1  # h of the Huberized ReLU
SMALL = 1 / N**2  # loss of a small start

Activation: TypeAlias = Callable[[Tensor], Tensor]


class Sample(NamedTuple):
    """One training set for each network."""

    x: Tensor  # [R, N, D]
    y: Tensor  # [R, N], -1 or 1


def huberized_relu(z: Tensor) -> Tensor:
    """Return 0 below 0, z^2 / (2 h) up to h, and z - h / 2 above, with h = `BEND`."""
    bent = z.clamp(0, BEND)
    return bent * bent / (2 * BEND) + (z - BEND).relu()


SETTINGS: dict[str, tuple[Activation, int]] = {
    "Huberized ReLU, 2 hidden layers": (huberized_relu, 2),
    "Swish, 3 hidden layers": (F.silu, 3),
}


def run(seed: int) -> Outcome:
    """Train both kinds of network on separated data."""
    return measure(seed, separated=True)


def control(seed: int) -> Mapping[str, float]:
    """Train them on inputs that have both labels, on which the loss cannot fall below log 2."""
    return measure(seed, separated=False).values


def measure(seed: int, separated: bool) -> Outcome:
    """Descend from random starts and from small losses."""
    values: dict[str, float] = {}
    curves: dict[str, Curve] = {}

    for (name, (activation, hidden)), child in zip(
        SETTINGS.items(), child_seeds(seed, len(SETTINGS))
    ):
        generator = Generator().manual_seed(child)
        data = sample(generator, separated)

        losses = descend(start(hidden, generator), data, activation, STEPS)
        times = torch.logspace(0, 1, 20).mul(FROM).round().long()
        mean = losses.log().mean(1).exp()
        slope = power_law_exponent(times.tolist(), mean[times - 1].numpy())

        weights = approach(start(hidden, generator), data, activation)
        low = descend(weights, data, activation, SHORT)

        values[f"{name}: slope of log J, t 300 to 3000"] = slope
        values[f"{name}: J after 3000 steps / at the start"] = (mean[-1] / mean[0]).item()
        values[f"{name}: growth of 1 / J from a small loss, second half / first"] = growth(low)
        curves[name] = ((times + 1).tolist(), mean[times - 1].tolist())

    return Outcome(values, curves, x="step", y="logistic loss", log="xy")


def sample(generator: Generator, separated: bool) -> Sample:
    """Draw unit vectors with random labels; not separated, each stands twice, with both labels."""
    x = F.normalize(torch.randn(NETWORKS, N, D, generator=generator), dim=-1)
    y = torch.randint(2, (NETWORKS, N), generator=generator) * 2.0 - 1
    if not separated:
        half = N // 2
        x = torch.cat([x[:, :half], x[:, :half]], 1)
        y = torch.cat([y[:, :half], -y[:, :half]], 1)
    return Sample(x, y)


def start(hidden: int, generator: Generator) -> list[Tensor]:
    """Draw He-scaled weights `[R, in, out]` of a network with `hidden` layers and one output."""
    sizes = [D, *[WIDTH] * hidden, 1]
    weights = []
    for n_in, n_out in pairwise(sizes):
        weight = torch.randn(NETWORKS, n_in, n_out, generator=generator) * (2 / n_in) ** 0.5
        weights.append(weight.requires_grad_())
    return weights


def loss(weights: list[Tensor], data: Sample, activation: Activation) -> Tensor:
    """Compute the mean logistic loss of every network, `[R]`."""
    *layers, head = weights
    features = data.x
    for weight in layers:
        features = activation(features @ weight)
    return F.softplus(-data.y * (features @ head)[..., 0]).mean(1)


def descend(weights: list[Tensor], data: Sample, activation: Activation, steps: int) -> Tensor:
    """Run gradient descent with the rate `LR`; return the loss before each step, `[steps, R]`."""
    losses = []
    for _ in range(steps):
        value = loss(weights, data, activation)
        gradients = torch.autograd.grad(value.sum(), weights)
        losses.append(value.detach())
        with torch.no_grad():
            torch._foreach_add_(weights, gradients, alpha=-LR)
    return torch.stack(losses)


def approach(weights: list[Tensor], data: Sample, activation: Activation) -> list[Tensor]:
    """Run Adam until the loss of every network is below `SMALL`, at most 500 steps."""
    optimizer = torch.optim.Adam(weights, lr=3e-3)
    for _ in range(500):
        value = loss(weights, data, activation)
        if value.max() < SMALL:
            break
        optimizer.zero_grad()
        value.sum().backward()
        optimizer.step()
    return weights


def growth(losses: Tensor) -> float:
    """Divide what 1 / J gains in the second half of the steps by what it gains in the first.

    Args:
        losses: J, `[T, R]`.
    Returns:
        The least ratio of all networks; at least 1 if J_t <= const / t with no slowing down, and 0
        if 1 / J does not gain a thousandth in the first half.
    """
    inverse = 1 / losses.double()
    middle = inverse[len(losses) // 2]
    first = middle - inverse[0]
    ratio = (inverse[-1] - middle) / first
    return ratio.where(first > 1e-3 * inverse[0], 0).min().item()
