"""Pruning a network that memorizes noise improves its test error before it harms it.

Row 9: Jin, Dziugaite and Carbin, "On the Generalization Improvement from Neural Network Pruning",
ICML 2021 workshop; extended in arXiv:2210.13738. Iterative magnitude pruning: train, remove the
smallest 40 % of the remaining weights, reset the others to their initial values, train again. On
digits with 15 % random labels, the test error falls with sparsity while the network loses the
capacity to memorize, and rises when too few weights are left.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import corrupt, load_digits
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

RUNS = 2
ROUNDS = 10
CUT = 0.4
CORRUPTED = 0.15
N = 1000
EPOCHS = 120
HIDDEN = (128,)


def run(seed: int) -> Outcome:
    """Prune two networks in ten rounds and follow train and test error."""
    data = load_digits(N, seed)
    labels = corrupt(data.y, CORRUPTED, Generator().manual_seed(seed)).expand(RUNS, -1)
    net = network(range(seed, seed + RUNS), 64, HIDDEN, 10)
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    masks = {name: torch.ones_like(w, dtype=torch.bool) for name, w in weight_matrices(net).items()}

    kept: list[float] = []
    train: list[float] = []
    test: list[float] = []

    for round_ in range(ROUNDS):
        net.load_state_dict(start)
        apply_masks(net, masks)
        batches = orders(RUNS, N, 50, EPOCHS, seed + round_)
        optimizer = Adam(net.parameters(), lr=3e-3)
        fit(net, optimizer, data.x, labels, batches, after=partial(apply_masks, net, masks))

        kept.append((1 - CUT) ** round_)
        train.append(1 - accuracy(predict(net, data.x, RUNS), labels).mean().item())
        test.append(1 - accuracy(predict(net, data.x_test, RUNS), data.y_test).mean().item())
        masks = cut(weight_matrices(net), masks)

    best = test.index(min(test))

    values = {
        "train error, dense": train[0],
        "test error, best pruned / dense": test[best] / test[0],
        "share of weights kept at the best": kept[best],
        "train error at the best - dense": train[best] - train[0],
        "test error, sparsest / best": test[-1] / test[best],
    }

    curves = {"train error, noisy labels": (kept, train), "test error": (kept, test)}
    return Outcome(values, curves, x="share of weights kept", y="error", log="x")


@torch.no_grad()
def cut(weights: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Exclude the smallest `CUT` of the weights that are left, of every run, layers together.

    Args:
        weights: weight matrices by name, `[R, O, I]`.
        masks: masks of the weights that are left.
    Returns:
        The new masks.
    """
    sizes = {name: w.abs() for name, w in weights.items()}
    all_sizes = torch.cat([(sizes[name] * masks[name]).flatten(1) for name in masks], 1)
    left = torch.cat([mask.flatten(1) for mask in masks.values()], 1).sum(1)

    # A weight stays if it is larger than the largest one that is removed.
    descending = all_sizes.sort(1, descending=True).values
    first_cut = ((1 - CUT) * left).long()[:, None]
    floor = descending.gather(1, first_cut)[..., None]
    return {name: mask & (sizes[name] > floor) for name, mask in masks.items()}
