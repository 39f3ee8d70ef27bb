"""Learning over a network: the test error shows how the features are divided, the train error not.

Row 15: Hellkvist and Ozcelikkale, "Generalization Error and Overparameterization While Learning
over Networks", ICML 2021 workshop; full version arXiv:2101.09001. K nodes hold p_k of the p
features each. In every round, each node adds the least-norm fit of its features to 1/K of the
common residual (CoCoA). With p > n the train error goes to 0 for every partition, but the test
error explodes when some node has p_k near n, though p itself is far from n.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome
from rlop.experiments.series import columns

N = 100
P = 300
SEEDS = 8
ROUNDS = 100
# Features of the first of two nodes; the second has the others.
FIRST = (20, 50, 70, 90, 98, 100, 102, 110, 130, 150, 170, 190, 198, 200, 202, 210, 230, 250, 280)


def run(seed: int) -> Outcome:
    """Sweep the share of the first of two nodes, n = 100 and p = 300; and three nodes."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(SEEDS, N, P, generator=generator, dtype=torch.float64)
    w = torch.randn(SEEDS, P, generator=generator, dtype=torch.float64) / P**0.5
    y = (x @ w[..., None])[..., 0]

    results = [fit_over_network(x, y, w, (first, P - first)) for first in FIRST]
    test, train = columns(results)
    central, _ = fit_over_network(x, y, w, (P,))
    equal, _ = fit_over_network(x, y, w, (100, 100, 100))
    uneven, _ = fit_over_network(x, y, w, (20, 30, 250))

    at = dict(zip(FIRST, test))

    values = {
        "largest train error of two nodes": max(train),
        "risk of one node": central,
        "risk with p_1 = n / with p_1 = 20": at[100] / at[20],
        "risk with p_2 = n / with p_1 = 20": at[200] / at[20],
        "risk with p_1 = p_2 = 150 / of one node": at[150] / central,
        "risk of three nodes, 100 each / 20, 30, 250": equal / uneven,
    }

    curves = {"test": (FIRST, test), "one node": (FIRST, [central] * len(FIRST))}
    return Outcome(
        values, curves, x="features of the first of two nodes", y="risk, mean over seeds", log="y"
    )


def fit_over_network(
    x: Tensor, y: Tensor, w: Tensor, sizes: tuple[int, ...]
) -> tuple[float, float]:
    """Compute test and train error after `ROUNDS` rounds.

    Args:
        x: features `[S, n, p]`.
        y: noiseless targets `[S, n]`.
        w: weights that made them `[S, p]`.
        sizes: features of each node; they sum to p.
    """
    # All nodes act on the same residual, so one matrix applies a whole round.
    inverses = [torch.linalg.pinv(features) for features in x.split(sizes, dim=-1)]
    inverse = torch.cat(inverses, 1) / len(sizes)

    estimate = torch.zeros_like(w)
    residual = y
    for _ in range(ROUNDS):
        estimate = estimate + (inverse @ residual[..., None])[..., 0]
        residual = y - (x @ estimate[..., None])[..., 0]

    test_error = (estimate - w).square().sum(-1).mean().item()
    return test_error, residual.square().mean().item()
