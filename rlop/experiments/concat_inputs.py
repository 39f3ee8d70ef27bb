"""Concatenating pairs of inputs changes nothing for minimum-norm linear regression.

Reference: Chen, Wang, Kyrillidis, "Mitigating Deep Double Descent by Concatenating Inputs",
arXiv:2107.00797.

All n^2 ordered pairs [x_i, x_j] get the label (y_i + y_j) / 2, and a test point is presented as
[x, x]. Where the plain problem interpolates (n <= d), the concatenated one has the same
minimum-norm solution, peak included: the method's effect, which the paper reports for networks,
cannot come from the linear part. Beyond n = d, with residuals r, the sum over pairs is
(n sum r^2 + (sum r)^2) / 2, a generalized least squares with weight I + 11'/n, checked as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlop.experiments.outcome import Outcome

D = 30
NOISE = 0.1
DRAWS = 10
SIZES = (10, 20, 28, 30, 32, 40, 60)  # samples n


class Estimates(NamedTuple):
    """Weights `[d]` of one regression, found in three ways."""

    plain: np.ndarray
    pairs: np.ndarray  # as they act on [x, x]
    weighted: np.ndarray  # by generalized least squares


def concatenated(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Build all ordered pairs: `[n, d]` and `[n]` give `[n^2, 2 d]` and `[n^2]`."""
    n, d = x.shape
    first = np.repeat(np.arange(n), n)
    second = np.tile(np.arange(n), n)
    inputs = np.concatenate([x[first], x[second]], axis=1).reshape(n * n, 2 * d)
    return inputs, (y[first] + y[second]) / 2


def estimates(x: np.ndarray, y: np.ndarray) -> Estimates:
    """Fit the plain problem, the one of pairs, and the one with weights I + 11'/n."""
    n, d = x.shape
    plain = np.linalg.lstsq(x, y, rcond=None)[0]
    pairs = np.linalg.lstsq(*concatenated(x, y), rcond=None)[0]

    # Square root of I + 11'/n, whose eigenvalue along 1 is 2.
    root = np.eye(n) + (np.sqrt(2) - 1) * np.full((n, n), 1 / n)
    weighted = np.linalg.lstsq(root @ x, root @ y, rcond=None)[0]
    return Estimates(plain, pairs[:d] + pairs[d:], weighted)


def run(seed: int) -> Outcome:
    """Fit n = 10 to 60 samples of d = 30 inputs with noise .1.

    The test error is the mean over ten draws of ||w - w*||^2 + noise^2.
    """
    rng = np.random.default_rng(seed)
    errors = np.zeros((len(SIZES), 2))
    plain_gap = 0.0
    weighted_gap = 0.0

    for i, n in enumerate(SIZES):
        for _ in range(DRAWS):
            target = rng.normal(size=D) / np.sqrt(D)
            x = rng.normal(size=(n, D))
            fitted = estimates(x, x @ target + NOISE * rng.normal(size=n))
            for column, w in enumerate((fitted.plain, fitted.pairs)):
                errors[i, column] += ((w - target) ** 2).sum() / DRAWS

            size = np.linalg.norm(fitted.plain)
            if n <= D:
                gap = float(np.linalg.norm(fitted.plain - fitted.pairs) / size)
                plain_gap = max(plain_gap, gap)
            gap = float(np.linalg.norm(fitted.weighted - fitted.pairs) / size)
            weighted_gap = max(weighted_gap, gap)

    errors += NOISE**2

    at = SIZES.index(D)
    peak = float(errors[at, 1] / np.delete(errors[:, 1], at).max())
    past = errors[at + 1 :]
    past_gap = float(np.abs(past[:, 1] / past[:, 0] - 1).max())

    values = {
        "n <= d: relative difference of the weights": plain_gap,
        "any n: difference from weights I + 11'/n": weighted_gap,
        "n > d: relative difference of the errors": past_gap,
        "error at n = d / largest elsewhere": peak,
    }

    curves = {"plain": (SIZES, errors[:, 0]), "concatenated pairs": (SIZES, errors[:, 1])}
    return Outcome(values, curves, x="samples n", y="test error", log="y")
