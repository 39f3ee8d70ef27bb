"""The wider the network, the less its tangent kernel moves; its least eigenvalue sets the speed.

Reference: Liu, Zhu, Belkin, "Loss Landscapes and Optimization in Over-Parameterized Non-Linear
Systems and Neural Networks", arXiv:2003.00307, and Belkin's talk at the workshop.

For squared loss L = ||r||^2 / 2, ||grad L||^2 = r' K r >= 2 lambda_min(K) L: the PL condition holds
with the smallest eigenvalue of the tangent kernel K = J J', and gradient descent contracts like
(1 - eta lambda_min)^2 per step as long as K does not change. On a network of width m it changes by
at most O(1 / sqrt(m)). Shown: f(x) = sum_i a_i tanh(w_i . x) / sqrt(m) with both layers trained,
widths 32 to 1024; the signs of the a_i average out, so that the change falls faster than the bound,
towards 1 / m.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlop.experiments.outcome import Outcome
from rlop.experiments.series import power_law_exponent

WIDTHS = (32, 64, 128, 256, 512, 1024)
SEEDS = 4
D = 5
SAMPLES = 10
STEPS = 300
LR = 0.2


class Training(NamedTuple):
    """Measurements of one training."""

    change: float  # of K, relative
    least_eigenvalue: float  # of K at the start, over its trace
    loss: float  # the last one, over the linear bound


def jacobian(a: np.ndarray, w: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute outputs `[N]` and their gradients `[N, m (d + 1)]`."""
    root = np.sqrt(len(a))
    hidden = np.tanh(x @ w.T)
    by_a = hidden / root
    by_w = ((1 - hidden**2) * a)[:, :, None] * x[:, None] / root
    return hidden @ a / root, np.concatenate([by_a, by_w.reshape(len(x), -1)], axis=1)


def train(width: int, seed: int) -> Training:
    """Fit random labels by gradient descent and compare the tangent kernel before and after."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SAMPLES, D))
    y = rng.choice((-1.0, 1.0), SAMPLES)
    a = rng.normal(size=width)
    w = rng.normal(size=(width, D))

    start_output, j = jacobian(a, w, x)
    start_kernel = j @ j.T
    eigenvalues = np.linalg.eigvalsh(start_kernel)
    lr = LR / eigenvalues[-1]

    residual = np.zeros(0)
    for _ in range(STEPS):
        output, j = jacobian(a, w, x)
        # Centered: the output at initialization has nothing to do with laziness.
        residual = output - start_output - y
        step = lr * residual @ j
        a = a - step[:width]
        w = w - step[width:].reshape(w.shape)

    _, j = jacobian(a, w, x)
    change = np.linalg.norm(j @ j.T - start_kernel) / np.linalg.norm(start_kernel)
    bound = (1 - lr * eigenvalues[0]) ** (2 * (STEPS - 1)) * SAMPLES
    return Training(
        float(change),
        float(eigenvalues[0] / eigenvalues.sum()),
        float(residual @ residual / bound),
    )


def run(seed: int) -> Outcome:
    """Train on ten samples for 300 steps; means of four draws."""
    means = []
    for width in WIDTHS:
        trainings = [train(width, 10 * seed + i) for i in range(SEEDS)]
        means.append(np.mean(trainings, axis=0))

    change, least, loss = np.stack(means, axis=1)
    exponent = power_law_exponent(WIDTHS, change)

    values = {
        "change of the kernel: exponent of the width": exponent,
        "relative change at the largest width": float(change[-1]),
        "smallest eigenvalue / trace, any width": float(least.min()),
        "loss / PL bound at the largest width": float(loss[-1]),
    }

    return Outcome(
        values, {"change of the kernel": (WIDTHS, change)}, x="width", y="relative change", log="xy"
    )
