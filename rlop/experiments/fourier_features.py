"""Lifted features: an interpolator of the circle errs next to its training points, on request.

Row 37: Narang, Muthukumar and Sahai, "Classification and Adversarial Examples in an
Overparameterized Linear Model: A Signal-Processing Perspective", arXiv:2109.13215. The abstract
says that the least-norm interpolator in lifted Fourier features (1) generalizes and yet is
susceptible to adversaries who move the low-dimensional input only; (2) is much more sensitive near
the training points than elsewhere, spatial localization, which (3) is a consequence of the lifting;
(4) that classification with such features is less sensitive to the strength of the prior than with
independent ones; and that all this is found (5) for random features, with double descent, and (6)
for polynomials.

Setting: labels +-1, the sign of a wave of the lowest frequency, 5 % of them flipped, at 40 jittered
points of the circle; 400 Fourier features of weight .1, those of the wave of weight 1 (the prior).
The adversary moves a point by up to half the mean spacing; points whose true sign changes within
this range do not count. Sensitivity is the mean |slope| within a tenth of the spacing of a training
point, against farther away. Fourier features are replaced by cosines of random frequency and phase,
by Legendre polynomials, or, for (4), by Gaussian numbers of the same weights.

Control: five Fourier features, that is no lifting; for (3) and (4) each setting against itself; and
a number of random features that stays at the end of its curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

N = 40
FLIPPED = 0.05
DRAWS = 10
FEATURES = 400
FEW = 6  # features without lifting
WEIGHT = 0.1
PRIORS = (0.02, 0.05, 0.1, 0.2, 0.4)  # weights of all features but those of the wave
GRID = torch.linspace(0, 1, 2001, dtype=torch.float64)[:-1]
STEPS_NEAR = len(GRID) // N // 10  # grid points within a tenth of the spacing
REACH = len(GRID) // N // 2  # grid points that the adversary may move
RANDOM_SIZES = (10, 20, 40, 80, 160, 400)

Lift: TypeAlias = Callable[
    [Tensor, int, float, Generator], Tensor
]  # [..., n] -> [..., n, features]


def fourier(t: Tensor, count: int, weight: float, generator: Generator) -> Tensor:
    """Return cosines and sines of the lowest frequencies."""
    k = torch.arange(1, count // 2 + 1, dtype=torch.float64)
    weights = torch.where(k <= 1, 1.0, weight)
    angle = 2 * math.pi * t[..., None] * k
    return torch.cat([weights * angle.cos(), weights * angle.sin()], -1)


def random_waves(t: Tensor, count: int, weight: float, generator: Generator) -> Tensor:
    """Return the wave, and cosines of random frequencies up to 200 and random phases."""
    k = FEATURES / 2 * torch.rand(count - 2, generator=generator, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(count - 2, generator=generator, dtype=torch.float64)
    waves = (2 * math.pi * t[..., None] * k + phase).cos()
    return torch.cat([fourier(t, 2, 1.0, generator), weight * waves], -1)


def polynomials(t: Tensor, count: int, weight: float, generator: Generator) -> Tensor:
    """Return Legendre polynomials; those up to degree 5, which make a wave, have weight 1."""
    x = 2 * t - 1
    terms = [torch.ones_like(x), x]
    for n in range(1, count - 1):
        terms.append(((2 * n + 1) * x * terms[-1] - n * terms[-2]) / (n + 1))
    degree = torch.arange(count, dtype=torch.float64)
    weights = torch.where(degree <= 5, 1.0, weight) * (2 * degree + 1).sqrt()
    return torch.stack(terms, -1) * weights


def run(seed: int) -> Outcome:
    """Interpolate flipped labels in lifted features, and attack, differentiate and compare."""
    point_seed, feature_seed = child_seeds(seed, 2)
    points, labels = draw(point_seed)
    generator = Generator().manual_seed(feature_seed)

    lifted = interpolate(fourier, points, labels, FEATURES, generator)
    waves = interpolate(random_waves, points, labels, FEATURES, generator)
    smooth = interpolate(polynomials, points, labels, FEATURES, generator)
    flat = interpolate(fourier, points, labels, FEW, generator)
    by_size = []
    for size in RANDOM_SIZES:
        by_size.append(square_error(interpolate(random_waves, points, labels, size, generator)))

    values = measures(points, lifted, waves, smooth, flat, by_size)
    values["range of the error over priors, Fourier / independent features"] = error_range(
        fourier_errors(points, labels, generator)
    ) / error_range(independent_errors(generator))

    part = slice(0, len(GRID) // 4)
    positions = GRID[part].tolist()
    curves = {
        "interpolator": (positions, lifted[0, part].tolist()),
        "true sign": (positions, truth(GRID)[part].sign().tolist()),
        "training points": (
            points[0][points[0] < 0.25].tolist(),
            labels[0][points[0] < 0.25].tolist(),
        ),
    }
    return Outcome(values, curves, x="position on the circle (a quarter)", y="label")


def control(seed: int) -> dict[str, float]:
    """Measure without lifting, and each comparison against itself."""
    point_seed, feature_seed = child_seeds(seed, 2)
    points, labels = draw(point_seed)
    generator = Generator().manual_seed(feature_seed)
    flat = interpolate(fourier, points, labels, FEW, generator)
    low = interpolate(polynomials, points, labels, FEW, generator)
    last = square_error(interpolate(random_waves, points, labels, FEATURES, generator))

    values = measures(points, flat, flat, low, flat, [last] * len(RANDOM_SIZES))
    values["range of the error over priors, Fourier / independent features"] = error_range(
        independent_errors(generator)
    ) / error_range(independent_errors(generator))
    return values


def measures(
    points: Tensor,
    lifted: Tensor,
    waves: Tensor,
    smooth: Tensor,
    flat: Tensor,
    by_size: list[float],
) -> dict[str, float]:
    """Name the numbers; all functions are on the grid, `[DRAWS, G]`."""
    standard, adversarial = errors(lifted)
    return {
        "adversarial - standard error": adversarial - standard,
        "slope beside training points / elsewhere": slope_ratio(points, lifted),
        "that ratio, lifted / not": slope_ratio(points, lifted) / slope_ratio(points, flat),
        "slope beside training points / elsewhere, random features": slope_ratio(points, waves),
        "error of random features at one a point / at ten": by_size[2] / by_size[-1],
        "slope beside training points / elsewhere, polynomials": slope_ratio(points, smooth),
    }


def truth(t: Tensor) -> Tensor:
    """Return a wave of the lowest frequency."""
    return (2 * math.pi * t).sin()


def draw(seed: int) -> tuple[Tensor, Tensor]:
    """Draw jittered points and their labels, some flipped, `[DRAWS, N]`."""
    generator = Generator().manual_seed(seed)
    jitter = torch.rand(DRAWS, N, generator=generator, dtype=torch.float64)
    points = (torch.arange(N) + 0.5 * jitter) / N
    flips = torch.rand(DRAWS, N, generator=generator) < FLIPPED
    return points, truth(points).sign() * torch.where(flips, -1.0, 1.0)


def interpolate(
    lift: Lift,
    points: Tensor,
    labels: Tensor,
    count: int,
    generator: Generator,
    weight: float = WEIGHT,
) -> Tensor:
    """Fit labels by least norm (least squares for fewer features) and evaluate on the grid.

    Returns:
        `[DRAWS, G]`.
    """
    both = torch.cat([points, GRID.expand(len(points), -1)], 1)
    features = lift(both, count, weight, generator)
    train, grid = features[:, :N], features[:, N:]
    weights = torch.linalg.pinv(train) @ labels[..., None]
    return (grid @ weights)[..., 0]


def errors(f: Tensor) -> tuple[float, float]:
    """Return standard and adversarial error at points out of reach of a change of the sign."""
    reach = torch.arange(-REACH, REACH + 1)
    sign = truth(GRID).sign()
    wrong = (f * sign < 0).double()
    # A positive maximum over the range means that the adversary succeeds.
    padded = torch.cat([wrong[:, -REACH:], wrong, wrong[:, :REACH]], 1)
    attacked = torch.nn.functional.max_pool1d(padded[:, None], len(reach), 1)[:, 0]
    distance = torch.minimum((GRID - 0.5).abs(), torch.minimum(GRID, 1 - GRID))
    clear = distance > (REACH + 1) / len(GRID)
    return wrong[:, clear].mean().item(), attacked[:, clear].mean().item()


def slope_ratio(points: Tensor, f: Tensor) -> float:
    """Divide the mean |slope| beside training points by that elsewhere."""
    distance = (GRID - points[..., None] + 0.5).remainder(1).sub(0.5).abs().amin(-2)
    near = distance < (STEPS_NEAR + 0.5) / len(GRID)
    slope = f.diff(dim=1).abs()
    near = near[:, :-1]
    return (slope[near].mean() / slope[~near].mean()).item()


def square_error(f: Tensor) -> float:
    """Return the median squared distance to the true sign; the mean is ruled by outliers."""
    return (f - truth(GRID).sign()).square().mean(1).median().item()


def fourier_errors(points: Tensor, labels: Tensor, generator: Generator) -> list[float]:
    """Return the classification error for each prior."""
    rates = []
    for weight in PRIORS:
        f = interpolate(fourier, points, labels, FEATURES, generator, weight)
        rates.append((f * truth(GRID) < 0).double().mean().item())
    return rates


def independent_errors(generator: Generator) -> list[float]:
    """Return the error for each prior where features are independent Gaussian numbers.

    The true label is the sign of the first feature, of weight 1; the error is the angle to it / pi.
    """
    shape = (DRAWS, N, FEATURES)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    flips = torch.rand(DRAWS, N, generator=generator) < FLIPPED
    y = x[..., 0].sign() * torch.where(flips, -1.0, 1.0)
    rates = []
    for weight in PRIORS:
        weights = torch.full((FEATURES,), weight, dtype=torch.float64)
        weights[0] = 1.0
        solution = weights * (torch.linalg.pinv(x * weights) @ y[..., None])[..., 0]
        cosine = solution[:, 0] / solution.norm(dim=1)
        rates.append((cosine.arccos() / math.pi).mean().item())
    return rates


def error_range(rates: list[float]) -> float:
    """Return the largest difference of the error between two priors."""
    return max(rates) - min(rates)
