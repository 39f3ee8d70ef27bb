"""LASSO and basis pursuit: the risk by an exact formula, and its double descent.

Row 33: Bosch, Panahi and Ozcelikkale, "Double Descent in Feature Selection: Revisiting LASSO and
Basis Pursuit", ICML 2021 workshop. The abstract says that (1) when features p and points n grow in
proportion there are precise expressions for the generalization error of LASSO and basis pursuit,
and (2) that a mixture of strong and weak features gives insight into the trade-offs of
regularization for double descent of l1 minimization.

The expression used here is the known one for Gaussian features (Bayati and Montanari, "The LASSO
Risk for Gaussian Matrices", arXiv:1008.2581). For entries N(0, 1 / n), 1/2 |y - X b|^2 + lambda
|b|_1 and noise variance s^2, the squared error on a new point is t^2, where

    t^2 = s^2 + (p/n) E (shrink(B + t Z, a t) - B)^2,
    lambda = a t (1 - (p/n) P(|B + t Z| > a t)),

B is a coefficient drawn at random and Z is normal. Basis pursuit is lambda = 0 for p > n. Features
are selected in the order strong, weak: 10 of 4, 390 of .5; those that are left out add their
squares / n to the noise.

Setting: n = 100, p from 40 to 400, 20 or 40 draws, lambda = 0 (least squares up to p = n) or 1.

Control: the noise with the left-out features as prediction; LASSO in place of basis pursuit, which
has no peak, and against itself.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Curve, Outcome

N = 100
DRAWS = {0.0: 20, 1.0: 40}  # penalty -> data sets; basis pursuit takes longer
STRONG, WEAK = 10, 390
STRONG_VALUE, WEAK_VALUE = 4.0, 0.5
NOISE = 0.5
SIZES = (40, 70, 90, 100, 115, 150, 200, 400)
NEAR_PEAK = 100  # p = n, where the formula diverges; it is not compared there
PENALTY = 1.0


def run(seed: int) -> Outcome:
    """Compare simulated and predicted errors of both, over the number of features."""
    pursuit = simulated(seed, 0.0)
    lasso = simulated(seed, PENALTY)
    curves: dict[str, Curve] = {}
    for name, penalty, errors in (("basis pursuit", 0.0, pursuit), ("LASSO", PENALTY, lasso)):
        curves[name] = (SIZES, errors)
        sizes = [p for p in SIZES if p != NEAR_PEAK]
        curves[f"{name}, formula"] = (sizes, [predicted(p, penalty) for p in sizes])
    values = measures(pursuit, lasso, pursuit, naive=False)
    return Outcome(values, curves, x=f"features p, n = {N}", y="squared test error", log="xy")


def control(seed: int) -> dict[str, float]:
    """Predict by the noise alone, and look for the peak of LASSO."""
    lasso = simulated(seed, PENALTY)
    return measures(simulated(seed, 0.0), lasso, lasso, naive=True)


def measures(
    pursuit: list[float], lasso: list[float], peaked: list[float], naive: bool
) -> dict[str, float]:
    """Name the numbers.

    Args:
        pursuit: errors of basis pursuit at all sizes.
        lasso: those of LASSO.
        peaked: the errors whose peak is measured.
        naive: whether to predict the noise alone.
    """
    values = {}
    for name, penalty, errors in (("basis pursuit", 0.0, pursuit), ("LASSO", PENALTY, lasso)):
        ratios = []
        for p, measured in zip(SIZES, errors):
            if p != NEAR_PEAK:
                expected = noise_variance(p) if naive else predicted(p, penalty)
                ratios.append(abs(expected / measured - 1))
        values[f"largest |formula / simulated error - 1|, {name}"] = max(ratios)

    peak = SIZES.index(NEAR_PEAK)
    values["basis pursuit, error at p = n / least before"] = peaked[peak] / min(peaked[:peak])
    values["basis pursuit, error at p = 4 n / at p = n"] = peaked[-1] / peaked[peak]
    values["error at p = n, LASSO / basis pursuit"] = lasso[peak] / peaked[peak]
    return values


def coefficients(p: int) -> Tensor:
    """Return the first p coefficients."""
    values = torch.full((STRONG + WEAK,), WEAK_VALUE, dtype=torch.float64)
    values[:STRONG] = STRONG_VALUE
    return values[:p]


def noise_variance(p: int) -> float:
    """Return the variance of the noise and of the features that were left out."""
    left_out = coefficients(STRONG + WEAK)[p:]
    return NOISE**2 + left_out.square().sum().item() / N


def simulated(seed: int, penalty: float) -> list[float]:
    """Fit fresh draws for each size, and return the squared errors on new points.

    The error on new points is exact given the fit; it is the median over the draws, since near
    p = n the mean is ruled by outliers.
    """
    draws = DRAWS[penalty]
    errors = []
    for p, draw_seed in zip(SIZES, child_seeds(seed, len(SIZES))):
        generator = Generator().manual_seed(draw_seed)
        x = torch.randn(draws, N, p, generator=generator, dtype=torch.float64) / N**0.5
        noise = torch.randn(draws, N, generator=generator, dtype=torch.float64)
        signal = coefficients(p)
        y = x @ signal + noise_variance(p) ** 0.5 * noise
        if penalty > 0:
            fitted = lasso_path(x, y, penalty)
        elif p > N:
            fitted = basis_pursuit(x, y, steps=800)
        else:
            fitted = torch.linalg.lstsq(x, y[..., None]).solution[..., 0]
        error = (fitted - signal).square().sum(-1) / N + noise_variance(p)
        errors.append(error.median().item())
    return errors


def lasso_path(x: Tensor, y: Tensor, penalty: float, steps: int = 250) -> Tensor:
    """Minimize 1/2 |y - x b|^2 + penalty |b|_1 by accelerated proximal descent (FISTA).

    Args:
        x: `[S, n, p]`.
        y: `[S, n]`.
        penalty: lambda.
        steps: iterations.
    Returns:
        `[S, p]`.
    """
    rate = 1 / torch.linalg.matrix_norm(x, 2).square()[:, None, None]
    b = torch.zeros_like(x[:, 0, :, None])
    ahead, momentum = b, 1.0
    for _ in range(steps):
        slope = x.mT @ (x @ ahead - y[..., None])
        moved = ahead - rate * slope
        new = moved.sign() * (moved.abs() - rate * penalty).clamp_min(0)
        next_momentum = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / next_momentum * (new - b)
        b, momentum = new, next_momentum
    return b[..., 0]


def predicted(p: int, penalty: float) -> float:
    """Solve the two equations for t^2; `penalty` 0 is least squares below p = n."""
    if penalty == 0 and p < N:
        return noise_variance(p) / (1 - p / N)

    # The penalty grows with a; where t has no finite solution, a is too small.
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        t = noise_level(p, middle)
        reached = middle * t * (1 - p / N * active_share(p, t, middle)) if t < math.inf else -1.0
        if reached < penalty:
            low = middle
        else:
            high = middle
    return noise_level(p, high) ** 2


def noise_level(p: int, a: float) -> float:
    """Iterate the first equation for t from below; infinite if it diverges."""
    variance = noise_variance(p)
    t = math.sqrt(variance)
    for _ in range(500):
        new = math.sqrt(variance + p / N * shrinkage_error(p, t, a))
        if abs(new / t - 1) < 1e-10:
            return new
        if new > 1e4:
            return math.inf
        t = new
    return t


def mixture(p: int) -> list[tuple[float, float]]:
    """Return (share, value) of the coefficients that are selected."""
    strong = min(STRONG, p)
    return [(strong / p, STRONG_VALUE), (1 - strong / p, WEAK_VALUE)]


def shrinkage_error(p: int, t: float, a: float) -> float:
    """Compute E (shrink(B + t Z, a t) - B)^2."""
    return sum(share * shrunk_square(value, t, a) for share, value in mixture(p))


def shrunk_square(b: float, t: float, a: float) -> float:
    """Compute E (shrink(b + t Z, a t) - b)^2 for one value, in units in which t = 1 inside."""
    upper, lower = a - b / t, -a - b / t
    inside = (b / t) ** 2 * (cdf(upper) - cdf(lower))
    above = (1 + a**2) * cdf(-upper) + (upper - 2 * a) * density(upper)
    below = (1 + a**2) * cdf(lower) - (lower + 2 * a) * density(lower)
    return t**2 * (inside + above + below)


def active_share(p: int, t: float, a: float) -> float:
    """Compute P(|B + t Z| > a t)."""
    shares = []
    for share, value in mixture(p):
        shares.append(share * (cdf(value / t - a) + cdf(-a - value / t)))
    return sum(shares)


def cdf(z: float) -> float:
    """Return the normal distribution function."""
    return math.erfc(-z / math.sqrt(2)) / 2


def density(z: float) -> float:
    """Return the normal density."""
    return math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def basis_pursuit(x: Tensor, y: Tensor, steps: int = 1500, rho: float = 0.05) -> Tensor:
    """Solve argmin ||w||_1 subject to x w = y, by Douglas-Rachford splitting.

    Args:
        x: `[S, n, p]`, p > n, of full rank.
        y: `[S, n]`.
        steps: iterations of the splitting.
        rho: threshold of one shrinkage step.
    Returns:
        `[S, p]`, on the constraint.
    """
    inverse = torch.linalg.pinv(x)
    least = inverse @ y[..., None]

    def project(v: Tensor) -> Tensor:
        return v - inverse @ (x @ v) + least

    v = least
    for _ in range(steps):
        feasible = project(v)
        v = v + F.softshrink(2 * feasible - v, rho) - feasible

    return project(v)[..., 0]
