"""The law of robustness: to fit noise smoothly takes many more parameters than to fit it at all.

Row 12: Bubeck and Sellke, "A Universal Law of Robustness via Isoperimetry", arXiv:2105.12806. A
function with p parameters that fits n noisy points in d dimensions below the noise level has a
Lipschitz constant of order sqrt(n d / p) at least. Random labels on the sphere are interpolated by
least norm in k random ReLU features, p = k d; the largest gradient found at and between the points
falls with k and stays above the law's order. A probe of Q: gradients in the state against width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome
from rlop.experiments.series import columns, ratios

D = 30
N = 150
SEEDS = 5
WIDTHS = (180, 220, 300, 450, 700, 1200, 2500, 4500)


def run(seed: int) -> Outcome:
    """Measure the interpolator's largest gradient at eight widths, next to sqrt(n d / p)."""
    slopes, residuals = columns([steepest(k, seed) for k in WIDTHS])
    law = [(N / k) ** 0.5 for k in WIDTHS]  # n d / p with p = k d
    least_over_law = min(slope / bound for slope, bound in zip(slopes, law))

    values = {
        "train residual": max(residuals),
        "gradient, k = 180 / k = 4500": slopes[0] / slopes[-1],
        "most gained by more width": max(ratios(slopes)),
        "least gradient / sqrt(n d / p)": least_over_law,
    }

    curves = {"largest gradient": (WIDTHS, slopes), "sqrt(n d / p)": (WIDTHS, law)}
    return Outcome(values, curves, x="random features k, n = 150", y="||gradient||", log="xy")


def steepest(width: int, seed: int) -> tuple[float, float]:
    """Interpolate random labels in `width` random features.

    Returns:
        Largest gradient norm at and halfway between train points, mean over the seeds; largest
        train residual.
    """
    generator = Generator().manual_seed(seed)
    normal = torch.randn(SEEDS, N, D, generator=generator, dtype=torch.float64)
    x = F.normalize(normal, dim=-1)
    y = torch.randint(2, (SEEDS, N, 1), generator=generator) * 2.0 - 1
    directions = torch.randn(SEEDS, width, D, generator=generator, dtype=torch.float64)
    offsets = 0.5 * torch.randn(SEEDS, 1, width, generator=generator, dtype=torch.float64)

    def preactivations(points: Tensor) -> Tensor:
        return points @ directions.mT + offsets

    phi = preactivations(x).relu()
    weights = torch.linalg.pinv(phi) @ y.double()
    residual = (phi @ weights - y).abs().max().item()

    points = torch.cat([x, (x + x.roll(1, 1)) / 2], 1)
    gradient = ((preactivations(points) > 0) * weights.mT) @ directions
    return gradient.norm(dim=-1).amax(-1).mean().item(), residual
