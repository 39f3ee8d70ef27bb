"""Wider or deeper and sparser at equal weight count: as robust, until too few connections are left.

Row 8: Timpl, Entezari, Sedghi, Neyshabur and Saukh, "Understanding the Effect of Sparsity on Neural
Networks Robustness", arXiv:2206.10915. Masks are drawn once, before training. Accuracy on digits is
measured clean, with noise on the weights, with noise on the pixels, and on adversarial examples
(one step along the sign of the gradient).

1. A network of one weight in four, made as much wider, or wider and one layer deeper, that the
   number of weights stays the same, matches its dense version in all four.
2. With one weight in a hundred at the same number, about one input per neuron, all four fall.
3. Compression, removing weights at a fixed width, harms by the capacity that is lost: at one weight
   in twenty, the same sparsity with the capacity kept does not.

Control: for the match, compressed networks of one weight in a hundred, whose capacity is lost; for
both falls, differences between equal networks.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Generator, Tensor, nn

from rlop.experiments.digits import Digits, load_digits
from rlop.experiments.fit import (
    accuracy,
    apply_masks,
    child_seeds,
    fit,
    network,
    orders,
    predict,
    weight_matrices,
)
from rlop.experiments.outcome import Curve, Outcome
from rlop.optim import Adam

RUNS = 3
EPOCHS = 40
WEIGHT_NOISE = 0.5  # relative
PIXEL_NOISE = 0.4  # of pixels in [0, 1]
STEP = 0.1  # of each pixel, of adversarial examples
DRAWS = 5  # of noise

WIDTH = 16  # of the dense network: 16 (64 + 10) weights
DEEP_WIDTH = 13  # of the dense network of two hidden layers, about as many weights
COMPRESSED_WIDTH = 64  # of the dense network that is compressed
QUARTER, HUNDREDTH, TWENTIETH = 0.25, 0.01, 0.05
DENSITIES = (1.0, 0.25, 0.05, 0.01)  # for the picture

# The measures of a network: name -> accuracy.
Accuracies = dict[str, float]
CLEAN, WEIGHTS, PIXELS, ADVERSARIAL = "clean", "weight noise", "pixel noise", "adversarial"


def widened(width: int, layers: int, density: float) -> int:
    """Return the width at which a sparse network has the weights of a dense one.

    Args:
        width: of the dense network, in every hidden layer.
        layers: hidden layers of both.
        density: share of the weights that is kept.
    """
    count = (layers - 1) * width**2 + 74 * width
    if layers == 1:
        return round(count / density / 74)
    a, b, c = layers - 1, 74, -count / density
    return round((-b + (b * b - 4 * a * c) ** 0.5) / (2 * a))


def measure_network(hidden: tuple[int, ...], density: float, data: Digits, seed: int) -> Accuracies:
    """Train networks under random masks, and measure all four accuracies, means over the runs."""
    *seeds, shuffle, other = child_seeds(seed, RUNS + 2)
    generator = Generator().manual_seed(other)
    net = network(seeds, 64, hidden, 10)
    masks: dict[str, Tensor] = {}
    for name, w in weight_matrices(net).items():
        masks[name] = torch.rand(w.shape, generator=generator) < density

    apply_masks(net, masks)
    scale_weights(net, density**-0.5)  # keeps the variance of the activations
    optimizer = Adam(net.parameters(), lr=3e-3)
    batches = orders(RUNS, len(data.y), 50, EPOCHS, shuffle)
    labels = data.y.expand(RUNS, -1)
    fit(net, optimizer, data.x, labels, batches, after=partial(apply_masks, net, masks))

    noisy_weights, noisy_pixels = 0.0, 0.0
    for _ in range(DRAWS):
        noisy_weights += perturbed(net, data, generator) / DRAWS
        pixels = data.x_test + PIXEL_NOISE * torch.randn(data.x_test.shape, generator=generator)
        noisy_pixels += score(net, pixels, data.y_test) / DRAWS
    return {
        CLEAN: score(net, data.x_test, data.y_test),
        WEIGHTS: noisy_weights,
        PIXELS: noisy_pixels,
        ADVERSARIAL: attacked(net, data),
    }


def score(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the accuracy, the mean over the runs."""
    return accuracy(predict(net, x, RUNS), y).mean().item()


