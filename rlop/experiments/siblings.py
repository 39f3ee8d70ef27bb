"""Lottery-ticket siblings: the longer two runs train together, the more their pruning masks agree.

Row 39: Movva, Carbin and Frankle, "Studying the Consistency and Composability of Lottery Ticket
Pruning Masks", arXiv:2104.14753. Pairs of networks share the start and the order of the data for k
epochs, then train separately until the end, and are pruned by magnitude. The overlap of their masks
rises with k. Retrained from the branching point, the union and the intersection of two masks do as
well as one mask alone.

Differs from: the paper, whose masks overlap near chance without shared training; on digits the
overlap is never near chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

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
from rlop.experiments.series import differences, seed_means
from rlop.optim import Adam

SHARED = (0, 1, 5, 20)  # epochs
EPOCHS = 20
BATCH = 50
DENSITY = 0.2
RUNS = 2 * len(SHARED)  # siblings are neighbors


def run(seed: int) -> Outcome:
    """Train four pairs of siblings, prune them, retrain under single, common and joint masks."""
    data = load_digits(seed=seed)
    masks = prune(trained(data, seed))
    unions, intersections = combine(masks)
    joint = {name: torch.stack([unions[name], intersections[name]], 1) for name in masks}
    joint = {name: mask.flatten(0, 1) for name, mask in joint.items()}

    overlap = (counts(intersections) / counts(unions)).tolist()
    single = retrained(data, masks, seed)
    union, intersection = retrained(data, joint, seed).view(-1, 2).T.tolist()

    chance = DENSITY / (2 - DENSITY)
    single_means = seed_means(single, 2)
    gap = max(abs(a - b) for a, b in zip(union, intersection))

    values = {
        "overlap with all epochs shared": overlap[-1],
        "least rise of the overlap with shared epochs": min(differences(overlap)),
        "overlap with none shared / chance": overlap[0] / chance,
        "largest |accuracy of union - of intersection|": gap,
        "least accuracy under a mask of one's own": min(single_means),
    }

    curves = {
        "overlap of the masks": (SHARED, overlap),
        "accuracy, own mask": (SHARED, single_means),
        "accuracy, union": (SHARED, union),
        "accuracy, intersection": (SHARED, intersection),
    }

    return Outcome(
        values, curves, x="shared epochs of 20", y="Jaccard index of the masks, test accuracy"
    )


def combine(masks: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return union and intersection of the masks of each pair, `[R, O, I] -> [R / 2, O, I]`."""
    unions: dict[str, Tensor] = {}
    intersections: dict[str, Tensor] = {}
    for name, mask in masks.items():
        pairs = mask.unflatten(0, (-1, 2))
        unions[name] = pairs.any(1)
        intersections[name] = pairs.all(1)
    return unions, intersections


def counts(masks: dict[str, Tensor]) -> Tensor:
    """Count the weights that the masks keep, `[R]`."""
    kept = [mask.flatten(1).sum(-1) for mask in masks.values()]
    return torch.stack(kept).sum(0)


def siblings_orders(n: int, seed: int) -> Iterator[Tensor]:
    """Yield minibatches of pairs that share the order for `SHARED[pair]` epochs and then part."""
    shared_epochs = torch.tensor(SHARED).repeat_interleave(2)[:, None]
    steps_per_epoch = -(-n // BATCH)
    together = orders(RUNS, n, BATCH, EPOCHS, seed)
    apart = orders(RUNS, n, BATCH, EPOCHS, seed + 1)
    for step, (common, separate) in enumerate(zip(together, apart)):
        yield torch.where(step // steps_per_epoch < shared_epochs, common[:1], separate)


def trained(data: Digits, seed: int) -> nn.Module:
    """Train four pairs of siblings from one start."""
    net = network([seed] * RUNS, 64, (128,), 10)
    optimizer = Adam(net.parameters(), lr=3e-3)
    fit(net, optimizer, data.x, data.y.expand(RUNS, -1), siblings_orders(len(data.y), seed))
    return net


def prune(net: nn.Module) -> dict[str, Tensor]:
    """Keep the largest `DENSITY` of the weights of every run, over all layers together.

    Returns:
        Weight matrix -> mask `[R, O, I]`.
    """
    sizes = {name: w.detach().abs() for name, w in weight_matrices(net).items()}
    all_sizes = torch.cat([size.flatten(1) for size in sizes.values()], 1)
    floor = all_sizes.quantile(1 - DENSITY, dim=1)[:, None, None]
    return {name: size > floor for name, size in sizes.items()}


def retrained(data: Digits, masks: dict[str, Tensor], seed: int) -> Tensor:
    """Train from the common start under fixed masks; return the test accuracy `[R]`."""
    net = network([seed] * RUNS, 64, (128,), 10)
    apply_masks(net, masks)
    batches = orders(RUNS, len(data.y), BATCH, EPOCHS, seed + 2)
    optimizer = Adam(net.parameters(), lr=3e-3)
    labels = data.y.expand(RUNS, -1)
    fit(net, optimizer, data.x, labels, batches, after=partial(apply_masks, net, masks))
    return accuracy(predict(net, data.x_test, RUNS), data.y_test)
