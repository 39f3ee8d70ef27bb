"""Concatenating pairs of inputs changes nothing for minimum-norm linear regression.

Reference: Chen, Wang, Kyrillidis, "Mitigating Deep Double Descent by Concatenating Inputs", arXiv:2107.00797.

All n^2 ordered pairs [x_i, x_j] get the label (y_i + y_j) / 2, and a test point is presented as [x, x]. Where the plain
problem interpolates (n <= d), the concatenated one has the same minimum-norm solution, peak included: the method's
effect, which the paper reports for networks, cannot come from the linear part. Beyond n = d, with residuals r, the
sum over pairs is (n sum r^2 + (sum r)^2) / 2, a generalised least squares with weight I + 11'/n, checked as well.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.outcome import Measure, Outcome

D, NOISE, DRAWS = 30, 0.1, 10


def concatenated(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs: `[n, d]` and `[n]` give `[n^2, 2 d]` and `[n^2]`."""
    n, d = x.shape
    first, second = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)
    return np.concatenate([x[first], x[second]], axis=1).reshape(n * n, 2 * d), (
        y[first] + y[second]
    ) / 2


def estimates(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights `[d]` by the plain way, by pairs (acting on [x, x]), and by generalised least squares."""
    plain = np.linalg.lstsq(x, y, rcond=None)[0]
    pairs = np.linalg.lstsq(*concatenated(x, y), rcond=None)[0]
    root = np.eye(len(x)) + (np.sqrt(2) - 1) * np.full(
        (len(x), len(x)), 1 / len(x)
    )  # square root of I + 11'/n
    return (
        plain,
        pairs[: x.shape[1]] + pairs[x.shape[1] :],
        np.linalg.lstsq(root @ x, root @ y, rcond=None)[0],
    )


def run(seed: int = 0) -> Outcome:
    """d = 30, noise .1, n from 10 to 60; test error is the mean over ten draws of ||w - w*||^2 + noise^2."""
    rng = np.random.default_rng(seed)
    sizes = (10, 20, 28, 30, 32, 40, 60)
    error = np.zeros((len(sizes), 2))
    same, weighted = 0.0, 0.0
    for i, n in enumerate(sizes):
        for _ in range(DRAWS):
            target = rng.normal(size=D) / np.sqrt(D)
            x = rng.normal(size=(n, D))
            plain, pairs, general = estimates(x, x @ target + NOISE * rng.normal(size=n))
            error[i] += [((w - target) ** 2).sum() / DRAWS for w in (plain, pairs)]
            size = np.linalg.norm(plain)
            if n <= D:
                same = max(same, float(np.linalg.norm(plain - pairs) / size))
            weighted = max(weighted, float(np.linalg.norm(general - pairs) / size))
    error += NOISE**2
    peak = float(error[sizes.index(D), 1] / np.delete(error[:, 1], sizes.index(D)).max())
    after = float(np.abs(error[4:, 1] / error[4:, 0] - 1).max())
    measures = (
        Measure(
            "n <= d: relative difference of the weights",
            same,
            0.0,
            1e-6,
            "0: same minimum-norm solution",
        ),
        Measure("any n: difference from weights I + 11'/n", weighted, 0.0, 1e-6, "0: derived"),
        Measure(
            "n > d: relative difference of the errors", after, 0.0, 0.1, "measured oracle .007"
        ),
        Measure("error at n = d / largest elsewhere", peak, 1.0, np.inf, "> 1: the peak stays"),
    )
    curves = {"plain": (sizes, error[:, 0]), "concatenated pairs": (sizes, error[:, 1])}
    return Outcome(measures, curves, x="samples n", y="test error", log="y")
