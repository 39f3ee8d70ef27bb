"""Weight decay on a ReLU network is the path norm in disguise, and leaves few neurons active.

Reference: Parhi, Wolf, Nowak, "On the Sparsity of Deep Neural Networks in the Overparameterized Regime: An Empirical
Study", ICML 2021 workshop; theory in Parhi and Nowak, arXiv:2105.03361.

For f(x) = sum_k v_k relu(w_k x + b_k) + skip, (mu / 2) sum (v_k^2 + w_k^2) >= mu sum |v_k| |w_k|, with equality when
each neuron is balanced, and rescaling a neuron does not change f: both have the same minimisers. In one dimension the
path norm is the total variation of f', least for the linear spline through the fitted values. Shown: regression with
weight decay ends there, without it does not (biases and the linear skip are free). Kinks between the same two points
can be shared out among neurons at no cost, so that descent thins out the active neurons only so far.
"""

from __future__ import annotations

import math

import numpy as np

from rlop.experiments.outcome import Measure, Outcome

NEURONS, POINTS, DECAY, LR, STEPS = 100, 8, 0.02, 0.01, 20_000


def train(decay: float, seed: int) -> tuple[np.ndarray, np.ndarray, list[float], list[float]]:
    """Full-batch gradient descent on squared error / 2 + decay / 2 (||v||^2 + ||w||^2).

    Returns:
        v and w `[2, K]`, fitted values `[N]`, then every 100 steps half the sum of squares and the path norm.
    """
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, POINTS)
    y = np.sign(np.sin(4 * x)) * 0.5
    v, w = rng.normal(size=(2, NEURONS)) / NEURONS**0.25
    b, skip = -w * rng.uniform(-1, 1, NEURONS), np.zeros(2)
    squares, paths = [], []
    for step in range(STEPS):
        if step % 100 == 0:
            squares.append(float((v**2 + w**2).sum() / 2))
            paths.append(float(np.abs(v * w).sum()))
        before = np.outer(x, w) + b
        active = before > 0
        error = (before * active) @ v + skip[0] * x + skip[1] - y
        pull = error[:, None] * active
        gradient_v = (pull * before).sum(0) + decay * v
        gradient_w, gradient_b = v * (pull * x[:, None]).sum(0) + decay * w, v * pull.sum(0)
        v, w, b = v - LR * gradient_v, w - LR * gradient_w, b - LR * gradient_b
        skip = skip - LR * np.array([error @ x, error.sum()])
    return np.stack([v, w]), error + y, squares, paths


def least_variation(values: np.ndarray) -> float:
    """Least total variation of the slope of any function through `values` `[N]` at the points."""
    return float(np.abs(np.diff(values, 2)).sum() * (POINTS - 1) / 2)


def active_neurons(weights: np.ndarray, share: float = 0.99) -> int:
    """How many neurons it takes to hold `share` of the path norm."""
    size = np.sort(np.abs(weights.prod(0)))[::-1]
    return int((size.cumsum() < share * size.sum()).sum()) + 1


def run(seed: int = 0) -> Outcome:
    """100 neurons, 8 points of a square wave, 20,000 steps at decay .02 and without."""
    decayed, fitted, squares, paths = train(DECAY, seed)
    free, free_fitted, _, free_paths = train(0.0, seed)
    path, free_path = (float(np.abs(w.prod(0)).sum()) for w in (decayed, free))
    balance = float((decayed**2).sum() / 2 / path)
    fewer = active_neurons(decayed) / active_neurons(free)
    measures = (
        Measure(
            "decay: half sum of squares / path norm",
            balance,
            1 - 1e-9,
            1.001,
            "1: every neuron balanced",
        ),
        Measure(
            "decay: path norm / least variation",
            path / least_variation(fitted),
            0.999,
            1.01,
            "1: linear spline",
        ),
        Measure(
            "no decay: path norm / least variation",
            free_path / least_variation(free_fitted),
            1.1,
            math.inf,
            "> 1",
        ),
        Measure("neurons that hold 99 % of the path norm: decay / none", fewer, 0.0, 0.9, "< 1"),
    )
    steps = range(0, STEPS, 100)
    curves = {
        "half sum of squares": (steps, squares),
        "path norm": (steps, paths),
        "path norm, no decay": (steps, free_paths),
    }
    return Outcome(measures, curves, x="step", y="norm")
