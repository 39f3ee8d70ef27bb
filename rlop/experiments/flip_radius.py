"""Adversarial examples in random networks: one gradient step of relative length about 1 / sqrt(d) flips the sign.

Row 1: Bartlett, Bubeck and Cherapanamjeri, "Adversarial Examples in Multi-Layer Random ReLU Networks",
arXiv:2106.12611. No training is needed: at a random input of a random network, the step

    -c f(x) grad f(x) / ||grad f(x)||^2

changes the sign of f, and its length relative to ||x|| falls like d^(-1/2).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

NETS = {100: 200, 400: 100, 1600: 40}  # dimension -> networks; small ones vary more, and cost less
FACTORS = torch.arange(1, 5, 0.05)  # of the step that would reach 0 if f were linear


def run(seed: int = 0) -> Outcome:
    """The median relative length of the step that flips the sign, for three dimensions."""
    radii = [torch.tensor([flip_radius(d, seed + i) for i in range(n)]) for d, n in NETS.items()]
    dimensions = tuple(NETS)
    flipped = torch.stack([r.isfinite().float().mean() for r in radii]).min().item()
    medians = [r.median().item() for r in radii]
    slope = (
        torch.tensor(medians[-1] / medians[0]).log()
        / torch.tensor(dimensions[-1] / dimensions[0]).log()
    ).item()
    measures = [
        Measure(
            f"median radius * sqrt(d), d = {d}",
            m * d**0.5,
            0.3,
            0.9,
            "of order 1; .49 to .61 measured",
        )
        for d, m in zip(dimensions, medians)
    ]
    measures.append(Measure("slope of log radius against log d", slope, -0.65, -0.35, "-1/2"))
    measures.append(Measure("share of networks flipped", flipped, 0.9, 1, "nearly all"))
    curves = {
        "median": (dimensions, medians),
        "1 / sqrt(d)": (dimensions, [d**-0.5 for d in dimensions]),
    }
    return Outcome(tuple(measures), curves, x="dimension and width", y="||step|| / ||x||", log="xy")


def flip_radius(d: int, seed: int) -> float:
    """Relative length of the shortest step along the gradient that changes the sign of a random network; or infinity.

    Two hidden ReLU layers as wide as the input, He initialisation.
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
        factor = FACTORS[flips].min() if flips.any() else torch.tensor(torch.inf)
        return (factor * step.norm() / x.norm()).item()
