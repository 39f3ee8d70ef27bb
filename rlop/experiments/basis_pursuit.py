"""Double descent of basis pursuit: least l1 norm finds what least l2 norm misses.

Row 33: Bosch, Panahi and Ozcelikkale, "Double Descent in Feature Selection: Revisiting LASSO and
Basis Pursuit", ICML 2021 workshop. Features are selected in one order, the informative ones first:
p of them are fitted, by least squares up to p = n and, beyond, by the interpolator of least l1 or
of least l2 norm. Both risks peak at p = n; past it the l1 risk falls lower, since the weights are
sparse. Mirror descent with the potential sum |w|^1.1 is the corresponding optimizer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome

N = 50
SEEDS = 10
STRONG = 5  # informative features
NOISE = 0.3
SIZES = (10, 25, 40, 47, 50, 53, 60, 80, 120, 200, 350, 500)


def run(seed: int) -> Outcome:
    """Measure the risk of both interpolators against the number of features p, n = 50."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(SEEDS, N, SIZES[-1], generator=generator, dtype=torch.float64)
    w = torch.zeros(SIZES[-1], dtype=torch.float64)
    w[:STRONG] = STRONG**-0.5
    y = x @ w + NOISE * torch.randn(SEEDS, N, generator=generator, dtype=torch.float64)

    l1_risks: list[float] = []
    l2_risks: list[float] = []
    residual = 0.0

    for p in SIZES:
        selected = x[..., :p]
        dense = (torch.linalg.pinv(selected) @ y[..., None])[..., 0]
        sparse = dense
        if p > N:
            sparse = basis_pursuit(selected, y)
            errors = (selected @ sparse[..., None])[..., 0] - y
            residual = max(residual, errors.abs().max().item())
        l1_risks.append(risk(sparse, w))
        l2_risks.append(risk(dense, w))

    peak = SIZES.index(N)

    values = {
        "train residual of basis pursuit, p > n": residual,
        "peak risk at p = n / risk at p = 10": l2_risks[peak] / l2_risks[0],
        "least l1 risk past the peak / peak": min(l1_risks[peak + 1 :]) / l1_risks[peak],
        "l1 risk / l2 risk, p = 500": l1_risks[-1] / l2_risks[-1],
        "l2 risk, p = 500": l2_risks[-1],
    }

    curves = {"least l1 norm": (SIZES, l1_risks), "least l2 norm": (SIZES, l2_risks)}
    return Outcome(
        values, curves, x="features p, n = 50", y="||w - w*||^2, median over seeds", log="xy"
    )


def risk(estimate: Tensor, w: Tensor) -> float:
    """Return the median excess test error under isotropic features; the mean diverges at p = n.

    Args:
        estimate: weights of the first p features `[S, p]`.
        w: weights of all features `[P]`; those that were not selected count as error.
    """
    p = estimate.shape[-1]
    squared_errors = (estimate - w[:p]).square().sum(-1) + w[p:].square().sum()
    return squared_errors.median().item()


def basis_pursuit(x: Tensor, y: Tensor, steps: int = 1500, rho: float = 0.05) -> Tensor:
    """Solve argmin ||w||_1 subject to x w = y, by Douglas-Rachford splitting.

    Args:
        x: `[S, n, p]`, p > n, of full rank.
        y: `[S, n]`.
        steps: iterations of the splitting.
        rho: threshold of one shrinkage step.
    Returns:
        `[S, p]`, on the constraint.
    """
    inverse = torch.linalg.pinv(x)
    least = inverse @ y[..., None]

    def project(v: Tensor) -> Tensor:
        return v - inverse @ (x @ v) + least

    v = least
    for _ in range(steps):
        feasible = project(v)
        v = v + F.softshrink(2 * feasible - v, rho) - feasible

    return project(v)[..., 0]