@torch.no_grad()
def scale_weights(net: nn.Module, factor: float) -> None:
    """Multiply all weight matrices, in place."""
    for w in weight_matrices(net).values():
        w.mul_(factor)


@torch.no_grad()
def perturbed(net: nn.Module, data: Digits, generator: Generator) -> float:
    """Measure test accuracy with weights multiplied by 1 + `WEIGHT_NOISE` times a normal number.

    The network is restored.
    """
    saved = {name: w.clone() for name, w in weight_matrices(net).items()}
    for w in weight_matrices(net).values():
        w.mul_(1 + WEIGHT_NOISE * torch.randn(w.shape, generator=generator))

    result = score(net, data.x_test, data.y_test)

    for name, w in weight_matrices(net).items():
        w.copy_(saved[name])
    return result


def attacked(net: nn.Module, data: Digits) -> float:
    """Measure the accuracy on test digits after one step that raises the loss, pixel by pixel."""
    x = data.x_test.repeat(RUNS, 1, 1).requires_grad_()
    labels = data.y_test.expand(RUNS, -1)
    loss = torch.nn.functional.cross_entropy(net(x).mT, labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    with torch.no_grad():
        return accuracy(net(x + STEP * gradient.sign()), labels).mean().item()


def difference(first: Accuracies, second: Accuracies) -> Accuracies:
    """Subtract the accuracies of the second network."""
    return {name: first[name] - second[name] for name in first}


def values_of(
    wide: Accuracies, deep: Accuracies, sparsest: Accuracies, capacity: Accuracies
) -> dict[str, float]:
    """Name the measures, differences of accuracies."""
    values: dict[str, float] = {}
    for name in (CLEAN, WEIGHTS, PIXELS, ADVERSARIAL):
        values[f"{name}: wider, density .25 - dense"] = wide[name]
        values[f"{name}: deeper, density .25 - dense"] = deep[name]
        values[f"{name}: density .01 - density .25"] = sparsest[name]
    for name in (WEIGHTS, PIXELS, ADVERSARIAL):
        values[f"{name}: density .05, capacity kept - compressed"] = capacity[name]
    return values


def run(seed: int) -> Outcome:
    """Train dense and sparse networks of equal numbers of weights, and compressed ones."""
    split, *seeds = child_seeds(seed, 9)
    data = load_digits(seed=split)

    by_density: list[Accuracies] = []
    for density, child in zip(DENSITIES, seeds):
        by_density.append(measure_network((widened(WIDTH, 1, density),), density, data, child))
    dense, wide, _, sparsest = by_density

    deep_dense = measure_network((DEEP_WIDTH,) * 2, 1.0, data, seeds[4])
    deep_width = widened(DEEP_WIDTH, 2, QUARTER)
    deep = measure_network((deep_width,) * 2, QUARTER, data, seeds[5])
    kept_width = widened(COMPRESSED_WIDTH, 1, TWENTIETH)
    kept = measure_network((kept_width,), TWENTIETH, data, seeds[6])
    compressed = measure_network((COMPRESSED_WIDTH,), TWENTIETH, data, seeds[7])

    values = values_of(
        difference(wide, dense),
        difference(deep, deep_dense),
        difference(sparsest, wide),
        difference(kept, compressed),
    )
    curves: dict[str, Curve] = {}
    for name in dense:
        curves[name] = (DENSITIES, [accuracies[name] for accuracies in by_density])
    return Outcome(
        values, curves, x="density, at the same number of weights", y="test accuracy", log="x"
    )


def control(seed: int) -> dict[str, float]:
    """Take the capacity away where it should be kept; compare equal networks where one falls."""
    split, *seeds = child_seeds(seed, 9)
    data = load_digits(seed=split)
    dense, again = (measure_network((WIDTH,), 1.0, data, child) for child in seeds[:2])
    lost = difference(measure_network((WIDTH,), HUNDREDTH, data, seeds[2]), dense)
    deep_dense = measure_network((DEEP_WIDTH,) * 2, 1.0, data, seeds[4])
    deep_lost = difference(
        measure_network((DEEP_WIDTH,) * 2, HUNDREDTH, data, seeds[5]), deep_dense
    )
    equal = difference(again, dense)
    return values_of(lost, deep_lost, equal, equal)
