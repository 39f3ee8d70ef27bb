"""A quadratic network identifies the function, not the weights, so any shift of inputs is safe.

Reference: Xu, Bastani, Bastani, "Robust Generalization of Quadratic Neural Networks via Function
Identification", arXiv:2109.10935.

f(x) = sum_k (w_k . x)^2 = x' Phi x with Phi = sum_k w_k w_k'. With more samples than d (d + 1) / 2
the matrix Phi is determined, while W is so only up to a rotation. Shown: two over-parameterized
students of one teacher, from different starts, trained on inputs from one distribution and tested
on another.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.outcome import Outcome

D = 10
TEACHER = 3  # neurons
STUDENT = 20  # neurons
SAMPLES = 200
STEPS = 3000
LR = 0.02


def outputs(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sum (w_k . x)^2 over the neurons, weights `[K, d]` and inputs `[N, d]` -> `[N]`."""
    return ((x @ w.T) ** 2).sum(1)


def train(
    phi: np.ndarray, x: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Run gradient descent on mean squared error / 4.

    Returns:
        The student's weights `[K, d]`, and the relative error of its Phi at every step `[T]`.
    """
    y = np.einsum("nd,de,ne->n", x, phi, x)
    w = rng.normal(size=(STUDENT, D)) * 0.3 / np.sqrt(STUDENT)
    errors = np.zeros(STEPS)

    for step in range(STEPS):
        errors[step] = np.linalg.norm(w.T @ w - phi) / np.linalg.norm(phi)
        hidden = x @ w.T
        error = (hidden**2).sum(1) - y
        w = w - LR * (error[:, None] * hidden).T @ x / len(x)

    return w, errors


def run(seed: int) -> Outcome:
    """Train on 200 Gaussian inputs, test on inputs ten times as large.

    d = 10, three teacher and twenty student neurons.
    """
    rng = np.random.default_rng(seed)
    teacher = np.linalg.qr(rng.normal(size=(D, TEACHER)))[0].T
    phi = teacher.T @ teacher
    x = rng.normal(size=(SAMPLES, D))
    first, first_errors = train(phi, x, rng)
    second, second_errors = train(phi, x, rng)

    far = 10 * rng.exponential(size=(1000, D))
    value = outputs(teacher, far)
    squared_error = np.mean((outputs(first, far) - value) ** 2)
    shifted_error = np.sqrt(squared_error / np.mean(value**2))
    distance = np.linalg.norm(first - second) / np.linalg.norm(first)

    values = {
        "relative error of Phi, first start": float(first_errors[-1]),
        "relative error of Phi, second start": float(second_errors[-1]),
        "distance between the weights of the two": float(distance),
        "relative error under the shift": float(shifted_error),
    }

    steps = range(STEPS)
    curves = {"first start": (steps, first_errors), "second start": (steps, second_errors)}
    return Outcome(values, curves, x="step", y="relative error of Phi", log="y")
