"""KARE: the risk of ridge regression in polynomial features, from train labels alone.

Row 45: Fabregues and Simsek, "Overfitting of Polynomial Regression with Overparameterization", ICML 2021 workshop,
after Jacot, Simsek, Spadaro, Hongler and Gabriel, "Kernel Alignment Risk Estimator", arXiv:2006.09796. With the Gram
matrix G of N samples, labels y and ridge lambda

    KARE = (1/N) y^T (G/N + lambda)^-2 y / [ (1/N) tr (G/N + lambda)^-1 ]^2

and with the eigenvalues d_k of the kernel, the signal capture threshold t solves t = lambda + (t/N) sum d_k / (d_k +
t), from which the risk is dt/dlambda (sum (t / (d_k + t))^2 c_k^2 + noise^2). Features: Chebyshev polynomials, points
from their own density. With Legendre polynomials and uniform points the rows of the design differ much in length, near
the ends of the interval from those in the middle, and both estimates were too low by half at the smaller ridges.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

N, SEEDS, NOISE = 30, 200, 0.3
SIZES = (5, 10, 20, 30, 40, 60, 100, 200)
RIDGES = [10**e for e in (-4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0)]
SIGNAL = torch.tensor(
    [0.0, 1.0, 0.0, 0.7, 0.0, 0.4], dtype=torch.float64
)  # coefficients of the target function


def run(seed: int = 0) -> Outcome:
    """Compare KARE and the threshold's prediction with the true risk along a ridge path and along the degree."""
    generator = Generator().manual_seed(seed)
    x = (torch.pi * torch.rand(SEEDS, N, generator=generator, dtype=torch.float64)).cos()
    noise = NOISE * torch.randn(SEEDS, N, generator=generator, dtype=torch.float64)
    path = [risks(x, noise, 100, ridge) for ridge in RIDGES]
    true, kare, predicted = (list(column) for column in zip(*path))
    degrees = [risks(x, noise, p, 1e-6)[0] for p in SIZES]
    regular = [i for i, ridge in enumerate(RIDGES) if ridge >= 0.01]
    kare_off = max(abs(kare[i] / true[i] - 1) for i in regular)
    predicted_off = max(abs(predicted[i] / true[i] - 1) for i in regular)
    chosen = true[kare.index(min(kare))] / min(true)
    peak = max(degrees)
    measures = (
        Measure("largest |KARE / risk - 1|, ridge >= .01", kare_off, 0, 0.3, "within 30 %"),
        Measure(
            "largest |prediction / risk - 1|, ridge >= .01", predicted_off, 0, 0.3, "within 30 %"
        ),
        Measure(
            "risk at the ridge that KARE chooses / least risk", chosen, 1, 1.2, "a good choice"
        ),
        Measure(
            "degree of the peak without ridge", SIZES[degrees.index(peak)], 20, 40, "near N = 30"
        ),
        Measure("peak / risk at degree 200", peak / degrees[-1], 5, torch.inf, "second descent"),
    )
    curves = {"risk": (RIDGES, true), "KARE": (RIDGES, kare), "threshold": (RIDGES, predicted)}
    return Outcome(
        measures, curves, x="ridge, 100 features", y="squared error with noise, median", log="xy"
    )


def chebyshev(x: Tensor, size: int) -> Tensor:
    """Polynomials of degree below `size`, of unit variance for x = cos(pi u), u uniform: `[...] -> [..., P]`."""
    degree = torch.arange(size, dtype=x.dtype)
    return (x.arccos()[..., None] * degree).cos() * torch.where(degree > 0, 2**0.5, 1.0)


def eigenvalues(size: int) -> Tensor:
    """Of the kernel, one per polynomial: they fall with the square of the degree."""
    return (1 + torch.arange(size, dtype=torch.float64)) ** -2


def risks(x: Tensor, noise: Tensor, size: int, ridge: float) -> tuple[float, float, float]:
    """True risk, KARE and the threshold's prediction; medians over the samples, for one sample may hold an outlier."""
    d, phi = eigenvalues(size), chebyshev(x, size)
    signal = torch.zeros(size, dtype=x.dtype)
    signal[: len(SIGNAL)] = SIGNAL[:size]
    tail = SIGNAL[size:].square().sum()
    y = chebyshev(x, len(SIGNAL)) @ SIGNAL + noise
    gram = torch.einsum("snp,p,smp->snm", phi, d, phi) / N
    inverse = torch.linalg.inv(gram + ridge * torch.eye(N, dtype=x.dtype))
    estimate = torch.einsum("p,snp,snm,sm->sp", d / N, phi, inverse, y)
    true = (estimate - signal).square().sum(-1) + tail + NOISE**2
    residual = torch.einsum("snm,sm->sn", inverse, y)
    trace = inverse.diagonal(dim1=-1, dim2=-2).mean(-1)
    kare = residual.square().mean(-1) / trace.square()
    return true.median().item(), kare.median().item(), predicted(d, signal, ridge)


def predicted(d: Tensor, signal: Tensor, ridge: float) -> float:
    """Risk by the signal capture threshold, whose equation is solved by iteration from above."""
    t = ridge + d.sum() / N
    for _ in range(2000):
        t = ridge + t / N * (d / (d + t)).sum()
    slope = 1 / (1 - (d / (d + t)).square().sum() / N)
    return (slope * ((t / (d + t) * signal).square().sum() + NOISE**2)).item()
