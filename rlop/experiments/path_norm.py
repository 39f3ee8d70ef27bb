"""Weight decay on a ReLU network amounts to the path norm, and leaves few neurons active.

Reference: Parhi, Wolf, Nowak, "On the Sparsity of Deep Neural Networks in the Overparameterized
Regime: An Empirical Study", ICML 2021 workshop; theory in Parhi and Nowak, arXiv:2105.03361.

For f(x) = sum_k v_k relu(w_k x + b_k) + skip,

    (mu / 2) sum (v_k^2 + w_k^2) >= mu sum |v_k| |w_k|,

with equality when each neuron is balanced, and rescaling a neuron does not change f: both have the
same minimizers. In one dimension the path norm is the total variation of f', least for the linear
spline through the fitted values. Shown: regression with weight decay ends there, without it does
not (biases and the linear skip are free). Kinks between the same two points can be divided among
neurons at no cost, so descent reduces the active neurons only to some extent.

Control: two trainings without decay.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

NEURONS = 100
POINTS = 8
DECAY = 0.02
LR = 0.01
STEPS = 20_000


class Fit(NamedTuple):
    """A fitted network and the course of its training."""

    weights: np.ndarray  # v and w [2, K]
    values: np.ndarray  # fitted [N]
    half_squares: list[float]  # (||v||^2 + ||w||^2) / 2, every 100 steps
    path_norms: list[float]  # sum |v w|, every 100 steps

    @property
    def path_norm(self) -> float:
        """Path norm at the end."""
        return float(np.abs(self.weights.prod(0)).sum())


def train(decay: float, seed: int) -> Fit:
    """Run full-batch gradient descent on squared error / 2 + decay / 2 (||v||^2 + ||w||^2)."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, POINTS)
    y = np.sign(np.sin(4 * x)) * 0.5
    v, w = rng.normal(size=(2, NEURONS)) / NEURONS**0.25
    b = -w * rng.uniform(-1, 1, NEURONS)
    skip = np.zeros(2)  # slope and offset

    half_squares: list[float] = []
    path_norms: list[float] = []
    for step in range(STEPS):
        if step % 100 == 0:
            half_squares.append(float((v**2 + w**2).sum() / 2))
            path_norms.append(float(np.abs(v * w).sum()))

        preactivation = np.outer(x, w) + b
        active = preactivation > 0
        error = (preactivation * active) @ v + skip[0] * x + skip[1] - y

        error_at_neuron = error[:, None] * active
        gradient_v = (error_at_neuron * preactivation).sum(0) + decay * v
        gradient_w = v * (error_at_neuron * x[:, None]).sum(0) + decay * w
        gradient_b = v * error_at_neuron.sum(0)
        v = v - LR * gradient_v
        w = w - LR * gradient_w
        b = b - LR * gradient_b
        skip = skip - LR * np.array([error @ x, error.sum()])

    return Fit(np.stack([v, w]), error + y, half_squares, path_norms)


def least_variation(values: np.ndarray) -> float:
    """Return the least total variation of f' for any f through `values` `[N]` at the points."""
    return float(np.abs(np.diff(values, 2)).sum() * (POINTS - 1) / 2)


def active_neurons(weights: np.ndarray, share: float = 0.99) -> int:
    """Count the neurons that it takes to hold `share` of the path norm."""
    size = np.sort(np.abs(weights.prod(0)))[::-1]
    return int((size.cumsum() < share * size.sum()).sum()) + 1


def run(seed: int) -> Outcome:
    """Fit 100 neurons to 8 points of a square wave, 20,000 steps at decay .02 and without."""
    decay_seed, free_seed = child_seeds(seed, 2)
    decayed = train(DECAY, decay_seed)
    free = train(0.0, free_seed)

    steps = range(0, STEPS, 100)
    curves = {
        "half sum of squares": (steps, decayed.half_squares),
        "path norm": (steps, decayed.path_norms),
        "path norm, no decay": (steps, free.path_norms),
    }
    return Outcome(measures(decayed, free), curves, x="step", y="norm")


def control(seed: int) -> dict[str, float]:
    """Fit twice without decay."""
    first_seed, second_seed = child_seeds(seed, 2)
    return measures(train(0.0, first_seed), train(0.0, second_seed))


def measures(decayed: Fit, free: Fit) -> dict[str, float]:
    """Name the numbers."""
    balance = float((decayed.weights**2).sum() / 2 / decayed.path_norm)
    fewer = active_neurons(decayed.weights) / active_neurons(free.weights)
    return {
        "half sum of squares / path norm": balance,
        "path norm / least variation": decayed.path_norm / least_variation(decayed.values),
        "neurons that hold 99 % of the path norm, decay / none": fewer,
    }
