"""Over-parametrization accelerates: more student neurons learn one quadratic teacher neuron faster.

Row 22: Wang and Abernethy, "Understanding How Over-Parametrization Leads to Acceleration: A Case of
Learning a Single Teacher Neuron", arXiv:2010.01637. Teacher (w* . x)^2, student sum_k (w_k . x)^2
from a small start, x standard normal. The gradient is that of the population, in closed form: with
D = sum_k w_k w_k^T - w* w*^T,

    E (x D x)^2 = 2 ||D||_F^2 + (tr D)^2,   gradient in w_k of a quarter of it:  (2 D + tr(D) I) w_k

Claim of the abstract: over-parametrization, more student neurons, helps gradient descent to enter
the neighborhood of a global optimum, which has no test error, in fewer iterations.

Steps are counted until ||D||_F < 0.1. Two starts are compared: the same law for every neuron, so
that a wider student starts with more mass, and the same total mass for every width. Near zero the
part of the student along w* grows by 1 + 3 lr a step, so that the time of the escape falls with the
logarithm of that part at the start, a chi-square number of K degrees of freedom. With psi the
digamma function, E log chi^2_K = psi(K / 2) + log 2, and K neurons should gain

    (E log chi^2_K - E log chi^2_1 - [log K, for equal mass]) / (2 log(1 + 3 lr))  steps
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Curve, Outcome

D = 30
RUNS = 200
LR = 0.02
START = 1e-3
LIMIT = 3000  # steps
WIDTHS = (1, 4, 32)
ERROR = 0.1

Start: TypeAlias = Literal["equal neurons", "equal mass", "copies"]
STARTS: tuple[Start, Start] = ("equal neurons", "equal mass")


def run(seed: int) -> Outcome:
    """Count the steps of three widths, from both starts."""
    values: dict[str, float] = {}
    curves: dict[str, Curve] = {}
    for start, child in zip(STARTS, child_seeds(seed, len(STARTS))):
        seeds = child_seeds(child, len(WIDTHS))
        runs = [steps_to_fit(width, start, s) for width, s in zip(WIDTHS, seeds)]
        values |= named(start, runs[0], runs[-1])
        curves[start] = (WIDTHS, [steps.mean().item() for steps in runs])

    return Outcome(values, curves, x="student neurons", y="steps to error 0.1", log="x")


def control(seed: int) -> Mapping[str, float]:
    """Give the wide student copies of one neuron with the mass of one, which adds nothing."""
    values: dict[str, float] = {}
    for start, child in zip(STARTS, child_seeds(seed, len(STARTS))):
        narrow, wide = child_seeds(child, 2)
        runs = steps_to_fit(1, start, narrow), steps_to_fit(WIDTHS[-1], "copies", wide)
        values |= named(start, *runs)
    return values


def named(start: Start, narrow: Tensor, wide: Tensor) -> dict[str, float]:
    """Compare the steps of one neuron and of the widest student, `[RUNS]` each."""
    gained = (narrow.mean() - wide.mean()).item()
    return {
        f"{start}: steps of 1 neuron / of 32": (narrow.mean() / wide.mean()).item(),
        f"{start}: steps gained by 32 neurons / closed form": gained / gain(start),
    }


def gain(start: Start) -> float:
    """Return the steps that the widest student should gain over one neuron."""
    width = WIDTHS[-1]
    halves = torch.tensor([width / 2, 1 / 2], dtype=torch.float64)
    wide, narrow = torch.digamma(halves).tolist()
    mass = math.log(width) if start == "equal mass" else 0.0
    return (wide - narrow - mass) / (2 * math.log(1 + 3 * LR))


def gradient(w: Tensor, difference: Tensor) -> Tensor:
    """Compute the gradient of a quarter of the population loss.

    Args:
        w: student neurons `[..., K, d]`.
        difference: D, `[..., d, d]`.
    """
    trace = difference.diagonal(dim1=-1, dim2=-2).sum(-1)[..., None, None]
    return 2 * w @ difference + trace * w


def steps_to_fit(width: int, start: Start, seed: int) -> Tensor:
    """Count gradient steps until ||D||_F < 0.1, one number per run, `[RUNS]`.

    It is `LIMIT` if the error is not reached.
    """
    generator = Generator().manual_seed(seed)
    drawn = 1 if start == "copies" else width
    w = START * torch.randn(RUNS, drawn, D, generator=generator)
    if start != "equal neurons":
        w = w.expand(RUNS, width, D) / width**0.5
    teacher = torch.zeros(D, D)
    teacher[0, 0] = 1

    steps = torch.full((RUNS,), float(LIMIT))
    for step in range(LIMIT):
        difference = w.mT @ w - teacher
        reached = difference.norm(dim=(-1, -2)) < ERROR
        steps = torch.where(reached & (steps == LIMIT), step, steps)
        if (steps < LIMIT).all():
            break
        w = w - LR * gradient(w, difference)

    return steps
