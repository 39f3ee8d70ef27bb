"""Epoch-wise double descent of a linear student: test error falls, rises, and falls again.

Reference: Pezeshki, Mitra, Bengio, Lajoie, "Multi-scale Feature Learning Dynamics: Insights for
Double Descent", ICML 2022, arXiv:2112.03215; its closed form, in which training for a time t acts
like ridge of strength 1/t.

The student sees the teacher's d inputs through a matrix with p large singular values and d - p that
are kappa times smaller. The fast directions overfit before the slow ones have begun to learn; with
kappa = 1 the error does not rise. Shown: the closed form's turning points, and gradient flow on
five times larger data against it.
"""

from __future__ import annotations

import math

import numpy as np

from rlop.experiments.outcome import Outcome

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
    """Compute the generalization error (half the mean squared error) after training for `time`.

    Args:
        time: `[T]`, > 0.
        n: samples. Only the ratios of n, d and p matter.
        d: input directions.
        p: fast directions.
        kappa: how many times smaller the other singular values are.
        noise: standard deviation of the labels' noise, the teacher's output having variance 1.
        ridge: explicit l2 penalty.
    Returns:
        `[T]`.
    """
    strength = 1 / np.asarray(time, float) + ridge
    alpha1, a1, r1 = _branch(strength, n, p, d, FAST)
    alpha2, a2, r2 = _branch(strength, n, d - p, d, FAST / kappa)

    b1 = alpha1 / (a1**2 - alpha1)
    b2 = alpha2 / (a2**2 - alpha2)
    c1 = 1 + noise**2 - 2 * r2 - (2 - a1) / a1 * n / d
    c2 = 1 + noise**2 - 2 * r1 - (2 - a2) / a2 * n / d
    q = (b1 * b2 * (c1 + c2) + b1 * c1 + b2 * c2) / (1 - b1 * b2)

    return (1 + noise**2 - 2 * (r1 + r2) + q) / 2


def _branch(
    strength: np.ndarray, n: float, m: float, d: float, s: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return alpha, a and r of the m directions with singular value s."""
    alpha = n / m
    penalty = strength / (m / d * s**2)
    gap = 1 - alpha - penalty
    a = 1 + 2 * penalty / (gap + np.sqrt(gap**2 + 4 * penalty))
    return alpha, a, n / d / a


def gradient_flow(
    time: np.ndarray, n: int, d: int, p: int, kappa: float, rng: np.random.Generator
) -> np.ndarray:
    """Measure the same error for gradient flow on one random data set, `[T]`."""
    # Signs, so that fast and slow directions carry exactly their share of the variance.
    teacher = rng.choice((-1.0, 1.0), d)
    inputs = rng.normal(size=(n, d)) / np.sqrt(d)
    scales = np.r_[np.full(p, FAST), np.full(d - p, FAST / kappa)]

    u, s, vt = np.linalg.svd(inputs * scales, full_matrices=False)
    learned = (1 - np.exp(-np.outer(time, s**2))) / s
    fitted = learned * (u.T @ (inputs @ teacher))
    return 0.5 * ((teacher - scales * (fitted @ vt)) ** 2).mean(1)


def turning_points(error: np.ndarray) -> tuple[float, float]:
    """Return the first local minimum and the maximum after it; NaN if the error never rises."""
    rises = np.flatnonzero(np.diff(error) > 0)
    if not len(rises):
        return math.nan, math.nan
    first = rises[0]
    return float(error[first]), float(error[first:].max())


def run(seed: int) -> Outcome:
    """Evaluate the closed form at n, d, p = 130, 100, 70 and kappa 100 or 1; simulate it.

    The six simulations use five times as many samples and directions.
    """
    time = np.logspace(-2, 7, 400)
    slow = closed_form(time, 130, 100, 70, 100.0)
    equal = closed_form(time, 130, 100, 70, 1.0)

    rng = np.random.default_rng(seed)
    simulations = [gradient_flow(time, 650, 500, 350, 100.0, rng) for _ in range(6)]
    flow = np.mean(simulations, axis=0)

    low, high = turning_points(slow)
    flow_low, flow_high = turning_points(flow)
    largest_rise = float(np.diff(equal).max())

    values = {
        "error before training": float(slow[0]),
        "first minimum": low,
        "second peak": high,
        "error in the end": float(slow[-1]),
        "largest rise with kappa = 1": largest_rise,
        "gradient flow: minimum / closed form": flow_low / low,
        "gradient flow: peak / closed form": flow_high / high,
    }

    curves = {
        "closed form, kappa 100": (time, slow),
        "gradient flow": (time, flow),
        "kappa 1": (time, equal),
    }

    return Outcome(values, curves, x="training time", y="generalization error", log="x")
