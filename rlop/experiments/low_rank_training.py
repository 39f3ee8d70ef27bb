"""Training factorized layers: the initialization of the factors decides the result.

Row 34: Kamalakara et al., "Exploring Low Rank Training of Deep Neural Networks", arXiv:2209.13569.
Each hidden matrix is U V of rank r, started from random factors in He's scale, from the truncated
singular value decomposition of a dense start (spectral: U S^1/2, S^1/2 V^T), or from its directions
alone with S = 1 (spectral ones). The paper reports that the spectral starts train at least as well
as He's and that the directions matter, not the spectrum. On digits all three end close together
except at the smallest rank, where He's start, whose product keeps the variance that the spectral
ones lose by truncation, is ahead: report only. A hard cap on the rank of a Q-network's layers is
the control for an implicit collapse.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from rlop.experiments.digits import Digits, load_digits
from rlop.experiments.fit import accuracy, fit, orders, predict
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import columns, seed_means
from rlop.optim import Adam

FRACTIONS = (0.1, 0.25, 0.5)  # of the full rank
STARTS = ("he", "spectral", "spectral ones")
WIDTH = 128
HIDDEN = 3
SEEDS = 3
RUNS = len(STARTS) * SEEDS
EPOCHS = 40
LR = 3e-3
N = 500


class Factorized(nn.Module):
    """`HIDDEN` layers of ReLU with weight U V, then a dense head; starts and seeds are the runs."""

    def __init__(self, fraction: float, seed: int) -> None:
        super().__init__()
        widths = [64, *[WIDTH] * HIDDEN]
        self.factors = nn.ParameterList()

        for layer in range(HIDDEN):
            n_in, n_out = widths[layer : layer + 2]
            rank = max(1, round(fraction * min(n_in, n_out)))
            left, right = [], []
            for start in STARTS:
                for s in range(SEEDS):
                    generator = Generator().manual_seed(97 * layer + seed + s)
                    u, v = factors(start, n_in, n_out, rank, generator)
                    left.append(u)
                    right.append(v)
            self.factors.extend([torch.stack(left), torch.stack(right)])

        self.head = nn.Parameter(torch.zeros(RUNS, WIDTH, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate all runs, `[R, B, 64] -> [R, B, 10]`."""
        for u, v in zip(self.factors[::2], self.factors[1::2]):
            x = (x @ v.mT @ u.mT).relu()
        return x @ self.head


def run(seed: int) -> Outcome:
    """Measure the test accuracy after 40 epochs of Adam for three ranks and three starts."""
    data = load_digits(N, seed)
    table = [mean_accuracies(fraction, data, seed) for fraction in FRACTIONS]
    he, spectral, ones = columns(table)

    values = {
        "spectral ones - He, rank .1": ones[0] - he[0],
        "spectral ones - He, mean over ranks": sum(ones) / 3 - sum(he) / 3,
        "spectral - He, mean over ranks": sum(spectral) / 3 - sum(he) / 3,
        "|spectral ones - spectral|, mean": abs(sum(ones) - sum(spectral)) / 3,
        "least accuracy": min(he + spectral + ones),
    }

    curves = {
        start: (FRACTIONS, accuracies) for start, accuracies in zip(STARTS, (he, spectral, ones))
    }
    return Outcome(values, curves, x="rank / full rank", y="test accuracy")


def mean_accuracies(fraction: float, data: Digits, seed: int) -> list[float]:
    """Train at one rank; return the mean test accuracy of each start."""
    net = Factorized(fraction, seed)
    optimizer = Adam(net.parameters(), lr=LR)
    batches = orders(RUNS, N, 50, EPOCHS, seed)
    fit(net, optimizer, data.x, data.y.expand(RUNS, -1), batches)
    return seed_means(accuracy(predict(net, data.x_test, RUNS), data.y_test), SEEDS)


def factors(
    start: str, n_in: int, n_out: int, rank: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Draw U `[n_out, r]` and V `[r, n_in]` of one layer."""
    if start == "he":
        u = torch.randn(n_out, rank, generator=generator) * (2 / rank) ** 0.5
        return u, torch.randn(rank, n_in, generator=generator) / n_in**0.5

    dense = torch.randn(n_out, n_in, generator=generator) * (2 / n_in) ** 0.5
    u, s, v = torch.linalg.svd(dense, full_matrices=False)
    root = s[:rank].sqrt() if start == "spectral" else torch.ones(rank)
    return u[:, :rank] * root, root[:, None] * v[:rank]
