"""Epoch-wise double descent of a linear student: test error falls, rises, and falls again.

Reference: Pezeshki, Mitra, Bengio, Lajoie, "Multi-scale Feature Learning Dynamics: Insights for
Double Descent", ICML 2022, arXiv:2112.03215; its closed form, in which training for a time t acts
like ridge of strength 1/t.

The student sees the teacher's d inputs through a matrix with p large singular values and d - p that
are kappa times smaller; n, d, p = 650, 500, 350. Gradient flow is exact, by the singular value
decomposition of the data, so that the simulation shares nothing with the closed form. Measured, on
the mean of six data sets:

- Double descent, in the simulation: the error rises after its first minimum, and ends below it.
- Why: the error splits into that of the fast and of the slow directions. The fast part rises after
  its minimum, when it is overfitted. The slow part is half learned at a time that grows like
  kappa^2, the ratio of the time scales, for kappa 30, 100, 300.
- The closed form: the largest gap to the curve of gradient flow, and to that of ridge regression of
  strength 1/t on the same data, as shares of the error at the start.

The deterministic equivalent of ridge regression is not the paper's; it is drawn beside its closed
form, to show on which side a gap lies. The control has kappa = 1 everywhere: no time scales, no
rise. Its simulation is compared with the closed form for kappa = 100, and its "half learned" times
are those of the same directions.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import power_law_exponent

FAST = 0.5  # singular value of the fast directions; it only sets the unit of time
SIZES = (650, 500, 350)  # samples, directions, fast ones
KAPPAS = (30.0, 100.0, 300.0)
DRAWS = 6
TIME = np.logspace(-2, 8, 400)
FLOOR = 1e-9  # below which an error is rounding


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


def equivalent(time: np.ndarray, n: float, d: float, p: float, kappa: float) -> np.ndarray:
    """Compute the error of ridge regression of strength 1/t in the limit, without noise, `[T]`.

    The deterministic equivalent: k solves k (n - sum_j s_j^2 / (s_j^2 + k)) = d / t, and

        error = sum_j (k / (s_j^2 + k))^2 / (1 - sum_j (s_j^2 / (s_j^2 + k))^2 / n) / (2 d).

    Source: Hastie, Montanari, Rosset, Tibshirani, arXiv:1903.08560, section 5.
    """
    squares = np.array([FAST, FAST / kappa])[:, None] ** 2
    sizes = np.array([p, d - p])[:, None]
    low, high = np.full(len(time), -40.0), np.full(len(time), 40.0)  # of log k, by bisection
    for _ in range(100):
        middle = (low + high) / 2
        used = (sizes * squares / (squares + np.exp(middle))).sum(0)
        is_below = np.exp(middle) * (n - used) < d / time
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)

    left = np.exp(high) / (squares + np.exp(high))
    share = (sizes * (1 - left) ** 2).sum(0) / n
    return (sizes * left**2).sum(0) / (1 - share) / (2 * d)


def gradient_flow(
    time: np.ndarray, n: int, d: int, p: int, kappa: float, rng: np.random.Generator
) -> np.ndarray:
    """Measure the same error for gradient flow on one random data set.

    Returns:
        The parts of the fast and of the slow directions, which add up to it, and the error of
        ridge regression of strength 1 / t, `[3, T]`.
    """
    # Signs, so that fast and slow directions carry exactly their share of the variance.
    teacher = rng.choice((-1.0, 1.0), d)
    inputs = rng.normal(size=(n, d)) / np.sqrt(d)
    scales = np.r_[np.full(p, FAST), np.full(d - p, FAST / kappa)]

    u, s, vt = np.linalg.svd(inputs * scales, full_matrices=False)
    along = u.T @ (inputs @ teacher)

    def squared_errors(learned: np.ndarray) -> np.ndarray:
        return 0.5 / d * (teacher - scales * ((learned * along) @ vt)) ** 2

    flow = squared_errors(-np.expm1(-np.outer(time, s**2)) / s)
    ridge = squared_errors(s / (s**2 + 1 / time[:, None]))
    return np.stack([flow[:, :p].sum(1), flow[:, p:].sum(1), ridge.sum(1)])


def gap(error: np.ndarray, theory: np.ndarray) -> float:
    """Return the largest difference of two curves, over the error before training."""
    return float(np.abs(error - theory).max() / theory[0])


def rise(error: np.ndarray) -> float:
    """Return the largest error after a minimum over that minimum; 1 if it never rises."""
    lowest = np.minimum.accumulate(error)
    factors = error / np.maximum(lowest, FLOOR)
    return float(factors[error > FLOOR].max(initial=1.0))


def half_time(time: np.ndarray, error: np.ndarray) -> float:
    """Return the last time at which an error is half of what it starts with."""
    above = np.flatnonzero(error > error[0] / 2)
    return float(time[above[-1]])


def simulate(seed: int, kappa: float) -> np.ndarray:
    """Average the parts of the error over some data sets, `[3, T]`."""
    parts = []
    for child in child_seeds(seed, DRAWS):
        rng = np.random.default_rng(child)
        parts.append(gradient_flow(TIME, *SIZES, kappa, rng))
    return np.mean(parts, axis=0)


def measured(seed: int, kappas: tuple[float, ...]) -> tuple[dict[str, float], np.ndarray]:
    """Measure one simulation for each of three values of kappa, of which the second is 100.

    Returns:
        The values, and the parts of the error with the second value of kappa.
    """
    parts = [simulate(seed, kappa) for kappa in kappas]
    fast, slow, _ = parts[1]
    error = fast + slow
    theory = closed_form(TIME, *SIZES, 100.0)
    half_times = [half_time(TIME, one[1]) for one in parts]

    rises = np.flatnonzero(np.diff(error) > FLOOR)
    end = float(error[-1] / error[rises[0]]) if len(rises) else 1.0
    values = {
        "error, peak / first minimum": rise(error),
        "error, end / first minimum": end,
        "error of the fast directions, peak / first minimum": rise(fast),
        "time to half of the slow error: exponent of kappa": power_law_exponent(KAPPAS, half_times),
        "gradient flow: largest gap to the closed form / first error": gap(error, theory),
        "ridge 1/t: largest gap to the closed form / first error": gap(parts[1][2], theory),
    }
    return values, parts[1]


def run(seed: int) -> Outcome:
    """Simulate slow directions that are 30, 100 and 300 times smaller."""
    values, (fast, slow, _) = measured(seed, KAPPAS)
    curves = {
        "closed form": (TIME, closed_form(TIME, *SIZES, 100.0)),
        "deterministic equivalent": (TIME, equivalent(TIME, *SIZES, 100.0)),
        "gradient flow": (TIME, fast + slow),
        "its fast directions": (TIME, fast),
        "its slow directions": (TIME, slow),
        "deterministic equivalent, kappa 1": (TIME, equivalent(TIME, *SIZES, 1.0)),
    }
    return Outcome(values, curves, x="training time", y="generalization error", log="x")


def control(seed: int) -> dict[str, float]:
    """Simulate directions that are all learned at one time scale."""
    return measured(seed, (1.0, 1.0, 1.0))[0]
