"""KARE: the risk of ridge regression in polynomial features, from train labels alone.

Row 45: Fabregues and Simsek, "Overfitting of Polynomial Regression with Overparameterization", ICML
2021 workshop, after Jacot, Simsek, Spadaro, Hongler and Gabriel, "Kernel Alignment Risk Estimator",
arXiv:2006.09796. With the Gram matrix G of N samples, labels y and ridge lambda

    KARE = (1/N) y^T (G/N + lambda)^-2 y / [ (1/N) tr (G/N + lambda)^-1 ]^2

and with the eigenvalues d_k of the kernel, the signal capture threshold t solves

    t = lambda + (t/N) sum d_k / (d_k + t),

from which the risk is dt/dlambda (sum (t / (d_k + t))^2 c_k^2 + noise^2). Features: Chebyshev
polynomials, points from their own density. With Legendre polynomials and uniform points the rows of
the design differ much in length, near the ends of the interval from those in the middle, and both
estimates were too low by half at the smaller ridges.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome
from rlop.experiments.series import columns

N = 30
SEEDS = 200
NOISE = 0.3
SIZES = (5, 10, 20, 30, 40, 60, 100, 200)  # features without ridge
PATH_SIZE = 100  # features on the ridge path
RIDGES = [10**e for e in (-4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0)]
# Coefficients of the target function.
SIGNAL = torch.tensor([0.0, 1.0, 0.0, 0.7, 0.0, 0.4], dtype=torch.float64)


def run(seed: int = 0) -> Outcome:
    """Compare KARE and the threshold's prediction with the true risk, by ridge and by degree."""
    generator = Generator().manual_seed(seed)
    x = (torch.pi * torch.rand(SEEDS, N, generator=generator, dtype=torch.float64)).cos()
    noise = NOISE * torch.randn(SEEDS, N, generator=generator, dtype=torch.float64)

    path = [risks(x, noise, PATH_SIZE, ridge) for ridge in RIDGES]
    true, kare, predicted = columns(path)
    by_degree = [risks(x, noise, size, 1e-6)[0] for size in SIZES]

    kare_gap = 0.0
    predicted_gap = 0.0
    for i, ridge in enumerate(RIDGES):
        if ridge >= 0.01:
            kare_gap = max(kare_gap, abs(kare[i] / true[i] - 1))
            predicted_gap = max(predicted_gap, abs(predicted[i] / true[i] - 1))

    chosen = true[kare.index(min(kare))] / min(true)
    peak = max(by_degree)

    measures = (
        Measure(
            "largest |KARE / risk - 1|, ridge >= .01",
            kare_gap,
            low=0,
            high=0.3,
            expected="within 30 %",
        ),
        Measure(
            "largest |prediction / risk - 1|, ridge >= .01",
            predicted_gap,
            low=0,
            high=0.3,
            expected="within 30 %",
        ),
        Measure(
            "risk at the ridge that KARE chooses / least risk",
            chosen,
            low=1,
            high=1.2,
            expected="a good choice",
        ),
        Measure(
            "degree of the peak without ridge",
            SIZES[by_degree.index(peak)],
            low=20,
            high=40,
            expected="near N = 30",
        ),
        Measure(
            "peak / risk at degree 200",
            peak / by_degree[-1],
            low=5,
            high=torch.inf,
            expected="second descent",
        ),
    )

    curves = {"risk": (RIDGES, true), "KARE": (RIDGES, kare), "threshold": (RIDGES, predicted)}
    return Outcome(
        measures, curves, x="ridge, 100 features", y="squared error with noise, median", log="xy"
    )


def chebyshev(x: Tensor, size: int) -> Tensor:
    """Evaluate the polynomials of degree below `size`, `[...] -> [..., P]`.

    They have unit variance for x = cos(pi u), u uniform.
    """
    degree = torch.arange(size, dtype=x.dtype)
    scale = torch.where(degree > 0, 2**0.5, 1.0)
    return (x.arccos()[..., None] * degree).cos() * scale


def eigenvalues(size: int) -> Tensor:
    """Return the kernel's eigenvalues, one per degree, falling with the square of the degree."""
    return (1 + torch.arange(size, dtype=torch.float64)) ** -2


def risks(x: Tensor, noise: Tensor, size: int, ridge: float) -> tuple[float, float, float]:
    """Compute true risk, KARE and the threshold's prediction.

    The first two are medians over the samples, since one sample may hold an outlier.

    Args:
        x: points `[S, N]`.
        noise: noise of their labels `[S, N]`.
        size: number of features.
        ridge: lambda.
    """
    d = eigenvalues(size)
    phi = chebyshev(x, size)
    y = chebyshev(x, len(SIGNAL)) @ SIGNAL + noise
    gram = torch.einsum("snp,p,smp->snm", phi, d, phi) / N
    inverse = torch.linalg.inv(gram + ridge * torch.eye(N, dtype=x.dtype))

    # Coefficients beyond the features count as error.
    signal = torch.zeros(size, dtype=x.dtype)
    signal[: len(SIGNAL)] = SIGNAL[:size]
    tail = SIGNAL[size:].square().sum()
    estimate = torch.einsum("p,snp,snm,sm->sp", d / N, phi, inverse, y)
    true = (estimate - signal).square().sum(-1) + tail + NOISE**2

    residual = torch.einsum("snm,sm->sn", inverse, y)
    trace = inverse.diagonal(dim1=-1, dim2=-2).mean(-1)
    kare = residual.square().mean(-1) / trace.square()
    return true.median().item(), kare.median().item(), predicted_risk(d, signal, ridge)


def predicted_risk(d: Tensor, signal: Tensor, ridge: float) -> float:
    """Predict the risk by the signal capture threshold, found by iteration from above."""
    t = ridge + d.sum() / N
    for _ in range(2000):
        t = ridge + t / N * (d / (d + t)).sum()
    slope = 1 / (1 - (d / (d + t)).square().sum() / N)
    return (slope * ((t / (d + t) * signal).square().sum() + NOISE**2)).item()
