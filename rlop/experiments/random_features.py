"""Random-feature regression peaks where it first interpolates, and ridge removes the peak.

Reference: Zdeborova's talk at the workshop; the peak of random features is analyzed by d'Ascoli,
Refinetti, Biroli, Krzakala, "Double Trouble in Double Descent", ICML 2020, arXiv:2003.01054.

Shown: a linear target with noise, fitted in relu features of random projections; the number of
features passes through the number of samples.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.outcome import Outcome

N = 100
D = 20
NOISE = 0.3
DRAWS = 8
RIDGE = 0.1
NO_RIDGE = 1e-12  # keeps the solution finite at p = n
FEATURES = (20, 40, 60, 80, 90, 100, 110, 130, 160, 250, 400, 800)


def error(features: int, ridge: float, draw: tuple[int, int]) -> float:
    """Compute the mean squared error against the noiseless target.

    Args:
        features: number of features.
        ridge: strength of the ridge.
        draw: seed; the same draw gives the same data for any number of features.
    """
    rng = np.random.default_rng(draw)
    target = rng.normal(size=D) / np.sqrt(D)
    x = rng.normal(size=(N, D))
    x_test = rng.normal(size=(1000, D))
    y = x @ target + NOISE * rng.normal(size=N)

    w = rng.normal(size=(features, D)).T / np.sqrt(D)
    phi = np.maximum(x @ w, 0) / np.sqrt(features)
    phi_test = np.maximum(x_test @ w, 0) / np.sqrt(features)
    u, s, vt = np.linalg.svd(phi, full_matrices=False)
    theta = vt.T @ (s / (s**2 + ridge) * (u.T @ y))

    return float(((phi_test @ theta - x_test @ target) ** 2).mean())


def median_errors(ridge: float, seed: int) -> np.ndarray:
    """Compute the error at each number of features, the median over draws."""
    medians = []
    for features in FEATURES:
        draws = [error(features, ridge, (seed, i)) for i in range(DRAWS)]
        medians.append(np.median(draws))
    return np.array(medians)


def run(seed: int) -> Outcome:
    """Fit n = 100 samples in d = 20 with noise .3, without ridge and with ridge .1."""
    free = median_errors(NO_RIDGE, seed)
    ridged = median_errors(RIDGE, seed)
    at = FEATURES.index(N)
    largest_rise = (ridged[1:] / ridged[:-1]).max()

    values = {
        "no ridge: error at p = n / at p = 8 n": float(free[at] / free[-1]),
        "no ridge: error at p = n / at p = n / 2.5": float(free[at] / free[1]),
        "ridge: largest ratio of an error to the one before": float(largest_rise),
        "error at p = n: ridge / no ridge": float(ridged[at] / free[at]),
    }

    curves = {"no ridge": (FEATURES, free), f"ridge {RIDGE}": (FEATURES, ridged)}
    return Outcome(values, curves, x="random features", y="test error", log="xy")
