"""Random features of any convex loss peak where they first fit, as Gaussian features would.

Row 3: Zdeborova's talk at the workshop; Gerace, Loureiro, Krzakala, Mezard, Zdeborova,
"Generalisation error in learning with random features and the hidden manifold model",
arXiv:2002.09339; the peak also in d'Ascoli, Refinetti, Biroli, Krzakala, arXiv:2003.01054. The
labels are sign(w . x), 15 % of them flipped in training; the features are phi = tanh(F x), F a
fixed random matrix with rows of norm 1, x Gaussian in d = 60 dimensions. The number of features
passes through the n = 120 samples.

1. The error of squared loss has a peak at p = n, and that of logistic loss one where the training
   set becomes separable; ridge removes both. The size of a peak is the largest rise of the error
   along p.
2. The formulas depend on the features only through their moments: with k = E phi'(z) and
   s^2 = Var phi(z) - k^2 of a standard normal z, the Gaussian features k F x + s u, u independent,
   give the same errors for either loss, with the same inputs and labels.

Control: with the ridge in the place of none, there is no peak; Gaussian features without their part
s u are others.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.experiments.perceptron import fit_logistic

D = 60
N = 120
TEST = 1000
FLIPPED = 0.15
DRAWS = 16
FEATURES = (30, 60, 90, 120, 150, 180, 300, 720)
NO_RIDGE = 1e-6
RIDGE = 0.1


def moments() -> tuple[float, float]:
    """Integrate k and s of tanh."""
    z, weight = np.polynomial.hermite_e.hermegauss(101)
    weight = weight / weight.sum()
    slope = float(weight @ (1 - np.tanh(z) ** 2))
    rest = float(weight @ np.tanh(z) ** 2) - slope**2
    return slope, rest**0.5


def features(kind: str, x: np.ndarray, f: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Compute the features `[n, p]`: "tanh", "Gaussian" with equal moments, or "linear"."""
    projected = x @ f.T
    if kind == "tanh":
        return np.tanh(projected)

    slope, rest = moments()
    noise = rest * rng.normal(size=projected.shape) if kind == "Gaussian" else 0.0
    return slope * projected + noise


def errors(kind: str, p: int, ridge: float, seed: int) -> np.ndarray:
    """Measure the test errors of squared and of logistic loss on p features, `[2]`."""
    rng = np.random.default_rng([seed, p])
    w = rng.normal(size=D)
    f = rng.normal(size=(p, D))
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    x, fresh = rng.normal(size=(N, D)), rng.normal(size=(TEST, D))
    truth = np.sign(fresh @ w)
    y = np.sign(x @ w) * np.where(rng.random(N) < FLIPPED, -1, 1)

    phi, phi_fresh = features(kind, x, f, rng), features(kind, fresh, f, rng)
    # With more features than samples, every minimum is in the span of the samples.
    if p > N:
        basis = np.linalg.qr(phi.T)[0]
        phi, phi_fresh = phi @ basis, phi_fresh @ basis

    gram = phi.T @ phi / N + ridge * np.eye(phi.shape[1])
    square = np.linalg.solve(gram, phi.T @ y / N)
    logistic = fit_logistic(phi, y, ridge)
    return np.array([(np.sign(phi_fresh @ v) != truth).mean() for v in (square, logistic)])


def curve(kind: str, ridge: float, seed: int) -> np.ndarray:
    """Average the errors of both losses over the draws, `[len(FEATURES), 2]`."""
    means = []
    for p in FEATURES:
        draws = [errors(kind, p, ridge, s) for s in child_seeds(seed, DRAWS)]
        means.append(np.mean(draws, axis=0))
    return np.array(means)


def rises(found: np.ndarray) -> np.ndarray:
    """Return the largest rise of the error of each loss along the number of features, `[2]`."""
    return (found - np.minimum.accumulate(found, axis=0)).max(0)


def values_of(free: np.ndarray, ridged: np.ndarray, gaussian: np.ndarray) -> dict[str, float]:
    """Name the measures."""
    square, logistic = rises(free).tolist()
    return {
        "squared loss, no ridge: largest rise of the error": square,
        "logistic loss, no ridge: largest rise of the error": logistic,
        "largest rise of the error: ridge / no ridge, mean of both losses": float(
            rises(ridged).mean() / rises(free).mean()
        ),
        "Gaussian features of equal moments: error - tanh, mean distance": float(
            np.abs(free - gaussian).mean()
        ),
    }


def run(seed: int) -> Outcome:
    """Classify 120 samples in 30 to 720 features; means of sixteen draws."""
    free = curve("tanh", NO_RIDGE, seed)
    ridged = curve("tanh", RIDGE, seed)
    gaussian = curve("Gaussian", NO_RIDGE, seed)

    curves = {
        "squared loss": (FEATURES, free[:, 0]),
        "squared loss, ridge": (FEATURES, ridged[:, 0]),
        "logistic loss": (FEATURES, free[:, 1]),
        "logistic loss, ridge": (FEATURES, ridged[:, 1]),
    }
    values = values_of(free, ridged, gaussian)
    return Outcome(values, curves, x="random features, n = 120", y="test error", log="x")


def control(seed: int) -> dict[str, float]:
    """Use the ridge throughout, and features that lack the independent part."""
    ridged, linear = curve("tanh", RIDGE, seed), curve("linear", NO_RIDGE, seed)
    return {
        **values_of(ridged, ridged, linear),
        "Gaussian features of equal moments: error - tanh, mean distance": float(
            np.abs(curve("tanh", NO_RIDGE, seed) - linear).mean()
        ),
    }
