"""Learning time: true labels are learned early and seldom lost again, random labels late and one by one.

Row 46: Sadrtdinov, Chirkova and Lobacheva, "On the Memorization Properties of Contrastive Learning", arXiv:2107.10143.
The learning time of an example is the first epoch after which its label is predicted. Its distribution tells
memorization from learning: on random labels it is late and wide, and what was learned is often lost again. Two runs
agree in part on which examples come first, whatever the labels.
A probe of TD: the first step at which a transition's error is small, and how often it is forgotten.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import load_digits
from rlop.experiments.fit import fit, network, orders, predict
from rlop.experiments.outcome import Measure, Outcome
from rlop.optim import Adam

N, EPOCHS, RUNS = 500, 100, 4  # two runs on true labels, two on random ones


def run(seed: int = 0) -> Outcome:
    """Fit 500 digits with true and with random labels and compare the learning times of the examples."""
    data = load_digits(N, seed)
    random = torch.randint(10, (N,), generator=Generator().manual_seed(seed + 1))
    labels = torch.stack([data.y, data.y, random, random])
    net = network(range(seed, seed + RUNS), 64, (128,), 10)
    optimizer = Adam(net.parameters(), lr=3e-3)
    correct = []
    for epoch in range(EPOCHS):
        fit(net, optimizer, data.x, labels, orders(RUNS, N, 50, 1, seed + epoch))
        correct.append(predict(net, data.x, RUNS).argmax(-1) == labels)
    times, forgotten = learning_times(torch.stack(correct))
    mean, spread = (
        times.mean(-1).view(2, 2).mean(-1).tolist(),
        times.std(-1).view(2, 2).mean(-1).tolist(),
    )
    agreement = [rank_correlation(times[i], times[i + 1]) for i in (0, 2)]
    events = forgotten.mean(-1).view(2, 2).mean(-1).tolist()
    measures = (
        Measure("mean learning time, random / true", mean[1] / mean[0], 3, torch.inf, "later"),
        Measure(
            "spread of the learning time, random / true",
            spread[1] / spread[0],
            1.5,
            torch.inf,
            "wider",
        ),
        Measure("rank correlation of two runs, true labels", agreement[0], 0.3, 1, "one order"),
        Measure("rank correlation of two runs, random labels", agreement[1], 0.3, 1, "one order"),
        Measure(
            "forgetting events, random / true",
            events[1] / max(events[0], 1e-3),
            2,
            torch.inf,
            "more",
        ),
    )
    epochs = list(range(1, EPOCHS + 1))
    learned = [[(t <= e).float().mean().item() for e in epochs] for t in (times[:2], times[2:])]
    curves = {"true labels": (epochs, learned[0]), "random labels": (epochs, learned[1])}
    return Outcome(measures, curves, x="epoch", y="share of the examples learned", log="x")


def learning_times(correct: Tensor) -> tuple[Tensor, Tensor]:
    """First epoch with the right answer, from 1 on, and the number of times it was lost; `[E, R, N]` -> `[R, N]` both.

    An example that is never right gets the last epoch + 1.
    """
    never = ~correct.any(0)
    first = correct.int().argmax(0) + 1
    lost = (correct[:-1] & ~correct[1:]).sum(0)
    return first.where(~never, len(correct) + 1).float(), lost.float()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation; examples of one time share their mean rank."""
    ranks = [(t < t[:, None]).float().sum(1) + (t == t[:, None]).float().sum(1) / 2 for t in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()
