"""Lottery-ticket siblings: masks of runs that part early agree little, late much, and combine well.

Row 39: Movva, Carbin and Frankle, "Studying the Consistency and Composability of Lottery Ticket
Pruning Masks", arXiv:2104.14753. Siblings are copies of one start, trained in different orders of
the data and pruned by magnitude. The abstract says: (1) their masks are not much more similar than
chance; (2) sharing the first epochs of training raises the overlap; (3) the union and the
intersection of the masks of several siblings, retrained, do equally well, and (4) as well as
one-shot masks, (5) for up to 10 siblings.

Setting: networks 64-128-128-10 on digits, 40 epochs of Adam from a tenth of PyTorch's start, so
that the weights leave it, as those of a ResNet with batch normalization do; masks keep a fifth.
Overlap is |both| / |either|, by chance d / (2 - d) at density d. Unions and intersections are
formed from masks of such a density that they themselves keep a twentieth of the weights, as does
the one-shot mask, and are retrained from the weights at which the siblings part. From the whole of
PyTorch's start the weights stay near it and the masks agree without shared training: measured too.

Control: siblings that never part; runs from starts of their own, whose overlap shared epochs do not
raise; random masks in place of the unions, and sparser ones in place of the intersections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import combinations
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import CLASSES, Digits, load_digits
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
from rlop.experiments.outcome import Outcome
from rlop.nets import masks as m
from rlop.optim import Adam

HIDDEN = (128, 128)
EPOCHS = 40
BATCH = 50
LR = 0.01
DENSITY = 0.2
CHANCE = DENSITY / (2 - DENSITY)
FINAL_DENSITY = 0.05  # of a union, an intersection or a one-shot mask
START = 0.1  # factor of PyTorch's start
FEW = 5
SHARED = {0: 3, 1: 3, FEW: 10, 20: 3}  # shared epochs -> siblings
COMBINED = (2, 10)  # siblings whose masks are combined
REPEATS = 2  # retrained networks of each mask

Named: TypeAlias = dict[str, Tensor]
Combine: TypeAlias = Callable[[Named, Named], Named]


def run(seed: int) -> Outcome:
    """Train groups of siblings, compare their masks, and retrain unions and intersections."""
    data_seed, start_seed, order_seed, retrain_seed = child_seeds(seed, 4)
    data = load_digits(seed=data_seed)

    overlaps = []
    for (shared, count), group_seed in zip(SHARED.items(), child_seeds(order_seed, len(SHARED))):
        branch, trained = train_siblings(data, [start_seed] * count, shared, group_seed)
        overlaps.append(overlap(trained))
        if shared == FEW:
            few_branch, few = branch, trained

    _, ordinary = train_siblings(data, [start_seed] * 3, 0, order_seed, start=1.0)

    candidates = {"one-shot": m.magnitude_masks(one_run(few, 0), FINAL_DENSITY)}
    for k in COMBINED:
        candidates[f"union of {k}"] = combined(few, k, m.union)
        candidates[f"intersection of {k}"] = combined(few, k, m.intersection)
    scores = retrained(data, candidates, few_branch, retrain_seed)

    values = measures(overlaps[0], overlap(ordinary), overlaps[2] - overlaps[0], scores)
    shared_epochs = list(SHARED)
    curves = {
        "siblings": (shared_epochs, overlaps),
        "chance": (shared_epochs, [CHANCE] * len(SHARED)),
        "siblings, PyTorch's start": ([0], [overlap(ordinary)]),
    }
    return Outcome(values, curves, x=f"shared epochs of {EPOCHS}", y="overlap of the masks")


def control(seed: int) -> dict[str, float]:
    """Measure siblings that never part, runs that never met, and random masks."""
    data_seed, start_seed, order_seed, retrain_seed = child_seeds(seed, 4)
    data = load_digits(seed=data_seed)

    _, together = train_siblings(data, [start_seed] * 2, EPOCHS, order_seed)
    _, ordinary = train_siblings(data, [start_seed] * 2, EPOCHS, order_seed, start=1.0)
    starts = child_seeds(start_seed, 4)
    _, strangers = train_siblings(data, starts[:2], 0, order_seed)
    branch, others = train_siblings(data, starts[2:], FEW, order_seed)

    candidates = {"one-shot": m.magnitude_masks(one_run(others, 0), FINAL_DENSITY)}
    for k, mask_seed in zip(COMBINED, child_seeds(retrain_seed, len(COMBINED))):
        candidates[f"union of {k}"] = random_masks(branch, FINAL_DENSITY, mask_seed)
        candidates[f"intersection of {k}"] = random_masks(branch, FINAL_DENSITY / 10, mask_seed)
    scores = retrained(data, candidates, branch, retrain_seed)

    rise = overlap(others) - overlap(strangers)
    return measures(overlap(together), overlap(ordinary), rise, scores)


def measures(
    parted: float, parted_ordinary: float, rise: float, scores: dict[str, float]
) -> dict[str, float]:
    """Name the numbers."""
    values = {
        "overlap / chance, nothing shared": parted / CHANCE,
        "overlap / chance, nothing shared, PyTorch's start": parted_ordinary / CHANCE,
        f"rise of the overlap, {FEW} shared epochs - none": rise,
    }
    for k in COMBINED:
        joint, common = scores[f"union of {k}"], scores[f"intersection of {k}"]
        values[f"accuracy, union - intersection of {k}"] = joint - common
        values[f"accuracy, union of {k} - one-shot"] = joint - scores["one-shot"]
        values[f"accuracy, intersection of {k} - one-shot"] = common - scores["one-shot"]
    return values


def started(seeds: Sequence[int], start: float) -> Named:
    """Draw the parameters of a scaled start, `[R, ...]` by name."""
    net = network(seeds, 64, HIDDEN, CLASSES)
    return {name: start * value.detach() for name, value in net.named_parameters()}


def train_siblings(
    data: Digits, starts: Sequence[int], shared: int, seed: int, start: float = START
) -> tuple[Named, Named]:
    """Train runs that see one order of the data for some epochs and then each its own.

    Args:
        data: the digits.
        starts: seeds of the starts, one per run; siblings have the same.
        shared: epochs that the runs share.
        seed: of the orders.
        start: factor of PyTorch's start.
    Returns:
        All parameters of the first run where the runs part, `[1, ...]`; weight matrices at the end,
        `[R, O, I]`. Both by name.
    """
    runs = len(starts)
    net = network(starts, 64, HIDDEN, CLASSES)
    net.load_state_dict(started(starts, start))
    optimizer = Adam(net.parameters(), lr=LR)
    labels = data.y.expand(runs, -1)
    common_seed, own_seed = child_seeds(seed, 2)

    common = orders(1, len(data.y), BATCH, shared, common_seed)
    fit(net, optimizer, data.x, labels, (index.expand(runs, -1) for index in common))
    branch = {name: value.detach()[:1].clone() for name, value in net.named_parameters()}

    fit(net, optimizer, data.x, labels, orders(runs, len(data.y), BATCH, EPOCHS - shared, own_seed))
    return branch, {name: weight.detach() for name, weight in weight_matrices(net).items()}


def one_run(named: Named, run: int) -> Named:
    """Pick one run and keep its axis."""
    return {name: value[run : run + 1] for name, value in named.items()}


def overlap(weights: Named) -> float:
    """Average the overlap of the masks over all pairs of runs."""
    masks = m.magnitude_masks(weights, DENSITY)
    runs = len(next(iter(masks.values())))
    pairs = combinations(range(runs), 2)
    overlaps = [m.jaccard(one_run(masks, a), one_run(masks, b)) for a, b in pairs]
    return torch.cat(overlaps).mean().item()


def combined(weights: Named, count: int, combine: Combine) -> Named:
    """Combine the masks of the first runs so that the result has density `FINAL_DENSITY`.

    The density of the single masks is found by bisection; that of the result grows with it.
    """
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        masks = m.magnitude_masks(weights, middle)
        result = reduce(combine, [one_run(masks, run) for run in range(count)])
        if m.density(result).item() < FINAL_DENSITY:
            low = middle
        else:
            high = middle
    return result


def random_masks(like: Named, density: float, seed: int) -> Named:
    """Draw masks of the weight matrices, each of the same density."""
    generator = Generator().manual_seed(seed)
    weights = {name: value for name, value in like.items() if name.endswith("weight")}
    return {name: m.random_mask(w.shape, density, generator) for name, w in weights.items()}


def retrained(
    data: Digits, candidates: dict[str, Named], branch: Named, seed: int
) -> dict[str, float]:
    """Train under each mask from the branching point; return the mean test accuracies."""
    runs = REPEATS * len(candidates)
    masks: Named = {}
    for name in next(iter(candidates.values())):
        stacked = torch.cat([candidate[name] for candidate in candidates.values()])
        masks[name] = stacked.repeat_interleave(REPEATS, 0)

    net = network([0] * runs, 64, HIDDEN, CLASSES)
    net.load_state_dict(
        {name: value.expand(runs, *value.shape[1:]) for name, value in branch.items()}
    )
    apply_masks(net, masks)

    batches = orders(runs, len(data.y), BATCH, EPOCHS - FEW, seed)
    optimizer = Adam(net.parameters(), lr=LR)
    labels = data.y.expand(runs, -1)
    fit(net, optimizer, data.x, labels, batches, after=partial(apply_masks, net, masks))

    scores = accuracy(predict(net, data.x_test, runs), data.y_test).view(-1, REPEATS).mean(1)
    return dict(zip(candidates, scores.tolist()))
