"""The number of random labels that a network of low rank can fit grows with its effective number of parameters.

Row 23: Seo, Wang, Papailiopoulos and Lee, "Empirical Study on the Effective VC Dimension of Low-rank Neural Networks",
ICML 2021 workshop. A layer of rank r counts r (n_in + n_out - r) parameters instead of n_in n_out. The largest n is
sought for which a tiny network U V - ReLU - head, of rank 1 to 8, fits n random labels without error. The weights of
the layers in the paper's sum were not found; here every layer counts once.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

D, WIDTH, SEEDS, STEPS, LR = 8, 16, 3, 2000, 1e-2
RANKS = (1, 2, 4, 8)
SIZES = (15, 20, 28, 40, 56, 80, 112, 160, 224, 320)


def run(seed: int = 0) -> Outcome:
    """The largest random sample that networks of four ranks fit, beside their parameter counts."""
    capacity = [shattered(rank, seed) for rank in RANKS]
    count = [parameters(rank) for rank in RANKS]
    ratio = [n / p for n, p in zip(capacity, count)]
    rise = min(after / before for before, after in pairwise(capacity))
    measures = (
        Measure(
            "least growth of the capacity when the rank doubles", rise, 1, torch.inf, "never falls"
        ),
        Measure(
            "capacity, rank 8 / rank 1",
            capacity[-1] / capacity[0],
            1.5,
            torch.inf,
            "grows with rank",
        ),
        Measure("capacity / parameters, least", min(ratio), 0.15, 2, "of the order of the count"),
        Measure("capacity / parameters, largest", max(ratio), 0.15, 2, "of the order of the count"),
    )
    curves = {"largest n fitted": (count, capacity)}
    return Outcome(measures, curves, x="effective parameters", y="random labels fitted")


def parameters(rank: int) -> int:
    """Effective number: a layer D - WIDTH of this rank with its biases, and the head."""
    return rank * (D + WIDTH - rank) + WIDTH + WIDTH + 1


def shattered(rank: int, seed: int) -> float:
    """Largest size of `SIZES` that is fitted without error, geometric mean over the seeds; all sizes train at once."""
    generator = Generator().manual_seed(seed)
    runs = len(SIZES) * SEEDS
    x = torch.randn(SEEDS, SIZES[-1], D, generator=generator).repeat(len(SIZES), 1, 1)
    y = (torch.randint(2, (SEEDS, SIZES[-1]), generator=generator) * 2.0 - 1).repeat(len(SIZES), 1)
    size = torch.tensor(SIZES).repeat_interleave(SEEDS)[:, None]
    used = torch.arange(SIZES[-1]) < size
    weights = start(rank, runs, generator)
    optimizer = torch.optim.Adam(weights, lr=LR)
    fitted = torch.zeros(runs, dtype=torch.bool)
    for step in range(STEPS):
        optimizer.zero_grad()
        margin = y * network(weights, x)
        if step % 20 == 0:  # once is enough: Adam may lose it again
            fitted |= ((margin > 0) | ~used).all(-1)
        (F.softplus(-margin) * used / size).sum().backward()
        optimizer.step()
    largest = torch.where(fitted, size[:, 0], 1).view(len(SIZES), SEEDS).amax(0)
    return largest.float().log().mean().exp().item()


def start(rank: int, runs: int, generator: Generator) -> list[Tensor]:
    """V `[R, D, r]`, U `[R, r, WIDTH]`, biases, head and its offset."""
    shapes = [(D, rank), (rank, WIDTH), (1, WIDTH), (WIDTH, 1), (1, 1)]
    scales = [D**-0.5, (2 / rank) ** 0.5, 0.5, WIDTH**-0.5, 0.0]
    return [
        (scale * torch.randn(runs, *shape, generator=generator)).requires_grad_()
        for shape, scale in zip(shapes, scales)
    ]


def network(weights: list[Tensor], x: Tensor) -> Tensor:
    """`[R, N, D] -> [R, N]`."""
    v, u, bias, head, offset = weights
    return ((x @ v @ u + bias).relu() @ head + offset)[..., 0]
