"""The implicit regularizer of noisy TD predicts how the parameters drift along the solutions.

Row 13: Kumar, Agarwal, Ma, Courville, Tucker and Levine, "DR3: Value-Based Deep Reinforcement Learning Requires
Explicit Regularization", arXiv:2112.04716, section 3.2. Where every TD error is zero, TD with noise on its targets
still moves: down R_TD, whose second term rewards aligned features of consecutive states. A tanh network with more
parameters (30) than transitions (4) starts at such a solution; the mean movement of many noisy runs is compared with
`rlop.probes.implicit_drift`. The instance is one whose TD is stable and whose supervised part alone points elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rlop.experiments.outcome import Measure, Outcome
from rlop.probes import gradient_rows, implicit_drift
from rlop.probes.implicit import project

INSTANCE, GAMMA, ETA = 246, 0.9, 0.02
PAIRS, BURN_IN, STEPS = 1500, 150, 100  # of runs with opposite noise; before, and in, the window
SIGMAS = (0.05, 0.1, 0.15)


def network(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Values of inputs `[..., B, 3]` by networks of six tanh units, `[..., B]`."""
    hidden = torch.tanh(x @ p["w"].mT + p["b"].unsqueeze(-2))
    return (hidden @ p["v"].unsqueeze(-1)).squeeze(-1)


def instance(seed: int = INSTANCE) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Parameters, states and next states `[4, 3]`."""
    g = torch.Generator().manual_seed(seed)
    shapes = ((6, 3), (6,), (6,), (4, 3), (4, 3))
    w, b, v, x, y = (torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes)
    return {"w": w, "b": 0.5 * b, "v": v}, x, y


def simulate(p: Mapping[str, Tensor], x: Tensor, y: Tensor, sigma: float, seed: int) -> Tensor:
    """Mean movement per step of noisy semi-gradient TD from a solution, all parameters in one row."""
    g = torch.Generator().manual_seed(seed)
    reward = network(p, x) - GAMMA * network(p, y)
    runs = {
        name: value.expand(2 * PAIRS, *value.shape).clone().requires_grad_()
        for name, value in p.items()
    }
    start = None
    for step in range(BURN_IN + STEPS):
        if step == BURN_IN:
            start = mean_row(runs)
        z = torch.randn(PAIRS, len(x), generator=g, dtype=torch.float64)
        target = (reward + GAMMA * network(runs, y) + sigma * torch.cat([z, -z])).detach()
        loss = (network(runs, x) - target).square().sum() / 2
        grads = torch.autograd.grad(loss, list(runs.values()))
        with torch.no_grad():
            for value, slope in zip(runs.values(), grads):
                value -= ETA * slope
    assert start is not None
    return (mean_row(runs) - start) / STEPS


def mean_row(runs: Mapping[str, Tensor]) -> Tensor:
    """Mean over runs of all parameters, `[30]`."""
    return torch.cat([value.detach().mean(0).flatten() for value in runs.values()])


def run(seed: int = 0) -> Outcome:
    """Predicted against simulated drift at three levels of noise."""
    p, x, y = instance()
    rows, following = (
        gradient_rows(lambda q: network(q, x), p),
        gradient_rows(lambda q: network(q, y), p),
    )
    measures: list[Measure] = []
    sizes: dict[str, list[float]] = {"predicted": [], "simulated": []}
    for sigma in SIGMAS:
        predicted = implicit_drift(
            lambda q: network(q, x), lambda q: network(q, y), p, GAMMA, ETA, sigma
        )
        found = project(simulate(p, x, y, sigma, seed), rows, following, GAMMA)
        cosine = (predicted @ found / (predicted.norm() * found.norm())).item()
        ratio = (predicted.norm() / found.norm()).item()
        measures.append(
            Measure(
                f"cosine at noise {sigma}",
                cosine,
                0.99,
                1.0,
                "theory, to second order in the noise",
            )
        )
        measures.append(
            Measure(
                f"norm ratio at noise {sigma}", ratio, 0.95, 1.05, "theory; measured oracle .994"
            )
        )
        sizes["predicted"].append(predicted.norm().item())
        sizes["simulated"].append(found.norm().item())
    curves = {name: (SIGMAS, values) for name, values in sizes.items()}
    return Outcome(tuple(measures), curves, x="noise on the targets", y="drift per step", log="xy")
