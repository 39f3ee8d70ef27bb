"""Over-parametrization accelerates: more student neurons learn one quadratic teacher neuron in fewer steps.

Row 22: Wang and Abernethy, "Understanding How Over-Parametrization Leads to Acceleration: A Case of Learning a Single
Teacher Neuron", arXiv:2010.01637. Teacher (w* . x)^2, student sum_k (w_k . x)^2 from a small start, x standard normal.
The longest part is the escape from the start, and the best of K random starts points further towards w*. The gradient
is that of the population, in closed form: with D = sum_k w_k w_k^T - w* w*^T,

    E (x D x)^2 = 2 ||D||_F^2 + (tr D)^2,   gradient in w_k of a quarter of it:  (2 D + tr(D) I) w_k
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

D, SEEDS, LR, START, LIMIT = 30, 20, 0.02, 1e-3, 3000
WIDTHS = (1, 2, 4, 8, 16, 32)
ERROR = 0.1


def run(seed: int = 0) -> Outcome:
    """Count the steps until the student's matrix is within 0.1 of the teacher's, for six widths."""
    results = [steps_to_fit(k, seed) for k in WIDTHS]
    steps = [s.mean().item() for s in results]
    fitted = min((s < LIMIT).float().mean().item() for s in results)
    step = max(after - before for before, after in pairwise(steps))
    measures = (
        Measure("share of the runs that reach the error", fitted, 1, 1, "all"),
        Measure("most steps gained by doubling the width", step, -LIMIT, 0, "never slower"),
        Measure("steps of 1 neuron / of 32", steps[0] / steps[-1], 1.2, 5, "clearly more"),
    )
    return Outcome(
        measures, {"steps": (WIDTHS, steps)}, x="student neurons", y="steps to error 0.1", log="x"
    )


def steps_to_fit(width: int, seed: int) -> Tensor:
    """Gradient steps until ||D||_F < 0.1, `[S]` for as many seeds; `LIMIT` where it is not reached."""
    w = START * torch.randn(
        SEEDS, width, D, generator=Generator().manual_seed(seed), dtype=torch.float64
    )
    teacher = torch.zeros(D, D, dtype=torch.float64)
    teacher[0, 0] = 1
    steps = torch.full((SEEDS,), float(LIMIT))
    for step in range(LIMIT):
        difference = w.mT @ w - teacher
        reached = difference.norm(dim=(-1, -2)) < ERROR
        steps = torch.where(reached & (steps == LIMIT), step, steps)
        if (steps < LIMIT).all():
            break
        trace = difference.diagonal(dim1=-1, dim2=-2).sum(-1)[:, None, None]
        w = w - LR * (2 * w @ difference + trace * w)
    return steps
