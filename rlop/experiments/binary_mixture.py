"""A mixture of two Gaussians: support vectors, benign overfitting, and when not to regularize.

Row 49: Wang and Thrampoulidis, "Binary Classification of Gaussian Mixtures: Abundance of Support
Vectors, Benign Overfitting and Regularization", arXiv:2011.09148. The abstract says that (1) in
high dimension the max-margin classifier is the least-squares interpolator, (2) whose error is
bounded without asymptotics, (3) so that under conditions on the over-parameterization and on the
signal-to-noise ratio it overfits benignly; and (4) that there are precise conditions under which
the interpolator does better than regularized estimates.

Setting: x = y mu + noise, n = 40. For isotropic noise in d >> n the interpolator points to the mean
of y x, whence its error Q(|mu|^2 / sqrt(|mu|^2 + d / n)) with the normal tail Q. The error vanishes
if |mu|^4 n / d grows: |mu| = 1.2 d^(3/8). Regularized estimates are ridge regressions, up to the
infinite ridge, which is the mean of y x: without a ridge the noise is better where 20 directions of
a hundred times the variance carry no signal, since only the interpolator avoids them. Errors are
exact.

Control: d = 1.5 n; a mean that does not grow; isotropic noise in place of the strong directions.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.experiments.support_vectors import dual

N = 40
DRAWS = 10
HIGH, LOW = 2000, 60  # dimensions
DIMENSIONS = (60, 120, 250, 500, 1000, 2000)
NORM = 4.0  # of the mean
STRONG = 20  # directions of large variance
VARIANCE = 100.0
RIDGES = (1.0, 10.0, torch.inf)  # in units of d, of which the Gram matrix is without a ridge


def run(seed: int) -> Outcome:
    """Compare max margin, least squares and ridge over six dimensions."""
    path_seed, growth_seed, strong_seed = child_seeds(seed, 3)
    support, distance, formula, benign = [], [], [], []
    for d, draw_seed in zip(DIMENSIONS, child_seeds(path_seed, len(DIMENSIONS))):
        x, y, mean = draw(d, NORM, draw_seed)
        least = ridge(x, y, 0.0)
        shares, gap = support_vectors(x, y, least)
        support.append(shares)
        distance.append(gap)
        formula.append(score_ratio(least, mean))
    for d, draw_seed in zip(DIMENSIONS, child_seeds(growth_seed, len(DIMENSIONS))):
        x, y, mean = draw(d, growing(d), draw_seed)
        benign.append(error(ridge(x, y, 0.0), mean))

    values = measures(support[-1], distance[-1], formula[-1], benign[-1], regularized(strong_seed))
    curves = {
        "share of support vectors": (DIMENSIONS, support),
        "distance of max margin to least squares": (DIMENSIONS, distance),
        "test error of least squares, growing mean": (DIMENSIONS, [max(e, 1e-12) for e in benign]),
    }
    return Outcome(values, curves, x=f"dimension, n = {N}", log="xy")


def control(seed: int) -> dict[str, float]:
    """Stay in few dimensions, with a mean that does not grow and isotropic noise."""
    path_seed, growth_seed, strong_seed = child_seeds(seed, 3)
    x, y, mean = draw(LOW, NORM, path_seed)
    least = ridge(x, y, 0.0)
    support, distance = support_vectors(x, y, least)
    formula = score_ratio(least, mean)

    x, y, mean = draw(HIGH, growing(LOW) / 4, growth_seed)
    still = error(ridge(x, y, 0.0), mean)
    return measures(support, distance, formula, still, regularized(strong_seed, variance=1.0))


def measures(
    support: float, distance: float, formula: float, benign: float, gain: float
) -> dict[str, float]:
    """Name the numbers."""
    return {
        "share of support vectors, d = 50 n": support,
        "|max margin - least squares| / |least squares|, d = 50 n": distance,
        "score of least squares / formula, d = 50 n": formula,
        "test error of least squares, d = 50 n, |mu| = 1.2 d^(3/8)": benign,
        "test error, interpolator / best ridge, strong directions": gain,
    }


def growing(d: int) -> float:
    """Return the norm of the mean at which the error vanishes with growing d."""
    return 1.2 * d**0.375


def draw(
    d: int, norm: float, seed: int, variances: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw train points `[DRAWS, N, d]` and labels `[N]`; return the mean of class 1 `[d]` too."""
    generator = Generator().manual_seed(seed)
    y = torch.arange(N).double() % 2 * 2 - 1
    mean = torch.zeros(d, dtype=torch.float64)
    mean[-1] = norm  # the strong directions come first
    noise = torch.randn(DRAWS, N, d, generator=generator, dtype=torch.float64)
    if variances is not None:
        noise = noise * variances.sqrt()
    return noise + y[:, None] * mean, y, mean


def ridge(x: Tensor, y: Tensor, strength: float) -> Tensor:
    """Return the direction of ridge regression, `[DRAWS, d]`; 0 interpolates, inf averages y x."""
    if strength == torch.inf:
        return (x * y[:, None]).mean(1)
    gram = x @ x.mT + strength * torch.eye(N, dtype=x.dtype)
    return (x.mT @ torch.linalg.solve(gram, y.expand(len(x), -1)[..., None]))[..., 0]


def support_vectors(x: Tensor, y: Tensor, least: Tensor) -> tuple[float, float]:
    """Compare the max-margin classifier with least squares.

    Returns:
        Share of support vectors, and relative distance of the two classifiers.
    """
    signed = x * y[:, None]
    multipliers = dual(signed @ signed.mT)
    margin = (multipliers[:, None] @ signed)[:, 0]
    is_support = multipliers > 1e-6 * multipliers.amax(-1, keepdim=True)
    distance = (margin - least).norm() / least.norm()
    return is_support.double().mean().item(), distance.item()


def scores(w: Tensor, mean: Tensor, variances: Tensor | None = None) -> Tensor:
    """Return mean / standard deviation of the output on class 1, `[DRAWS]`."""
    squares = w.square() if variances is None else w.square() * variances
    return w @ mean / squares.sum(-1).sqrt()


def error(w: Tensor, mean: Tensor, variances: Tensor | None = None) -> float:
    """Compute the exact test error, averaged over the draws."""
    return torch.special.ndtr(-scores(w, mean, variances)).mean().item()


def score_ratio(w: Tensor, mean: Tensor) -> float:
    """Divide the mean score by |mu|^2 / sqrt(|mu|^2 + d / n)."""
    square = mean.square().sum()
    return (scores(w, mean).mean() / (square / (square + len(mean) / N).sqrt())).item()


def regularized(seed: int, variance: float = VARIANCE) -> float:
    """Divide the interpolator's error by that of the best ridge."""
    d = DIMENSIONS[3]
    variances = torch.ones(d, dtype=torch.float64)
    variances[:STRONG] = variance
    x, y, mean = draw(d, NORM, seed, variances)
    best = min(error(ridge(x, y, d * strength), mean, variances) for strength in RIDGES)
    return error(ridge(x, y, 0.0), mean, variances) / best
