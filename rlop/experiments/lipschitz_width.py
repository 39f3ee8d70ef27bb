"""The law of robustness: to fit noise smoothly takes many more parameters than to fit it at all.

Row 12: Bubeck and Sellke, "A Universal Law of Robustness via Isoperimetry", arXiv:2105.12806. A function with p
parameters that fits n noisy points in d dimensions below the noise level has a Lipschitz constant of order
sqrt(n d / p) at least. Random labels on the sphere are interpolated by least norm in k random ReLU features, p = k d;
the largest gradient found at and between the points falls with k and stays above the law's order.
A probe of Q: gradients in the state against width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

D, N, SEEDS = 30, 150, 5
WIDTHS = (180, 220, 300, 450, 700, 1200, 2500, 4500)


def run(seed: int = 0) -> Outcome:
    """The largest gradient norm of the interpolator for eight widths, beside sqrt(n d / p)."""
    results = [steepest(k, seed) for k in WIDTHS]
    slopes, residuals = zip(*results)
    law = [(N / k) ** 0.5 for k in WIDTHS]  # n d / p with p = k d
    step = max(after / before for before, after in pairwise(slopes))
    over = [slope / bound for slope, bound in zip(slopes, law)]
    measures = (
        Measure("train residual", max(residuals), 0, 1e-6, "interpolates"),
        Measure(
            "gradient, k = 180 / k = 4500", slopes[0] / slopes[-1], 2, torch.inf, "falls with width"
        ),
        Measure("most gained by more width", step, 0, 1.05, "never rises"),
        Measure(
            "least gradient / sqrt(n d / p)",
            min(over),
            0.3,
            torch.inf,
            "the law: a constant at least",
        ),
    )
    curves = {"largest gradient": (WIDTHS, slopes), "sqrt(n d / p)": (WIDTHS, law)}
    return Outcome(measures, curves, x="random features k, n = 150", y="||gradient||", log="xy")


def steepest(width: int, seed: int) -> tuple[float, float]:
    """Largest gradient norm at and halfway between train points, mean over the seeds, and the train residual."""
    generator = Generator().manual_seed(seed)
    x = torch.nn.functional.normalize(
        torch.randn(SEEDS, N, D, generator=generator, dtype=torch.float64), dim=-1
    )
    y = torch.randint(2, (SEEDS, N, 1), generator=generator) * 2.0 - 1
    directions = torch.randn(SEEDS, width, D, generator=generator, dtype=torch.float64)
    offsets = 0.5 * torch.randn(SEEDS, 1, width, generator=generator, dtype=torch.float64)

    def kinks(points: Tensor) -> Tensor:
        return points @ directions.mT + offsets

    phi = kinks(x).relu()
    weights = torch.linalg.pinv(phi) @ y.double()
    points = torch.cat([x, (x + x.roll(1, 1)) / 2], 1)
    gradient = ((kinks(points) > 0) * weights.mT) @ directions
    return gradient.norm(dim=-1).amax(-1).mean().item(), (phi @ weights - y).abs().max().item()
