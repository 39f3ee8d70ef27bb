"""Does the implicit regularizer predict how a trained value network drifts?

DQN (two tanh layers of 24) learns from a gridworld; then 12 of its transitions become a problem
that it solves exactly, by setting each reward to Q(s, a) - gamma Q(s', a'), a' the greedy action,
and noisy TD goes on from the trained parameters. The mean movement of pairs of runs with opposite
noise is compared with `rlop.probes.implicit_drift`. The control predicts with the term of
supervised learning alone.

Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716, theorem 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from rlop.data import Dataset, load_dataset
from rlop.probes import gradient_rows, implicit_drift
from rlop.probes.implicit import project
from rlop.training.names import agent_class
from rlop.training.session import train

DATA = "gridworld?observation=random&steps=1000&epsilon=0.5&noise=0.3"
GAMMA = 0.9
UPDATES = 6000
ROWS = 12
SIGMA = 0.1  # of the noise on targets
PAIRS = 300
WINDOW = 200  # steps in which the movement is measured
RATE = 0.3  # learning rate times the largest eigenvalue of the kernel
SLOWEST = 0.004  # least decay of a TD error in one step
DRAWS = 40  # of transitions, before a stable problem is found

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Problem:
    """Transitions that a network solves exactly.

    Args:
        obs: `[n, D]`.
        next_obs: `[n, D]`.
        action: `[n]`.
        next_action: `[n]`, greedy for the trained network.
    """

    obs: Tensor
    next_obs: Tensor
    action: Tensor
    next_action: Tensor

    def values(self, p: Mapping[str, Tensor]) -> Tensor:
        """Return Q(s, a), `[..., n]`."""
        return pick(network(p, self.obs), self.action)

    def next_values(self, p: Mapping[str, Tensor]) -> Tensor:
        """Return Q(s', a'), `[..., n]`."""
        return pick(network(p, self.next_obs), self.next_action)


def trained(seed: int, backup: str, steps: int) -> tuple[Parameters, Dataset]:
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
    """Evaluate Q of every action, inputs `[B, D]` to `[..., B, A]`; weights and biases in turn."""
    tensors = list(p.values())
    h = x
    for weight, bias in zip(tensors[:-2:2], tensors[1:-2:2]):
        h = torch.tanh(h @ weight.mT + bias.unsqueeze(-2))
    return h @ tensors[-2].mT + tensors[-1].unsqueeze(-2)


def pick(q: Tensor, action: Tensor) -> Tensor:
    """Select the values `[..., B]` of actions `[B]` from `[..., B, A]`."""
    return q.gather(-1, action.expand(q.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def stable_problem(
    p: Parameters, data: Dataset, generator: Generator
) -> tuple[Problem, float, float] | None:
    """Draw transitions until noisy TD is stable on them.

    Returns:
        The problem, the learning rate and the slowest decay in one step; None if no draw is stable.
    """
    obs, following = torch.from_numpy(data.obs).double(), torch.from_numpy(data.next_obs).double()
    action = torch.from_numpy(data.action)
    alive = torch.from_numpy(~data.terminated).nonzero()[:, 0]

    for _ in range(DRAWS):
        rows = alive[torch.randperm(len(alive), generator=generator)[:ROWS]]
        greedy = network(p, following[rows]).argmax(-1)
        problem = Problem(obs[rows], following[rows], action[rows], greedy)

        a, b = gradient_rows(problem.values, p), gradient_rows(problem.next_values, p)
        eta = RATE / torch.linalg.matrix_norm(a @ a.mT, 2).item()
        decay = eta * torch.linalg.eigvals((a - GAMMA * b) @ a.mT).real.min().item()
        if decay > SLOWEST:
            return problem, eta, decay
    return None


def compare(
    seed: int, backup: str = "max", steps: int = UPDATES, pairs: int = PAIRS
) -> dict[str, float]:
    """Compare simulated and predicted drift of one trained network.

    Args:
        seed: of data, network, transitions and noise.
        backup: of the training.
        steps: updates of the training.
        pairs: of runs with opposite noise.
    Returns:
        `cosine` and `simulated / predicted` along the prediction, the same for the supervised part
        alone, and `stable`; only `stable` = 0 where no problem was stable.
    """
    p, data = trained(seed, backup, steps)
    generator = Generator().manual_seed(seed)
    found = stable_problem(p, data, generator)
    if found is None:
        return {"stable": 0.0}

    problem, eta, decay = found
    moved = simulate(p, problem, eta, pairs, int(3 / decay), generator)
    rows, next_rows = gradient_rows(problem.values, p), gradient_rows(problem.next_values, p)
    simulated = project(moved, rows, next_rows, GAMMA)

    result = {"stable": 1.0}
    for name, gamma in (("", GAMMA), (", supervised part alone", 0.0)):
        predicted = implicit_drift(problem.values, problem.next_values, p, gamma, eta, SIGMA)
        product = simulated @ predicted
        result[f"cosine{name}"] = (product / simulated.norm() / predicted.norm()).item()
        result[f"simulated / predicted{name}"] = (product / (predicted @ predicted)).item()
    return result


def simulate(
    p: Parameters, problem: Problem, eta: float, pairs: int, burn_in: int, generator: Generator
) -> Tensor:
    """Measure the mean movement per step of noisy TD, `[d]`, after a burn-in."""
    reward = problem.values(p) - GAMMA * problem.next_values(p)
    runs = {}
    for name, value in p.items():
        runs[name] = value.expand(2 * pairs, *value.shape).clone().requires_grad_()

    start = mean_row(runs)
    for step in range(burn_in + WINDOW):
        if step == burn_in:
            start = mean_row(runs)
        z = torch.randn(pairs, len(reward), generator=generator, dtype=torch.float64)
        with torch.no_grad():
            target = reward + GAMMA * problem.next_values(runs) + SIGMA * torch.cat([z, -z])
        loss = (problem.values(runs) - target).square().sum() / 2
        gradients = torch.autograd.grad(loss, list(runs.values()))
        with torch.no_grad():
            for value, gradient in zip(runs.values(), gradients):
                value -= eta * gradient

    return (mean_row(runs) - start) / WINDOW


def mean_row(runs: Mapping[str, Tensor]) -> Tensor:
    """Average all parameters over the runs, `[d]`."""
    return torch.cat([value.detach().mean(0).flatten() for value in runs.values()])
