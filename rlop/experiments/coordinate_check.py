"""Coordinate check: in the maximal update parametrization activations move equally at every width.

Reference: Yang, Hu, "Feature Learning in Infinite-Width Neural Networks" (Tensor Programs IV), ICML
2021, arXiv:2011.14522: an abc-parametrization of width n is W = n^-a w, w ~ N(0, n^-2b), learning
rate eta n^-c, and

    r = min(a_out + b_out, 2 a_out + c) + c - 1 + min_l (2 a_l + [l is the first])

is 0 for feature learning and positive for the kernel regime. Shown: how much the last hidden
layer's pre-activations move in a few steps of SGD, as a power of the width. It must be 0 for muP,
and -1/2 for the NTK parametrization (NTP) and for the standard one (SP) with a learning rate that
shrinks with the width; SP at a fixed rate diverges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Curve, Outcome
from rlop.experiments.series import power_law_exponent
from rlop.nets.mup import abc_exponent

WIDTHS = (128, 256, 512, 1024)
STARTS = 4
STEPS = 3
LR = 0.1
INPUTS = 10
ROWS = 16


@dataclass(frozen=True)
class Parametrization:
    """Exponents of the width: a and b of the first, middle and last layer, c of the rate."""

    a: tuple[float, float, float]
    b: tuple[float, float, float]
    c: float = 0.0

    @property
    def r(self) -> float:
        """How fast feature movement vanishes with the width, as a power; 0 is feature learning."""
        return abc_exponent(self.a, self.b, self.c)


PARAMETRIZATIONS = {
    "muP": Parametrization((-0.5, 0.0, 0.5), (0.5, 0.5, 0.5)),
    "NTP": Parametrization((0.0, 0.5, 0.5), (0.0, 0.0, 0.0)),
    "SP, lr / width": Parametrization((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), c=1.0),
    "SP": Parametrization((0.0, 0.0, 0.0), (0.0, 0.5, 0.5)),
}


def forward(parameters: list[Tensor], scales: list[float], x: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate a network with two hidden tanh layers of width n.

    Returns:
        Output `[B]`, and the last hidden pre-activations `[B, n]`.
    """
    first, middle, last = (w * scale for w, scale in zip(parameters, scales))
    hidden = torch.tanh(x @ first.T) @ middle.T
    return torch.tanh(hidden) @ last, hidden


def movement(kind: Parametrization, width: int, seed: int) -> float:
    """Return the RMS change of the last hidden pre-activations after `STEPS` steps of SGD.

    The loss is squared. The output at initialization is subtracted: its size is random and differs
    between parametrizations.
    """
    generator = Generator().manual_seed(seed)
    shapes = ((width, INPUTS), (width, width), (width,))
    normal = [torch.randn(*shape, generator=generator) for shape in shapes]
    x = torch.randn(ROWS, INPUTS, generator=Generator().manual_seed(seed + 1)) / math.sqrt(INPUTS)
    y = torch.sign(x[:, 0])

    parameters = [(w * width**-b).requires_grad_() for w, b in zip(normal, kind.b)]
    scales = [width**-a for a in kind.a]
    first_output, first_hidden = (t.detach() for t in forward(parameters, scales, x))

    for _ in range(STEPS):
        output, _ = forward(parameters, scales, x)
        loss = (output - first_output - y).square().mean() / 2
        for w, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
            w.data -= LR * width**-kind.c * gradient

    _, hidden = forward(parameters, scales, x)
    return (hidden - first_hidden).detach().square().mean().sqrt().item()


def movements(kind: Parametrization, seed: int) -> np.ndarray:
    """Compute the movement at each of `WIDTHS`, averaged over the starts."""
    means = []
    for width in WIDTHS:
        starts = [movement(kind, width, 10 * seed + i) for i in range(STARTS)]
        means.append(np.mean(starts))
    return np.array(means)


def run(seed: int) -> Outcome:
    """Measure movement at widths 128 to 1024: three steps, mean of four initializations."""
    values: dict[str, float] = {}
    curves: dict[str, Curve] = {}
    for name, kind in PARAMETRIZATIONS.items():
        moved = movements(kind, seed)
        curves[name] = (WIDTHS, moved)
        values[f"{name}: exponent of the width"] = power_law_exponent(WIDTHS, moved)

    return Outcome(values, curves, x="width", y="movement of pre-activations", log="xy")
