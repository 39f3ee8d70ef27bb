"""Ridge beats interpolation in robust risk although the labels carry no noise.

Reference: Donhauser, Tifrea, Aerni, Heckel, Yang, "Interpolation can hurt robust generalization
even when there is no noise", NeurIPS 2021, arXiv:2108.02883 (at the workshop: "Surprising benefits
of ridge regularization for noiseless regression").

Linear regression with Gaussian inputs and a unit-norm target. The robust risk allows perturbations
of size epsilon that are orthogonal to the target, so that they do not change the label. With
d/n = 2 and 4 some ridge lowers it, while the standard risk is best without ridge. Shown: the closed
form in the limit n, d -> infinity, and random data against it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlop.experiments.outcome import Curve, Outcome

EPSILON = 0.4
RIDGES = np.logspace(-7, 2, 451)


class Case(NamedTuple):
    """One ratio of dimension to samples, with the numbers expected there."""

    g: int  # d / n
    n: int  # rows of the random data
    risk: float  # robust, at the best ridge
    ridge: float  # the best one
    standard_risk: float  # at this ridge


CASES = (Case(2, 600, 0.7461, 0.19, 0.516), Case(4, 300, 0.9552, 3.7, 0.82))


def robust_risk(estimate: np.ndarray, target: np.ndarray, epsilon: float = EPSILON) -> float:
    """Compute the risk of an estimate under perturbations that do not change the label.

    Args:
        estimate: `[d]`.
        target: `[d]`, of unit norm.
        epsilon: size of the perturbations; 0 gives the standard risk.
    """
    error = float(((estimate - target) ** 2).sum())
    # Squared norm of the part that is orthogonal to the target.
    orthogonal = float((estimate**2).sum() - (estimate @ target) ** 2)
    return _combine(error, max(orthogonal, 0.0), epsilon)


def _combine(error: float, orthogonal: float, epsilon: float) -> float:
    cross = np.sqrt(8 * epsilon**2 / np.pi * orthogonal * error)
    return float(error + cross + epsilon**2 * orthogonal)


def closed_form(g: float, ridge: float, epsilon: float = EPSILON, noise: float = 0.0) -> float:
    """Compute the robust risk of ridge regression in the limit.

    Args:
        g: d / n.
        ridge: lambda > 0 in mean (y - <theta, x>)^2 + lambda ||theta||^2.
        epsilon: size of the perturbations.
        noise: standard deviation of the labels' noise.
    """
    m, slope = stieltjes(g, ridge)
    bias = ridge**2 * slope
    variance = noise**2 * g * (m - ridge * slope)
    return _combine(bias + variance, bias + variance - ridge**2 * m**2, epsilon)


def interpolation(g: float, epsilon: float = EPSILON) -> float:
    """Compute the robust risk of the minimum-norm interpolator, g > 1, without noise.

    The row space keeps a share 1/g.
    """
    return _combine(1 - 1 / g, (1 - 1 / g) / g, epsilon)


def stieltjes(g: float, ridge: float) -> tuple[float, float]:
    """Return m(-lambda) and m'(-lambda) of the Marchenko-Pastur law.

    They follow from lambda g m^2 + (1 - g + lambda) m = 1.
    """
    half = 1 - g + ridge
    m = (np.sqrt(half**2 + 4 * g * ridge) - half) / (2 * g * ridge)
    return m, (g * m**2 + m) / (2 * ridge * g * m + half)


def fitted(n: int, g: float, ridges: np.ndarray, seed: int, epsilon: float) -> np.ndarray:
    """Measure the robust risk at each ridge on one random data set."""
    rng = np.random.default_rng(seed)
    d = int(g * n)
    target = np.eye(d)[0]
    x = rng.normal(size=(n, d))
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    estimates = (s / (s**2 + n * ridges[:, None]) * (u.T @ (x @ target))) @ vt
    return np.array([robust_risk(estimate, target, epsilon) for estimate in estimates])


def run(seed: int) -> Outcome:
    """Compare d/n = 2 and 4 at epsilon .4; the random data have n = 600 and 300 rows."""
    values: dict[str, float] = {}
    curves: dict[str, Curve] = {}
    for case in CASES:
        g, n = case.g, case.n
        theory = np.array([closed_form(g, ridge) for ridge in RIDGES])
        measured = fitted(n, g, RIDGES, seed, EPSILON)
        best_ridge = RIDGES[theory.argmin()]
        standard = closed_form(g, best_ridge, 0.0)

        values[f"d/n {g}: interpolation"] = theory[0]
        values[f"d/n {g}: best ridge"] = theory.min()
        values[f"d/n {g}: best lambda"] = best_ridge
        values[f"d/n {g}: standard risk there"] = standard
        values[f"d/n {g}: largest gap, n = {n}"] = np.abs(measured / theory - 1).max()
        values[f"d/n {g}: interpolation / best, n = {n}"] = measured[0] / measured.min()

        curves[f"d/n {g}, closed form"] = (RIDGES, theory)
        curves[f"d/n {g}, n = {n}"] = (RIDGES, measured)

    return Outcome(values, curves, x="ridge lambda", y="robust risk", log="x")
