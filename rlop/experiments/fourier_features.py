"""Spatial localization: the adversarial points of an interpolator lie next to its training points.

Row 37: Narang, Muthukumar and Sahai, "Classification and Adversarial Examples in an
Overparameterized Linear Model: A Signal-Processing Perspective", arXiv:2109.13215. A function with
few low frequencies is fitted by least norm in 400 weighted Fourier features to 20 noisy points of
the circle. With favorable weights the right function survives, and all the noise goes into narrow
spikes at the training points: the slope there is far larger than in between. A probe of Q: the
gradient norm in the state at data states and between them.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome

N = 20
FREQUENCIES = 200
SEEDS = 20
NOISE = 0.3
FAVORED = 1  # lowest frequencies of large weight
WEIGHT = 0.1  # of all other frequencies
GRID = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1]


def run(seed: int) -> Outcome:
    """Fit 20 functions on the circle; compare slope and error near the training points."""
    generator = Generator().manual_seed(seed)
    jitter = torch.rand(SEEDS, N, generator=generator, dtype=torch.float64)
    points = (torch.arange(N) + 0.5 * jitter) / N
    noise = NOISE * torch.randn(SEEDS, N, generator=generator, dtype=torch.float64)
    weights = torch.linalg.pinv(features(points)) @ (truth(points) + noise)[..., None]

    # Distances are on the circle; a spike is as wide as the highest frequency.
    distance = (GRID - points[..., None] + 0.5).remainder(1).sub(0.5).abs().amin(-2)
    near = distance < 0.5 / FREQUENCIES
    fitted = (features(GRID) @ weights)[..., 0]
    slope = (fitted.roll(-1, 1) - fitted).abs() * len(GRID)
    error = (fitted - truth(GRID)).square()
    flips = (fitted * truth(GRID) < 0) & (truth(GRID).abs() > 0.2)

    residuals = (features(points) @ weights)[..., 0] - truth(points) - noise
    slope_ratio = slope[near].mean() / slope[~near].mean()
    error_ratio = error[near].mean() / error[~near].mean()

    values = {
        "train residual": residuals.abs().max().item(),
        "slope beside training points / elsewhere": slope_ratio.item(),
        "squared error beside / elsewhere": error_ratio.item(),
        "share of the circle beside points": near.double().mean().item(),
        "mean squared error": error.mean().item(),
        "share of clear signs flipped": flips.double().mean().item(),
    }

    quarter = slice(0, 1000)
    positions = GRID[quarter].tolist()
    curves = {
        "interpolator": (positions, fitted[0, quarter].tolist()),
        "truth": (positions, truth(GRID)[quarter].tolist()),
    }
    return Outcome(values, curves, x="position on the circle (a quarter)", y="value")


def truth(t: Tensor) -> Tensor:
    """Return a wave of the lowest frequency."""
    return (2 * math.pi * t).sin()


def features(t: Tensor) -> Tensor:
    """Compute weighted cosines and sines, `[..., n] -> [..., n, 400]`."""
    k = torch.arange(1, FREQUENCIES + 1, dtype=torch.float64)
    weight = torch.where(k <= FAVORED, 1.0, WEIGHT)
    angle = 2 * math.pi * t[..., None] * k
    return torch.cat([weight * angle.cos(), weight * angle.sin()], -1)
