"""Coordinate check: in the maximal update parametrisation activations move by the same amount at every width.

Reference: Yang, Hu, "Feature Learning in Infinite-Width Neural Networks" (Tensor Programs IV), ICML 2021,
arXiv:2011.14522: an abc-parametrisation of width n is W = n^-a w, w ~ N(0, n^-2b), learning rate eta n^-c, and

    r = min(a_out + b_out, 2 a_out + c) + c - 1 + min_l (2 a_l + [l is the first])

is 0 for feature learning and positive for the kernel regime. Shown: how much the last hidden layer's pre-activations
move in a few steps of SGD, as a power of the width. It must be 0 for muP, and -1/2 for the NTK parametrisation (NTP)
and for the standard one (SP) with a learning rate that shrinks with the width; SP at a fixed rate blows up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlop.experiments.outcome import Measure, Outcome
from rlop.nets.mup import abc_exponent

WIDTHS = (128, 256, 512, 1024)
STEPS, LR, INPUTS, ROWS = 3, 0.1, 10, 16


@dataclass(frozen=True)
class Parametrization:
    """Exponents of the width: a and b of the first, middle and last layer, c of the learning rate."""

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
    """Output `[B]` and the last hidden pre-activations `[B, n]` of a network with two hidden tanh layers."""
    first, middle, last = (w * s for w, s in zip(parameters, scales))
    hidden = torch.tanh(x @ first.T) @ middle.T
    return torch.tanh(hidden) @ last, hidden


def movement(kind: Parametrization, width: int, seed: int) -> float:
    """Root mean square change of the last hidden pre-activations after `STEPS` steps of SGD on squared loss.

    The output at initialisation is subtracted: its size is random and differs between parametrisations.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = [
        torch.randn(*shape, generator=generator)
        for shape in ((width, INPUTS), (width, width), (width,))
    ]
    x = torch.randn(ROWS, INPUTS, generator=torch.Generator().manual_seed(seed + 1)) / math.sqrt(
        INPUTS
    )
    y = torch.sign(x[:, 0])
    parameters = [(w * width**-b).requires_grad_() for w, b in zip(draw, kind.b)]
    scales = [width**-a for a in kind.a]
    first, before = (t.detach() for t in forward(parameters, scales, x))
    for _ in range(STEPS):
        loss = (forward(parameters, scales, x)[0] - first - y).square().mean() / 2
        for w, g in zip(parameters, torch.autograd.grad(loss, parameters)):
            w.data -= LR * width**-kind.c * g
    return (forward(parameters, scales, x)[1] - before).detach().square().mean().sqrt().item()


def slope(values: np.ndarray) -> float:
    """Exponent of the width, by least squares on logarithms."""
    return float(np.polyfit(np.log(WIDTHS), np.log(values), 1)[0])


def run(seed: int = 0) -> Outcome:
    """Widths 128 to 1024, three steps, mean of four initialisations."""
    measures, curves = [], {}
    for name, kind in PARAMETRIZATIONS.items():
        moved = np.array(
            [np.mean([movement(kind, n, 10 * seed + i) for i in range(4)]) for n in WIDTHS]
        )
        curves[name] = (WIDTHS, moved)
        low, high = (0.1, math.inf) if name == "SP" else (-kind.r - 0.1, -kind.r + 0.1)
        expected = "grows: unstable" if name == "SP" else f"-r = {0 - kind.r:g}"
        measures.append(
            Measure(f"{name}: exponent of the width", slope(moved), low, high, expected)
        )
    return Outcome(tuple(measures), curves, x="width", y="movement of pre-activations", log="xy")
