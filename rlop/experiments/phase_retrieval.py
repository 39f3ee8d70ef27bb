"""Phase retrieval: over-parameterized networks need fewer samples than single neurons or kernels.

Row 3: Zdeborova's talk at the workshop; Sarao Mannelli, Vanden-Eijnden, Zdeborova, "Optimization
and generalization of shallow neural networks with quadratic activation functions",
arXiv:2006.15459; Barbier et al., "Optimal errors and phase transitions in high-dimensional
generalized linear models", arXiv:1708.03395. The labels are y = (w . x)^2, the inputs Gaussian in d
dimensions; a student x -> sum_k (w_k . x)^2 is its matrix sum_k w_k w_k'. Errors are squared
Frobenius distances to w w', |w| = 1.

1. The student of d neurons, trained by gradient descent with momentum from small weights, finds w
   with little more than n = 2 d samples, where w w' becomes the only positive semidefinite matrix
   that fits; a single neuron, the canonical empirical risk minimization, needs a constant times
   more.
2. Kernel regression in all products of two inputs needs samples that grow as d^2.
3. Approximate message passing, the best known algorithm and Bayes-optimal in the limit, recovers w
   at n = 2 d, where the single neuron is far from it.

Control: single neurons in the place of the wide network and of message passing; kernel regression
of a linear target, which needs samples that grow as d.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import power_law_exponent

D = 80
RATIOS = (1.5, 2.0, 2.5, 3.0)  # samples per dimension
SINGLE_RATIOS = (1.5, 2.0, 3.0, 4.0, 6.0)
WIDE_TRIALS = 2
SINGLE_TRIALS = 20
WIDE_STEPS = 4000
SINGLE_STEPS = 2000
SMALL = 0.1  # norm of the first weights of the wide student
LR = 0.01
MOMENTUM = 0.99  # of both students
SUCCESS = 0.1  # error below which w is found

MESSAGE_D = 200
MESSAGE_RATIO = 2.0
MESSAGE_TRIALS = 10
MESSAGE_ROUNDS = 400
DAMPING = 0.4

KERNEL_D = (12, 20, 34)
KERNEL_TEST = 500


class Trials(NamedTuple):
    """Problems of one size, with one student each."""

    x: Tensor  # [T, n, d]
    w: Tensor  # [T, d], of norm 1
    y: Tensor  # [T, n]


def draw(seed: int, trials: int, ratio: float, d: int) -> tuple[Trials, Generator]:
    """Draw problems, and return the generator that drew them."""
    generator = Generator().manual_seed(seed)
    w = torch.nn.functional.normalize(torch.randn(trials, d, generator=generator), dim=1)
    x = torch.randn(trials, round(ratio * d), d, generator=generator)
    return Trials(x, w, torch.einsum("tnd,td->tn", x, w).square()), generator


def descend(problem: Trials, weights: Tensor, steps: int) -> Tensor:
    """Train the students `[T, K, d]` by gradient descent with momentum on the squared loss."""
    x, _, y = problem
    velocity = torch.zeros_like(weights)
    for _ in range(steps):
        hidden = x @ weights.mT
        residual = hidden.square().sum(-1) - y
        gradient = (hidden * residual[..., None]).mT @ x / x.shape[1]
        velocity = MOMENTUM * velocity - LR * gradient
        weights = weights + velocity
    return weights


def errors(problem: Trials, weights: Tensor) -> Tensor:
    """Return the squared distance of each student's matrix to that of its teacher, `[T]`."""
    teacher = problem.w[:, :, None] * problem.w[:, None, :]
    return (weights.mT @ weights - teacher).square().sum((1, 2))


def wide_errors(seed: int, ratio: float) -> Tensor:
    """Train students of d neurons from small weights, `[T]`."""
    problem, generator = draw(seed, WIDE_TRIALS, ratio, D)
    start = SMALL / D * torch.randn(WIDE_TRIALS, D, D, generator=generator)
    return errors(problem, descend(problem, start, WIDE_STEPS))


def single_errors(seed: int, ratio: float, d: int = D) -> Tensor:
    """Train single neurons from random directions of norm 1, `[T]`."""
    problem, generator = draw(seed, SINGLE_TRIALS, ratio, d)
    start = torch.randn(SINGLE_TRIALS, 1, d, generator=generator) / d**0.5
    found = errors(problem, descend(problem, start, SINGLE_STEPS))
    # A neuron that diverged, or is larger than its teacher, has found nothing either.
    return found.nan_to_num(1.0).clamp(max=1.0)


def threshold(ratios: tuple[float, ...], success: list[float]) -> float:
    """Interpolate the number of samples per dimension at which half of the trials succeed."""
    reached = next((i for i, share in enumerate(success) if share >= 0.5), None)
    if reached is None:
        return ratios[-1]
    if reached == 0:
        return ratios[0]
    low, high = success[reached - 1], success[reached]
    step = ratios[reached] - ratios[reached - 1]
    return ratios[reached - 1] + step * (0.5 - low) / (high - low)


