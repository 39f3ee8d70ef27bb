"""Channels cut out of a convolutional network save time and memory and keep its accuracy.

Row 29: Chen, "Structured Model Pruning of Convolutional Networks on Tensor Processing Units",
arXiv:2107.04191.

Claim of the abstract: structured pruning that modifies the model in place, instead of adding masks,
improves memory usage and speed significantly without losing accuracy, above all on small data sets.
(The abstract's model is VGG-16, its data CIFAR-10 and ImageNet, its hardware TPUs; it compares
several methods.)

Setting: three convolutional layers of 16 to 32 channels on 1000 digits, on one CPU core. After
training, half of the channels of every layer are removed, either those of least l1 norm or random
ones; the smaller network is trained on for some epochs. Measured against the whole network are the
test accuracy, the bytes of the parameters, which should fall to about a quarter where both sides of
a layer are halved, and the processor time of the forward pass.

In the control the channels are masked with zeros, which saves nothing, and not trained on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.digits import CLASSES, Digits, load_digits
from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

N = 1000
CHANNELS = (1, 16, 32, 32)
PIXELS = 16  # after pooling
KEEPS = (0.75, 0.5, 0.25)
JUDGED = 0.5
EPOCHS = 6
EPOCHS_AFTER = 3
BATCH = 50
LR = 2e-3
ROUNDS = 11  # of the comparison of times
METHODS = ("l1", "random")

Weights: TypeAlias = list[
    Tensor
]  # kernels [O, I, 3, 3] of the layers, then the head [O * PIXELS, CLASSES]


def run(seed: int) -> Outcome:
    """Train, cut at three rates by two methods, train on, and compare."""
    split, starting, cutting = child_seeds(seed, 3)
    data = load_digits(N, split)
    generator = Generator().manual_seed(starting)
    whole = train(start(generator), data, EPOCHS, generator)
    full = accuracy(whole, data)
    values: dict[str, float] = {}
    curves = {}

    for method, child in zip(METHODS, child_seeds(cutting, len(METHODS))):
        accuracies = [full]
        generator = Generator().manual_seed(child)
        for keep in KEEPS:
            small = cut(whole, channels(whole, keep, method, generator))
            small = train(small, data, EPOCHS_AFTER, generator)
            accuracies.append(accuracy(small, data))
            if keep == JUDGED:
                values |= compare(method, accuracies[-1] - full, whole, small, data)
        curves[f"test accuracy, {method}"] = ((1.0, *KEEPS), accuracies)

    return Outcome(values, curves, x="share of the channels kept", y="test accuracy")


def control(seed: int) -> Mapping[str, float]:
    """Mask the channels instead of removing them, and do not train on."""
    split, starting, cutting = child_seeds(seed, 3)
    data = load_digits(N, split)
    generator = Generator().manual_seed(starting)
    whole = train(start(generator), data, EPOCHS, generator)
    values: dict[str, float] = {}
    for method, child in zip(METHODS, child_seeds(cutting, len(METHODS))):
        kept = channels(whole, JUDGED, method, Generator().manual_seed(child))
        masked = mask(whole, kept)
        gain = accuracy(masked, data) - accuracy(whole, data)
        values |= compare(method, gain, whole, masked, data)
    return values


def compare(
    method: str, gain: float, whole: Weights, small: Weights, data: Digits
) -> dict[str, float]:
    """Name the accuracy gained, and what the smaller network saves."""
    return {
        f"{method}: test accuracy, half - whole": gain,
        f"{method}: bytes of the parameters, whole / half": size(whole) / size(small),
        f"{method}: time of the forward pass, whole / half": time_ratio(whole, small, data),
    }


# --- pruning


def channels(weights: Weights, keep: float, method: str, generator: Generator) -> list[Tensor]:
    """Choose the output channels that stay, ascending indices for every convolution.

    Args:
        weights: trained network.
        keep: share that stays.
        method: `l1`, those of the largest sum of absolute weights; or `random`.
        generator: of the random choice.
    """
    kept = []
    for kernel in weights[:-1]:
        scores = kernel.detach().abs().sum((1, 2, 3))
        if method == "random":
            scores = torch.rand(len(kernel), generator=generator)
        kept.append(scores.topk(round(keep * len(kernel))).indices.sort().values)
    return kept


def cut(weights: Weights, kept: Sequence[Tensor]) -> Weights:
    """Remove channels: their kernels, and what the next layer reads from them."""
    *kernels, head = [weight.detach() for weight in weights]
    small = []
    inputs = torch.arange(CHANNELS[0])
    for kernel, outputs in zip(kernels, kept):
        small.append(kernel[outputs][:, inputs].contiguous())
        inputs = outputs
    by_channel = head.view(-1, PIXELS, CLASSES)
    return [*small, by_channel[inputs].reshape(-1, CLASSES)]


def mask(weights: Weights, kept: Sequence[Tensor]) -> Weights:
    """Set the kernels of removed channels to zero; without biases their outputs are zero, too."""
    masked = [weight.detach().clone() for weight in weights]
    for kernel, outputs in zip(masked, kept):
        is_kept = torch.zeros(len(kernel), dtype=torch.bool)
        is_kept[outputs] = True
        kernel[~is_kept] = 0
    return masked


# --- the network


def start(generator: Generator) -> Weights:
    """Draw He-scaled kernels and a head."""
    weights = []
    for n_in, n_out in pairwise(CHANNELS):
        kernel = torch.randn(n_out, n_in, 3, 3, generator=generator)
        weights.append(kernel * (2 / (9 * n_in)) ** 0.5)
    features = CHANNELS[-1] * PIXELS
    weights.append(torch.randn(features, CLASSES, generator=generator) / features**0.5)
    return weights


def network(weights: Weights, x: Tensor) -> Tensor:
    """Map digits `[B, 64]` to logits `[B, CLASSES]`; pool 2 x 2 after the second layer."""
    *kernels, head = weights
    x = x.view(-1, 1, 8, 8)
    for i, kernel in enumerate(kernels):
        x = F.conv2d(x, kernel, padding=1).relu()
        if i == 1:
            x = F.max_pool2d(x, 2)
    return x.flatten(1) @ head


def train(weights: Weights, data: Digits, epochs: int, generator: Generator) -> Weights:
    """Run Adam on minibatches; return the trained weights."""
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    optimizer = torch.optim.Adam(weights, lr=LR)
    for _ in range(epochs):
        for index in torch.randperm(len(data.x), generator=generator).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(network(weights, data.x[index]), data.y[index]).backward()
            optimizer.step()
    return weights


@torch.no_grad()
def accuracy(weights: Weights, data: Digits) -> float:
    """Return the share of test digits that are classified right."""
    return (network(weights, data.x_test).argmax(1) == data.y_test).float().mean().item()


def size(weights: Weights) -> int:
    """Count the bytes of the parameters."""
    return sum(weight.numel() * weight.element_size() for weight in weights)


@torch.no_grad()
def time_ratio(whole: Weights, small: Weights, data: Digits) -> float:
    """Divide the processor times of both networks on all test digits.

    They take turns, and the middle of the ratios counts, since the machine may be busy.
    """
    ratios = []
    for _ in range(ROUNDS):
        started = time.process_time()
        network(whole, data.x_test)
        between = time.process_time()
        network(small, data.x_test)
        ratios.append((between - started) / (time.process_time() - between))
    return median(ratios)
