"""A quadratic network identifies the function, not the weights, so any shift of inputs is safe.

Reference: Xu, Bastani, Bastani, "Robust Generalization of Quadratic Neural Networks via Function
Identification", arXiv:2109.10935.

f(x) = sum_k (w_k . x)^2 = x' Phi x with Phi = sum_k w_k w_k'. From d (d + 1) / 2 samples on the
matrix Phi is determined, while W is so only up to a rotation. Over-parameterized students (twenty
neurons for three, d = 10) learn by gradient descent from small random starts:

- Two students of one teacher: error of Phi, and distance of the weights from each other.
- Distribution shift: relative error on inputs ten times as large and of another shape, and on the
  worst input there is, the largest eigenvalue of the error of Phi over that of Phi.
- A contextual bandit: the agent plays random candidates 200 times with noisy rewards, fits Phi,
  then takes the best of ten candidates from another distribution. Its regret over that of random
  play.
- Transfer: a source that is known from 200 samples, a target that differs by one neuron, and 25
  samples of it. Error of Phi of a student that starts from the target's random weights, over one
  that starts from the source's.

Control: 30 samples, fewer than the 55 that identify Phi. For the weights: both students start from
the same weights. For transfer: a source that has nothing in common with the target.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

D = 10
TEACHER = 3  # neurons
STUDENT = 20  # neurons
ENOUGH, FEW = 200, 30  # samples, on both sides of d (d + 1) / 2
TARGET = 25  # samples of the target task
STEPS = 8000
LR = 0.02
NOISE = 0.1  # of the bandit's rewards; their mean is about TEACHER
ROUNDS = 1000  # of the bandit after its exploration
CANDIDATES = 10


class Fit(NamedTuple):
    """A student after training."""

    w: np.ndarray  # [K, d]
    errors: np.ndarray  # relative error of its Phi at every step [T]

    @property
    def phi(self) -> np.ndarray:
        """The matrix that the student computes, `[d, d]`."""
        return self.w.T @ self.w


def outputs(phi: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Compute x' Phi x, `[..., d] -> [...]`."""
    return ((x @ phi) * x).sum(-1)


def teacher(rng: np.random.Generator) -> np.ndarray:
    """Draw Phi of three orthonormal neurons, `[d, d]`."""
    w = np.linalg.qr(rng.normal(size=(D, TEACHER)))[0].T
    return w.T @ w


def start(rng: np.random.Generator) -> np.ndarray:
    """Draw small weights of a student, `[K, d]`."""
    return rng.normal(size=(STUDENT, D)) * 0.3 / np.sqrt(STUDENT)


def train(w: np.ndarray, phi: np.ndarray, x: np.ndarray, y: np.ndarray) -> Fit:
    """Run gradient descent on mean squared error / 4.

    Args:
        w: weights of the student at the start.
        phi: the matrix to be found, for the errors.
        x: inputs `[N, d]`.
        y: outputs `[N]`.
    """
    errors = np.zeros(STEPS)
    for step in range(STEPS):
        errors[step] = distance(w.T @ w, phi)
        hidden = x @ w.T
        error = (hidden**2).sum(1) - y
        w = w - LR * (error[:, None] * hidden).T @ x / len(x)
    return Fit(w, errors)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance of two matrices over the size of the second."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def identified(seed: int, samples: int, same_start: bool) -> tuple[dict[str, float], list[Fit]]:
    """Train two students of one teacher, and test one under shift.

    Args:
        seed: seed of teacher, data and starts.
        samples: size of the train set.
        same_start: whether the second student starts where the first did.
    """
    rng = np.random.default_rng(seed)
    phi = teacher(rng)
    x = rng.normal(size=(samples, D))
    first_start = start(rng)
    second_start = first_start if same_start else start(rng)
    first, second = (train(w, phi, x, outputs(phi, x)) for w in (first_start, second_start))

    far = 10 * rng.exponential(size=(1000, D))
    value = outputs(phi, far)
    shifted = np.sqrt(np.mean((outputs(first.phi, far) - value) ** 2) / np.mean(value**2))
    worst = np.linalg.norm(first.phi - phi, 2) / np.linalg.norm(phi, 2)
    values = {
        "relative error of Phi, the larger of two": max(first.errors[-1], second.errors[-1]),
        "relative distance between the weights of the two": distance(first.w, second.w),
        "relative error on shifted inputs": float(shifted),
        "relative error on the worst input": float(worst),
    }
    return values, [first, second]


def regret(seed: int, samples: int) -> float:
    """Return the regret of a bandit that explores first, over that of random play."""
    rng = np.random.default_rng(seed)
    phi = teacher(rng)
    x = rng.normal(size=(samples, D))
    learned = train(start(rng), phi, x, outputs(phi, x) + NOISE * rng.normal(size=samples)).phi

    candidates = rng.exponential(size=(ROUNDS, CANDIDATES, D)) * rng.choice((-1, 2), size=D)
    value = outputs(phi, candidates)
    chosen = outputs(learned, candidates).argmax(1)
    best = value.max(1)
    lost = best - value[np.arange(ROUNDS), chosen]
    return float(lost.mean() / (best - value.mean(1)).mean())


def transfer(seed: int, related: bool) -> float:
    """Return the error of Phi learned from a random start, over that from the source's weights."""
    rng = np.random.default_rng(seed)
    source = teacher(rng)
    target = source if related else teacher(rng)
    extra = rng.normal(size=D)
    target = target + 0.5 * np.outer(extra, extra) / (extra @ extra)

    x = rng.normal(size=(ENOUGH, D))
    known = train(start(rng), source, x, outputs(source, x))
    x = rng.normal(size=(TARGET, D))
    y = outputs(target, x)
    scratch = train(start(rng), target, x, y)
    tuned = train(known.w, target, x, y)
    return float(scratch.errors[-1] / tuned.errors[-1])


BANDIT = "regret of the bandit / of random play"
TRANSFER = "error of Phi in transfer, from a random start / from the source"


def run(seed: int) -> Outcome:
    """Train on enough samples; play the bandit, and transfer between related tasks."""
    first, second, third = child_seeds(seed, 3)
    values, fits = identified(first, ENOUGH, same_start=False)
    values |= {BANDIT: regret(second, ENOUGH), TRANSFER: transfer(third, related=True)}
    few = identified(first, FEW, same_start=False)[1][0]

    steps = range(STEPS)
    curves = {
        f"{ENOUGH} samples, first start": (steps, fits[0].errors),
        f"{ENOUGH} samples, second start": (steps, fits[1].errors),
        f"{FEW} samples": (steps, few.errors),
    }
    return Outcome(values, curves, x="step", y="relative error of Phi", log="y")


def control(seed: int) -> dict[str, float]:
    """Train on too few samples, from one start, and transfer from an unrelated task."""
    first, second, third = child_seeds(seed, 3)
    values, _ = identified(first, FEW, same_start=True)
    return values | {BANDIT: regret(second, FEW), TRANSFER: transfer(third, related=False)}
