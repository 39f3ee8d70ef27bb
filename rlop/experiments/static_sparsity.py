"""Wider and sparser at equal weight count: accurate and robust until too few connections are left.

Row 8: Timpl, Entezari, Sedghi, Neyshabur and Saukh, "Understanding the Effect of Sparsity on Neural
Networks Robustness", arXiv:2206.10915. Masks are drawn once, before training, and the width grows
as the density falls, so that the number of weights stays the same. Accuracy, clean and under noise
on the weights, holds up to high sparsity and then falls: with about one input left per neuron, more
width no longer helps. A network as small as this one gains in robustness and keeps its accuracy
with up to three of four weights removed.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Generator, Tensor, nn

from rlop.experiments.digits import Digits, load_digits
from rlop.experiments.fit import (
    accuracy,
    apply_masks,
    fit,
    network,
    orders,
    predict,
    weight_matrices,
)
from rlop.experiments.outcome import Outcome
from rlop.optim import Adam

DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
RUNS = 3
DENSE_WIDTH = 16
EPOCHS = 40
NOISE = 0.5  # of the weights, relative
DRAWS = 5  # of this noise


def run(seed: int) -> Outcome:
    """Train networks of seven densities; test them with and without noise on the weights."""
    data = load_digits(seed=seed)
    clean: list[float] = []
    noisy: list[float] = []

    for density in DENSITIES:
        # Masks from the same stream as the weights would keep the negative ones.
        generator = Generator().manual_seed(seed + 20_000)
        net = trained(density, data, seed, generator)
        clean.append(accuracy(predict(net, data.x_test, RUNS), data.y_test).mean().item())
        draws = [perturbed(net, data.x_test, data.y_test, generator) for _ in range(DRAWS)]
        noisy.append(sum(draws) / DRAWS)

    quarter = DENSITIES.index(0.25)

    values = {
        "accuracy, density .25 - dense": clean[quarter] - clean[0],
        "accuracy under noise, density .25 - dense": noisy[quarter] - noisy[0],
        "accuracy, density .01 - best": clean[-1] - max(clean),
        "accuracy under noise, density .01 - best": noisy[-1] - max(noisy),
    }

    curves = {"clean": (DENSITIES, clean), "noise on the weights": (DENSITIES, noisy)}
    return Outcome(
        values, curves, x="density, at the same number of weights", y="test accuracy", log="x"
    )


def trained(density: float, data: Digits, seed: int, generator: Generator) -> nn.Module:
    """Train networks of one density under random masks."""
    width = round(DENSE_WIDTH / density)
    net = network(range(seed, seed + RUNS), 64, (width,), 10)
    masks: dict[str, Tensor] = {}

    for name, w in weight_matrices(net).items():
        masks[name] = torch.rand(w.shape, generator=generator) < density

    apply_masks(net, masks)
    scale_weights(net, density**-0.5)  # keeps the variance of the activations
    batches = orders(RUNS, len(data.y), 50, EPOCHS, seed)
    optimizer = Adam(net.parameters(), lr=3e-3)
    labels = data.y.expand(RUNS, -1)
    fit(net, optimizer, data.x, labels, batches, after=partial(apply_masks, net, masks))

    return net


@torch.no_grad()
def scale_weights(net: nn.Module, factor: float) -> None:
    """Multiply all weight matrices, in place."""
    for w in weight_matrices(net).values():
        w.mul_(factor)


@torch.no_grad()
def perturbed(net: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> float:
    """Measure test accuracy with weights multiplied by 1 + NOISE times a standard normal number.

    The network is restored.
    """
    saved = {name: w.clone() for name, w in weight_matrices(net).items()}
    for w in weight_matrices(net).values():
        w.mul_(1 + NOISE * torch.randn(w.shape, generator=generator))

    result = accuracy(predict(net, x, RUNS), y).mean().item()

    for name, w in weight_matrices(net).items():
        w.copy_(saved[name])
    return result
