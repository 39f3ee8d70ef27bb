"""The number of random labels that a low-rank network can fit grows with its effective parameters.

Row 23: Seo, Wang, Papailiopoulos and Lee, "Empirical Study on the Effective VC Dimension of
Low-rank Neural Networks", ICML 2021 workshop. A layer of rank r counts r (n_in + n_out - r)
parameters instead of n_in n_out. The largest n is sought for which a tiny network U V - ReLU -
head, of rank 1 to 8, fits n random labels without error. The weights of the layers in the paper's
sum were not found; here every layer counts once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome
from rlop.experiments.series import ratios

D = 8
WIDTH = 16
SEEDS = 3
STEPS = 2000
LR = 1e-2
RANKS = (1, 2, 4, 8)
SIZES = (15, 20, 28, 40, 56, 80, 112, 160, 224, 320)  # samples that are tried


def run(seed: int) -> Outcome:
    """Find the largest random sample that networks of four ranks fit, and count parameters."""
    capacities = [shattered(rank, seed) for rank in RANKS]
    counts = [parameters(rank) for rank in RANKS]
    per_parameter = [capacity / count for capacity, count in zip(capacities, counts)]

    values = {
        "least growth of the capacity when the rank doubles": min(ratios(capacities)),
        "capacity, rank 8 / rank 1": capacities[-1] / capacities[0],
        "capacity / parameters, least": min(per_parameter),
        "capacity / parameters, largest": max(per_parameter),
    }

    curves = {"largest n fitted": (counts, capacities)}
    return Outcome(values, curves, x="effective parameters", y="random labels fitted")


def parameters(rank: int) -> int:
    """Count effective parameters: a layer D - WIDTH of this rank with its biases, and the head."""
    return rank * (D + WIDTH - rank) + WIDTH + WIDTH + 1


def shattered(rank: int, seed: int) -> float:
    """Find the largest of `SIZES` fitted without error, the geometric mean over seeds.

    All sizes train at once, each on the first rows of the same sample.
    """
    generator = Generator().manual_seed(seed)
    runs = len(SIZES) * SEEDS
    x = torch.randn(SEEDS, SIZES[-1], D, generator=generator).repeat(len(SIZES), 1, 1)
    signs = torch.randint(2, (SEEDS, SIZES[-1]), generator=generator) * 2.0 - 1
    y = signs.repeat(len(SIZES), 1)
    size = torch.tensor(SIZES).repeat_interleave(SEEDS)[:, None]
    is_used = torch.arange(SIZES[-1]) < size

    weights = start(rank, runs, generator)
    optimizer = torch.optim.Adam(weights, lr=LR)
    fitted = torch.zeros(runs, dtype=torch.bool)

    for step in range(STEPS):
        optimizer.zero_grad()
        margin = y * network(weights, x)
        if step % 20 == 0:  # once is enough: Adam may lose it again
            fitted |= ((margin > 0) | ~is_used).all(-1)
        (F.softplus(-margin) * is_used / size).sum().backward()
        optimizer.step()

    largest = torch.where(fitted, size[:, 0], 1).view(len(SIZES), SEEDS).amax(0)
    return largest.float().log().mean().exp().item()


def start(rank: int, runs: int, generator: Generator) -> list[Tensor]:
    """Draw V `[R, D, r]`, U `[R, r, WIDTH]`, biases, head and its offset."""

    def normal(scale: float, *shape: int) -> Tensor:
        return (scale * torch.randn(runs, *shape, generator=generator)).requires_grad_()

    return [
        normal(D**-0.5, D, rank),
        normal((2 / rank) ** 0.5, rank, WIDTH),
        normal(0.5, 1, WIDTH),
        normal(WIDTH**-0.5, WIDTH, 1),
        normal(0.0, 1, 1),
    ]


def network(weights: list[Tensor], x: Tensor) -> Tensor:
    """Evaluate all runs, `[R, N, D] -> [R, N]`."""
    v, u, bias, head, offset = weights
    return ((x @ v @ u + bias).relu() @ head + offset)[..., 0]
