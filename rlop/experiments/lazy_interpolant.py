"""Lazy training ends at the least-norm interpolant; sparse norms learn what that one cannot.

Row 4: Montanari's talk at the workshop. Sources: Chizat, Oyallon, Bach, "On Lazy Training in
Differentiable Programming", arXiv:1812.07956; Celentano, Misiakiewicz, Montanari, "Minimum
complexity interpolation in random features models", arXiv:2103.15996.

1. A network of N = 200 ReLU neurons, f(x) = scale N^-1/2 sum_i s_i relu(w_i . x) minus its value at
   the start, is trained on 40 labels by gradient descent to a loss of 1e-10. At a large scale it
   must predict as the least-norm interpolant in its own tangent features at the start does. A share
   1 / scale of the gates changes, of either sign, so that the distance falls like scale^-1/2.
   Control: a scale of .3, at which the features move.
2. A function of a few neurons, in d = 5 dimensions, is interpolated in 1000 random ReLU features,
   once with the least l2 norm (a kernel method), once with the least l1.05 norm of the
   coefficients, a convex problem that is solved by iteratively reweighted least squares. The sparse
   norm must err less. Control: a target of all features at once, Gaussian coefficients, in which
   there is no sparsity to find."""

from __future__ import annotations

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

# Lazy training.
D = 10
N = 200
SAMPLES = 40
SCALES = (1.0, 3.0, 10.0, 30.0)
RICH = 0.3
STEPS = 20_000
LOSS = 1e-10

# Sparse random features.
D_SPARSE = 5
FEATURES = 1000
SPARSE_SAMPLES = (50, 100, 200)
NEURONS = 3
P = 1.05
ROUNDS = 60  # of reweighting
DRAWS = 6
TEST = 1000


def sphere(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw points on the sphere of radius sqrt(d), `[n, d]`."""
    x = rng.normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True) * np.sqrt(d)


def distance_to_interpolant(scale: float, seed: int) -> float:
    """Train a network and compare it with the interpolant in its first tangent features.

    Returns:
        The root mean square of the difference on fresh inputs, over that of the interpolant.
    """
    rng = np.random.default_rng(seed)
    x, fresh = sphere(rng, SAMPLES, D), sphere(rng, TEST, D)
    y = np.sign(x[:, 0])
    signs = rng.choice((-1.0, 1.0), N) / np.sqrt(N)
    start = rng.normal(size=(N, D)) / np.sqrt(D)

    def jacobian(w: np.ndarray, points: np.ndarray) -> np.ndarray:
        active = (points @ w.T > 0) * signs
        return (active[:, :, None] * points[:, None, :]).reshape(len(points), -1)

    def output(w: np.ndarray, points: np.ndarray) -> np.ndarray:
        change = np.maximum(points @ w.T, 0) - np.maximum(points @ start.T, 0)
        return scale * change @ signs

    tangents = jacobian(start, x)
    gram = tangents @ tangents.T
    interpolant = jacobian(start, fresh) @ (tangents.T @ np.linalg.solve(gram, y))

    # The scale of the loss, 1 / scale^2, keeps the time that training takes.
    w = start.copy()
    rate = 1 / np.linalg.eigvalsh(gram)[-1]
    for _ in range(STEPS):
        residual = output(w, x) - y
        if residual @ residual < LOSS:
            break
        gradient = ((x @ w.T > 0) * residual[:, None]).T @ x * signs[:, None]
        w -= rate / scale * gradient

    difference = output(w, fresh) - interpolant
    return float(np.linalg.norm(difference) / np.linalg.norm(interpolant))


def least_norm(phi: np.ndarray, y: np.ndarray, p: float) -> np.ndarray:
    """Find the interpolating coefficients of least lp norm, 1 < p <= 2.

    Reweighted least squares: with weights |a|^(2 - p) the least-norm solution of a weighted l2
    problem is a = W phi^T (phi W phi^T)^-1 y. The powers of the damping give descent for p near 1.

    Args:
        phi: features `[n, P]`, fewer samples than features.
        y: targets `[n]`.
        p: exponent of the norm.
    """
    a = np.linalg.lstsq(phi, y, rcond=None)[0]
    if p == 2:
        return a

    for round_ in range(ROUNDS):
        floor = np.abs(a).max() * max(1e-6, 0.5**round_)
        weights = (a**2 + floor**2) ** ((2 - p) / 2)
        weighted = phi * weights
        gram = weighted @ phi.T
        jitter = 1e-12 * np.trace(gram) / len(y) * np.eye(len(y))
        a = weighted.T @ np.linalg.solve(gram + jitter, y)
    return a


def sparse_gain(n: int, seed: int, sparse: bool) -> float:
    """Divide the test error of the least l1.05 norm by that of the least l2 norm.

    Args:
        n: number of samples.
        seed: of data, features and target.
        sparse: whether the target has `NEURONS` neurons of its own, or is a Gaussian combination of
            all features.
    """
    rng = np.random.default_rng([seed, n])
    w = sphere(rng, FEATURES, D_SPARSE) / np.sqrt(D_SPARSE)
    teacher = sphere(rng, NEURONS, D_SPARSE) / np.sqrt(D_SPARSE) if sparse else w
    coefficients = rng.normal(size=len(teacher))
    x, fresh = sphere(rng, n, D_SPARSE), sphere(rng, TEST, D_SPARSE)

    y = np.maximum(x @ teacher.T, 0) @ coefficients
    truth = np.maximum(fresh @ teacher.T, 0) @ coefficients
    phi, phi_fresh = np.maximum(x @ w.T, 0), np.maximum(fresh @ w.T, 0)
    errors = [((phi_fresh @ least_norm(phi, y, p) - truth) ** 2).mean() for p in (P, 2)]
    return float(errors[0] / errors[1])


def gains(seed: int, sparse: bool) -> list[float]:
    """Take the median of the ratio of errors over the draws, for each number of samples."""
    seeds = child_seeds(seed, DRAWS)
    return [float(np.median([sparse_gain(n, s, sparse) for s in seeds])) for n in SPARSE_SAMPLES]


def values_of(distance: float, ratios: list[float]) -> dict[str, float]:
    """Name the measures."""
    return {
        "distance of the network to its interpolant, scale 30": distance,
        "error of the sparse norm / l2 norm, n = 200": ratios[-1],
    }


def run(seed: int) -> Outcome:
    """Train at four scales, and interpolate targets of three neurons by two norms."""
    distances = [distance_to_interpolant(scale, seed) for scale in SCALES]
    ratios = gains(seed, sparse=True)
    curves = {
        "network to interpolant": (SCALES, distances),
        "scale^-1/2": (SCALES, distances[0] / np.sqrt(np.array(SCALES))),
    }
    return Outcome(
        values_of(distances[-1], ratios),
        curves,
        x="scale of the output",
        y="relative distance",
        log="xy",
    )


def control(seed: int) -> dict[str, float]:
    """Train at a scale at which the features move; fit a target that is not sparse."""
    return values_of(distance_to_interpolant(RICH, seed), gains(seed, sparse=False))
