"""The implicit regularizer of noisy TD predicts how the parameters drift along the solutions.

Row 13: Kumar, Agarwal, Ma, Courville, Tucker and Levine, "DR3: Value-Based Deep Reinforcement
Learning Requires Explicit Regularization", arXiv:2112.04716, section 3.2. Where every TD error is
zero, TD with noise on its targets still moves: it descends R_TD, whose second term rewards aligned
features of consecutive states. A tanh network with more parameters (30) than transitions (4) starts
at such a solution; the mean movement of many noisy runs is compared with
`rlop.probes.implicit_drift`. In the instance used, TD is stable and the supervised part alone
points elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome
from rlop.probes import gradient_rows, implicit_drift
from rlop.probes.implicit import project

INSTANCE = 246  # seed of the instance
GAMMA = 0.9
ETA = 0.02  # learning rate
PAIRS = 1500  # of runs with opposite noise
BURN_IN = 150  # steps before the window in which the movement is measured
STEPS = 100  # steps of the window
SIGMAS = (0.05, 0.1, 0.15)


def network(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Evaluate networks of six tanh units at inputs `[..., B, 3]`, giving `[..., B]`."""
    hidden = torch.tanh(x @ p["w"].mT + p["b"].unsqueeze(-2))
    return (hidden @ p["v"].unsqueeze(-1)).squeeze(-1)


def instance(seed: int = INSTANCE) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Draw parameters, states and next states `[4, 3]`."""
    generator = Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    w = normal(6, 3)
    b = 0.5 * normal(6)
    v = normal(6)
    x = normal(4, 3)
    x_next = normal(4, 3)

    return {"w": w, "b": b, "v": v}, x, x_next


def simulate(p: Mapping[str, Tensor], x: Tensor, x_next: Tensor, sigma: float, seed: int) -> Tensor:
    """Measure the mean movement per step of noisy semi-gradient TD from a solution.

    Args:
        p: parameters of the solution.
        x: states `[4, 3]`.
        x_next: next states `[4, 3]`.
        sigma: standard deviation of the targets' noise.
        seed: seed of the noise.
    Returns:
        All parameters in one row, `[30]`.
    """
    generator = Generator().manual_seed(seed)
    reward = network(p, x) - GAMMA * network(p, x_next)
    runs = {}

    for name, value in p.items():
        runs[name] = value.expand(2 * PAIRS, *value.shape).clone().requires_grad_()

    start = mean_row(runs)
    for step in range(BURN_IN + STEPS):
        if step == BURN_IN:
            start = mean_row(runs)
        z = torch.randn(PAIRS, len(x), generator=generator, dtype=torch.float64)
        noise = sigma * torch.cat([z, -z])
        target = (reward + GAMMA * network(runs, x_next) + noise).detach()
        loss = (network(runs, x) - target).square().sum() / 2
        gradients = torch.autograd.grad(loss, list(runs.values()))
        with torch.no_grad():
            for value, gradient in zip(runs.values(), gradients):
                value -= ETA * gradient

    return (mean_row(runs) - start) / STEPS


def mean_row(runs: Mapping[str, Tensor]) -> Tensor:
    """Average all parameters over the runs, `[30]`."""
    return torch.cat([value.detach().mean(0).flatten() for value in runs.values()])


def run(seed: int) -> Outcome:
    """Compare predicted and simulated drift at three levels of noise."""
    p, x, x_next = instance()

    def values(q: Mapping[str, Tensor]) -> Tensor:
        return network(q, x)

    def next_values(q: Mapping[str, Tensor]) -> Tensor:
        return network(q, x_next)

    rows = gradient_rows(values, p)
    next_rows = gradient_rows(next_values, p)

    measured: dict[str, float] = {}
    predicted_sizes: list[float] = []
    simulated_sizes: list[float] = []

    for sigma in SIGMAS:
        predicted = implicit_drift(values, next_values, p, GAMMA, ETA, sigma)
        simulated = project(simulate(p, x, x_next, sigma, seed), rows, next_rows, GAMMA)
        cosine = (predicted @ simulated / (predicted.norm() * simulated.norm())).item()
        ratio = (predicted.norm() / simulated.norm()).item()
        measured[f"cosine at noise {sigma}"] = cosine
        measured[f"norm ratio at noise {sigma}"] = ratio
        predicted_sizes.append(predicted.norm().item())
        simulated_sizes.append(simulated.norm().item())

    curves = {"predicted": (SIGMAS, predicted_sizes), "simulated": (SIGMAS, simulated_sizes)}
    return Outcome(measured, curves, x="noise on the targets", y="drift per step", log="xy")
