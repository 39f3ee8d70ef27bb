"""Training on pairs of inputs removes the double descent of networks in size and in time.

Row 25: Chen, Wang and Kyrillidis, "Mitigating Deep Double Descent by Concatenating Inputs",
arXiv:2107.00797. All ordered pairs [x_i, x_j] get the target (y_i + y_j) / 2, which makes n^2
samples of n, and a test input is presented as [x, x].

Claims of the abstract: deep double descent is reproduced; the construction mitigates it, with a
smooth descent into the overparameterized region, (1) as the model grows and (2) as training goes
on.

Setting: 200 digits, 20 % of the labels drawn at random, one hidden layer of 8 to 256 units, squared
loss, Adam for 2000 steps. With ten outputs the network interpolates from about 27 units on. A rise
is the largest increase of the test error over its least value at smaller widths, or earlier; a peak
counts the rise before it or the fall after it, the smaller of both.

In the control the double descent is absent, with 1400 clean labels, which no width here
interpolates; and the pairs are [x_i, x_i], which adds no samples.

Minimum-norm linear regression does not show the effect: where n <= d, the pairs have the same
solution as the points, peak included (`tests/test_experiments_dynamics.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.digits import CLASSES, Digits, corrupt, load_digits
from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

N = 200
NOISE = 0.2
N_CLEAN = 1400  # of the control
WIDTHS = (8, 16, 32, 64, 256)
STACKS = ((8, 16, 32, 64), (256,))  # widths that are trained at once
FOLLOWED = (64, 256)  # widths whose error is followed in time: past the peak, and far past it
STEPS = 2000
EVERY = 100  # steps between evaluations
BATCH = 64
LR = 5e-3
LAST = 5  # evaluations that are averaged for the error after training


class Course(NamedTuple):
    """Test errors after every `EVERY` steps, `[T, widths]`."""

    errors: Tensor

    @property
    def by_width(self) -> list[float]:
        """Errors after training."""
        return self.errors[-LAST:].mean(0).tolist()

    def by_time(self, width: int) -> list[float]:
        """Return the errors of one width."""
        return self.errors[:, WIDTHS.index(width)].tolist()


def run(seed: int) -> Outcome:
    """Train on points and on pairs."""
    split, points, pairs = child_seeds(seed, 3)
    data = noisy(split)
    plain = train(data, points, "points")
    paired = train(data, pairs, "pairs")
    curves = {"points": (WIDTHS, plain.by_width), "pairs": (WIDTHS, paired.by_width)}
    return Outcome(measures(plain, paired), curves, x="width", y="squared test error", log="x")


def control(seed: int) -> Mapping[str, float]:
    """Train on many clean points, and on pairs of equal inputs."""
    split, points, pairs = child_seeds(seed, 3)
    plain = train(load_digits(N_CLEAN, split), points, "points")
    paired = train(noisy(split), pairs, "twins")
    return measures(plain, paired)


def measures(plain: Course, paired: Course) -> dict[str, float]:
    """Compare how errors peak with width, and rise in time, on points and on pairs."""
    values = {
        "peak in width, points": peak(plain.by_width),
        "peak in width, points - pairs": peak(plain.by_width) - peak(paired.by_width),
    }
    for width in FOLLOWED:
        over_time, paired_over_time = plain.by_time(width), paired.by_time(width)
        values[f"peak in time, {width} units, points"] = peak(over_time)
        gap = rise(over_time) - rise(paired_over_time)
        values[f"rise in time, {width} units, points - pairs"] = gap
    return values


def rise(errors: Sequence[float]) -> float:
    """Return the largest increase over the least error before."""
    values = np.array(errors)
    return float((values - np.minimum.accumulate(values)).max())


def peak(errors: Sequence[float]) -> float:
    """Return the height of the highest peak, over the least error before it or that after it."""
    values = np.array(errors)
    before = values - np.minimum.accumulate(values)
    after = values - np.minimum.accumulate(values[::-1])[::-1]
    return float(np.minimum(before, after).max())


def noisy(seed: int) -> Digits:
    """Split the digits, with a part of the training labels redrawn."""
    data = load_digits(N, seed)
    generator = Generator().manual_seed(seed)
    return data._replace(y=corrupt(data.y, NOISE, generator))


def batch(n: int, runs: int, kind: str, generator: Generator) -> tuple[Tensor, ...]:
    """Draw the indices `[R, B]` of the inputs of one step: one of points, two of pairs or twins."""
    first = torch.randint(n, (runs, BATCH), generator=generator)
    if kind == "points":
        return (first,)
    if kind == "twins":
        return first, first
    return first, torch.randint(n, (runs, BATCH), generator=generator)


def train(data: Digits, seed: int, kind: str) -> Course:
    """Train one network of every width.

    Args:
        data: train and test part.
        seed: of the initial weights and the minibatches.
        kind: `points`, `pairs`, or `twins`, pairs of equal inputs.
    """
    parts = []
    for widths, child in zip(STACKS, child_seeds(seed, len(STACKS))):
        parts.append(train_stack(data, widths, child, kind))
    return Course(torch.cat(parts, 1))


def train_stack(data: Digits, widths: Sequence[int], seed: int, kind: str) -> Tensor:
    """Train one network of each width at once; return the test errors, `[T, R]`."""
    generator = Generator().manual_seed(seed)
    copies = 1 if kind == "points" else 2
    targets = F.one_hot(data.y, CLASSES).float()
    test_targets = F.one_hot(data.y_test, CLASSES).float()
    test_inputs = data.x_test.repeat(1, copies)

    weights = start(64 * copies, widths, generator)
    optimizer = torch.optim.Adam(weights, lr=LR)
    errors = []

    for step in range(1, STEPS + 1):
        parts = batch(len(data.x), len(widths), kind, generator)
        x = torch.cat([data.x[index] for index in parts], -1)
        y = torch.stack([targets[index] for index in parts]).mean(0)
        optimizer.zero_grad()
        (network(weights, x) - y).square().sum(-1).mean(1).sum().backward()
        optimizer.step()

        if step % EVERY == 0:
            with torch.no_grad():
                outputs = network(weights, test_inputs)
            errors.append((outputs - test_targets).square().sum(-1).mean(-1))

    return torch.stack(errors)


def start(n_in: int, widths: Sequence[int], generator: Generator) -> list[Tensor]:
    """Draw the weights of R networks with one hidden layer, padded to the largest width.

    A unit without incoming and outgoing weights gets no gradient, and stays without.
    """
    largest = max(widths)
    is_used = torch.arange(largest) < torch.tensor(widths)[:, None]
    runs = len(widths)
    first = torch.randn(runs, n_in, largest, generator=generator) * (2 / n_in) ** 0.5
    scale = torch.tensor(widths)[:, None, None] ** -0.5
    second = torch.randn(runs, largest, CLASSES, generator=generator) * scale

    weights = [
        first * is_used[:, None],
        torch.zeros(runs, 1, largest),
        second * is_used[:, :, None],
        torch.zeros(runs, 1, CLASSES),
    ]
    return [weight.requires_grad_() for weight in weights]


def network(weights: list[Tensor], x: Tensor) -> Tensor:
    """Evaluate R networks, `[R, B, D]` or `[B, D]` to `[R, B, CLASSES]`."""
    first, bias, second, offset = weights
    return (x @ first + bias).relu() @ second + offset
