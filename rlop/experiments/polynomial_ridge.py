"""Polynomial regression: the signal capture threshold, the risk, and overfitting past P = N.

Row 45: Fabregues and Simsek, "Overfitting of Polynomial Regression with Overparameterization", ICML
2021 workshop, which applies Jacot, Simsek, Spadaro, Hongler and Gabriel, "Kernel Alignment Risk
Estimator", arXiv:2006.09796. The abstract says that for points uniform on [-1, 1], labels
f(x) + noise with f continuous, and ridge regression in P + 1 polynomial features, (1) the signal
capture threshold t can be computed precisely from P + 1, N and the ridge lambda, (2) which gives a
precise analysis of the risk, and (3) explains the overfitting with over-parameterization.

In the orthonormal basis, Legendre polynomials, all eigenvalues are 1 and the threshold equation
t = lambda + t g / (1 + t), g = (P + 1) / N, has the solution

    t = (lambda + g - 1 + sqrt((lambda + g - 1)^2 + 4 lambda)) / 2.

On data, t is 1 / ((1/N) tr (G/N + lambda)^-1) for the Gram matrix G. The predicted risk is
dt/dlambda (sum_k (t / (1 + t))^2 c_k^2 + noise^2), where coefficients c_k of f beyond P count as
noise; KARE is read from train labels alone. Target: |x|, continuous and in no finite basis.

Control: the formulas with t = lambda, that is without the implicit ridge; the train error in place
of KARE; and for overfitting, no features beyond the first 25.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.probes.kernel import kare

N = 100
DRAWS = 60
NOISE = 0.3
SIZES = (25, 50, 80, 100, 125, 200, 400)  # P + 1
RIDGES = (0.01, 0.1, 1.0)
OVERFITTED = 0.01  # ridge at which overfitting is looked for


class Point(NamedTuple):
    """One size and ridge; means over the draws."""

    threshold: float  # measured t
    risk: float
    estimate: float  # KARE
    train: float  # squared error on the train points


def run(seed: int) -> Outcome:
    """Compare threshold, risk and KARE with their predictions at 7 sizes and 3 ridges."""
    points = measured(seed)
    predicted = {(size, ridge): closed_form(size, ridge) for size, ridge in points}
    estimates = {key: point.estimate for key, point in points.items()}
    path = [points[size, OVERFITTED].risk for size in SIZES]
    values = measures(points, predicted, estimates, path)

    gammas = [size / N for size in SIZES]
    curves = {}
    for ridge in RIDGES:
        curves[f"risk, ridge {ridge:g}"] = (gammas, [points[size, ridge].risk for size in SIZES])
        curves[f"predicted, ridge {ridge:g}"] = (
            gammas,
            [predicted[size, ridge][1] for size in SIZES],
        )
    return Outcome(values, curves, x="features / points", y="squared error with noise", log="xy")


def control(seed: int) -> dict[str, float]:
    """Predict without the implicit ridge, estimate by the train error, add no features."""
    points = measured(seed)
    predicted = {(size, ridge): naive(size, ridge) for size, ridge in points}
    path = [points[SIZES[0], OVERFITTED].risk] * len(SIZES)
    return measures(points, predicted, {key: p.train for key, p in points.items()}, path)


def measures(
    points: dict[tuple[int, float], Point],
    predicted: dict[tuple[int, float], tuple[float, float]],
    estimates: dict[tuple[int, float], float],
    path: list[float],
) -> dict[str, float]:
    """Name the numbers.

    Args:
        points: what was measured.
        predicted: thresholds and risks.
        estimates: risks estimated from the train labels.
        path: risks at all sizes in which overfitting is looked for.
    """
    values = {}
    for ridge in RIDGES:
        thresholds, risks, kares = [], [], []
        for size in SIZES:
            key = size, ridge
            point = points[key]
            thresholds.append(abs(predicted[key][0] / point.threshold - 1))
            risks.append(abs(predicted[key][1] / point.risk - 1))
            kares.append(abs(estimates[key] / point.risk - 1))
        values[f"largest |closed form / measured threshold - 1|, ridge {ridge:g}"] = max(thresholds)
        values[f"largest |predicted / measured risk - 1|, ridge {ridge:g}"] = max(risks)
        values[f"largest |KARE / measured risk - 1|, ridge {ridge:g}"] = max(kares)

    measured_path = [points[size, OVERFITTED].risk for size in SIZES]
    foreseen = [predicted[size, OVERFITTED][1] for size in SIZES]
    sizes = foreseen[-1] / min(foreseen), measured_path[-1] / min(measured_path)
    values["risk at 4 features per point / least risk"] = path[-1] / min(path)
    values["that ratio, predicted / measured"] = sizes[0] / sizes[1]
    return values


def measured(seed: int) -> dict[tuple[int, float], Point]:
    """Run ridge regression on fresh draws for each size and ridge."""
    rng = np.random.default_rng(child_seeds(seed, 1)[0])
    x = rng.uniform(-1, 1, (DRAWS, N))
    y = torch.from_numpy(np.abs(x) + NOISE * rng.normal(size=(DRAWS, N)))
    features = torch.from_numpy(legendre(x, max(SIZES)))
    all_coefficients = torch.from_numpy(coefficients(2 * max(SIZES)))

    points = {}
    for size in SIZES:
        phi = features[..., :size]
        gram = phi @ phi.mT
        signal = all_coefficients[:size]
        tail = all_coefficients[size:].square().sum()
        for ridge in RIDGES:
            inverse = torch.linalg.inv(gram / N + ridge * torch.eye(N, dtype=gram.dtype))
            dual = inverse @ y[..., None] / N
            fitted = (phi.mT @ dual)[..., 0]
            risk = (fitted - signal).square().sum(-1) + tail + NOISE**2
            trace = inverse.diagonal(dim1=-1, dim2=-2).mean(-1)
            residual = ridge * N * dual  # y - G dual
            points[size, ridge] = Point(
                threshold=(1 / trace).mean().item(),
                risk=risk.mean().item(),
                estimate=kare(gram, y, ridge).mean().item(),
                train=residual.square().mean().item(),
            )
    return points


def legendre(x: np.ndarray, size: int) -> np.ndarray:
    """Evaluate polynomials that are orthonormal for uniform x, `[...] -> [..., size]`."""
    return np.polynomial.legendre.legvander(x, size - 1) * np.sqrt(2 * np.arange(size) + 1)


@cache
def coefficients(size: int) -> np.ndarray:
    """Compute the coefficients of |x| in the orthonormal basis by quadrature, exact on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(size // 2 + 1)
    half = (nodes + 1) / 2
    values = legendre(half, size) * (half * weights / 2)[:, None]
    even = 1 - np.arange(size) % 2  # the odd coefficients of an even function vanish
    return values.sum(0) * even


def threshold(gamma: float, ridge: float) -> float:
    """Solve t = ridge + t gamma / (1 + t)."""
    shifted = ridge + gamma - 1
    return (shifted + math.hypot(shifted, 2 * math.sqrt(ridge))) / 2


def closed_form(size: int, ridge: float) -> tuple[float, float]:
    """Predict the threshold and the risk."""
    gamma = size / N
    t = threshold(gamma, ridge)
    slope = 1 / (1 - gamma / (1 + t) ** 2)
    return t, slope * missed(size, t)


def naive(size: int, ridge: float) -> tuple[float, float]:
    """Predict with the ridge alone, as if the features' covariance were known."""
    return ridge, missed(size, ridge)


def missed(size: int, t: float) -> float:
    """Sum what is not learned at threshold t, and the noise."""
    c = coefficients(2 * max(SIZES))
    shares = (t / (1 + t)) ** 2 * c[:size] ** 2
    return float(shares.sum() + (c[size:] ** 2).sum()) + NOISE**2
