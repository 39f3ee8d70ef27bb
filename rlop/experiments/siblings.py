"""Lottery-ticket siblings: two runs from one start prune to masks that agree more, the longer they train together.

Row 39: Movva, Carbin and Frankle, "Studying the Consistency and Composability of Lottery Ticket Pruning Masks",
arXiv:2104.14753. Pairs of networks share the start and the order of the data for k epochs, go their own ways until
the end, and are pruned by magnitude. The overlap of their masks rises with k. Retrained from the branching point, the
union and the intersection of two masks do as well as one mask alone.

Differs from: the paper, whose masks overlap near chance without shared training; on digits they never do.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from rlop.experiments.digits import Digits, load_digits
from rlop.experiments.fit import accuracy, fit, network, orders, predict
from rlop.experiments.outcome import Measure, Outcome
from rlop.optim import Adam

SHARED = (0, 1, 5, 20)  # epochs
EPOCHS, BATCH, DENSITY = 20, 50, 0.2
RUNS = 2 * len(SHARED)  # siblings are neighbours


def run(seed: int = 0) -> Outcome:
    """Train four pairs of siblings, prune them, and retrain under their own, common and joint masks."""
    data = load_digits(seed=seed)
    masks = prune(trained(data, seed))
    pairs = {name: mask.unflatten(0, (-1, 2)) for name, mask in masks.items()}
    both = sum(m.all(1).flatten(1).sum(-1) for m in pairs.values())
    either = sum(m.any(1).flatten(1).sum(-1) for m in pairs.values())
    overlap = (both / either).tolist()
    chance = DENSITY / (2 - DENSITY)
    joint = {name: torch.stack([m.any(1), m.all(1)], 1).flatten(0, 1) for name, m in pairs.items()}
    own = retrained(data, masks, seed).view(-1, 2).mean(-1).tolist()
    union, common = retrained(data, joint, seed).view(-1, 2).T.tolist()
    rises = min(after - before for before, after in pairwise(overlap))
    gap = max(abs(a - b) for a, b in zip(union, common))
    measures = (
        Measure("overlap with all epochs shared", overlap[-1], 1, 1, "the same run twice"),
        Measure(
            "least rise of the overlap with shared epochs", rises, 0, 1, ".77, .84, .92, 1 measured"
        ),
        Measure(
            "overlap with none shared / chance",
            overlap[0] / chance,
            1.5,
            9,
            "one start alone aligns them",
        ),
        Measure("largest |accuracy of union - of intersection|", gap, 0, 0.03, "equal"),
        Measure(
            "least accuracy under a mask of one's own",
            min(own),
            0.9,
            1,
            "pruned networks still learn",
        ),
    )
    curves = {"overlap of the masks": (SHARED, overlap), "accuracy, own mask": (SHARED, own)}
    curves |= {"accuracy, union": (SHARED, union), "accuracy, intersection": (SHARED, common)}
    return Outcome(
        measures, curves, x="shared epochs of 20", y="Jaccard index of the masks, test accuracy"
    )


def siblings_orders(n: int, seed: int) -> Iterator[Tensor]:
    """Minibatches of pairs of runs that see the same order for `SHARED[p]` epochs and their own afterwards."""
    epochs = torch.tensor(SHARED).repeat_interleave(2)[:, None]
    steps = -(-n // BATCH)
    together, apart = (orders(RUNS, n, BATCH, EPOCHS, s) for s in (seed, seed + 1))
    for step, (common, own) in enumerate(zip(together, apart)):
        yield torch.where(step // steps < epochs, common[:1], own)


def trained(data: Digits, seed: int) -> nn.Module:
    """Four pairs of siblings from one start."""
    net = network([seed] * RUNS, 64, (128,), 10)
    optimizer = Adam(net.parameters(), lr=3e-3)
    fit(net, optimizer, data.x, data.y.expand(RUNS, -1), siblings_orders(len(data.y), seed))
    return net


def prune(net: nn.Module) -> dict[str, Tensor]:
    """For every weight matrix `[R, O, I]`, whether a weight is among the run's largest `DENSITY` over all layers."""
    weights = {
        name: p.detach().abs() for name, p in net.named_parameters() if name.endswith("weight")
    }
    every = torch.cat([w.flatten(1) for w in weights.values()], 1)
    floor = every.quantile(1 - DENSITY, dim=1)[:, None, None]
    return {name: w > floor for name, w in weights.items()}


def retrained(data: Digits, masks: dict[str, Tensor], seed: int) -> Tensor:
    """Test accuracy `[R]` of networks that train from the common start under fixed masks."""
    net = network([seed] * RUNS, 64, (128,), 10)

    @torch.no_grad()
    def mask() -> None:
        for name, p in net.named_parameters():
            if name in masks:
                p.mul_(masks[name])

    mask()
    batches = orders(RUNS, len(data.y), BATCH, EPOCHS, seed + 2)
    fit(net, Adam(net.parameters(), lr=3e-3), data.x, data.y.expand(RUNS, -1), batches, after=mask)
    return accuracy(predict(net, data.x_test, RUNS), data.y_test)
