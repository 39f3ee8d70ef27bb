"""Depth beyond interpolation: the test risk of convolutional networks falls with depth, then rises.

Row 21: Nichani, Radhakrishnan and Uhler, "Increasing Depth Leads to U-Shaped Test Risk in Over-parameterized
Convolutional Networks", arXiv:2010.09610. Convolutional networks of equal width and growing depth are all trained until
they interpolate 100 digits, each a pixel off at random. At this scale the rise with depth is seen, the fall before it
is within the noise: with more or more widely shifted digits the error only falls, with unshifted ones it only rises.
Reported.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.digits import load_digits
from rlop.experiments.outcome import Measure, Outcome

DEPTHS = (1, 2, 3, 5, 8, 12)
WIDTH, N, MARGIN, SEEDS, STEPS, LR, TOLERANCE = 16, 100, 1, 3, 400, 2e-3, 0.02


def run(seed: int = 0) -> Outcome:
    """Train networks of six depths and two seeds to a train loss of 0.02 and give their test errors."""
    torch.set_flush_denormal(True)
    data = load_digits(N, seed)
    generator = Generator().manual_seed(seed)
    x, x_test = shifted(data.x, generator), shifted(data.x_test, generator)
    errors, fits = [], []
    for depth in DEPTHS:
        results = []
        for s in range(SEEDS):
            weights = interpolate(start(depth, seed + s), x, data.y)
            with torch.no_grad():
                wrong = (network(weights, x_test).argmax(-1) != data.y_test).float().mean().item()
                fits.append((network(weights, x).argmax(-1) == data.y).float().mean().item())
            results.append(wrong)
        errors.append(sum(results) / SEEDS)
    best = errors.index(min(errors))
    measures = (
        Measure("train accuracy, least", min(fits), 0.99, 1, "all interpolate"),
        Measure(
            "test error of depth 1 / best", errors[0] / errors[best], 1.1, torch.inf, "falls first"
        ),
        Measure(
            "test error of depth 12 / best",
            errors[-1] / errors[best],
            1.1,
            torch.inf,
            "rises in the end",
        ),
    )
    return Outcome(
        measures,
        {"test error": (DEPTHS, errors)},
        x="convolutional layers",
        y="test error",
        report_only=True,
    )


def shifted(x: Tensor, generator: Generator, margin: int = MARGIN) -> Tensor:
    """Each digit at a random place of a larger frame, `[B, 64] -> [B, 1, 8 + margin, 8 + margin]`."""
    framed = torch.zeros(len(x), 1, 8 + margin, 8 + margin)
    places = torch.randint(margin + 1, (len(x), 2), generator=generator).tolist()
    for image, pixels, (i, j) in zip(framed, x.view(-1, 8, 8), places):
        image[0, i : i + 8, j : j + 8] = pixels
    return framed


def start(depth: int, seed: int) -> list[Tensor]:
    """He-scaled 3 x 3 kernels and a linear head on all pixels of the last layer."""
    generator = Generator().manual_seed(seed)
    widths = [1, *[WIDTH] * depth]
    kernels = [
        torch.randn(o, i, 3, 3, generator=generator) * (2 / (9 * i)) ** 0.5
        for i, o in pairwise(widths)
    ]
    head = (
        torch.randn((8 + MARGIN) ** 2 * WIDTH, 10, generator=generator)
        / ((8 + MARGIN) ** 2 * WIDTH) ** 0.5
    )
    return [w.requires_grad_() for w in [*kernels, head]]


def network(weights: list[Tensor], x: Tensor) -> Tensor:
    """Images `[B, 1, 8, 8]` to logits `[B, 10]`."""
    *kernels, head = weights
    for kernel in kernels:
        x = F.conv2d(x, kernel, padding=1).relu()
    return x.flatten(1) @ head


def interpolate(weights: list[Tensor], x: Tensor, y: Tensor) -> list[Tensor]:
    """Adam on the whole set until the loss is small."""
    optimizer = torch.optim.Adam(weights, lr=LR)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(weights, x), y)
        if loss.item() < TOLERANCE:
            break
        loss.backward()
        optimizer.step()
    return weights
