"""The law of robustness: fitting noise smoothly takes d times more parameters than fitting it.

Row 12: Bubeck and Sellke, "A Universal Law of Robustness via Isoperimetry", arXiv:2105.12806;
Bubeck, Li, Nagaraj, "A law of robustness for two-layers neural networks", arXiv:2009.14444. A
function with p parameters that fits n noisy labels in d dimensions has a Lipschitz constant of the
order sqrt(n d / p) at least. Labels are random signs, on points of the unit sphere or of a mixture
of two Gaussians of the same size, n = d from 50 to 400. Lipschitz constants are the largest
gradients at and between the points.

1. Mere interpolation: a linear function of 2 n coordinates, p = 2 n, has a gradient that grows like
   sqrt(n).
2. Smooth interpolation: two-layer networks with one ReLU neuron per point, which is 0 at all
   others, have p = n d parameters and a gradient that does not grow.
3. The law: no class falls below a constant times sqrt(n d / p), on the sphere and on the mixture;
   ReLU features of fixed random weights, p = 4 n and p = 16 n, are among them.

Control: the two classes exchanged; labels without noise, all equal to 1, which a constant fits.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.outcome import Curve, Outcome
from rlop.experiments.series import power_law_exponent

SIZES = (50, 100, 200, 400)  # n = d
FEATURES = (4, 16)  # random features per point
THRESHOLD = 0.6  # of a cap; two points are rarely as near as this
DRAWS = 6
LAW_SIZE = 100  # n at which the constant of the law is measured


def sphere(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points on the unit sphere, `[n, d]`."""
    x = rng.normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def mixture(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points from two Gaussians whose centers are one unit apart, `[n, d]`."""
    center = np.zeros(d)
    center[0] = 0.5
    side = rng.choice((-1.0, 1.0), size=(n, 1))
    return side * center + rng.normal(size=(n, d)) * (0.75 / d) ** 0.5


def between(x: np.ndarray) -> np.ndarray:
    """Return the points and the midpoints of neighbors in their order, `[2 n, d]`."""
    return np.concatenate([x, (x + np.roll(x, 1, axis=0)) / 2])


def linear_gradient(x: np.ndarray, y: np.ndarray) -> float:
    """Interpolate by a linear function of least norm, with a constant; return its gradient."""
    with_constant = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    found = np.linalg.lstsq(with_constant, y, rcond=None)[0]
    return float(np.linalg.norm(found[:-1]))


def cap_gradient(x: np.ndarray, y: np.ndarray) -> float:
    """Interpolate by one neuron per point, `relu(<x_i, x> - t)`; return the largest gradient."""
    products = x @ x.T
    own = np.diag(products)
    threshold = THRESHOLD * own[None]
    weights = np.linalg.solve(np.maximum(products - threshold, 0), y)
    active = between(x) @ x.T > threshold
    return float(np.linalg.norm((active * weights) @ x, axis=1).max())


def feature_gradient(
    x: np.ndarray, y: np.ndarray, features: int, rng: np.random.Generator
) -> float:
    """Interpolate by random ReLU features of least norm; return the largest gradient."""
    w = rng.normal(size=(features, x.shape[1]))
    offset = 0.5 * rng.normal(size=features)
    found = np.linalg.lstsq(np.maximum(x @ w.T + offset, 0), y, rcond=None)[0]
    active = between(x) @ w.T + offset > 0
    return float(np.linalg.norm((active * found) @ w, axis=1).max())


def labels(n: int, noisy: bool, rng: np.random.Generator) -> np.ndarray:
    """Draw random signs, or return ones."""
    return rng.choice((-1.0, 1.0), size=n) if noisy else np.ones(n)


def over_law(points: str, noisy: bool, seed: int) -> float:
    """Divide the largest gradient of every class by sqrt(n d / p); return the least ratio."""
    rng = np.random.default_rng(seed)
    n, draw = LAW_SIZE, sphere if points == "sphere" else mixture

    wide = draw(n, 2 * n, rng)
    ratios = [linear_gradient(wide, labels(n, noisy, rng)) / n**0.5]
    x, y = draw(n, n, rng), labels(n, noisy, rng)
    ratios.append(cap_gradient(x, y))
    for per_point in FEATURES:
        ratios.append(feature_gradient(x, y, per_point * n, rng) / (n / per_point) ** 0.5)
    return min(ratios)


def gradients(seed: int) -> tuple[list[float], list[float]]:
    """Fit noise on the sphere by linear functions and by caps, at every size."""
    rng = np.random.default_rng(seed)
    mere, smooth = [], []
    for n in SIZES:
        linear, caps = 0.0, 0.0
        for _ in range(DRAWS):
            linear += linear_gradient(sphere(n, 2 * n, rng), labels(n, True, rng)) / DRAWS
            caps += cap_gradient(sphere(n, n, rng), labels(n, True, rng)) / DRAWS
        mere.append(linear)
        smooth.append(caps)
    return mere, smooth


def values_of(mere: list[float], smooth: list[float], seed: int, noisy: bool) -> dict[str, float]:
    """Name the measures."""
    return {
        "p = 2 n: exponent of n in the gradient": power_law_exponent(SIZES, mere),
        "p = n d, n = d: exponent of n in the gradient": power_law_exponent(SIZES, smooth),
        "sphere: least gradient / sqrt(n d / p)": over_law("sphere", noisy, seed),
        "mixture: least gradient / sqrt(n d / p)": over_law("mixture", noisy, seed),
    }


def run(seed: int) -> Outcome:
    """Interpolate random signs on 50 to 400 points."""
    mere, smooth = gradients(seed)
    curves: dict[str, Curve] = {
        "p = 2 n": (SIZES, mere),
        "p = n d": (SIZES, smooth),
        "sqrt(n)": (SIZES, [n**0.5 for n in SIZES]),
    }
    values = values_of(mere, smooth, seed, noisy=True)
    return Outcome(values, curves, x="points n = dimensions d", y="largest gradient", log="xy")


def control(seed: int) -> dict[str, float]:
    """Exchange the classes; fit labels that are all equal."""
    mere, smooth = gradients(seed)
    return values_of(smooth, mere, seed, noisy=False)
