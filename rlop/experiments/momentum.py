"""Momentum keeps the gradient of large-margin examples, so small-margin ones are learned as well.

Row 10: Jelassi and Li, "Towards Understanding How Momentum Improves Generalization in Deep
Learning", arXiv:2207.05931. The abstract at the workshop ends at the colon after "formally studies
how momentum help generalization in deep learning"; what follows it there is taken from the paper.

Each example has P patches: one holds the label along a common direction, strongly for most examples
and weakly for a few, the others hold noise. A small convolutional network with cubic activation is
fitted by full-batch gradient descent, with and without momentum .9. Plain descent fits the strong
examples, loses their gradient and memorizes the noise patches of the weak ones; heavy-ball momentum
keeps learning the label's direction. A probe of TD: the error of rare transitions.

The margins and the noise are such that the premise of the theorem holds: plain descent errs on
small margins. Each arm is trained for 1600 steps at three learning rates, .03 to 3, on two data
sets and starts for each seed. With the step (1 - beta) gradient both arms move equally far under a
constant gradient, so that momentum is not a larger learning rate. The rate is the one with the
least error on 1000 validation examples, among those that fit the training data as in the theorem;
the test examples are others. Measured at the chosen rates: plain descent errs on test examples of
small margin and not on those of large margin; momentum errs less; along the label's direction lies
a larger share of the squared weights with momentum. Beyond the paper: the same comparison where
every arm may stop early, at the rate and step of the least validation error.

Control: the few examples have the same margin as the others, so that no feature is shared between
easy and hard ones, and nothing is left to gain.

Differs from: the paper in the sizes, which are ours, chosen to run in seconds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome

# The data.
D = 200
PATCHES = 5
N = 200
N_VALIDATION = 1000
N_TEST = 2000
STRONG = 1.0
WEAK = 0.1
SHARE_WEAK = 0.1
NOISE = 0.2

# The network and its training.
FILTERS = 20
SEEDS = 2
START = 0.02
RATES = (0.03, 0.3, 3.0)
STEPS = 1600
EVERY = 100  # steps between measurements
MOMENTUM = (0.0, 0.9)
FITTED = 0.99  # train accuracy


class Arm(NamedTuple):
    """Measurements of one arm on test examples."""

    rate: float  # the chosen one
    strong_error: float
    weak_error: float
    along: float  # share of the squared weights along the label's direction
    stopped_error: float  # of all examples, at the best rate and step
    course: list[float]  # weak_error by step


def compare(seed: int, weak: float) -> list[Arm]:
    """Train both arms at every rate, and measure each where it validates best.

    Args:
        seed: seed of data and start.
        weak: margin of the few examples.
    """
    generator = Generator().manual_seed(seed)
    train = examples(N, weak, generator)
    validation = examples(N_VALIDATION, weak, generator)
    test = examples(N_TEST, weak, generator)
    start = START * torch.randn(SEEDS, FILTERS, D, generator=generator)

    arms = []
    for beta in MOMENTUM:
        paths = {rate: descend(start, train.x, train.y, beta, rate) for rate in RATES}
        fitting = [rate for rate in RATES if 1 - error(paths[rate][-1], train) >= FITTED]
        rate = min(fitting, key=lambda rate: error(paths[rate][-1], validation))
        steps = [w for path in paths.values() for w in path]
        stopped = min(steps, key=lambda w: error(w, validation))

        w = paths[rate][-1]
        arms.append(
            Arm(
                rate=rate,
                strong_error=error(w, test, ~test.is_weak),
                weak_error=error(w, test, test.is_weak),
                along=(w[..., 0].square().sum() / w.square().sum()).item(),
                stopped_error=error(stopped, test),
                course=[error(w, test, test.is_weak) for w in paths[rate]],
            )
        )
    return arms


def values_of(plain: Arm, heavy: Arm) -> dict[str, float]:
    """Return the values, of which the catalogue judges some."""
    return {
        "test error of plain descent, small - large margins": plain.weak_error - plain.strong_error,
        "test error on small margins, plain - momentum": plain.weak_error - heavy.weak_error,
        "share of the weights along the label, momentum - plain": heavy.along - plain.along,
        "test error stopped early, plain - momentum": plain.stopped_error - heavy.stopped_error,
        "learning rate, plain": plain.rate,
        "learning rate, momentum": heavy.rate,
    }


def run(seed: int) -> Outcome:
    """Train with and without momentum; follow the test error on examples of small margin."""
    arms = compare(seed, WEAK)
    steps = list(range(0, STEPS + 1, EVERY))
    curves = {f"momentum {beta:g}": (steps, arm.course) for beta, arm in zip(MOMENTUM, arms)}
    y = "test error on examples of small margin"
    return Outcome(values_of(*arms), curves, x="step", y=y)


def control(seed: int) -> dict[str, float]:
    """Train where the few examples are as strong as the others."""
    return values_of(*compare(seed, STRONG))


class Examples(NamedTuple):
    """Patches with labels, for each start."""

    x: Tensor  # [S, n, P, D]
    y: Tensor  # +-1, [S, n]
    is_weak: Tensor  # whether an example is one of the few, [S, n]


def examples(n: int, weak: float, generator: Generator) -> Examples:
    """Draw examples.

    Args:
        n: examples for each start.
        weak: margin of the few.
        generator: generator of all of it.
    """
    y = torch.randint(2, (SEEDS, n), generator=generator) * 2.0 - 1
    is_weak = torch.rand(SEEDS, n, generator=generator) < SHARE_WEAK
    x = NOISE * torch.randn(SEEDS, n, PATCHES, D, generator=generator)

    # The first patch holds the label, along the first direction; the noise is orthogonal to it.
    x[..., 0] = 0
    x[:, :, 0] = 0
    x[:, :, 0, 0] = y * torch.where(is_weak, weak, STRONG)
    return Examples(x, y, is_weak)


def error(w: Tensor, data: Examples, chosen: Tensor | None = None) -> float:
    """Return the share of wrong signs among the chosen examples; NaN outputs are wrong."""
    wrong = ~(network(w, data.x) * data.y > 0)
    return (wrong if chosen is None else wrong[chosen]).float().mean().item()


def network(w: Tensor, x: Tensor) -> Tensor:
    """Sum (w . patch)^3 over filters and patches, `[S, n]`."""
    return (x @ w[:, None].mT).pow(3).sum((-1, -2))


def descend(w: Tensor, x: Tensor, y: Tensor, beta: float, lr: float) -> list[Tensor]:
    """Minimize the logistic loss by heavy-ball descent on all data.

        v <- beta v + (1 - beta) gradient,   w <- w - lr v

    Returns:
        The filters `[S, K, D]` at the start and every `EVERY` steps.
    """
    flat = x.flatten(1, 2)  # [S, n P, D]
    velocity = torch.zeros_like(w)
    path = [w]

    for step in range(1, STEPS + 1):
        z = flat @ w.mT  # [S, n P, K]
        output = z.pow(3).unflatten(1, (-1, PATCHES)).sum((-1, -2))
        slope = -y * torch.sigmoid(-y * output) / y.shape[-1]
        weights = 3 * z.square() * slope.repeat_interleave(PATCHES, 1)[..., None]

        velocity = beta * velocity + (1 - beta) * (weights.mT @ flat)
        w = w - lr * velocity
        if step % EVERY == 0:
            path.append(w)

    return path
