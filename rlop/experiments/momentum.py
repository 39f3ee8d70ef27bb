"""Momentum remembers the large-margin examples long enough to learn the small-margin ones by the same feature.

Row 10: Jelassi and Li, "Towards Understanding How Momentum Improves Generalization in Deep Learning", arXiv:2207.05931.
Each example has P patches: one holds the label along a common direction, strongly for most examples and weakly for a
few, the others hold noise. A small convolutional network with cubic activation is fitted by full-batch gradient
descent, with and without momentum. Plain descent fits the strong examples, loses their gradient and memorises the noise
patches of the weak ones; heavy-ball momentum keeps the direction alive. A probe of TD: the error of rare transitions.

Differs from: the paper in the sizes, which are ours, chosen for seconds. The gain needs a large learning rate: at a
fifth of the one used here both end alike, at twice of it the gain is larger.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

D, PATCHES, FILTERS, N, N_TEST, SEEDS = 50, 5, 10, 200, 1000, 5
STRONG, WEAK, NOISE, SHARE_WEAK = 1.0, 0.2, 0.3, 0.1
LR, STEPS, EVERY, START, MOMENTUM = 0.5, 800, 50, 0.02, (0.0, 0.9)


def run(seed: int = 0) -> Outcome:
    """Train with and without momentum and follow the test error on examples of small margin."""
    generator = Generator().manual_seed(seed)
    x, y, _ = examples(N, generator)
    x_test, y_test, weak = examples(N_TEST, generator)
    start = START * torch.randn(SEEDS, FILTERS, D, generator=generator)
    paths = [descend(start, x, y, beta) for beta in MOMENTUM]
    wrong = [[network(w, x_test) * y_test <= 0 for w in path] for path in paths]
    small = [[each[weak].float().mean().item() for each in path] for path in wrong]
    large = max(path[-1][~weak].float().mean().item() for path in wrong)
    fitted = min((network(path[-1], x) * y > 0).float().mean().item() for path in paths)
    plain, heavy = (errors[-1] for errors in small)
    measures = (
        Measure("train accuracy", fitted, 0.995, 1, "both fit"),
        Measure("test error on large margins", large, 0, 0.01, "both learn the feature"),
        Measure("test error on small margins, plain", plain, 0.3, 0.6, "about chance: memorised"),
        Measure(
            "test error on small margins, plain / momentum",
            plain / max(heavy, 1e-3),
            2,
            torch.inf,
            "learned",
        ),
    )
    steps = list(range(0, STEPS + 1, EVERY))
    curves = {f"momentum {beta:g}": (steps, errors) for beta, errors in zip(MOMENTUM, small)}
    return Outcome(measures, curves, x="step", y="test error on examples of small margin")


def examples(n: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Patches `[S, n, P, D]`, labels +-1 and whether the margin is small, both `[S, n]`."""
    y = torch.randint(2, (SEEDS, n), generator=generator) * 2.0 - 1
    weak = torch.rand(SEEDS, n, generator=generator) < SHARE_WEAK
    x = NOISE * torch.randn(SEEDS, n, PATCHES, D, generator=generator)
    x[..., 0] = 0  # noise is orthogonal to the feature
    x[:, :, 0] = 0
    x[:, :, 0, 0] = y * torch.where(weak, WEAK, STRONG)
    return x, y, weak


def network(w: Tensor, x: Tensor) -> Tensor:
    """Sum over filters and patches of (w . patch)^3, `[S, n]`."""
    return (x @ w[:, None].mT).pow(3).sum((-1, -2))


def descend(w: Tensor, x: Tensor, y: Tensor, beta: float) -> list[Tensor]:
    """Filters `[S, K, D]` every `EVERY` steps of v <- beta v + (1 - beta) gradient, w <- w - lr v, logistic loss."""
    flat, velocity, path = x.flatten(1, 2), torch.zeros_like(w), [w]
    for step in range(1, STEPS + 1):
        z = flat @ w.mT  # [S, n P, K]
        slope = (
            -y
            * torch.sigmoid(-y * z.pow(3).unflatten(1, (-1, PATCHES)).sum((-1, -2)))
            / y.shape[-1]
        )
        weights = 3 * z.square() * slope.repeat_interleave(PATCHES, 1)[..., None]
        velocity = beta * velocity + (1 - beta) * (weights.mT @ flat)
        w = w - LR * velocity
        if step % EVERY == 0:
            path.append(w)
    return path
