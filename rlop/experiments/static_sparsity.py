"""Wider and sparser at the same number of weights: accurate and robust to weight noise, until the layers fall apart.

Row 8: Timpl, Entezari, Sedghi, Neyshabur and Saukh, "Understanding the Effect of Sparsity on Neural Networks
Robustness", arXiv:2206.10915. Masks are drawn once, before training, and the width grows as the density falls, so that
the number of weights stays the same. Accuracy, clean and under noise on the weights, holds up to high sparsity and then
falls: with about one input left to a neuron, width buys nothing any more. A network as small as this one gains in
robustness and keeps its accuracy up to three weights in four taken out.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Generator, Tensor, nn

from rlop.experiments.digits import load_digits
from rlop.experiments.fit import accuracy, fit, network, orders, predict
from rlop.experiments.outcome import Measure, Outcome
from rlop.optim import Adam

DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
RUNS, DENSE_WIDTH, EPOCHS, NOISE, DRAWS = 3, 16, 40, 0.5, 5


def run(seed: int = 0) -> Outcome:
    """Train networks of seven densities and give their test accuracy with and without noise on the weights."""
    data = load_digits(seed=seed)
    clean, noisy = [], []
    for density in DENSITIES:
        generator = Generator().manual_seed(
            seed + 20_000
        )  # masks drawn like the weights would keep the negative ones
        net = network(range(seed, seed + RUNS), 64, (round(DENSE_WIDTH / density),), 10)
        masks = {
            name: torch.rand(w.shape, generator=generator) < density
            for name, w in weights(net).items()
        }
        mask(net, masks, density**-0.5)  # keeps the variance of the activations
        batches = orders(RUNS, len(data.y), 50, EPOCHS, seed)
        optimizer = Adam(net.parameters(), lr=3e-3)
        fit(
            net,
            optimizer,
            data.x,
            data.y.expand(RUNS, -1),
            batches,
            after=partial(mask, net, masks),
        )
        clean.append(accuracy(predict(net, data.x_test, RUNS), data.y_test).mean().item())
        noisy.append(
            sum(perturbed(net, data.x_test, data.y_test, generator) for _ in range(DRAWS)) / DRAWS
        )
    high = DENSITIES.index(0.25)
    measures = (
        Measure("accuracy, density .25 - dense", clean[high] - clean[0], -0.02, 1, "holds up"),
        Measure(
            "accuracy under noise, density .25 - dense", noisy[high] - noisy[0], 0, 1, "holds up"
        ),
        Measure(
            "accuracy, density .01 - best", clean[-1] - max(clean), -1, -0.02, "falls in the end"
        ),
        Measure(
            "accuracy under noise, density .01 - best",
            noisy[-1] - max(noisy),
            -1,
            -0.02,
            "falls in the end",
        ),
    )
    curves = {"clean": (DENSITIES, clean), "noise on the weights": (DENSITIES, noisy)}
    return Outcome(
        measures, curves, x="density, at the same number of weights", y="test accuracy", log="x"
    )


def weights(net: nn.Module) -> dict[str, Tensor]:
    """The weight matrices by name, each `[R, O, I]`."""
    return {name: p for name, p in net.named_parameters() if name.endswith("weight")}


@torch.no_grad()
def mask(net: nn.Module, masks: dict[str, Tensor], scale: float = 1.0) -> None:
    """Set the weights that are not there to 0 and scale the others."""
    for name, w in weights(net).items():
        w.mul_(masks[name] * scale)


@torch.no_grad()
def perturbed(net: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> float:
    """Test accuracy with every weight multiplied by 1 + NOISE times a standard normal number; the net is restored."""
    saved = {name: w.clone() for name, w in weights(net).items()}
    for w in weights(net).values():
        w.mul_(1 + NOISE * torch.randn(w.shape, generator=generator))
    result = accuracy(predict(net, x, RUNS), y).mean().item()
    for name, w in weights(net).items():
        w.copy_(saved[name])
    return result
