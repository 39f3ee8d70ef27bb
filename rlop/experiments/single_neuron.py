"""Over-parametrization accelerates: more student neurons learn one quadratic teacher neuron faster.

Row 22: Wang and Abernethy, "Understanding How Over-Parametrization Leads to Acceleration: A Case of
Learning a Single Teacher Neuron", arXiv:2010.01637. Teacher (w* . x)^2, student sum_k (w_k . x)^2
from a small start, x standard normal. The longest part is the escape from the start, and the best
of K random starts points further towards w*. The gradient is that of the population, in closed
form: with D = sum_k w_k w_k^T - w* w*^T,

    E (x D x)^2 = 2 ||D||_F^2 + (tr D)^2,   gradient in w_k of a quarter of it:  (2 D + tr(D) I) w_k
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome
from rlop.experiments.series import differences

D = 30
SEEDS = 20
LR = 0.02
START = 1e-3
LIMIT = 3000  # steps
WIDTHS = (1, 2, 4, 8, 16, 32)
ERROR = 0.1


def run(seed: int) -> Outcome:
    """Count the steps until the student's matrix is within 0.1 of the teacher's, for six widths."""
    steps: list[float] = []
    shares: list[float] = []
    for width in WIDTHS:
        runs = steps_to_fit(width, seed)
        steps.append(runs.mean().item())
        shares.append((runs < LIMIT).float().mean().item())

    values = {
        "share of the runs that reach the error": min(shares),
        "most steps gained by doubling the width": max(differences(steps)),
        "steps of 1 neuron / of 32": steps[0] / steps[-1],
    }

    return Outcome(
        values, {"steps": (WIDTHS, steps)}, x="student neurons", y="steps to error 0.1", log="x"
    )


def gradient(w: Tensor, difference: Tensor) -> Tensor:
    """Compute the gradient of a quarter of the population loss.

    Args:
        w: student neurons `[..., K, d]`.
        difference: D, `[..., d, d]`.
    """
    trace = difference.diagonal(dim1=-1, dim2=-2).sum(-1)[..., None, None]
    return 2 * w @ difference + trace * w


def steps_to_fit(width: int, seed: int) -> Tensor:
    """Count gradient steps until ||D||_F < 0.1, one number per seed, `[S]`.

    It is `LIMIT` if the error is not reached.
    """
    generator = Generator().manual_seed(seed)
    w = START * torch.randn(SEEDS, width, D, generator=generator, dtype=torch.float64)
    teacher = torch.zeros(D, D, dtype=torch.float64)
    teacher[0, 0] = 1

    steps = torch.full((SEEDS,), float(LIMIT))
    for step in range(LIMIT):
        difference = w.mT @ w - teacher
        reached = difference.norm(dim=(-1, -2)) < ERROR
        steps = torch.where(reached & (steps == LIMIT), step, steps)
        if (steps < LIMIT).all():
            break
        w = w - LR * gradient(w, difference)

    return steps
