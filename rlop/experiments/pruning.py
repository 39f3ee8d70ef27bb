"""Pruning a network that memorises noise improves its test error before it harms it.

Row 9: Jin, Dziugaite and Carbin, "On the Generalization Improvement from Neural Network Pruning", ICML 2021 workshop;
extended in arXiv:2210.13738. Iterative magnitude pruning: train, cut the smallest 40 % of the weights that are left,
put the others back to their start, train again. On digits with 15 % random labels, the test error falls with sparsity
while the network loses the room to memorise, and rises when too little is left.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import load_digits
from rlop.experiments.fit import accuracy, fit, network, orders, predict
from rlop.experiments.outcome import Measure, Outcome
from rlop.optim import Adam

RUNS, ROUNDS, CUT, CORRUPTED, N, EPOCHS, HIDDEN = 2, 10, 0.4, 0.15, 1000, 120, (128,)


def run(seed: int = 0) -> Outcome:
    """Prune three networks in 13 rounds and follow train and test error."""
    data = load_digits(N, seed)
    y = corrupt(data.y, Generator().manual_seed(seed))
    net = network(range(seed, seed + RUNS), 64, HIDDEN, 10)
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in start.items()}
    kept, train, test = [], [], []

    @torch.no_grad()
    def mask() -> None:
        for name, p in net.named_parameters():
            p.mul_(masks[name])

    for round_ in range(ROUNDS):
        net.load_state_dict(start)
        mask()
        batches = orders(RUNS, N, 50, EPOCHS, seed + round_)
        fit(net, Adam(net.parameters(), lr=3e-3), data.x, y.expand(RUNS, -1), batches, after=mask)
        kept.append((1 - CUT) ** round_)
        train.append(1 - accuracy(predict(net, data.x, RUNS), y).mean().item())
        test.append(1 - accuracy(predict(net, data.x_test, RUNS), data.y_test).mean().item())
        masks = cut(dict(net.named_parameters()), masks)
    best = test.index(min(test))
    measures = (
        Measure("train error, dense", train[0], 0, 0.03, "memorises"),
        Measure("test error, best pruned / dense", test[best] / test[0], 0, 0.8, "pruning helps"),
        Measure("share of weights kept at the best", kept[best], 0, 0.5, "clearly sparse"),
        Measure(
            "train error at the best - dense", train[best] - train[0], 0.03, 1, "less is memorised"
        ),
        Measure(
            "test error, sparsest / best",
            test[-1] / test[best],
            1.1,
            torch.inf,
            "too little is left",
        ),
    )
    curves = {"train error, noisy labels": (kept, train), "test error": (kept, test)}
    return Outcome(measures, curves, x="share of weights kept", y="error", log="x")


def corrupt(y: Tensor, generator: Generator) -> Tensor:
    """Draw each label anew with probability `CORRUPTED`, `[N] -> [N]`."""
    fresh = torch.randint(10, y.shape, generator=generator)
    return torch.where(torch.rand(y.shape, generator=generator) < CORRUPTED, fresh, y)


@torch.no_grad()
def cut(parameters: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the smallest `CUT` of the weights that are left out of every run, all layers together; biases stay."""
    names = [name for name in masks if name.endswith("weight")]
    every = torch.cat([(parameters[name].abs() * masks[name]).flatten(1) for name in names], 1)
    left = torch.cat([masks[name].flatten(1) for name in names], 1).sum(1)
    order = every.sort(1, descending=True).values
    floor = order.gather(1, ((1 - CUT) * left).long()[:, None])[..., None]
    return masks | {name: masks[name] & (parameters[name].abs() > floor) for name in names}
