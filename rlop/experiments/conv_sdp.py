"""A semidefinite program gives the smallest weights with which a linear convolution does its job.

Rows 6 and 31: Gunasekar's talk at the workshop; Jagadeesan, Razenshteyn, Gunasekar, "Inductive Bias
of Multi-Channel Linear Convolutional Networks with Bounded Weight Norm", arXiv:2102.12238. With Z
the sum over the output channels of the outer products of all their weights (kernels u of R input
channels, outputs v),

    min tr Z,   Z positive semidefinite,   sum_k Z[u_rk, v_(d - k)] / sqrt(D) = beta_rd,

drops that Z has rank C, the number of output channels. Shown for D = 16:

1. One input channel: the program is tight for any C. Networks with weight decay, C = 1 and C = 4,
   have just its norm, at the beta that they reach.
2. Three input channels: so have networks of C = 8, and not those of C = 1.
3. For a fixed beta the norm falls with the size K of the kernel, from 2 sqrt(D) ||beta||_2 at K =
   1, which does not depend on the basis, to 2 ||DFT beta||_1 at K = D, which prefers sparse
   spectra.

Control: networks without weight decay; the number of output channels exchanged; the sizes of the
kernel backwards; a white spectrum, all frequencies equal, for which both norms are the same.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.linear_conv import DECAY, D
from rlop.experiments.multi_channel_conv import fit, smallest_norm
from rlop.experiments.outcome import Outcome
from rlop.experiments.prediction_bands import solver

SIZE = 4  # K, where no closed form is known
INPUTS = 3  # R
MANY = 8  # C
SIZES = (1, 2, 4, 8, 16)
TOLERANCE = 1e-8


def smallest(beta: Tensor, size: int) -> float:
    """Solve the program.

    Args:
        beta: function to realize, `[R, D]`.
        size: size of the kernels.
    Returns:
        The smallest squared norm of the weights, with as many output channels as it takes.
    Raises:
        InputError: when cvxpy is not installed.
    """
    cp = solver()
    inputs, d = beta.shape
    z = cp.Variable((inputs * size + d, inputs * size + d), PSD=True)
    first = inputs * size  # where the outputs begin

    constraints = []
    for channel in range(inputs):
        for position in range(d):
            terms = [z[channel * size + k, first + (position - k) % d] for k in range(size)]
            constraints.append(cp.sum(cp.hstack(terms)) / d**0.5 == float(beta[channel, position]))

    problem = cp.Problem(cp.Minimize(cp.trace(z)), constraints)
    tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), TOLERANCE)
    problem.solve(solver=cp.CLARABEL, **tolerances)
    return float(problem.value)


def over_program(inputs: int, channels: int, decay: float, seed: int) -> float:
    """Train a network on a random target; divide its squared norm by the value of the program."""
    generator = Generator().manual_seed(seed)
    target = torch.randn(inputs, D, generator=generator, dtype=torch.float64)
    norm, beta = fit(target, SIZE, channels, decay, seed)
    return norm / smallest(beta, SIZE)


def norms_by_size(beta: Tensor) -> list[float]:
    """Solve the program for every size of kernel."""
    return [smallest(beta[None], size) for size in SIZES]


def largest_growth(norms: list[float]) -> float:
    """Return the largest ratio of a norm to the one before it."""
    return float(np.max(np.divide(norms[1:], norms[:-1])))


def values_of(ratios: list[float], norms: list[float], beta: Tensor) -> dict[str, float]:
    """Name the measures."""
    ends = [smallest_norm(beta[None], size) for size in (1, D)]
    return {
        "one input channel, C = 1: squared norm / program": ratios[0],
        "one input channel, C = 4: squared norm / program": ratios[1],
        "three input channels, C = 8: squared norm / program": ratios[2],
        "three input channels, C = 1: squared norm / program": ratios[3],
        "norm at 2 K / norm at K, largest over K": largest_growth(norms),
        "norm at K = 4, from 0 at K = D to 1 at K = 1": (norms[2] - ends[1])
        / max(ends[0] - ends[1], 1.0),
        "norm at K = 1 and K = D, program / closed form": (norms[0] + norms[-1]) / sum(ends),
    }


def run(seed: int) -> Outcome:
    """Compare networks of K = 4 with the program, and the program along K."""
    seeds = child_seeds(seed, 5)
    ratios = [
        over_program(1, 1, DECAY, seeds[0]),
        over_program(1, 4, DECAY, seeds[1]),
        over_program(INPUTS, MANY, DECAY, seeds[2]),
        over_program(INPUTS, 1, DECAY, seeds[3]),
    ]
    beta = torch.randn(D, generator=Generator().manual_seed(seeds[4]), dtype=torch.float64)
    norms = norms_by_size(beta)
    curves = {
        "program": (SIZES, norms),
        "2 sqrt(D) ||beta||_2": (SIZES, [smallest_norm(beta[None], 1)] * len(SIZES)),
        "2 ||DFT beta||_1": (SIZES, [smallest_norm(beta[None], D)] * len(SIZES)),
    }
    values = values_of(ratios, norms, beta)
    return Outcome(values, curves, x="size of the kernel", y="smallest squared norm", log="x")


def control(seed: int) -> dict[str, float]:
    """Leave the weight decay away, exchange the channels, and take a white spectrum."""
    seeds = child_seeds(seed, 5)
    ratios = [
        over_program(1, 1, 0.0, seeds[0]),
        over_program(1, 4, 0.0, seeds[1]),
        over_program(INPUTS, 1, DECAY, seeds[2]),
        over_program(INPUTS, MANY, DECAY, seeds[3]),
    ]
    white = torch.zeros(D, dtype=torch.float64)
    white[0] = 2.0
    values = values_of(ratios, norms_by_size(white), white)

    # Where the norm must fall with the size, the sizes are taken backwards; where both ends must
    # fit their closed forms, K = 1 stands for both.
    beta = torch.randn(D, generator=Generator().manual_seed(seeds[4]), dtype=torch.float64)
    norms = norms_by_size(beta)
    ends = [smallest_norm(beta[None], size) for size in (1, D)]
    values["norm at 2 K / norm at K, largest over K"] = largest_growth(norms[::-1])
    values["norm at K = 1 and K = D, program / closed form"] = 2 * norms[0] / sum(ends)
    return values
