"""Linear layers that start aligned stay aligned under gradient descent, for any data.

Reference: Radhakrishnan, Nichani, Bernstein, Uhler, "On Alignment in (Deep) Linear Neural
Networks", arXiv:2003.06340: two layers are aligned when the left singular vectors of one are the
right singular vectors of the next.

Gradient flow conserves W_{i+1}' W_{i+1} - W_i W_i'. Where that is zero at the start it stays zero,
and the singular vectors match; discrete steps add an error of the order of the learning rate, which
is checked too. Layers drawn at random are not aligned, and training does not align them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from rlop.experiments.outcome import Outcome

D = 6
LAYERS = 3
SAMPLES = 50
TIME = 40.0


def alignment(weights: list[np.ndarray]) -> float:
    """Average |<u_k(W_i), v_k(W_{i+1})>| over adjacent layers and k: 1 means aligned."""
    decompositions = [np.linalg.svd(w) for w in weights]
    overlaps = []
    for (left, _, _), (_, _, right) in pairwise(decompositions):
        overlaps.append(np.abs((left * right.T).sum(0)).mean())
    return float(np.mean(overlaps))


def imbalance(weights: list[np.ndarray]) -> float:
    """Return the largest Frobenius norm of W_{i+1}' W_{i+1} - W_i W_i' over adjacent layers."""
    return max(float(np.linalg.norm(b.T @ b - a @ a.T)) for a, b in pairwise(weights))


def aligned_start(rng: np.random.Generator) -> list[np.ndarray]:
    """Draw layers with the same distinct singular values, each rotated to fit the one before."""
    rotations = [np.linalg.qr(rng.normal(size=(D, D)))[0] for _ in range(LAYERS + 1)]
    values = np.linspace(0.5, 1.0, D)
    return [after * values @ before.T for before, after in pairwise(rotations)]


def random_start(rng: np.random.Generator) -> list[np.ndarray]:
    """Draw independent Gaussian layers of about the same size."""
    return [rng.normal(size=(D, D)) * 0.75 / np.sqrt(D) for _ in range(LAYERS)]


def train(
    weights: list[np.ndarray], x: np.ndarray, y: np.ndarray, lr: float
) -> tuple[np.ndarray, np.ndarray, float, list[np.ndarray]]:
    """Run gradient descent on the mean squared error / 2 for `TIME`.

    Returns:
        times, alignment at these times, last loss divided by the first, last weights.
    """
    times: list[float] = []
    alignments: list[float] = []
    losses: list[float] = []

    for step in range(int(TIME / lr)):
        layer_values = [x]
        for w in weights:
            layer_values.append(layer_values[-1] @ w.T)
        difference = layer_values[-1] - y
        losses.append(float((difference**2).sum() / 2 / len(x)))

        if step % round(TIME / lr / 100) == 0:
            times.append(step * lr)
            alignments.append(alignment(weights))

        # Backpropagation, from the last layer to the first.
        error = difference / len(x)
        new_weights = []
        for w, layer_input in zip(reversed(weights), reversed(layer_values[:-1])):
            new_weights.append(w - lr * error.T @ layer_input)
            error = error @ w
        weights = new_weights[::-1]

    return np.array(times), np.array(alignments), losses[-1] / losses[0], weights


def run(seed: int) -> Outcome:
    """Train three 6 x 6 layers at rates .01 and .005.

    The data are 50 Gaussian samples of a random linear target.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SAMPLES, D))
    y = x @ rng.normal(size=(D, D)) / np.sqrt(D)

    start = aligned_start(rng)
    times, aligned, aligned_loss, coarse = train(start, x, y, 0.01)
    _, _, _, fine = train(start, x, y, 0.005)
    _, unaligned, unaligned_loss, _ = train(random_start(rng), x, y, 0.01)
    ratio = imbalance(coarse) / imbalance(fine)

    values = {
        "aligned start: alignment at the start": float(aligned[0]),
        "aligned start: mean alignment during training": float(aligned.mean()),
        "aligned start: last loss / first": aligned_loss,
        "imbalance at rate .01 / at .005": ratio,
        "random start: mean alignment": float(unaligned.mean()),
        "random start: last loss / first": unaligned_loss,
    }

    curves = {"aligned start": (times, aligned), "random start": (times, unaligned)}
    return Outcome(values, curves, x="training time", y="alignment of adjacent layers")
