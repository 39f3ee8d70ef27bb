"""Adversarial points of an interpolator sit beside its training points: spatial localisation.

Row 37: Narang, Muthukumar and Sahai, "Classification and Adversarial Examples in an Overparameterized Linear Model: A
Signal-Processing Perspective", arXiv:2109.13215. A function with few low frequencies is fitted by least norm in 400
weighted Fourier features to 20 noisy points of the circle. With favourable weights the right function survives, and all
the noise goes into narrow spikes at the training points: the slope there is far larger than in between. A probe of Q:
the gradient norm in the state at data states and between them.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

N, FREQUENCIES, SEEDS, NOISE = 20, 200, 20, 0.3
FAVOURED = 1  # lowest frequencies of large weight
WEIGHT = 0.1  # of all others
GRID = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1]


def run(seed: int = 0) -> Outcome:
    """Fit 20 functions on the circle and compare slopes and errors beside the training points with those elsewhere."""
    generator = Generator().manual_seed(seed)
    jitter = torch.rand(SEEDS, N, generator=generator, dtype=torch.float64)
    points = (torch.arange(N) + 0.5 * jitter) / N
    noise = NOISE * torch.randn(SEEDS, N, generator=generator, dtype=torch.float64)
    weights = torch.linalg.pinv(features(points)) @ (truth(points) + noise)[..., None]
    fitted = (features(GRID) @ weights)[..., 0]
    slope = (fitted.roll(-1, 1) - fitted).abs() * len(GRID)
    distance = (GRID - points[..., None] + 0.5).remainder(1).sub(0.5).abs().amin(-2)
    near = distance < 0.5 / FREQUENCIES
    error = (fitted - truth(GRID)).square()
    flips = (fitted * truth(GRID) < 0) & (truth(GRID).abs() > 0.2)
    ratio = slope[near].mean() / slope[~near].mean()
    residual = ((features(points) @ weights)[..., 0] - truth(points) - noise).abs().max().item()
    measures = (
        Measure("train residual", residual, 0, 1e-6, "interpolates"),
        Measure(
            "slope beside training points / elsewhere",
            ratio.item(),
            3,
            math.inf,
            "spikes at the data",
        ),
        Measure(
            "squared error beside / elsewhere",
            (error[near].mean() / error[~near].mean()).item(),
            2,
            math.inf,
            "noise stays put",
        ),
        Measure(
            "share of the circle beside points",
            near.double().mean().item(),
            0,
            0.15,
            "spikes are narrow",
        ),
        Measure(
            "mean squared error",
            error.mean().item(),
            0,
            0.5 * NOISE**2,
            "below the noise: it still generalizes",
        ),
        Measure(
            "share of clear signs flipped",
            flips.double().mean().item(),
            0,
            0.05,
            "few, and beside the points",
        ),
    )
    first = slice(0, 1000)
    curves = {
        "interpolator": (GRID[first].tolist(), fitted[0, first].tolist()),
        "truth": (GRID[first].tolist(), truth(GRID)[first].tolist()),
    }
    return Outcome(measures, curves, x="position on the circle (a quarter)", y="value")


def truth(t: Tensor) -> Tensor:
    """A wave of the lowest frequency."""
    return (2 * math.pi * t).sin()


def features(t: Tensor) -> Tensor:
    """Weighted cosines and sines, `[..., n] -> [..., n, 400]`."""
    k = torch.arange(1, FREQUENCIES + 1, dtype=torch.float64)
    weight = torch.where(k <= FAVOURED, 1.0, WEIGHT)
    angle = 2 * math.pi * t[..., None] * k
    return torch.cat([weight * angle.cos(), weight * angle.sin()], -1)
