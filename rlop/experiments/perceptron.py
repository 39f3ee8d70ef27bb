"""Classification by a linear teacher: the interpolation peak, and what the best classifier reaches.

Row 3: Zdeborova's talk at the workshop; Aubin, Krzakala, Lu, Zdeborova, "Generalization error in
high-dimensional perceptrons: Approaching Bayes error with convex optimization", arXiv:2006.06560.
The labels are the signs of w . x, the inputs Gaussian in d dimensions, n = alpha d samples; the
error of a classifier of overlap c with w is arccos(c) / pi.

1. Squared loss on the labels has a peak of its error at alpha = 1 without ridge, and none with the
   best ridge. As sign(w . x) is sqrt(2 / pi) w . x and a rest of variance 1 - 2 / pi that is not
   correlated to it, the overlap follows from `ridge_theory`; measured and asymptotic errors are
   compared along alpha.
2. Logistic loss with the best ridge comes very near to the Bayes error arccos(sqrt q) / pi, where

       q / (1 - q) = alpha / (1 - q) E[ phi(u)^2 (1 / H(u) + 1 / H(-u)) ],   u = sqrt(q / (1 - q))
       z,

   z standard normal, phi its density and H its upper tail (Gyorgyi 1990; Opper and Haussler 1991).
   The ridge is the best of five on 1000 further samples.

Control: labels of another teacher for each sample, that is none. A classifier without ridge in the
place of the one with the best.
"""

from __future__ import annotations

import math

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.experiments.ridge_theory import effective_ridge, ridge_error

D = 150
ALPHAS = (0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0)  # samples per dimension
DRAWS = 8
TINY = 1e-4  # ridge of the interpolating fit
BAYES_ALPHAS = (1.0, 2.0, 4.0)
STRENGTHS = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1)  # of the ridge beside the mean logistic loss
VALIDATION = 1000


def best_ridge(alpha: float) -> float:
    """Return the best ridge of squared loss, the noise-to-signal ratio of the labels over alpha."""
    signal = 2 / math.pi
    return (1 - signal) / signal / alpha


def square_error(alpha: float, ridge: float) -> float:
    """Evaluate the asymptotic test error of squared loss with a ridge beside the mean loss."""
    # In units of d: n = alpha, one eigenvalue that occurs once per dimension.
    ones, signal = np.ones(1), 2 / math.pi
    k = effective_ridge(ones, alpha, alpha * ridge)
    risk = ridge_error(ones, np.full(1, signal), 1 - signal, alpha, alpha * ridge)

    # risk = |v|^2 - 2 sqrt(signal) v . w + signal for the found v
    overlap = math.sqrt(signal) / (1 + k)
    squared_norm = risk + 2 * math.sqrt(signal) * overlap - signal
    return math.acos(overlap / math.sqrt(squared_norm)) / math.pi


