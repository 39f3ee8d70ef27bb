"""The random labels that a low-rank network can fit, against a weighted sum of parameter counts.

Row 23: Seo, Wang, Papailiopoulos and Lee, "Empirical Study on the Effective VC Dimension of
Low-rank Neural Networks", ICML 2021 workshop. A layer of rank r counts r (n_in + n_out - r)
parameters instead of n_in n_out.

Claim of the abstract: the effective VC dimension of networks with low-rank parameters is
proportional to a weighted sum of the parameter counts of the layers.

Setting: two hidden layers of ten ReLUs, each a product of two matrices, of three ranks each: nine
networks. Their effective VC dimension is taken as the largest n of `SIZES` at which n random labels
are fitted without error. The paper's weights were not at hand, so that they are found by least
squares on relative errors, with no constant, which makes it a proportionality: one weight for each
low-rank layer, the nine networks against two numbers. Measured are the relative error of the sum
for networks that the weights were not fitted to (one is left out at a time), and the share of a
constant term in the mean of the sum when one is allowed: 0 for a proportionality, 1 where the
counts say nothing. The weights of the bound of Bartlett, Harvey, Liaw and Mehrabian,
arXiv:1703.02930, in which a layer counts once for every layer above it, are tried as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

D = 6
WIDTH = 10
FIRST_RANKS = (1, 2, 5)
SECOND_RANKS = (1, 3, 8)
NETWORKS = tuple(product(FIRST_RANKS, SECOND_RANKS))
SIZES = (12, 18, 26, 38, 55, 80, 115, 165, 240)  # samples that are tried
STEPS = 1500
LR = 1e-2
BARTLETT = np.array([3.0, 2.0])  # layers from each low-rank layer to the head, itself included


def run(seed: int) -> Outcome:
    """Find the largest random sample that each network fits."""
    capacities = shattered(child_seeds(seed, 1)[0])
    counts = np.array([parameters(*ranks) for ranks in NETWORKS])
    weights = proportional(counts, capacities)
    order = np.argsort(counts @ weights)
    curves = {
        "random labels fitted": ((counts @ weights)[order], capacities[order]),
        "weighted sum of parameters": ((counts @ weights)[order], (counts @ weights)[order]),
    }
    return Outcome(measures(capacities), curves, x="effective parameters", y="n", log="xy")


def control(seed: int) -> Mapping[str, float]:
    """Draw capacities from the same sizes that know nothing of the networks."""
    rng = np.random.default_rng(seed)
    return measures(rng.choice(np.array(SIZES, float), len(NETWORKS)))


def measures(capacities: np.ndarray) -> dict[str, float]:
    """Compute how well a weighted sum without a constant predicts capacities `[9]`."""
    counts = np.array([parameters(*ranks) for ranks in NETWORKS])
    errors = []
    for i in range(len(capacities)):
        others = np.arange(len(capacities)) != i
        weights = proportional(counts[others], capacities[others])
        errors.append(counts[i] @ weights / capacities[i] - 1)

    with_constant = np.column_stack([counts, np.full(len(counts), counts.mean())])
    weights = proportional(with_constant, capacities)
    constant = weights[-1] * counts.mean() / (with_constant @ weights).mean()
    bartlett = (counts @ BARTLETT)[:, None]
    scale = proportional(bartlett, capacities)
    return {
        "relative error on a network left out": float(np.sqrt(np.mean(np.square(errors)))),
        "constant term, as a share of the mean": abs(constant),
        "relative error with Bartlett's weights": relative_error(bartlett @ scale, capacities),
    }


def parameters(first: int, second: int) -> tuple[int, int]:
    """Count the parameters of the two low-rank layers."""
    return first * (D + WIDTH - first), second * (2 * WIDTH - second)


def proportional(counts: np.ndarray, capacities: np.ndarray) -> np.ndarray:
    """Find the weights that minimize the squared relative errors of counts w, `[L]`.

    Args:
        counts: `[M, L]`.
        capacities: `[M]`.
    """
    return np.linalg.lstsq(counts / capacities[:, None], np.ones(len(capacities)), rcond=None)[0]


def relative_error(predicted: np.ndarray, capacities: np.ndarray) -> float:
    """Return the root mean square of predicted / capacity - 1."""
    return float(np.sqrt(np.mean((predicted / capacities - 1) ** 2)))


def shattered(seed: int) -> np.ndarray:
    """Find the largest of `SIZES` that each network fits without error, `[9]`.

    All networks train at once on all sizes, each on the first rows of one sample.
    """
    generator = Generator().manual_seed(seed)
    x = torch.randn(SIZES[-1], D, generator=generator)
    y = torch.randint(2, (SIZES[-1],), generator=generator) * 2.0 - 1
    size = torch.tensor(SIZES).repeat(len(NETWORKS))[:, None]
    is_used = torch.arange(SIZES[-1]) < size
    ranks = torch.tensor(NETWORKS).repeat_interleave(len(SIZES), 0)

    weights = start(ranks, generator)
    optimizer = torch.optim.Adam(weights, lr=LR)
    fitted = torch.zeros(len(ranks), dtype=torch.bool)
    for step in range(STEPS):
        optimizer.zero_grad()
        margin = y * network(weights, x)
        if step % 20 == 0:  # once is enough: Adam may lose it again
            fitted |= ((margin > 0) | ~is_used).all(-1)
        (F.softplus(-margin) * is_used / size).sum().backward()
        optimizer.step()

    sizes = torch.where(fitted, size[:, 0], 1).view(len(NETWORKS), len(SIZES))
    return sizes.amax(1).double().numpy()


def start(ranks: Tensor, generator: Generator) -> list[Tensor]:
    """Draw the factors of both layers, their biases, the head and its offset.

    Factors are padded with zeros to the largest rank; where both sides are zero, no gradient flows.

    Args:
        ranks: of the two layers of every network, `[R, 2]`.
        generator: source of the weights.
    """
    runs = len(ranks)

    def factors(n_in: int, column: int) -> list[Tensor]:
        rank = ranks[:, column]
        is_used = torch.arange(int(rank.max())) < rank[:, None]
        right = torch.randn(runs, n_in, is_used.shape[1], generator=generator) / n_in**0.5
        left = torch.randn(runs, is_used.shape[1], WIDTH, generator=generator)
        left = left * (2 / rank)[:, None, None] ** 0.5
        return [right * is_used[:, None], left * is_used[:, :, None]]

    def bias(n: int) -> Tensor:
        return 0.5 * torch.randn(runs, 1, n, generator=generator)

    head = torch.randn(runs, WIDTH, 1, generator=generator) / WIDTH**0.5
    weights = [*factors(D, 0), bias(WIDTH), *factors(WIDTH, 1), bias(WIDTH), head, 0 * bias(1)]
    return [weight.requires_grad_() for weight in weights]


def network(weights: list[Tensor], x: Tensor) -> Tensor:
    """Evaluate all networks, `[N, D] -> [R, N]`."""
    right, left, bias, upper_right, upper_left, upper_bias, head, offset = weights
    hidden = (x @ right @ left + bias).relu()
    hidden = (hidden @ upper_right @ upper_left + upper_bias).relu()
    return (hidden @ head + offset)[..., 0]
