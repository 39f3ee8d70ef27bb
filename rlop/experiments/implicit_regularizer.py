"""The implicit regularizer of noisy TD predicts how the parameters drift along the solutions.

Row 13: Kumar, Agarwal, Ma, Courville, Tucker and Levine, "DR3: Value-Based Deep Reinforcement
Learning Requires Explicit Regularization", arXiv:2112.04716, section 3.2. Where every TD error is
zero, TD with noise on its targets still moves: it descends R_TD, whose second term rewards aligned
features of consecutive states. A tanh network with more parameters (30) than transitions (4) starts
at such a solution; the mean movement of many noisy runs is compared with
`rlop.probes.implicit_drift`, as the length of their difference over that of the movement. Every
seed has a network and transitions of its own: the first draw in which TD is stable and its slowest
error halves within `SLOWEST` steps.

Control: the prediction for supervised learning, the first term of R_TD alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.probes import gradient_rows, implicit_drift
from rlop.probes.implicit import project
from rlop.probes.kernel import td_kernel

GAMMA = 0.9
ETA = 0.02  # learning rate
PAIRS = 1500  # of runs with opposite noise
BURN_IN = 150  # steps before the window in which the movement is measured
STEPS = 100  # steps of the window
SLOWEST = 50  # steps in which the slowest error halves
SIGMAS = (0.05, 0.1, 0.15)
DRAWS = 200  # of which one in a dozen is fit


def network(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Evaluate networks of six tanh units at inputs `[..., B, 3]`, giving `[..., B]`."""
    hidden = torch.tanh(x @ p["w"].mT + p["b"].unsqueeze(-2))
    return (hidden @ p["v"].unsqueeze(-1)).squeeze(-1)


def instance(seed: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Draw parameters, states and next states `[4, 3]` until TD is stable on them.

    Raises:
        ValueError: if it is in none of many draws.
    """
    for child in child_seeds(seed, DRAWS):
        generator = Generator().manual_seed(child)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: B023

        p = {"w": normal(6, 3), "b": 0.5 * normal(6), "v": normal(6)}
        x, x_next = normal(4, 3), normal(4, 3)
        rows, next_rows = both_rows(p, x, x_next)
        kernel = td_kernel(rows @ rows.mT, rows @ next_rows.mT, GAMMA)
        moduli = torch.linalg.eigvals(torch.eye(4) - ETA * kernel).abs()
        if moduli.max() < 0.5 ** (1 / SLOWEST):
            return p, x, x_next
    raise ValueError(f"seed {seed}: no stable instance in {DRAWS} draws")


def both_rows(p: Mapping[str, Tensor], x: Tensor, x_next: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of Q(s) and of Q(s'), `[4, 30]` each."""
    rows = gradient_rows(lambda q: network(q, x), p)
    return rows, gradient_rows(lambda q: network(q, x_next), p)


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


def measured(seed: int, bootstraps: bool) -> tuple[dict[str, float], list[float], list[float]]:
    """Compare predicted and simulated drift at three levels of noise.

    Args:
        seed: of the experiment.
        bootstraps: whether the prediction has the term of TD; without, it is that of supervised
            learning.
    Returns:
        The relative errors, and the sizes of predicted and of simulated drift.
    """
    instance_seed, noise_seed = child_seeds(seed, 2)
    p, x, x_next = instance(instance_seed)
    rows, next_rows = both_rows(p, x, x_next)
    gamma = GAMMA if bootstraps else 0.0

    errors: dict[str, float] = {}
    sizes: tuple[list[float], list[float]] = ([], [])
    for sigma in SIGMAS:
        predicted = implicit_drift(
            lambda q: network(q, x), lambda q: network(q, x_next), p, gamma, ETA, sigma
        )
        moved = simulate(p, x, x_next, sigma, noise_seed)
        simulated = project(moved, rows, next_rows, GAMMA)
        error = (predicted - simulated).norm() / simulated.norm()
        errors[f"relative error at noise {sigma}"] = error.item()
        sizes[0].append(predicted.norm().item())
        sizes[1].append(simulated.norm().item())
    return errors, *sizes


def run(seed: int) -> Outcome:
    """Compare the prediction of R_TD with simulated TD."""
    values, predicted, simulated = measured(seed, bootstraps=True)
    curves = {"predicted": (SIGMAS, predicted), "simulated": (SIGMAS, simulated)}
    return Outcome(values, curves, x="noise on the targets", y="drift per step", log="xy")


def control(seed: int) -> Mapping[str, float]:
    """Compare the prediction of supervised learning with simulated TD."""
    return measured(seed, bootstraps=False)[0]