def message_passing(seed: int) -> float:
    """Run approximate message passing on y = |w . x|; return its overlap with w, 0 to 1.

    With V and o the variance and mean of w . x, the posterior mean of w . x is y tanh(y o / V); the
    prior of w is Gaussian. The formulas are those of arXiv:1708.03395 for this channel.
    """
    rng = np.random.default_rng(seed)
    d, n = MESSAGE_D, round(MESSAGE_RATIO * MESSAGE_D)
    w = rng.normal(size=d)
    x = rng.normal(size=(n, d)) / np.sqrt(d)
    y, squares = np.abs(x @ w), x**2

    mean, variance = 0.1 * rng.normal(size=d), np.ones(d)
    message = np.zeros(n)
    for _ in range(MESSAGE_ROUNDS):
        v = squares @ variance
        o = x @ mean - v * message
        sign = np.tanh(y * o / v)
        new = (y * sign - o) / v
        message = new if not message.any() else message + DAMPING * (new - message)

        precision = squares.T @ ((1 - y**2 * (1 - sign**2) / v) / v)
        width = 1 / np.where(np.abs(precision) < 1e-9, 1e-9, precision)
        step = (mean + width * (x.T @ message)) / (1 + width) - mean
        mean = mean + DAMPING * step
        variance = np.maximum(variance + DAMPING * (np.abs(width / (1 + width)) - variance), 1e-7)
    return float(abs(mean @ w) / np.linalg.norm(mean) / np.linalg.norm(w))


def single_overlap(seed: int) -> float:
    """Return the mean overlap with w of single neurons at the same size."""
    problem, generator = draw(seed, SINGLE_TRIALS, MESSAGE_RATIO, MESSAGE_D)
    start = torch.randn(SINGLE_TRIALS, 1, MESSAGE_D, generator=generator) / MESSAGE_D**0.5
    found = descend(problem, start, SINGLE_STEPS)[:, 0]
    overlap = torch.nn.functional.cosine_similarity(found, problem.w, dim=1).abs()
    return float(overlap.nan_to_num(0.0).mean())


def kernel_samples(d: int, seed: int, linear: bool) -> float:
    """Find the number of samples at which kernel regression errs by half of the target's variance.

    The kernel is <x, x'>^2, or <x, x'> for a linear target. The number grows by a fourth at a time,
    and is interpolated.
    """
    rng = np.random.default_rng([seed, d])
    w = rng.normal(size=d) / np.sqrt(d)
    power = 1 if linear else 2
    fresh = rng.normal(size=(KERNEL_TEST, d))
    truth = (fresh @ w) ** power

    n, before, error = 3.0, 3.0, 1.0
    while error > 0.5:
        x = rng.normal(size=(round(n), d))
        gram = (x @ x.T) ** power
        gram += 1e-9 * np.trace(gram) / len(x) * np.eye(len(x))
        predicted = (fresh @ x.T) ** power @ np.linalg.solve(gram, (x @ w) ** power)
        last, error = error, float(((predicted - truth) ** 2).mean() / (truth**2).mean())
        before, n = n, n * 1.25
    return before / 1.25 ** ((0.5 - error) / max(last - error, 1e-9))


def kernel_exponent(seed: int, linear: bool) -> float:
    """Return the power of d with which the samples of kernel regression grow."""
    needed = []
    for d in KERNEL_D:
        needed.append(np.mean([kernel_samples(d, s, linear) for s in child_seeds(seed, 4)]))
    return power_law_exponent(KERNEL_D, np.array(needed))


def values_of(
    error: float, ratio: float, exponent: float, optimal: float, single: float
) -> dict[str, float]:
    """Name the measures."""
    return {
        "d neurons, n = 2.5 d: error": error,
        "samples for half of the trials: 1 neuron / d neurons": ratio,
        "kernel regression: exponent of d in the samples needed": exponent,
        "overlap with w at n = 2 d: message passing - 1 neuron": optimal - single,
    }


def success_of(found: Tensor) -> float:
    """Return the share of trials that found w."""
    return float((found < SUCCESS).float().mean())


def run(seed: int) -> Outcome:
    """Learn w with 1.5 to 6 samples per dimension, d = 80; message passing at d = 200."""
    seeds = child_seeds(seed, 30)
    wide = [wide_errors(s, ratio) for s, ratio in zip(seeds, RATIOS)]
    single = [single_errors(s, ratio) for s, ratio in zip(seeds[10:], SINGLE_RATIOS)]
    wide_success = [success_of(found) for found in wide]
    single_success = [success_of(found) for found in single]
    optimal = np.mean([message_passing(s) for s in child_seeds(seeds[20], MESSAGE_TRIALS)])

    values = values_of(
        float(wide[RATIOS.index(2.5)].mean()),
        threshold(SINGLE_RATIOS, single_success) / threshold(RATIOS, wide_success),
        kernel_exponent(seeds[21], linear=False),
        float(optimal),
        single_overlap(seeds[22]),
    )
    curves = {
        "d neurons": (RATIOS, [float(found.mean()) for found in wide]),
        "1 neuron": (SINGLE_RATIOS, [float(found.mean()) for found in single]),
    }
    return Outcome(values, curves, x="samples / dimension, d = 80", y="error", log="")


def control(seed: int) -> dict[str, float]:
    """Put single neurons into every place, and a linear target into that of the kernel."""
    seeds = child_seeds(seed, 30)
    thresholds = []
    for first in (0, 10):
        success = []
        for s, ratio in zip(seeds[first:], SINGLE_RATIOS):
            success.append(success_of(single_errors(s, ratio)))
        thresholds.append(threshold(SINGLE_RATIOS, success))

    return values_of(
        float(single_errors(seeds[20], 2.5).mean()),
        thresholds[0] / thresholds[1],
        kernel_exponent(seeds[21], linear=True),
        single_overlap(seeds[23]),
        single_overlap(seeds[22]),
    )
