"""Linear layers that start aligned stay aligned under gradient descent, whatever the data.

Reference: Radhakrishnan, Nichani, Bernstein, Uhler, "On Alignment in (Deep) Linear Neural Networks", arXiv:2003.06340:
two layers are aligned when the left singular vectors of one are the right singular vectors of the next.

Gradient flow conserves W_{i+1}' W_{i+1} - W_i W_i'. Where that is zero at the start it stays zero, and the singular
vectors match; discrete steps add an error of the order of the learning rate, which is checked too. Layers drawn at
random are not aligned, and training does not make them so.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from rlop.experiments.outcome import Measure, Outcome

D, LAYERS, SAMPLES, TIME = 6, 3, 50, 40.0


def alignment(weights: list[np.ndarray]) -> float:
    """Mean |<u_k(W_i), v_k(W_{i+1})>| over adjacent layers and singular vectors: 1 is aligned."""
    parts = [np.linalg.svd(w) for w in weights]
    return float(np.mean([np.abs((a[0] * b[2].T).sum(0)).mean() for a, b in pairwise(parts)]))


def imbalance(weights: list[np.ndarray]) -> float:
    """Largest ||W_{i+1}' W_{i+1} - W_i W_i'||, Frobenius."""
    return max(float(np.linalg.norm(b.T @ b - a @ a.T)) for a, b in pairwise(weights))


def aligned_start(rng: np.random.Generator) -> list[np.ndarray]:
    """Layers with the same distinct singular values, each turned to fit the one before."""
    turns = [np.linalg.qr(rng.normal(size=(D, D)))[0] for _ in range(LAYERS + 1)]
    values = np.linspace(0.5, 1.0, D)
    return [b * values @ a.T for a, b in pairwise(turns)]


def random_start(rng: np.random.Generator) -> list[np.ndarray]:
    """Independent Gaussian layers of about the same size."""
    return [rng.normal(size=(D, D)) * 0.75 / np.sqrt(D) for _ in range(LAYERS)]


def train(
    weights: list[np.ndarray], x: np.ndarray, y: np.ndarray, lr: float
) -> tuple[np.ndarray, np.ndarray, float, list[np.ndarray]]:
    """Gradient descent on the mean squared error / 2 for `TIME`.

    Returns:
        times, alignment at them, last loss divided by the first, last weights.
    """
    times, seen, losses = [], [], []
    for step in range(int(TIME / lr)):
        values = [x]
        for w in weights:
            values.append(values[-1] @ w.T)
        error = (values[-1] - y) / len(x)
        if step % round(TIME / lr / 100) == 0:
            times.append(step * lr)
            seen.append(alignment(weights))
        losses.append(float(((values[-1] - y) ** 2).sum() / 2 / len(x)))
        moved = []
        for w, before in zip(reversed(weights), reversed(values[:-1])):
            moved.append(w - lr * error.T @ before)
            error = error @ w
        weights = moved[::-1]
    return np.array(times), np.array(seen), losses[-1] / losses[0], weights


def run(seed: int = 0) -> Outcome:
    """Three layers of 6 x 6, 50 Gaussian samples of a random linear target, learning rates .01 and .005."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SAMPLES, D))
    y = x @ rng.normal(size=(D, D)) / np.sqrt(D)
    start = aligned_start(rng)
    times, aligned, left, coarse = train(start, x, y, 0.01)
    *_, fine = train(start, x, y, 0.005)
    _, drawn, drawn_left, _ = train(random_start(rng), x, y, 0.01)
    ratio = imbalance(coarse) / imbalance(fine)
    measures = (
        Measure(
            "aligned start: alignment at the start",
            float(aligned[0]),
            1 - 1e-9,
            1 + 1e-9,
            "1: by construction",
        ),
        Measure(
            "aligned start: mean alignment during training",
            float(aligned.mean()),
            0.97,
            1 + 1e-9,
            "1: invariant",
        ),
        Measure("aligned start: last loss / first", left, 0.0, 0.1, "< 1: it learns"),
        Measure("imbalance at rate .01 / at .005", ratio, 1.6, 2.4, "2: first order in the rate"),
        Measure("random start: mean alignment", float(drawn.mean()), 0.0, 0.9, "well below 1"),
        Measure("random start: last loss / first", drawn_left, 0.0, 0.1, "< 1: it learns"),
    )
    curves = {"aligned start": (times, aligned), "random start": (times, drawn)}
    return Outcome(measures, curves, x="training time", y="alignment of adjacent layers")
