"""Random-feature regression peaks where it first interpolates, and ridge removes the peak.

Reference: Zdeborova's talk at the workshop; the peak of random features is analysed by d'Ascoli, Refinetti, Biroli,
Krzakala, "Double Trouble in Double Descent", ICML 2020, arXiv:2003.01054.

Shown: a linear target with noise, fitted in relu features of random projections; the number of features runs through
the number of samples.
"""

from __future__ import annotations

import math

import numpy as np

from rlop.experiments.outcome import Measure, Outcome

N, D, NOISE, DRAWS, RIDGE = 100, 20, 0.3, 8, 0.1
FEATURES = (20, 40, 60, 80, 90, 100, 110, 130, 160, 250, 400, 800)


def error(features: int, ridge: float, draw: tuple[int, int]) -> float:
    """Mean squared error against the noiseless target; the same draw gives the same data for any number of features."""
    rng = np.random.default_rng(draw)
    target = rng.normal(size=D) / np.sqrt(D)
    x, fresh = rng.normal(size=(N, D)), rng.normal(size=(1000, D))
    y = x @ target + NOISE * rng.normal(size=N)
    w = rng.normal(size=(features, D)).T / np.sqrt(D)
    phi, seen = (np.maximum(z @ w, 0) / np.sqrt(features) for z in (x, fresh))
    u, s, vt = np.linalg.svd(phi, full_matrices=False)
    theta = vt.T @ (s / (s**2 + ridge) * (u.T @ y))
    return float(((seen @ theta - fresh @ target) ** 2).mean())


def run(seed: int = 0) -> Outcome:
    """n = 100, d = 20, noise .3; medians of eight draws, without ridge and with ridge .1."""
    curve = {
        ridge: np.array(
            [np.median([error(p, ridge, (seed, i)) for i in range(DRAWS)]) for p in FEATURES]
        )
        for ridge in (1e-12, RIDGE)
    }
    free, ridged, at = curve[1e-12], curve[RIDGE], FEATURES.index(N)
    rise = (ridged[1:] / ridged[:-1]).max()
    measures = (
        Measure(
            "no ridge: error at p = n / at p = 8 n",
            float(free[at] / free[-1]),
            5.0,
            math.inf,
            "a peak",
        ),
        Measure(
            "no ridge: error at p = n / at p = n / 2.5",
            float(free[at] / free[1]),
            5.0,
            math.inf,
            "a peak",
        ),
        Measure(
            "ridge: largest ratio of an error to the one before",
            float(rise),
            0.0,
            1.02,
            "at most 1: no peak",
        ),
        Measure("error at p = n: ridge / no ridge", float(ridged[at] / free[at]), 0.0, 0.2, "< 1"),
    )
    curves = {"no ridge": (FEATURES, free), f"ridge {RIDGE}": (FEATURES, ridged)}
    return Outcome(measures, curves, x="random features", y="test error", log="xy")
