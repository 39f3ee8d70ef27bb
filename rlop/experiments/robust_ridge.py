"""Ridge beats interpolation in robust risk although the labels carry no noise.

Reference: Donhauser, Tifrea, Aerni, Heckel, Yang, "Interpolation can hurt robust generalization even when there is no
noise", NeurIPS 2021, arXiv:2108.02883 (at the workshop: "Surprising benefits of ridge regularization for noiseless
regression").

Linear regression with Gaussian inputs and a unit-norm target. The robust risk allows perturbations of size epsilon
that are orthogonal to the target, so that they do not change the label. With d/n = 2 and 4 some ridge lowers it,
while the standard risk is best without. Shown: the closed form in the limit n, d -> infinity, and drawn data against
it.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.outcome import Measure, Outcome

EPSILON = 0.4


def robust_risk(estimate: np.ndarray, target: np.ndarray, epsilon: float = EPSILON) -> float:
    """Risk of an estimate `[d]` of `target` `[d]` (unit norm) under consistent perturbations; epsilon 0 is standard."""
    error = float(((estimate - target) ** 2).sum())
    across = float(
        (estimate**2).sum() - (estimate @ target) ** 2
    )  # squared norm orthogonal to the target
    return _combine(error, max(across, 0.0), epsilon)


def _combine(error: float, across: float, epsilon: float) -> float:
    return float(error + np.sqrt(8 * epsilon**2 / np.pi * across * error) + epsilon**2 * across)


def closed_form(g: float, ridge: float, epsilon: float = EPSILON, noise: float = 0.0) -> float:
    """Robust risk of ridge regression in the limit.

    Args:
        g: d / n.
        ridge: lambda > 0 in mean (y - <theta, x>)^2 + lambda ||theta||^2.
        epsilon: size of the perturbations.
        noise: standard deviation of the labels' noise.
    """
    m, slope = _stieltjes(g, ridge)
    bias, variance = ridge**2 * slope, noise**2 * g * (m - ridge * slope)
    return _combine(bias + variance, bias + variance - ridge**2 * m**2, epsilon)


def interpolation(g: float, epsilon: float = EPSILON) -> float:
    """Robust risk of the minimum-norm interpolator, g > 1, without noise: the row space keeps a share 1/g."""
    return _combine(1 - 1 / g, (1 - 1 / g) / g, epsilon)


def _stieltjes(g: float, ridge: float) -> tuple[float, float]:
    """m(-lambda) and m'(-lambda) of the Marchenko-Pastur law, from lambda g m^2 + (1 - g + lambda) m = 1."""
    half = 1 - g + ridge
    m = (np.sqrt(half**2 + 4 * g * ridge) - half) / (2 * g * ridge)
    return m, (g * m**2 + m) / (2 * ridge * g * m + half)


def fitted(n: int, g: float, ridges: np.ndarray, seed: int, epsilon: float) -> np.ndarray:
    """Robust risk at each ridge on one drawn data set."""
    rng = np.random.default_rng(seed)
    d = int(g * n)
    target = np.eye(d)[0]
    x = rng.normal(size=(n, d))
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    estimates = (s / (s**2 + n * ridges[:, None]) * (u.T @ (x @ target))) @ vt
    return np.array([robust_risk(estimate, target, epsilon) for estimate in estimates])


def run(seed: int = 0) -> Outcome:
    """d/n = 2 and 4, epsilon .4; the data have n = 600 and 300 rows."""
    ridges = np.logspace(-7, 2, 451)
    measures: list[Measure] = []
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for g, n, best, at, standard in ((2, 600, 0.7461, 0.19, 0.516), (4, 300, 0.9552, 3.7, 0.82)):
        theory, drawn = (
            np.array([closed_form(g, r) for r in ridges]),
            fitted(n, g, ridges, seed, EPSILON),
        )
        low, base = ridges[theory.argmin()], interpolation(g)
        found = {
            "interpolation": (theory[0], base, 1e-5 * base),
            "best ridge": (theory.min(), best, 1e-4),
            "best lambda": (low, at, 0.1 * at),  # the minimum is flat
            "standard risk there": (closed_form(g, low, 0.0), standard, 0.005 * standard),
        }
        measures += [
            Measure(
                f"d/n {g}: {name}",
                float(value),
                wanted - slack,
                wanted + slack,
                f"closed form {wanted:.4f}",
            )
            for name, (value, wanted, slack) in found.items()
        ]
        gap = float(np.abs(drawn / theory - 1).max())
        measures.append(
            Measure(f"d/n {g}: largest gap, n = {n}", gap, 0.0, 0.1, "0, finite size 10 %")
        )
        gain = float(drawn[0] / drawn.min())
        measures.append(
            Measure(
                f"d/n {g}: interpolation / best, n = {n}", gain, 1.01, 1.15, f"{base / best:.3f}"
            )
        )
        curves |= {f"d/n {g}, closed form": (ridges, theory), f"d/n {g}, n = {n}": (ridges, drawn)}
    return Outcome(tuple(measures), curves, x="ridge lambda", y="robust risk", log="x")
