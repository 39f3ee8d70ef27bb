"""Momentum keeps the gradient of large-margin examples, so small-margin ones are learned as well.

Row 10: Jelassi and Li, "Towards Understanding How Momentum Improves Generalization in Deep
Learning", arXiv:2207.05931. Each example has P patches: one holds the label along a common
direction, strongly for most examples and weakly for a few, the others hold noise. A small
convolutional network with cubic activation is fitted by full-batch gradient descent, with and
without momentum. Plain descent fits the strong examples, loses their gradient and memorizes the
noise patches of the weak ones; heavy-ball momentum keeps learning the label's direction. A probe of
TD: the error of rare transitions.

Differs from: the paper in the sizes, which are ours, chosen to run in seconds. The gain needs a
large learning rate: at a fifth of the one used here both end alike, at twice it the gain is larger.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome

# The data.
D = 50
PATCHES = 5
N = 200
N_TEST = 1000
STRONG = 1.0
WEAK = 0.2
SHARE_WEAK = 0.1
NOISE = 0.3

# The network and its training.
FILTERS = 10
SEEDS = 5
START = 0.02
LR = 0.5
STEPS = 800
EVERY = 50  # steps between measurements
MOMENTUM = (0.0, 0.9)


def run(seed: int) -> Outcome:
    """Train with and without momentum; follow the test error on examples of small margin."""
    generator = Generator().manual_seed(seed)
    x, y, _ = examples(N, generator)
    x_test, y_test, is_weak = examples(N_TEST, generator)
    start = START * torch.randn(SEEDS, FILTERS, D, generator=generator)

    train_accuracy = 1.0
    strong_error = 0.0
    weak_errors: list[list[float]] = []

    for beta in MOMENTUM:
        path = descend(start, x, y, beta)
        wrong = [network(w, x_test) * y_test <= 0 for w in path]
        weak_errors.append([at_step[is_weak].float().mean().item() for at_step in wrong])
        strong_error = max(strong_error, wrong[-1][~is_weak].float().mean().item())
        accuracy = (network(path[-1], x) * y > 0).float().mean().item()
        train_accuracy = min(train_accuracy, accuracy)

    plain, heavy = weak_errors[0][-1], weak_errors[1][-1]

    values = {
        "train accuracy": train_accuracy,
        "test error on large margins": strong_error,
        "test error on small margins, plain": plain,
        "test error on small margins, plain / momentum": plain / max(heavy, 1e-3),
    }

    steps = list(range(0, STEPS + 1, EVERY))
    curves = {f"momentum {beta:g}": (steps, errors) for beta, errors in zip(MOMENTUM, weak_errors)}
    return Outcome(values, curves, x="step", y="test error on examples of small margin")


def examples(n: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw patches `[S, n, P, D]`, labels +-1 and whether the margin is small, both `[S, n]`."""
    y = torch.randint(2, (SEEDS, n), generator=generator) * 2.0 - 1
    is_weak = torch.rand(SEEDS, n, generator=generator) < SHARE_WEAK
    x = NOISE * torch.randn(SEEDS, n, PATCHES, D, generator=generator)

    # The first patch holds the label, along the first direction; the noise is orthogonal to it.
    x[..., 0] = 0
    x[:, :, 0] = 0
    x[:, :, 0, 0] = y * torch.where(is_weak, WEAK, STRONG)
    return x, y, is_weak


def network(w: Tensor, x: Tensor) -> Tensor:
    """Sum (w . patch)^3 over filters and patches, `[S, n]`."""
    return (x @ w[:, None].mT).pow(3).sum((-1, -2))


def descend(w: Tensor, x: Tensor, y: Tensor, beta: float) -> list[Tensor]:
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
        w = w - LR * velocity
        if step % EVERY == 0:
            path.append(w)

    return path
