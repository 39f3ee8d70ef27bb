"""A quadratic network identifies the function, not the weights, and so generalises to any shift of its inputs.

Reference: Xu, Bastani, Bastani, "Robust Generalization of Quadratic Neural Networks via Function Identification",
arXiv:2109.10935.

f(x) = sum_k (w_k . x)^2 = x' Phi x with Phi = sum_k w_k w_k'. With more samples than d (d + 1) / 2 the matrix Phi is
determined, while W is so only up to a rotation. Shown: two over-parameterised students of one teacher, from different
starts, on inputs of one law and tested on another.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.outcome import Measure, Outcome

D, TEACHER, STUDENT, SAMPLES, STEPS, LR = 10, 3, 20, 200, 3000, 0.02


def train(
    phi: np.ndarray, x: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient descent on mean squared error / 4: student weights `[K, d]` and the relative error of Phi `[T]`."""
    y = np.einsum("nd,de,ne->n", x, phi, x)
    w = rng.normal(size=(STUDENT, D)) * 0.3 / np.sqrt(STUDENT)
    course = np.zeros(STEPS)
    for step in range(STEPS):
        course[step] = np.linalg.norm(w.T @ w - phi) / np.linalg.norm(phi)
        hidden = x @ w.T
        error = (hidden**2).sum(1) - y
        w = w - LR * (error[:, None] * hidden).T @ x / len(x)
    return w, course


def run(seed: int = 0) -> Outcome:
    """d = 10, three teacher and twenty student neurons, 200 Gaussian inputs; tested on inputs ten times as large."""
    rng = np.random.default_rng(seed)
    teacher = np.linalg.qr(rng.normal(size=(D, TEACHER)))[0].T
    phi = teacher.T @ teacher
    x = rng.normal(size=(SAMPLES, D))
    (first, course), (second, other) = (train(phi, x, rng) for _ in range(2))
    far = 10 * rng.exponential(size=(1000, D))
    value = ((far @ teacher.T) ** 2).sum(1)
    shifted = np.sqrt(np.mean((((far @ first.T) ** 2).sum(1) - value) ** 2) / np.mean(value**2))
    apart = np.linalg.norm(first - second) / np.linalg.norm(first)
    measures = (
        Measure(
            "relative error of Phi, first start", float(course[-1]), 0.0, 1e-2, "0: identified"
        ),
        Measure(
            "relative error of Phi, second start", float(other[-1]), 0.0, 1e-2, "0: identified"
        ),
        Measure(
            "distance between the weights of the two",
            float(apart),
            0.3,
            np.inf,
            "not 0: not identified",
        ),
        Measure("relative error under the shift", float(shifted), 0.0, 1e-2, "0, as Phi"),
    )
    steps = range(STEPS)
    return Outcome(measures, {"first start": (steps, course), "second start": (steps, other)}, x="step",
                   y="relative error of Phi", log="y")  # fmt: skip
