"""Epoch-wise double descent of a linear teacher and student: test error falls, rises, and falls again.

Reference: Pezeshki, Mitra, Bengio, Lajoie, "Multi-scale Feature Learning Dynamics: Insights for Double Descent",
ICML 2022, arXiv:2112.03215; its closed form, in which training for a time t acts like ridge of strength 1/t.

The student sees the teacher's d inputs through a matrix with p large singular values and d - p that are kappa times
smaller. The fast directions overfit before the slow ones have begun to learn: with kappa = 1 nothing of the kind
happens. Shown: the closed form's turning points, and gradient flow on five times larger data against it.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.outcome import Measure, Outcome

FAST = 0.5  # singular value of the fast directions; it only sets the unit of time


def closed_form(
    time: np.ndarray,
    n: float,
    d: float,
    p: float,
    kappa: float,
    noise: float = 0.0,
    ridge: float = 0.0,
) -> np.ndarray:
    """Generalisation error (half the mean squared error) after training for `time`.

    Args:
        time: `[T]`, > 0.
        n, d, p: samples, input directions, fast directions; only their ratios matter.
        kappa: how many times smaller the other singular values are.
        noise: standard deviation of the labels' noise, the teacher's output having variance 1.
        ridge: explicit l2 penalty.
    Returns:
        `[T]`.
    """
    strength = 1 / np.asarray(time, float) + ridge
    alpha1, a1, r1 = _branch(strength, n, p, d, FAST)
    alpha2, a2, r2 = _branch(strength, n, d - p, d, FAST / kappa)
    b1, b2 = alpha1 / (a1**2 - alpha1), alpha2 / (a2**2 - alpha2)
    c1 = 1 + noise**2 - 2 * r2 - (2 - a1) / a1 * n / d
    c2 = 1 + noise**2 - 2 * r1 - (2 - a2) / a2 * n / d
    q = (b1 * b2 * (c1 + c2) + b1 * c1 + b2 * c2) / (1 - b1 * b2)
    return (1 + noise**2 - 2 * (r1 + r2) + q) / 2


def _branch(
    strength: np.ndarray, n: float, m: float, d: float, s: float
) -> tuple[float, np.ndarray, np.ndarray]:
    alpha, penalty = n / m, strength / (m / d * s**2)
    gap = 1 - alpha - penalty
    a = 1 + 2 * penalty / (gap + np.sqrt(gap**2 + 4 * penalty))
    return alpha, a, n / d / a


def gradient_flow(
    time: np.ndarray, n: int, d: int, p: int, kappa: float, rng: np.random.Generator
) -> np.ndarray:
    """The same error of gradient flow on one drawn data set, `[T]`."""
    teacher = rng.choice(
        (-1.0, 1.0), d
    )  # signs: fast and slow directions carry exactly their share of the variance
    inputs = rng.normal(size=(n, d)) / np.sqrt(d)
    scales = np.r_[np.full(p, FAST), np.full(d - p, FAST / kappa)]
    u, s, vt = np.linalg.svd(inputs * scales, full_matrices=False)
    fitted = (1 - np.exp(-np.outer(time, s**2))) / s * (u.T @ (inputs @ teacher))
    return 0.5 * ((teacher - scales * (fitted @ vt)) ** 2).mean(1)


def turning_points(error: np.ndarray) -> tuple[float, float]:
    """First local minimum and the maximum after it; NaN where there is none."""
    rises = np.flatnonzero(np.diff(error) > 0)
    if not len(rises):
        return float("nan"), float("nan")
    return float(error[rises[0]]), float(error[rises[0] :].max())


def run(seed: int = 0) -> Outcome:
    """Closed form at n, d, p = 130, 100, 70 and kappa 100 or 1; six simulations at five times that."""
    time = np.logspace(-2, 7, 400)
    slow, same = (closed_form(time, 130, 100, 70, kappa) for kappa in (100.0, 1.0))
    rng = np.random.default_rng(seed)
    flow = np.mean([gradient_flow(time, 650, 500, 350, 100.0, rng) for _ in range(6)], axis=0)
    low, high = turning_points(slow)
    flow_low, flow_high = turning_points(flow)
    measures = (
        Measure("error before training", float(slow[0]), 0.495, 0.505, "closed form .500"),
        Measure("first minimum", low, 0.2458, 0.2463, "closed form .246"),
        Measure("second peak", high, 0.3053, 0.3063, "closed form .306"),
        Measure("error in the end", float(slow[-1]), 0.0, 1e-4, "closed form 0"),
        Measure(
            "largest rise with kappa = 1",
            float(np.diff(same).max()),
            -1.0,
            1e-12,
            "monotone: no rise",
        ),
        Measure(
            "gradient flow: minimum / closed form",
            flow_low / low,
            0.9,
            1.1,
            "1 +-10 %: t is not quite 1/ridge",
        ),
        Measure("gradient flow: peak / closed form", flow_high / high, 0.9, 1.1, "1 +-10 %"),
    )
    curves = {
        "closed form, kappa 100": (time, slow),
        "gradient flow": (time, flow),
        "kappa 1": (time, same),
    }
    return Outcome(measures, curves, x="training time", y="generalisation error", log="x")
