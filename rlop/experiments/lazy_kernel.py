"""The wider the network, the less its tangent kernel moves, and its smallest eigenvalue sets the rate of training.

Reference: Liu, Zhu, Belkin, "Loss Landscapes and Optimization in Over-Parameterized Non-Linear Systems and Neural
Networks", arXiv:2003.00307, and Belkin's talk at the workshop.

For squared loss L = ||r||^2 / 2, ||grad L||^2 = r' K r >= 2 lambda_min(K) L: the PL condition holds with the smallest
eigenvalue of the tangent kernel K = J J', and gradient descent contracts like (1 - eta lambda_min)^2 a step as long as
K stays where it was. On a network of width m it changes by at most O(1 / sqrt(m)). Shown:
f(x) = sum_i a_i tanh(w_i . x) / sqrt(m) with both layers trained, widths 32 to 1024; the signs of the a_i average out,
so that the change falls faster than the bound, towards 1 / m.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.outcome import Measure, Outcome

WIDTHS, D, SAMPLES, STEPS, LR = (32, 64, 128, 256, 512, 1024), 5, 10, 300, 0.2


def jacobian(a: np.ndarray, w: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs `[N]` and their gradients `[N, m (d + 1)]`."""
    hidden, root = np.tanh(x @ w.T), np.sqrt(len(a))
    by_w = ((1 - hidden**2) * a)[:, :, None] * x[:, None] / root
    return hidden @ a / root, np.concatenate([hidden / root, by_w.reshape(len(x), -1)], axis=1)


def train(width: int, seed: int) -> tuple[float, float, float]:
    """Relative change of K, its smallest eigenvalue over its trace at the start, last loss over the linear bound."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SAMPLES, D))
    y = rng.choice((-1.0, 1.0), SAMPLES)
    a, w = rng.normal(size=width), rng.normal(size=(width, D))
    first, j = jacobian(a, w, x)
    start = j @ j.T
    eigenvalues = np.linalg.eigvalsh(start)
    lr, residual = LR / eigenvalues[-1], np.zeros(0)
    for _ in range(STEPS):
        out, j = jacobian(a, w, x)
        residual = (
            out - first - y
        )  # centred: the output at initialisation has nothing to do with laziness
        step = lr * residual @ j
        a, w = a - step[:width], w - step[width:].reshape(w.shape)
    _, j = jacobian(a, w, x)
    change = np.linalg.norm(j @ j.T - start) / np.linalg.norm(start)
    bound = (1 - lr * eigenvalues[0]) ** (2 * (STEPS - 1)) * SAMPLES
    return (
        float(change),
        float(eigenvalues[0] / eigenvalues.sum()),
        float(residual @ residual / bound),
    )


def run(seed: int = 0) -> Outcome:
    """Ten samples, 300 steps; means of four draws."""
    change, least, against = (
        np.mean([[train(width, 10 * seed + i) for i in range(4)] for width in WIDTHS], axis=1).T
    )  # fmt: skip
    slope = np.polyfit(np.log(WIDTHS), np.log(change), 1)[0]
    measures = (
        Measure(
            "change of the kernel: exponent of the width", float(slope), -1.2, -0.4, "-1/2 at most"
        ),
        Measure(
            "relative change at the largest width", float(change[-1]), 0.0, 0.1, "0 in the limit"
        ),
        Measure("smallest eigenvalue / trace, any width", float(least.min()), 1e-6, 1.0, "> 0"),
        Measure("loss / PL bound at the largest width", float(against[-1]), 0.0, 1.05, "at most 1"),
    )
    return Outcome(
        measures,
        {"change of the kernel": (WIDTHS, change)},
        x="width",
        y="relative change",
        log="xy",
    )
