"""Neural TD off policy: diverges when free, stays within its radius when projected.

Reference: Cayci, Satpathi, He, Srikant, "Sample Complexity and Overparameterization Bounds for
Temporal-Difference Learning With Neural Network Approximation", IEEE TAC 2023, arXiv:2103.01391
(max-norm); the single ball is that of Cai, Yang, Lee, Wang, "Neural Temporal-Difference Learning
Converges to Global Optima", NeurIPS 2019, arXiv:1905.10027.

Twenty similar states are drawn uniformly and all lead to state 0, whose input is twice as large;
rewards are zero but for noise, so that V = 0. The network is Q(x) = sum_i a_i relu(w_i . x) /
sqrt(m), a_i = +-1 fixed, initialized in pairs so that Q = 0. On a ball of radius R around the
initialization |Q| <= R ||x||, which is checked too. On policy a ball that is large enough changes
nothing, and one that is too small biases the values: sqrt(m) max_i ||w_i - w_i(0)|| of a free run
separates the two cases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from rlop import projections
from rlop.experiments.outcome import Curve, Outcome

STATES = 20
DIM = 6
NEURONS = 256
OFF_POLICY = {  # label -> projection and its radius
    "free": ("free", 0.0),
    "l2(5)": ("l2", 5.0),
    "max-norm(5)": ("max-norm", 5.0),
    "max-norm(2)": ("max-norm", 2.0),
}


def two_layer(weight: Tensor, sign: Tensor, x: Tensor) -> Tensor:
    """Compute Q of `[B, d]` inputs, `[B]`."""
    return torch.relu(x @ weight.T) @ sign / math.sqrt(len(sign))


def symmetric(generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw hidden weights `[m, d]` and output signs `[m]`, in pairs that cancel."""
    weight = torch.randn(NEURONS // 2, DIM, generator=generator, dtype=torch.float64)
    sign = torch.randint(2, (NEURONS // 2,), generator=generator) * 2.0 - 1
    return weight.repeat(2, 1), torch.cat([sign, -sign]).double()


def project(weight: Tensor, center: Tensor, kind: str, radius: float) -> Tensor:
    """Apply the constraint after a step.

    Args:
        weight: `[m, d]`.
        center: `[m, d]`, the weights at initialization.
        kind: `free`, `l2` (one ball) or `max-norm` (one ball per neuron, of radius R / sqrt(m)).
        radius: R.
    """
    if kind == "l2":
        return projections.frobenius_ball(weight, center, radius)
    if kind == "max-norm":
        return projections.max_norm(weight, center, radius / math.sqrt(len(weight)))
    return weight


@dataclass(frozen=True)
class Process:
    """A Markov reward process whose states are sampled uniformly.

    Args:
        states: inputs of the network `[S, d]`, norm at most 1.
        transitions: probabilities of the next state `[S, S]`.
        reward: `[S]`.
        noise: standard deviation of the reward's noise.
        gamma: discount factor.
    """

    states: Tensor
    transitions: np.ndarray
    reward: np.ndarray
    noise: float
    gamma: float

    def value(self) -> Tensor:
        """Solve for V, `[S]`."""
        system = np.eye(len(self.reward)) - self.gamma * self.transitions
        return torch.from_numpy(np.linalg.solve(system, self.reward))


class Learned(NamedTuple):
    """Result of one run of neural TD."""

    steps: list[int]
    largest: list[float]  # |Q| over the states, at these steps
    q: Tensor  # of the last iterate [S]
    moved: Tensor  # distance of each neuron from its start [m]


def off_policy(seed: int) -> Process:
    """Build the process with V = 0.

    All states look alike, state 0 is twice as large as the others, and all lead to it.
    """
    noise = np.random.default_rng(seed).normal(size=(STATES, DIM))
    states = np.eye(DIM)[0] + 0.3 * noise
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    states[1:] /= 2
    to_first = np.eye(STATES)[np.zeros(STATES, int)]
    return Process(torch.from_numpy(states), to_first, np.zeros(STATES), noise=0.1, gamma=0.99)


def on_policy(seed: int) -> Process:
    """Build a process under whose random transitions the uniform law is stationary.

    States have unit norm, rewards lie in [0, 1].
    """
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(STATES, DIM))
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    permutations = [np.eye(STATES)[rng.permutation(STATES)] for _ in range(3)]
    transitions = np.mean(permutations, axis=0)
    return Process(torch.from_numpy(states), transitions, rng.random(STATES), noise=0.0, gamma=0.9)


def neural_td(
    process: Process, kind: str, radius: float, lr: float, steps: int, seed: int
) -> Learned:
    """Run semi-gradient TD on single samples: step, then project.

    Args:
        process: the process whose values are learned.
        kind: kind of the projection, see `project`.
        radius: radius of the projection.
        lr: learning rate.
        steps: number of samples.
        seed: seed of the network and of the samples.
    """
    weight, sign = symmetric(Generator().manual_seed(seed))
    start = weight.clone()

    rng = np.random.default_rng(seed)
    state = rng.integers(STATES, size=steps)
    # Inversion: the next state is where the cumulative probability passes a uniform number.
    passed = process.transitions.cumsum(1)[state] < rng.random((steps, 1))
    next_state = passed.sum(1).clip(max=STATES - 1)
    reward = process.reward[state] + process.noise * rng.standard_normal(steps)

    at_steps: list[int] = []
    largest: list[float] = []
    for step in range(steps):
        x = process.states[[state[step], next_state[step]]]
        hidden = x @ weight.T
        q, next_q = hidden.relu() @ sign / math.sqrt(NEURONS)
        delta = reward[step] + process.gamma * next_q - q
        direction = torch.outer(sign * (hidden[0] >= 0), x[0])
        weight = weight + lr * delta / math.sqrt(NEURONS) * direction
        weight = project(weight, start, kind, radius)
        if step % 20 == 19:
            at_steps.append(step + 1)
            largest.append(two_layer(weight, sign, process.states).abs().max().item())

    last_q = two_layer(weight, sign, process.states)
    return Learned(at_steps, largest, last_q, (weight - start).norm(dim=1))


def run(seed: int) -> Outcome:
    """Run neural TD off and on policy.

    Off policy: 2000 steps at rate 1, radii 5 and 2. On policy: 8000 steps at rate .5, radii 60 and
    10.
    """
    off_values, curves = off_policy_results(seed)
    values = off_values | on_policy_values(seed)
    return Outcome(values, curves, x="step", y="largest |Q|", log="y")


def off_policy_results(seed: int) -> tuple[dict[str, float], dict[str, Curve]]:
    """Measure the largest |Q| with each projection, and follow it."""
    process = off_policy(seed)
    curves: dict[str, Curve] = {}
    largest: dict[str, float] = {}

    for label, (kind, radius) in OFF_POLICY.items():
        learned = neural_td(process, kind, radius, 1.0, 2000, seed)
        largest[label] = max(learned.largest)
        curves[label] = (learned.steps, learned.largest)

    values = {f"off policy, {label}: largest |Q|": size for label, size in largest.items()}
    balls = [label for label in largest if label != "free"]
    of_radius = max(largest[label] / OFF_POLICY[label][1] for label in balls)
    values["largest |Q| / R of any ball"] = of_radius

    return values, curves


def on_policy_values(seed: int) -> dict[str, float]:
    """Compare a free run with a ball that is large enough and with one that is too small."""
    process = on_policy(seed)
    value = process.value()
    scale = value.square().mean().sqrt()

    def learn(radius: float) -> Learned:
        return neural_td(process, "max-norm", radius, 0.5, 8000, seed)

    def error(learned: Learned) -> float:
        return float((learned.q - value).square().mean().sqrt() / scale)

    free, large, small = learn(math.inf), learn(60.0), learn(10.0)
    needed_radius = math.sqrt(NEURONS) * float(free.moved.max())
    return {
        "on policy, free: relative error": error(free),
        "on policy: sqrt(m) max ||dw_i|| of the free run": needed_radius,
        "on policy: |Q free - Q max-norm(60)|": float((free.q - large.q).abs().max()),
        "on policy: error max-norm(10) / free": error(small) / error(free),
    }
