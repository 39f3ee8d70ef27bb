"""How similar two sets of samples are for a network, by the weights that they use.

Row 18: Ranjan, "Some samples are more similar than others! A different look at memorization and
generalization in neural networks", of the 2021 workshop. The abstract proposes a similarity of two
sets of samples for a given network, which relies on the learned weights alone, and asks three
questions of a network that fits noisy labels: (1) Are real and noisy samples learned at different
parts of the network? (2) Do they contribute equally to generalization? (3) Are real samples more
similar to each other than noisy ones? It gives no answers; the title suggests yes to the third.

The definition is not public. Here a weight's importance to a set is its mean share in the logit of
the given label, |a_j w_ij d f_y / d z_i| with the weight's input a and output z, and two sets are
as similar as the overlap of their most important tenths of the weights, by layer.

Setting: 1000 digits, 30 % of the labels drawn at random, two hidden layers of 128, fitted to the
end. Noisy samples are those whose label is wrong. Sets have 20 samples, and similarities are
averaged over pairs of disjoint sets and over layers:

1. similarity within kinds (real and real, noisy and noisy) minus that across;
2. test accuracy without the weights that noisy samples use most, minus that without those of the
   real ones;
3. similarity of real sets minus that of noisy sets.

In the control the samples are called real and noisy at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.digits import CLASSES, Digits, corrupt, load_digits
from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

N = 1000
NOISE = 0.3
SIZES = (64, 128, 128, CLASSES)
STEPS = 1000
BATCH = 100
LR = 2e-3
SET = 20
PAIRS = 20
TOP = 0.1  # share of a layer's weights that counts as important

Weights: TypeAlias = list[Tensor]  # [O, I] by layer


class Similarity(NamedTuple):
    """Mean overlaps of pairs of sets by layer, `[L]`."""

    real: Tensor
    noisy: Tensor
    across: Tensor


def run(seed: int) -> Outcome:
    """Compare the samples with right and with wrong labels."""
    return measure(seed, shuffled=False)


def control(seed: int) -> Mapping[str, float]:
    """Compare samples that are called real and noisy at random."""
    return measure(seed, shuffled=True).values


def measure(seed: int, shuffled: bool) -> Outcome:
    """Train, and compute similarities and what is lost without important weights."""
    split, draws = child_seeds(seed, 2)
    data = load_digits(N, split)
    generator = Generator().manual_seed(draws)
    labels = corrupt(data.y, NOISE, generator)
    weights = train(data.x, labels, generator)

    is_noisy = labels != data.y
    if shuffled:
        is_noisy = is_noisy[torch.randperm(N, generator=generator)]
    real, noisy = (~is_noisy).nonzero()[:, 0], is_noisy.nonzero()[:, 0]
    uses = usage(weights, data.x, labels)
    similarity = compare(weights, uses, real, noisy, generator)

    within = (similarity.real + similarity.noisy) / 2
    without = [accuracy(without_important(weights, uses, kind), data) for kind in (noisy, real)]
    values = {
        "similarity within kinds - across": (within - similarity.across).mean().item(),
        "test accuracy without noisy weights - without real ones": without[0] - without[1],
        "similarity of real samples - of noisy ones": (similarity.real - similarity.noisy)
        .mean()
        .item(),
    }
    layers = range(1, len(weights) + 1)
    curves = {
        "real and real": (layers, similarity.real.tolist()),
        "noisy and noisy": (layers, similarity.noisy.tolist()),
        "real and noisy": (layers, similarity.across.tolist()),
    }
    return Outcome(values, curves, x="layer", y="overlap of important weights")


def train(x: Tensor, y: Tensor, generator: Generator) -> Weights:
    """Fit a network without biases by Adam on minibatches."""
    weights = []
    for n_in, n_out in pairwise(SIZES):
        weight = torch.randn(n_out, n_in, generator=generator) * (2 / n_in) ** 0.5
        weights.append(weight.requires_grad_())
    optimizer = torch.optim.Adam(weights, lr=LR)

    for _ in range(STEPS):
        index = torch.randint(len(x), (BATCH,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(layers(weights, x[index])[-1], y[index]).backward()
        optimizer.step()
    return [weight.detach() for weight in weights]


def layers(weights: Weights, x: Tensor) -> list[Tensor]:
    """Return the inputs of every layer, and the logits last; `[B, ...]` each."""
    values = [x]
    for weight in weights[:-1]:
        values.append((values[-1] @ weight.T).relu())
    return [*values, values[-1] @ weights[-1].T]


def usage(weights: Weights, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return |a_j| `[N, I]` and |d f_y / d z_i| `[N, O]` of every layer."""
    *inputs, logits = layers(weights, x)
    slope = F.one_hot(y, logits.shape[1]).to(x.dtype)
    slopes = []
    for weight, value in zip(reversed(weights), reversed(inputs)):
        slopes.append(slope.abs())
        slope = (slope @ weight) * (value > 0)
    return [(value.abs(), s) for value, s in zip(inputs, reversed(slopes))]


def important(weight: Tensor, use: tuple[Tensor, Tensor], index: Tensor) -> Tensor:
    """Mark the most important tenth of a layer's weights for a set, `[O, I]` of bool."""
    inputs, slopes = use
    importance = weight.abs() * (slopes[index].T @ inputs[index])
    chosen = importance.flatten().topk(round(TOP * weight.numel())).indices
    return torch.zeros(weight.numel(), dtype=torch.bool).index_fill(0, chosen, True).view_as(weight)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the share of marked weights that two equally large markings have in common."""
    return (a & b).sum() / a.sum()


def compare(
    weights: Weights,
    uses: list[tuple[Tensor, Tensor]],
    real: Tensor,
    noisy: Tensor,
    generator: Generator,
) -> Similarity:
    """Average the overlaps of `PAIRS` pairs of sets of each combination of kinds."""
    rows = []
    for _ in range(PAIRS):
        a, b = draw(real, generator)
        c, d = draw(noisy, generator)
        row = []
        for weight, use in zip(weights, uses):
            marks = [important(weight, use, index) for index in (a, b, c, d)]
            pairs = (overlap(marks[0], marks[1]), overlap(marks[2], marks[3]))
            row.append(torch.stack([*pairs, overlap(marks[0], marks[2])]))
        rows.append(torch.stack(row, 1))
    return Similarity(*torch.stack(rows).mean(0))


def draw(samples: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw two disjoint sets of `SET` samples each."""
    order = torch.randperm(len(samples), generator=generator)
    return samples[order[:SET]], samples[order[SET : 2 * SET]]


def without_important(
    weights: Weights, uses: list[tuple[Tensor, Tensor]], index: Tensor
) -> Weights:
    """Set the weights of the hidden layers that a set uses most to zero."""
    *hidden, head = weights
    masked = [w * ~important(w, use, index) for w, use in zip(hidden, uses)]
    return [*masked, head]


def accuracy(weights: Weights, data: Digits) -> float:
    """Return the share of test digits that are classified right."""
    logits = layers(weights, data.x_test)[-1]
    return (logits.argmax(1) == data.y_test).float().mean().item()
