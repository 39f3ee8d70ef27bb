"""Depth beyond interpolation: the test risk of convolutional networks falls with depth, then rises.

Row 21: Nichani, Radhakrishnan and Uhler, "Increasing Depth Leads to U-Shaped Test Risk in
Over-parameterized Convolutional Networks", arXiv:2010.09610. Convolutional networks of equal width
and growing depth are all trained until they interpolate 100 digits, each shifted by up to a pixel
at random. At this scale the rise with depth is seen, but the fall before it is within the noise:
with more digits, or more widely shifted ones, the error only falls; with unshifted ones it only
rises. Report only.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.digits import load_digits
from rlop.experiments.outcome import Outcome

DEPTHS = (1, 2, 3, 5, 8, 12)
WIDTH = 16
N = 100
MARGIN = 1  # pixels by which a digit may be shifted
SEEDS = 3
STEPS = 400
LR = 2e-3
TOLERANCE = 0.02  # train loss that counts as interpolation


def run(seed: int) -> Outcome:
    """Train networks of six depths and three seeds to a train loss of 0.02; test them."""
    torch.set_flush_denormal(True)
    data = load_digits(N, seed)
    generator = Generator().manual_seed(seed)
    x = shifted(data.x, generator)
    x_test = shifted(data.x_test, generator)

    errors: list[float] = []
    train_accuracies: list[float] = []
    for depth in DEPTHS:
        depth_errors = []
        for s in range(SEEDS):
            weights = interpolate(start(depth, seed + s), x, data.y)
            depth_errors.append(share(weights, x_test, data.y_test, right=False))
            train_accuracies.append(share(weights, x, data.y, right=True))
        errors.append(sum(depth_errors) / SEEDS)

    best = min(errors)

    values = {
        "train accuracy, least": min(train_accuracies),
        "test error of depth 1 / best": errors[0] / best,
        "test error of depth 12 / best": errors[-1] / best,
    }

    return Outcome(
        values, {"test error": (DEPTHS, errors)}, x="convolutional layers", y="test error"
    )


def shifted(x: Tensor, generator: Generator) -> Tensor:
    """Put each digit at a random place of a larger frame, `[B, 64] -> [B, 1, 9, 9]`."""
    framed = torch.zeros(len(x), 1, 8 + MARGIN, 8 + MARGIN)
    places = torch.randint(MARGIN + 1, (len(x), 2), generator=generator).tolist()
    for image, pixels, (i, j) in zip(framed, x.view(-1, 8, 8), places):
        image[0, i : i + 8, j : j + 8] = pixels
    return framed


def start(depth: int, seed: int) -> list[Tensor]:
    """Draw He-scaled 3 x 3 kernels and a linear head on all pixels of the last layer."""
    generator = Generator().manual_seed(seed)
    weights = []
    channels = [1, *[WIDTH] * depth]

    for n_in, n_out in pairwise(channels):
        kernel = torch.randn(n_out, n_in, 3, 3, generator=generator) * (2 / (9 * n_in)) ** 0.5
        weights.append(kernel.requires_grad_())

    pixels = (8 + MARGIN) ** 2 * WIDTH
    head = torch.randn(pixels, 10, generator=generator) / pixels**0.5
    return [*weights, head.requires_grad_()]


def network(weights: list[Tensor], x: Tensor) -> Tensor:
    """Map images `[B, 1, 9, 9]` to logits `[B, 10]`."""
    *kernels, head = weights
    for kernel in kernels:
        x = F.conv2d(x, kernel, padding=1).relu()
    return x.flatten(1) @ head


@torch.no_grad()
def share(weights: list[Tensor], x: Tensor, y: Tensor, right: bool) -> float:
    """Return the share of images that are classified right, or wrong."""
    is_right = network(weights, x).argmax(-1) == y
    return (is_right if right else ~is_right).float().mean().item()


def interpolate(weights: list[Tensor], x: Tensor, y: Tensor) -> list[Tensor]:
    """Run Adam on the whole set until the loss is small."""
    optimizer = torch.optim.Adam(weights, lr=LR)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(weights, x), y)
        if loss.item() < TOLERANCE:
            break
        loss.backward()
        optimizer.step()

    return weights
