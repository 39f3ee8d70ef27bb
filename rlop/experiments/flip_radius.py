"""Adversarial examples in random networks: one short gradient step flips the sign of the output.

Row 1: Bartlett, Bubeck and Cherapanamjeri, "Adversarial Examples in Multi-Layer Random ReLU
Networks", arXiv:2106.12611. No training is needed: at a random input of a random network, the step

    -c f(x) grad f(x) / ||grad f(x)||^2

changes the sign of f, and its length relative to ||x|| is about 1 / sqrt(d) in d dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome

NETS = {100: 200, 400: 100, 1600: 40}  # dimension -> networks; small ones vary more, and cost less
FACTORS = torch.arange(1, 5, 0.05)  # of the step that would reach 0 if f were linear


def run(seed: int) -> Outcome:
    """Measure the median relative length of the flipping step in three dimensions."""
    dimensions = tuple(NETS)
    medians: list[float] = []
    shares_flipped: list[Tensor] = []

    for d, networks in NETS.items():
        radii = torch.tensor([flip_radius(d, seed + i) for i in range(networks)])
        medians.append(radii.median().item())
        shares_flipped.append(radii.isfinite().float().mean())
    rise = torch.tensor(medians[-1] / medians[0]).log()
    slope = (rise / torch.tensor(dimensions[-1] / dimensions[0]).log()).item()

    values: dict[str, float] = {}
    for d, median in zip(dimensions, medians):
        values[f"median radius * sqrt(d), d = {d}"] = median * d**0.5

    values["slope of log radius against log d"] = slope
    least_flipped = torch.stack(shares_flipped).min().item()
    values["share of networks flipped"] = least_flipped

    curves = {
        "median": (dimensions, medians),
        "1 / sqrt(d)": (dimensions, [d**-0.5 for d in dimensions]),
    }
    return Outcome(values, curves, x="dimension and width", y="||step|| / ||x||", log="xy")


def flip_radius(d: int, seed: int) -> float:
    """Measure the shortest gradient step that flips a random network, relative to the input.

    The network has two hidden ReLU layers as wide as the input, in He's initialization.

    Returns:
        The relative length; infinity if no step of `FACTORS` flips the sign.
    """
    generator = Generator().manual_seed(seed)
    first, second = (torch.randn(d, d, generator=generator) * (2 / d) ** 0.5 for _ in range(2))
    head = torch.randn(d, generator=generator) / d**0.5

    def f(x: Tensor) -> Tensor:
        return (x @ first.mT).relu().matmul(second.mT).relu() @ head

    x = torch.randn(d, generator=generator).requires_grad_()
    value = f(x)
    (gradient,) = torch.autograd.grad(value, x)

    with torch.no_grad():
        step = -value * gradient / gradient.square().sum()
        flips = f(x + FACTORS[:, None] * step) * value < 0
        if not flips.any():
            return math.inf
        return (FACTORS[flips].min() * step.norm() / x.norm()).item()
