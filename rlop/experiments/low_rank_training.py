"""Training factorized layers: directions matter at the start, the spectrum does not, rank is saved.

Row 34: Kamalakara, Locatelli, Venkitesh, Ba, Gal and Gomez, "Exploring Low Rank Training of Deep
Neural Networks", arXiv:2209.13569. The abstract says that (1) factorized layers W = U V save memory
and training time, and that ablations (2) of techniques that work in practice, here the spectral
start (U S^1/2, S^1/2 V^T of a dense draw) against He's random factors, (3) falsify common beliefs:
in the paper, the start with all singular values set to 1 does as well or better, so that the
spectral start does not work because it keeps the spectrum of the dense layer.

Setting: as in the paper's transformers, layers normalize their input, otherwise the scale that is
lost in the truncation decides. Three factorized layers 64-128-128-128 with layer normalization and
a dense head, 400 digits, ranks of a tenth and a quarter of the full one. Each start takes the
learning rate of (.001, .003) at which its four networks are best on 400 validation digits; the
accuracy is of the other 997. Time is the processor's, for a layer of 1,024 units, the least of
several.

Control: He's start against itself; a spectrum that must matter, with one singular value left; and
factors of full rank, which save nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from rlop.experiments.digits import CLASSES, Digits, load_digits
from rlop.experiments.fit import accuracy, child_seeds, fit, orders, predict
from rlop.experiments.outcome import Outcome
from rlop.nets.factorized import FactorizedLinear
from rlop.nets.linear import LayerNorm, Linear, reset_runs
from rlop.optim import Adam

FRACTIONS = (0.1, 0.25)  # of the full rank
STARTS = ("he", "spectral", "spectral_ones")
WIDTH = 128
HIDDEN = 3
NETWORKS = 4
RATES = (1e-3, 3e-3)
EPOCHS = 30
BATCH = 50
N = 400
VALIDATION = 400
TIMED_WIDTH = 1024
TIMED_STEPS = 5

Change: TypeAlias = Callable[[nn.Module], None]  # of a network at its start


def run(seed: int) -> Outcome:
    """Measure the test accuracy of three starts at two ranks, and what the smaller rank saves."""
    table: dict[str, list[float]] = {}
    for start in STARTS:
        table[start] = accuracies(start, seed)

    curves = {start: (FRACTIONS, scores) for start, scores in table.items()}
    he, spectral, ones = table.values()
    values = measures(he, spectral, ones, FRACTIONS[1])
    return Outcome(values, curves, x="rank / full rank", y="test accuracy")


def control(seed: int) -> dict[str, float]:
    """Compare He's start with itself and with a spectrum of rank one; save nothing."""
    he = accuracies("he", seed)
    return measures(he, he, accuracies("spectral_ones", seed, keep_first), 1.0)


def measures(
    he: Sequence[float], spectral: Sequence[float], ones: Sequence[float], saved: float
) -> dict[str, float]:
    """Name the numbers; `saved` is the rank whose cost is measured."""
    values = {}
    for i, fraction in enumerate(FRACTIONS):
        values[f"accuracy, spectral - He, rank {fraction}"] = spectral[i] - he[i]
        values[f"accuracy, ones - spectral, rank {fraction}"] = ones[i] - spectral[i]

    dense = Linear((1,), TIMED_WIDTH, TIMED_WIDTH)
    factorized = FactorizedLinear((1,), TIMED_WIDTH, TIMED_WIDTH, round(saved * TIMED_WIDTH), "he")
    values["parameters, rank 0.25 / dense"] = size(factorized) / size(dense)
    values["time of a step, rank 0.25 / dense"] = step_time(factorized) / step_time(dense)
    return values


def accuracies(start: str, seed: int, change: Change | None = None) -> list[float]:
    """Train at every rank, and choose the learning rate on the validation digits.

    Args:
        start: one of `STARTS`.
        seed: the same for all starts: they see the same digits in the same order.
        change: applied to a network at its start.
    Returns:
        Mean test accuracy for each of `FRACTIONS`.
    """
    data_seed, net_seed, order_seed = child_seeds(seed, 3)
    data = load_digits(N, data_seed)
    seeds = child_seeds(net_seed, NETWORKS) * len(RATES)
    rates = torch.tensor(RATES).repeat_interleave(NETWORKS)
    runs = len(seeds)

    means = []
    for fraction in FRACTIONS:
        net = factorized_network(start, fraction, seeds)
        if change is not None:
            change(net)
        batches = orders(runs, N, BATCH, EPOCHS, order_seed)
        fit(net, Adam(net.parameters(), lr=rates), data.x, data.y.expand(runs, -1), batches)
        means.append(selected(net, data, runs))
    return means


def selected(net: nn.Module, data: Digits, runs: int) -> float:
    """Return the test accuracy at the learning rate that is best on the validation digits."""
    logits = predict(net, data.x_test, runs)
    validation = accuracy(logits[:, :VALIDATION], data.y_test[:VALIDATION])
    test = accuracy(logits[:, VALIDATION:], data.y_test[VALIDATION:])
    best = validation.view(len(RATES), -1).mean(1).argmax()
    return test.view(len(RATES), -1).mean(1)[best].item()


def factorized_network(start: str, fraction: float, seeds: Sequence[int]) -> nn.Sequential:
    """Build stacked networks of normalized, factorized layers and a dense head."""
    lead = (len(seeds),)
    n_in = 64
    layers: list[nn.Module] = []
    for _ in range(HIDDEN):
        rank = max(1, round(fraction * min(n_in, WIDTH)))
        layers += [
            LayerNorm(lead, n_in),
            FactorizedLinear(lead, n_in, WIDTH, rank, start),
            nn.ReLU(),
        ]
        n_in = WIDTH
    net = nn.Sequential(*layers, LayerNorm(lead, WIDTH), Linear(lead, WIDTH, CLASSES))
    reset_runs(net, seeds)
    return net


@torch.no_grad()
def keep_first(net: nn.Module) -> None:
    """Leave each factorized layer one singular value, and a thousandth of the others."""
    for layer in net.modules():
        if isinstance(layer, FactorizedLinear):
            layer.u[..., 1:] *= 1e-3**0.5
            layer.v[..., 1:, :] *= 1e-3**0.5


def size(layer: nn.Module) -> int:
    """Count the parameters."""
    return sum(parameter.numel() for parameter in layer.parameters())


def step_time(layer: nn.Module) -> float:
    """Return the least processor time of one forward and backward pass, in seconds."""
    reset_runs(layer, [0])
    x = torch.ones(1, 256, TIMED_WIDTH, requires_grad=True)
    times = []
    for _ in range(TIMED_STEPS):
        start = time.process_time()
        output: Tensor = layer(x)
        output.sum().backward()
        times.append(time.process_time() - start)
    return min(times)
