"""What a linear convolutional network with small weights looks for depends on its kernel size, not on its channels.

Reference: Jagadeesan, Razenshteyn, Gunasekar, "Inductive Bias of Multi-Channel Linear Convolutional Networks with
Bounded Weight Norm", COLT 2022, arXiv:2102.12238 (also Gunasekar's talk at the workshop).

A circular convolution with C kernels of size K, scaled by 1 / sqrt(D), and a linear output realise x -> beta . x. The
smallest squared norm of the weights that realise beta is 2 sqrt(D) ||beta||_2 for K = 1 and 2 ||DFT beta||_1 (unitary)
for K = D. In between it does not depend on C: with S the summed power spectrum of the kernels it is

    min over kernels of  2 sqrt( sum_w S(w)  sum_w |DFT beta(w)|^2 / S(w) ),

and a sum of power spectra of size-K kernels is the power spectrum of one. Shown: networks trained with weight decay,
whose squared norm is set against these numbers at the beta that they have reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlop.experiments.outcome import Measure, Outcome

D, DECAY = 16, 0.02


def realised(kernels: Tensor, output: Tensor) -> Tensor:
    """beta `[D]` of kernels `[C, K]` and output weights `[C, D]`."""
    shifted = torch.stack(
        [torch.roll(output, k, dims=1) for k in range(kernels.shape[1])], dim=1
    )  # [C, K, D]
    return torch.einsum("ck,ckd->d", kernels, shifted) / math.sqrt(output.shape[1])


def closed_form(beta: Tensor, size: int) -> float:
    """The smallest squared norm, for kernels of size 1 or D."""
    if size == 1:
        return 2 * math.sqrt(len(beta)) * beta.norm().item()
    if size == len(beta):
        return 2 * torch.fft.fft(beta, norm="ortho").abs().sum().item()
    raise ValueError(f"size: expected 1 or {len(beta)}, got {size}")


def reduced(beta: Tensor, size: int, seed: int) -> float:
    """The smallest squared norm, for any size, by the problem in the kernel alone."""
    power = torch.fft.fft(beta, norm="ortho").abs().square()

    def objective(kernel: Tensor) -> Tensor:
        spectrum = torch.fft.fft(kernel, n=len(beta), norm="ortho").abs().square()
        return 2 * (spectrum.sum() * (power / spectrum).sum()).sqrt()

    generator = torch.Generator().manual_seed(seed)
    starts = [torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(4)]
    return min(minimise(objective, [start])[0] for start in starts)


def minimise(
    objective: Callable[..., Tensor], parameters: list[Tensor]
) -> tuple[float, list[Tensor], list[float]]:
    """L-BFGS to convergence: the value, the parameters, and the value before each step."""
    parameters = [p.clone().requires_grad_() for p in parameters]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=1000, tolerance_grad=1e-9, tolerance_change=0, history_size=50,
        line_search_fn="strong_wolfe",
    )  # fmt: skip
    values: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective(*parameters)
        value.backward()
        values.append(value.item())
        return value

    optimizer.step(closure)
    return objective(*parameters).item(), [p.detach() for p in parameters], values


def train(target: Tensor, size: int, channels: int, seed: int) -> tuple[float, Tensor, list[float]]:
    """The better of two networks: squared norm of its weights, its beta, the course of its objective."""

    def objective(kernels: Tensor, output: Tensor) -> Tensor:
        norm = kernels.square().sum() + output.square().sum()
        return (realised(kernels, output) - target).square().sum() / 2 + DECAY / 2 * norm

    generator = torch.Generator().manual_seed(seed)
    shapes = (channels, size), (channels, D)
    runs = [
        minimise(
            objective, [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
        )
        for _ in range(2)
    ]
    _, (kernels, output), values = min(runs, key=lambda run: run[0])
    return (
        (kernels.square().sum() + output.square().sum()).item(),
        realised(kernels, output),
        values,
    )


def run(seed: int = 0) -> Outcome:
    """D = 16, a random target; K = 1, 4, 16 and C = 1, 4."""
    target = torch.randn(D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    measures, curves, norms = [], {}, {}
    for size in (1, 4, D):
        for channels in (1, 4):
            norm, beta, values = train(target, size, channels, seed)
            norms[size, channels] = norm
            best = reduced(beta, size, seed) if size == 4 else closed_form(beta, size)
            name = f"K = {size}, C = {channels}"
            source = "1: problem in the kernel alone" if size == 4 else "1: closed form"
            measures.append(
                Measure(f"{name}: squared norm / smallest", norm / best, 1 - 1e-6, 1 + 1e-6, source)
            )
            curves[name] = (range(1, len(values) + 1), values)
    for size in (1, 4, D):
        ratio = norms[size, 4] / norms[size, 1]
        measures.append(
            Measure(
                f"K = {size}: squared norm, C = 4 / C = 1",
                ratio,
                1 - 1e-6,
                1 + 1e-6,
                "1: no effect of C",
            )
        )
    return Outcome(tuple(measures), curves, x="evaluation", y="loss + weight decay", log="xy")
