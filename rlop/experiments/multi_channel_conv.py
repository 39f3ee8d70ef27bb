"""Linear convolutions of several input channels: what small weights prefer depends on the channels.

Rows 31 and 6: Jagadeesan, Razenshteyn, Gunasekar, "Inductive Bias of Multi-Channel Linear
Convolutional Networks with Bounded Weight Norm", arXiv:2102.12238. As in `linear_conv`, with R
input channels: C kernels of size K for each of them and a linear output realize matrices beta [R,
D].

1. With K = 1, beta has at most rank C, so that several output channels are necessary to realize all
   matrices: what one channel misses of a random target is sum_(i > 1) s_i^2, s its singular values
   (Eckart and Young). Then the bias depends on C.
2. With C at least R, the smallest squared norm is 2 sqrt(D) times the nuclear norm of beta for K =
   1, and 2 sum_w ||DFT beta(w)||_2, the group norm of the unitary DFT, for K = D.
3. Gradient descent without weight decay on digits, 3 against 8 as signals of D = 64, is biased
   alike: from small weights it finds a predictor that is sparser in Fourier space for K = D than
   for K = 1, equally with one and four output channels. Sparsity is ||DFT beta||_1 / (sqrt(D)
   ||beta||_2).

Control: targets of rank 1, which one channel realizes; no weight decay; on digits another number of
output channels where the size of the kernel must matter, and the other way round.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import load_digits
from rlop.experiments.fit import child_seeds
from rlop.experiments.linear_conv import DECAY, D, minimize
from rlop.experiments.outcome import Curve, Outcome

INPUTS = 4  # channels, R
MANY = 6  # output channels
STARTS = 2

PIXELS = 64
PAIR = (3, 8)
SMALL = 0.03  # scale of the first weights
STEPS = 4000
RATE = 0.02


def realized(kernels: Tensor, output: Tensor) -> Tensor:
    """Compute the beta `[R, D]` of kernels `[C, R, K]` and output weights `[C, D]`."""
    length = output.shape[1]
    product = torch.fft.rfft(kernels, n=length) * torch.fft.rfft(output)[:, None]
    return torch.fft.irfft(product, n=length).sum(0) / math.sqrt(length)


def smallest_norm(beta: Tensor, size: int) -> float:
    """Return the smallest squared norm that realizes beta `[R, D]` with many output channels.

    Args:
        beta: the matrix.
        size: size of the kernels, 1 or D.
    """
    if size == 1:
        return 2 * math.sqrt(beta.shape[1]) * torch.linalg.svdvals(beta).sum().item()
    return 2 * torch.fft.fft(beta, norm="ortho").abs().square().sum(0).sqrt().sum().item()


def fit(target: Tensor, size: int, channels: int, decay: float, seed: int) -> tuple[float, Tensor]:
    """Fit a target by a network with weight decay; the better of two starts.

    Returns:
        Squared norm of the weights, and the beta `[R, D]` that they realize.
    """

    def objective(kernels: Tensor, output: Tensor) -> Tensor:
        norm = kernels.square().sum() + output.square().sum()
        return (realized(kernels, output) - target).square().sum() / 2 + decay / 2 * norm

    generator = Generator().manual_seed(seed)
    minima = []
    for _ in range(STARTS):
        shape = (channels, len(target), size)
        kernels = torch.randn(shape, generator=generator, dtype=torch.float64)
        output = torch.randn(channels, D, generator=generator, dtype=torch.float64)
        minima.append(minimize(objective, [kernels, output]))

    kernels, output = min(minima, key=lambda minimum: minimum.value).parameters
    norm = kernels.square().sum() + output.square().sum()
    return norm.item(), realized(kernels, output)


def draw_target(rank: int, seed: int) -> Tensor:
    """Draw a target `[R, D]` of a given rank."""
    generator = Generator().manual_seed(seed)
    left = torch.randn(INPUTS, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, D, generator=generator, dtype=torch.float64)
    return left @ right / math.sqrt(rank)


def missed(target: Tensor, seed: int) -> float:
    """Return the share of a target that one output channel of size 1 cannot realize."""
    _, beta = fit(target, 1, 1, 0.0, seed)
    return ((beta - target).square().sum() / target.square().sum()).item()


def sparsity(beta: Tensor) -> float:
    """Measure how evenly a predictor `[D]` spreads over frequencies: 1 at most, small if sparse."""
    power = torch.fft.fft(beta, norm="ortho").abs()
    return (power.sum() / math.sqrt(len(beta)) / beta.norm()).item()


def descend(size: int, channels: int, seed: int) -> list[float]:
    """Train on digits by gradient descent on the exponential loss, steps scaled by the loss.

    Returns:
        The sparsity of the predictor along training.
    """
    data = load_digits(seed=seed)
    chosen = (data.y == PAIR[0]) | (data.y == PAIR[1])
    x = data.x[chosen].double()
    x = x - x.mean(0)
    y = torch.where(data.y[chosen] == PAIR[0], 1.0, -1.0).double()

    generator = Generator().manual_seed(seed)
    kernels = SMALL * torch.randn(channels, 1, size, generator=generator, dtype=torch.float64)
    output = SMALL * torch.randn(channels, PIXELS, generator=generator, dtype=torch.float64)
    kernels = kernels / math.sqrt(channels * size)
    output = output / math.sqrt(channels * PIXELS)

    course = []
    for step in range(STEPS):
        parameters = [kernels.requires_grad_(), output.requires_grad_()]
        beta = realized(*parameters)[0]
        # The gradient of the logarithm is that of the loss, over the loss.
        loss = torch.logsumexp(-y * (x @ beta), 0)
        first, second = torch.autograd.grad(loss, parameters)
        kernels = (kernels - RATE * first).detach()
        output = (output - RATE * second).detach()
        if step % 100 == 0:
            course.append(sparsity(beta.detach()))
    return course


def values_of(
    rank: int, decay: float, seed: int, wide: list[float], narrow: list[float], other: list[float]
) -> dict[str, float]:
    """Fit the targets, and name all measures.

    Args:
        rank: rank of the target that one channel is given.
        decay: weight decay.
        seed: seed of targets and starts.
        wide: course of the sparsity on digits for K = D, C = 1.
        narrow: the same for K = 1, C = 1.
        other: what stands in for K = D, C = 4.
    """
    first, second = child_seeds(seed, 2)
    target = draw_target(rank, first)
    full = draw_target(INPUTS, second)
    singular = torch.linalg.svdvals(target).square()
    values = {
        "K = 1, C = 1: share of the target that is missed": missed(target, seed),
        "K = 1, C = 1: missed - Eckart and Young": abs(
            missed(target, seed) - (singular[1:].sum() / singular.sum()).item()
        ),
    }
    for size in (1, D):
        norm, beta = fit(full, size, MANY, decay, seed)
        values[f"K = {size}, C = 6: squared norm / smallest"] = norm / smallest_norm(beta, size)

    values["digits: Fourier l1 / l2, K = D / K = 1"] = wide[-1] / narrow[-1]
    values["digits: Fourier l1 / l2 for K = D, C = 4 / C = 1"] = other[-1] / wide[-1]
    return values


def run(seed: int) -> Outcome:
    """Fit random matrices with four input channels; train on digits of 64 pixels."""
    courses = {
        "K = 1, C = 1": descend(1, 1, seed),
        "K = D, C = 1": descend(PIXELS, 1, seed),
        "K = D, C = 4": descend(PIXELS, 4, seed),
    }
    narrow, wide, other = courses.values()
    curves: dict[str, Curve] = {}
    for name, course in courses.items():
        curves[name] = (range(1, STEPS + 1, 100), course)
    values = values_of(INPUTS, DECAY, seed, wide, narrow, other)
    return Outcome(values, curves, x="step on digits", y="Fourier l1 / l2", log="")


def control(seed: int) -> dict[str, float]:
    """Fit a target of rank 1, and without weight decay; exchange sizes and channels on digits."""
    narrow, wide = descend(1, 1, seed), descend(PIXELS, 1, seed)
    # Another number of channels in place of another size, and the other way round.
    values = values_of(1, 0.0, seed, descend(1, 4, seed), narrow, narrow)
    values["digits: Fourier l1 / l2 for K = D, C = 4 / C = 1"] = narrow[-1] / wide[-1]

    # Of a matrix of full rank one channel misses more than the control's target lacks.
    values["K = 1, C = 1: missed - Eckart and Young"] = missed(draw_target(INPUTS, seed), seed)
    return values
