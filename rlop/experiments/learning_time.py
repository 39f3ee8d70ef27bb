"""Learning time: true labels are learned early and seldom lost, random ones late and one by one.

Row 46: Sadrtdinov, Chirkova and Lobacheva, "On the Memorization Properties of Contrastive
Learning", arXiv:2107.10143. The learning time of an example is the first epoch after which its
label is predicted. Its distribution distinguishes memorization from learning: on random labels it
is late and wide, and what was learned is often lost again. Two runs agree in part on which examples
come first, for either kind of labels. A probe of TD: the first step at which a transition's error
is small, and how often it is forgotten.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import load_digits
from rlop.experiments.fit import fit, network, orders, predict
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import seed_means
from rlop.optim import Adam

N = 500
EPOCHS = 100
SEEDS = 2
RUNS = 2 * SEEDS  # on true labels, then on random ones


def run(seed: int) -> Outcome:
    """Fit 500 digits with true and with random labels; compare when the examples are learned."""
    data = load_digits(N, seed)
    random = torch.randint(10, (N,), generator=Generator().manual_seed(seed + 1))
    labels = torch.stack([data.y, data.y, random, random])
    net = network(range(seed, seed + RUNS), 64, (128,), 10)
    optimizer = Adam(net.parameters(), lr=3e-3)

    correct: list[Tensor] = []
    for epoch in range(EPOCHS):
        fit(net, optimizer, data.x, labels, orders(RUNS, N, 50, 1, seed + epoch))
        correct.append(predict(net, data.x, RUNS).argmax(-1) == labels)

    times, losses = learning_times(torch.stack(correct))
    true_mean, random_mean = seed_means(times.mean(-1), SEEDS)
    true_spread, random_spread = seed_means(times.std(-1), SEEDS)
    true_losses, random_losses = seed_means(losses.mean(-1), SEEDS)
    true_agreement = rank_correlation(times[0], times[1])
    random_agreement = rank_correlation(times[2], times[3])

    values = {
        "mean learning time, random / true": random_mean / true_mean,
        "spread of the learning time, random / true": random_spread / true_spread,
        "rank correlation of two runs, true labels": true_agreement,
        "rank correlation of two runs, random labels": random_agreement,
        "forgetting events, random / true": random_losses / max(true_losses, 1e-3),
    }

    epochs = list(range(1, EPOCHS + 1))
    curves = {
        "true labels": (epochs, share_learned(times[:SEEDS], epochs)),
        "random labels": (epochs, share_learned(times[SEEDS:], epochs)),
    }
    return Outcome(values, curves, x="epoch", y="share of the examples learned", log="x")


def share_learned(times: Tensor, epochs: list[int]) -> list[float]:
    """Return the share of the examples that are learned by each epoch."""
    return [(times <= epoch).float().mean().item() for epoch in epochs]


def learning_times(correct: Tensor) -> tuple[Tensor, Tensor]:
    """Find when each example was first right, and how often it was lost again.

    Args:
        correct: whether the prediction was right after each epoch, `[E, R, N]`.
    Returns:
        First epoch with the right answer, counted from 1, E + 1 for an example that is never right;
        number of times it was lost. Both `[R, N]`.
    """
    never = ~correct.any(0)
    first = correct.int().argmax(0) + 1
    losses = (correct[:-1] & ~correct[1:]).sum(0)
    return first.where(~never, len(correct) + 1).float(), losses.float()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Compute Spearman's rank correlation; ties share their mean rank."""
    return torch.corrcoef(torch.stack([mean_ranks(a), mean_ranks(b)]))[0, 1].item()


def mean_ranks(times: Tensor) -> Tensor:
    """Rank each value, ties by their mean rank, up to a constant."""
    smaller = (times < times[:, None]).float().sum(1)
    equal = (times == times[:, None]).float().sum(1)
    return smaller + equal / 2