def bayes_error(alpha: float) -> float:
    """Solve for the Bayes error by fixed-point iteration, with the integral over u on a grid."""
    u = np.linspace(-8, 8, 1601)
    density = np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
    upper = np.array([math.erfc(point / math.sqrt(2)) / 2 for point in u])
    integrand = density**2 * (1 / upper + 1 / upper[::-1])  # the grid is symmetric

    q = 0.5
    for _ in range(200):
        spread = math.sqrt(q / (1 - q))
        law = np.exp(-((u / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi))
        precision = alpha / (1 - q) * float(law @ integrand) * (u[1] - u[0])
        q = precision / (1 + precision)
    return math.acos(math.sqrt(q)) / math.pi


def draw(
    rng: np.random.Generator, n: int, w: np.ndarray, random: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Draw inputs and their labels; random labels belong to no teacher."""
    x = rng.normal(size=(n, len(w)))
    y = np.sign(rng.normal(size=n)) if random else np.sign(x @ w)
    return x, y


def error_of(v: np.ndarray, w: np.ndarray) -> float:
    """Return the test error of a classifier v for the teacher w."""
    return math.acos(float(v @ w / np.linalg.norm(v) / np.linalg.norm(w))) / math.pi


def fit_square(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    """Minimize mean squared loss and ridge."""
    gram = x.T @ x / len(x) + ridge * np.eye(x.shape[1])
    return np.linalg.solve(gram, x.T @ y / len(x))


def fit_logistic(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    """Minimize mean logistic loss plus strength |v|^2 / 2 by Newton's method with halved steps."""
    v = np.zeros(x.shape[1])

    def objective(point: np.ndarray) -> float:
        return float(np.logaddexp(0, -y * (x @ point)).mean() + strength / 2 * point @ point)

    for _ in range(30):
        share = 1 / (1 + np.exp(np.clip(y * (x @ v), -50, 50)))
        gradient = strength * v - x.T @ (y * share) / len(x)
        curvature = (x.T * (share * (1 - share))) @ x / len(x)
        step = np.linalg.solve(curvature + strength * np.eye(len(v)), gradient)

        rate = 1.0
        while objective(v - rate * step) > objective(v) and rate > 1e-4:
            rate /= 2
        v = v - rate * step
        if np.abs(rate * step).max() < 1e-6 * np.abs(v).max():
            break
    return v


def square_errors(seed: int, tuned: bool, random: bool) -> list[float]:
    """Measure the error of squared loss at each alpha, with a tiny ridge or the best one."""
    rng = np.random.default_rng(seed)
    means = []
    for alpha in ALPHAS:
        ridge = best_ridge(alpha) if tuned else TINY
        found = []
        for _ in range(DRAWS):
            w = rng.normal(size=D)
            x, y = draw(rng, round(alpha * D), w, random)
            found.append(error_of(fit_square(x, y, ridge), w))
        means.append(float(np.mean(found)))
    return means


def logistic_errors(seed: int, tuned: bool, random: bool) -> list[float]:
    """Measure the error of logistic loss at each of `BAYES_ALPHAS`, ridge by validation or tiny."""
    rng = np.random.default_rng(seed)
    means = []
    for alpha in BAYES_ALPHAS:
        found = []
        for _ in range(DRAWS):
            w = rng.normal(size=D)
            x, y = draw(rng, round(alpha * D), w, random)
            x_check, y_check = draw(rng, VALIDATION, w, random)
            fits = [fit_logistic(x, y, s) for s in (STRENGTHS if tuned else STRENGTHS[:1])]
            best = max(fits, key=lambda v: float(np.mean(np.sign(x_check @ v) == y_check)))
            found.append(error_of(best, w))
        means.append(float(np.mean(found)))
    return means


def values_of(
    plain: list[float], ridged: list[float], logistic: list[float], bayes: list[float]
) -> dict[str, float]:
    """Name the measures."""
    gaps = [abs(error - square_error(alpha, TINY)) for alpha, error in zip(ALPHAS, plain)]
    gaps += [abs(e - square_error(alpha, best_ridge(alpha))) for alpha, e in zip(ALPHAS, ridged)]
    peak = ALPHAS.index(1.0)
    return {
        "no ridge: error at alpha = 1 - at alpha = 1/2": plain[peak] - plain[peak - 2],
        "squared loss: error - formula, largest gap": max(gaps),
        "best ridge: largest rise of the error along alpha": float(np.diff(ridged).max()),
        "logistic loss, best ridge: error / Bayes error, mean over alpha": float(
            np.mean(np.array(logistic) / np.array(bayes))
        ),
    }


def run(seed: int) -> Outcome:
    """Classify by squared loss and by logistic loss, d = 150; means of eight draws."""
    first, second, third = child_seeds(seed, 3)
    plain = square_errors(first, tuned=False, random=False)
    ridged = square_errors(second, tuned=True, random=False)
    logistic = logistic_errors(third, tuned=True, random=False)
    bayes = [bayes_error(alpha) for alpha in BAYES_ALPHAS]

    curves = {
        "squared loss, no ridge": (ALPHAS, plain),
        "formula": (ALPHAS, [square_error(alpha, TINY) for alpha in ALPHAS]),
        "squared loss, best ridge": (ALPHAS, ridged),
        "logistic loss, best ridge": (BAYES_ALPHAS, logistic),
        "Bayes": (ALPHAS, [bayes_error(alpha) for alpha in ALPHAS]),
    }
    values = values_of(plain, ridged, logistic, bayes)
    return Outcome(values, curves, x="samples / dimension", y="test error", log="x")


def control(seed: int) -> dict[str, float]:
    """Learn from random labels; leave the ridge away where it must remove the peak."""
    first, second, third = child_seeds(seed, 3)
    random = square_errors(first, tuned=False, random=True)
    unridged = square_errors(second, tuned=False, random=False)
    logistic = logistic_errors(third, tuned=True, random=True)
    return values_of(random, unridged, logistic, [bayes_error(alpha) for alpha in BAYES_ALPHAS])
