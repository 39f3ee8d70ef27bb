"""Gradient starvation in two features: a stronger one starves the other.

Row 38: Pezeshki, Kaba, Bengio, Courville, Precup and Lajoie, "Gradient Starvation: A Learning
Proclivity in Neural Networks", arXiv:2011.09468. In the tangent regime the outputs on the train
points are f = U z, with orthonormal U, responses z of the features, and their strengths s. At the
optimum of cross-entropy with weight decay (all labels 1)

    sum_j log(1 + exp(-f_j)) + lambda / 2 sum_i z_i^2 / s_i^2

features that share examples are coupled: dz_2 / ds_1 < 0. With the penalty lambda / 2 sum_j f_j^2,
spectral decoupling, every output solves lambda f = sigmoid(-f), so that z = U^T f does not depend
on the strengths.

Control: features that share no example (U = 1), and the weight decay in place of the decoupling.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

DECAY = 0.01
STRONG = (1.0, 2.0)  # strength of the first feature, before and after
FACTORS = (0.5, 1.0, 1.5, 2.0, 3.0)
WEAK = 0.5
STEPS = 60


def run(seed: int) -> Outcome:
    """Double the strength of one feature and watch the response of the other."""
    mixing, weak = drawn(seed)
    coupled = change(mixing, weak, decoupled=False)
    decoupled = change(mixing, weak, decoupled=True)

    curves = {}
    for name, is_decoupled in (("weight decay", False), ("decoupled", True)):
        responses = []
        for factor in FACTORS:
            responses.append(response(mixing, (factor, weak), is_decoupled)[1].item())
        curves[name] = (FACTORS, responses)
    return Outcome(
        measures(coupled, decoupled),
        curves,
        x="strength of the first feature",
        y="response of the second",
    )


def control(seed: int) -> dict[str, float]:
    """Separate the features, and leave the outputs alone."""
    mixing, weak = drawn(seed)
    apart = change(torch.eye(2, dtype=torch.float64), weak, decoupled=False)
    return measures(apart, change(mixing, weak, decoupled=False))


def measures(coupled: float, decoupled: float) -> dict[str, float]:
    """Name the numbers."""
    return {
        "change of the weak response when the strong feature doubles, weight decay": coupled,
        "|change of the weak response when the strong feature doubles|, decoupled": abs(decoupled),
    }


def drawn(seed: int) -> tuple[Tensor, float]:
    """Draw how two examples share two features, a rotation by 20 to 30 degrees, and a strength."""
    generator = torch.Generator().manual_seed(child_seeds(seed, 1)[0])
    angle, strength = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    angle = math.radians(20 + 10 * angle)
    rows = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return torch.tensor(rows, dtype=torch.float64), WEAK * (0.8 + 0.4 * strength)


def change(mixing: Tensor, weak: float, decoupled: bool) -> float:
    """Return the relative change of the second response when the first strength doubles."""
    before, after = (response(mixing, (s, weak), decoupled)[1].item() for s in STRONG)
    return (after - before) / max(abs(before), 1e-3)


def response(mixing: Tensor, strengths: tuple[float, float], decoupled: bool) -> Tensor:
    """Minimize the penalized cross-entropy over the responses z by Newton's method, `[2]`."""
    z = torch.zeros(2, dtype=torch.float64)
    penalty = torch.diag(DECAY / torch.tensor(strengths, dtype=torch.float64).square())
    if decoupled:
        penalty = DECAY * mixing.mT @ mixing  # of the outputs
    for _ in range(STEPS):
        f = mixing @ z
        miss = (-f).sigmoid()
        slope = penalty @ z - mixing.mT @ miss
        curvature = penalty + mixing.mT @ torch.diag(miss * (1 - miss)) @ mixing
        z = z - torch.linalg.solve(curvature, slope)
    return z
