"""Does the implicit regularizer predict how a trained value network drifts?

DQN (two tanh layers) learns from a gridworld; then 12 of its transitions become a problem that it
solves exactly, by setting each reward to Q(s, a) - gamma Q(s', a'), and noisy TD goes on from the
trained parameters. The mean movement of pairs of runs with opposite noise is compared, along the
predicted direction, with `rlop.probes.implicit_drift`: the ratio is 1 where the theory holds. The
control predicts with the supervised part alone (gamma = 0 in the regularizer's second term).

Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716, theorem 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from rlop.data import load_dataset
from rlop.probes.implicit import implicit_drift, project
from rlop.probes import gradient_rows
from rlop.probes.implicit import is_stable
from rlop.training.names import agent_class
from rlop.training.session import train

DATA = "gridworld?observation=random&steps=1000&epsilon=0.5&noise=0.3"
GAMMA = 0.9
ROWS = 12
SIGMA = 0.1
TRIES = 40  # draws of transitions before a stable problem is found

Parameters = dict[str, Tensor]


def trained(seed: int, backup: str, steps: int) -> tuple[Parameters, Any]:
    """Train DQN; return its parameters in float64, without a run axis, and the data."""
    data = load_dataset(f"{DATA}&data_seed={seed}")
    options: dict[str, Any] = {"activation": "tanh", "lr": 1e-3, "batch_size": 32, "gamma": GAMMA}
    agent = agent_class("DQN")(
        data.spec, seeds=[seed], hidden=(24, 24), target_period=100, backup=backup, **options
    )
    train(agent, data, steps, log_every=0, probe_every=0, compile=False, progress=False)
    named = agent.main.online.named_parameters()
    return {name: value.detach()[0].double() for name, value in named}, data


def network(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Evaluate Q of every action, inputs `[..., B, D]` to `[..., B, A]`."""
    names = list(p)
    h = x
    for weight, bias in zip(names[0::2], names[1::2]):
        h = h @ p[weight].mT + p[bias].unsqueeze(-2)
        if weight != names[-2]:
            h = torch.tanh(h)
    return h


def pick(q: Tensor, action: Tensor) -> Tensor:
    """Select `[..., B, A]` at `[B]`."""
    return q.gather(-1, action.expand(q.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def compare(seed: int, backup: str = "max", steps: int = 6000, pairs: int = 300) -> dict[str, float]:
    """Return the ratio of simulated to predicted drift along the prediction, and the control's."""
    p, data = trained(seed, backup, steps)
    generator = Generator().manual_seed(seed)
    obs, following = torch.from_numpy(data.obs).double(), torch.from_numpy(data.next_obs).double()
    action = torch.from_numpy(data.action)
    alive = (~torch.from_numpy(data.terminated)).nonzero()[:, 0]

    for _ in range(TRIES):
        rows = alive[torch.randperm(len(alive), generator=generator)[:ROWS]]
        x, x_next, a = obs[rows], following[rows], action[rows]
        a_next = network(p, x_next).argmax(-1)

        def values(q: Mapping[str, Tensor]) -> Tensor:
            return pick(network(q, x), a)

        def next_values(q: Mapping[str, Tensor]) -> Tensor:
            return pick(network(q, x_next), a_next)

        A, B = gradient_rows(values, p), gradient_rows(next_values, p)
        eta = 0.3 / torch.linalg.matrix_norm(A @ A.mT, 2).item()
        if is_stable(A @ A.mT, A @ B.mT, GAMMA, eta):
            eigen = torch.linalg.eigvals((A - GAMMA * B) @ A.mT).real.min().item() * eta
            if eigen > 0.004:
                break
    else:
        return {"stable": 0.0}

    predicted = implicit_drift(values, next_values, p, GAMMA, eta, SIGMA)
    alone = implicit_drift(values, lambda q: 0 * next_values(q), p, 0.0, eta, SIGMA)
    burn, window = int(3 / eigen), 200
    simulated = simulate(p, values, next_values, eta, pairs, burn, window, generator)
    simulated = project(simulated, A, B, GAMMA)
    return {
        "stable": 1.0,
        "burn": float(burn),
        "simulated / predicted": (simulated @ predicted / (predicted @ predicted)).item(),
        "cosine": (simulated @ predicted / simulated.norm() / predicted.norm()).item(),
        "supervised part alone": (simulated @ alone / (alone @ alone)).item(),
        "cosine, supervised part alone": (simulated @ alone / simulated.norm() / alone.norm()).item(),
    }


def simulate(p, values, next_values, eta, pairs, burn, window, generator) -> Tensor:
    """Measure the mean movement per step of noisy TD, `[d]`."""
    reward = values(p) - GAMMA * next_values(p)
    runs = {}
    for name, value in p.items():
        runs[name] = value.expand(2 * pairs, *value.shape).clone().requires_grad_()
    start = torch.zeros(())
    for step in range(burn + window):
        if step == burn:
            start = mean_row(runs)
        z = torch.randn(pairs, len(reward), generator=generator, dtype=torch.float64)
        with torch.no_grad():
            target = reward + GAMMA * next_values(runs) + SIGMA * torch.cat([z, -z])
        loss = (values(runs) - target).square().sum() / 2
        gradients = torch.autograd.grad(loss, list(runs.values()))
        with torch.no_grad():
            for value, gradient in zip(runs.values(), gradients):
                value -= eta * gradient
    return (mean_row(runs) - start) / window


def mean_row(runs: Mapping[str, Tensor]) -> Tensor:
    """Average all parameters over the runs, `[d]`."""
    return torch.cat([value.detach().mean(0).flatten() for value in runs.values()])
