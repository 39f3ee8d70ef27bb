"""What a linear convolutional network with small weights prefers depends on its kernel size alone.

Reference: Jagadeesan, Razenshteyn, Gunasekar, "Inductive Bias of Multi-Channel Linear Convolutional
Networks with Bounded Weight Norm", COLT 2022, arXiv:2102.12238 (also Gunasekar's talk at the
workshop).

A circular convolution with C kernels of size K, scaled by 1 / sqrt(D), and a linear output realize
x -> beta . x. The smallest squared norm of the weights that realize beta is 2 sqrt(D) ||beta||_2
for K = 1 and 2 ||DFT beta||_1 (unitary) for K = D. In between it does not depend on C: with S the
summed power spectrum of the kernels it is

    min over kernels of  2 sqrt( sum_w S(w)  sum_w |DFT beta(w)|^2 / S(w) ),

and a sum of power spectra of size-K kernels is the power spectrum of one. Shown: networks trained
with weight decay, whose squared norm is compared with these numbers at the beta that they reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Curve, Outcome

D = 16
DECAY = 0.02
KERNEL_SIZES = (1, 4, D)
CHANNELS = (1, 4)
STARTS = 2  # of each network; the better one counts
REDUCED_STARTS = 4  # of the problem in the kernel alone


class Minimum(NamedTuple):
    """Result of a minimization."""

    value: float
    parameters: list[Tensor]
    course: list[float]  # value at each evaluation


class Network(NamedTuple):
    """A trained network."""

    squared_norm: float
    beta: Tensor  # [D]
    course: list[float]  # of its objective


def realized(kernels: Tensor, output: Tensor) -> Tensor:
    """Compute the beta `[D]` of kernels `[C, K]` and output weights `[C, D]`."""
    shifts = [torch.roll(output, k, dims=1) for k in range(kernels.shape[1])]
    shifted = torch.stack(shifts, dim=1)  # [C, K, D]
    return torch.einsum("ck,ckd->d", kernels, shifted) / math.sqrt(output.shape[1])


def closed_form(beta: Tensor, size: int) -> float:
    """Return the smallest squared norm, for kernels of size 1 or D."""
    if size == 1:
        return 2 * math.sqrt(len(beta)) * beta.norm().item()
    if size == len(beta):
        return 2 * torch.fft.fft(beta, norm="ortho").abs().sum().item()
    raise ValueError(f"size: expected 1 or {len(beta)}, got {size}")


def reduced(beta: Tensor, size: int, seed: int) -> float:
    """Compute the smallest squared norm, for any size, by minimizing over the kernel alone."""
    power = torch.fft.fft(beta, norm="ortho").abs().square()

    def objective(kernel: Tensor) -> Tensor:
        spectrum = torch.fft.fft(kernel, n=len(beta), norm="ortho").abs().square()
        return 2 * (spectrum.sum() * (power / spectrum).sum()).sqrt()

    generator = Generator().manual_seed(seed)
    values = []
    for _ in range(REDUCED_STARTS):
        start = torch.randn(size, generator=generator, dtype=torch.float64)
        values.append(minimize(objective, [start]).value)

    return min(values)


def minimize(objective: Callable[..., Tensor], parameters: list[Tensor]) -> Minimum:
    """Run L-BFGS to convergence."""
    parameters = [p.clone().requires_grad_() for p in parameters]
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=1000,
        tolerance_grad=1e-9,
        tolerance_change=0,
        history_size=50,
        line_search_fn="strong_wolfe",
    )
    course: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective(*parameters)
        value.backward()
        course.append(value.item())
        return value

    optimizer.step(closure)
    value = objective(*parameters).item()
    return Minimum(value, [p.detach() for p in parameters], course)


def train(target: Tensor, size: int, channels: int, seed: int) -> Network:
    """Train networks of one shape with weight decay; return the one with the better objective."""

    def objective(kernels: Tensor, output: Tensor) -> Tensor:
        norm = kernels.square().sum() + output.square().sum()
        return (realized(kernels, output) - target).square().sum() / 2 + DECAY / 2 * norm

    generator = Generator().manual_seed(seed)
    minima = []
    for _ in range(STARTS):
        kernels = torch.randn(channels, size, generator=generator, dtype=torch.float64)
        output = torch.randn(channels, D, generator=generator, dtype=torch.float64)
        minima.append(minimize(objective, [kernels, output]))

    best = min(minima, key=lambda minimum: minimum.value)
    kernels, output = best.parameters
    squared_norm = kernels.square().sum() + output.square().sum()
    return Network(squared_norm.item(), realized(kernels, output), best.course)


def run(seed: int) -> Outcome:
    """Fit a random target in D = 16 dimensions; K = 1, 4, 16 and C = 1, 4."""
    target = torch.randn(D, generator=Generator().manual_seed(seed), dtype=torch.float64)

    values: dict[str, float] = {}
    curves: dict[str, Curve] = {}
    norms: dict[tuple[int, int], float] = {}

    for size in KERNEL_SIZES:
        for channels in CHANNELS:
            network = train(target, size, channels, seed)
            norms[size, channels] = network.squared_norm
            if size in (1, D):
                smallest = closed_form(network.beta, size)
            else:
                smallest = reduced(network.beta, size, seed)

            name = f"K = {size}, C = {channels}"
            ratio = network.squared_norm / smallest
            values[f"{name}: squared norm / smallest"] = ratio
            curves[name] = (range(1, len(network.course) + 1), network.course)

    for size in KERNEL_SIZES:
        values[f"K = {size}: squared norm, C = 4 / C = 1"] = norms[size, 4] / norms[size, 1]

    return Outcome(values, curves, x="evaluation", y="loss + weight decay", log="xy")
