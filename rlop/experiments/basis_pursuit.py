"""Double descent of basis pursuit: with more features than samples, least l1 norm finds what least l2 norm misses.

Row 33: Bosch, Panahi and Ozcelikkale, "Double Descent in Feature Selection: Revisiting LASSO and Basis Pursuit", ICML
2021 workshop. Features are selected in one order, the informative ones first: p of them are fitted, by least squares up
to p = n and, beyond, by the interpolator of least l1 or of least l2 norm. Both risks peak at p = n; past it the l1 risk
falls lower, for the weights are sparse. Mirror descent with the potential sum |w|^1.1 is the optimizer's counterpart.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

N, SEEDS, STRONG, NOISE = 50, 10, 5, 0.3
SIZES = (10, 25, 40, 47, 50, 53, 60, 80, 120, 200, 350, 500)


def run(seed: int = 0) -> Outcome:
    """Risk of both interpolators against the number of features p, n = 50."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(SEEDS, N, SIZES[-1], generator=generator, dtype=torch.float64)
    w = torch.zeros(SIZES[-1], dtype=torch.float64)
    w[:STRONG] = STRONG**-0.5
    y = x @ w + NOISE * torch.randn(SEEDS, N, generator=generator, dtype=torch.float64)
    l1, l2, residual = [], [], 0.0
    for p in SIZES:
        dense = torch.linalg.pinv(x[..., :p]) @ y[..., None]
        sparse = basis_pursuit(x[..., :p], y) if p > N else dense[..., 0]
        l1.append(risk(sparse, w))
        l2.append(risk(dense[..., 0], w))
        if p > N:
            residual = max(
                residual, ((x[..., :p] @ sparse[..., None])[..., 0] - y).abs().max().item()
            )
    peak, last = SIZES.index(N), len(SIZES) - 1
    measures = (
        Measure("train residual of basis pursuit, p > n", residual, 0, 1e-6, "interpolates"),
        Measure("peak risk at p = n / risk at p = 10", l2[peak] / l2[0], 5, torch.inf, "a peak"),
        Measure(
            "least l1 risk past the peak / peak",
            min(l1[peak + 1 :]) / l1[peak],
            0,
            0.5,
            "second descent",
        ),
        Measure("l1 risk / l2 risk, p = 500", l1[last] / l2[last], 0, 0.7, "sparsity helps"),
        Measure(
            "l2 risk, p = 500", l2[last], 0.8, 1.2, "1 - n/p + noise: the signal is spread thin"
        ),
    )
    curves = {"least l1 norm": (SIZES, l1), "least l2 norm": (SIZES, l2)}
    return Outcome(
        measures, curves, x="features p, n = 50", y="||w - w*||^2, median over seeds", log="xy"
    )


def risk(estimate: Tensor, w: Tensor) -> float:
    """Excess test error under isotropic features; the median, since it has no finite mean at p = n."""
    p = estimate.shape[-1]
    return ((estimate - w[:p]).square().sum(-1) + w[p:].square().sum()).median().item()


def basis_pursuit(x: Tensor, y: Tensor, steps: int = 1500, rho: float = 0.05) -> Tensor:
    """argmin ||w||_1 subject to x w = y, by Douglas-Rachford splitting.

    Args:
        x: `[S, n, p]`, p > n, of full rank.
        y: `[S, n]`.
        steps: of the splitting.
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
        v = v + torch.nn.functional.softshrink(2 * feasible - v, rho) - feasible
    return project(v)[..., 0]
