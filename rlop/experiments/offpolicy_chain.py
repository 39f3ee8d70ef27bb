"""Neural TD off policy: diverges when free, stays within its radius when projected.

Reference: Cayci, Satpathi, He, Srikant, "Sample Complexity and Overparameterization Bounds for Temporal-Difference
Learning With Neural Network Approximation", IEEE TAC 2023, arXiv:2103.01391 (max-norm); the single ball is that of Cai,
Yang, Lee, Wang, "Neural Temporal-Difference Learning Converges to Global Optima", NeurIPS 2019, arXiv:1905.10027.

Twenty similar states are drawn uniformly and all lead to state 0, whose input is twice as large; rewards are zero but
for noise, so that V = 0. The network is Q(x) = sum_i a_i relu(w_i . x) / sqrt(m), a_i = +-1 fixed, initialised in pairs
so that Q = 0. On a ball of radius R around the initialisation |Q| <= R ||x||, which is checked too. On policy a ball
that is large enough changes nothing, and one that is too small biases the values: sqrt(m) max_i ||w_i - w_i(0)|| of a
free run tells which is which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlop import projections
from rlop.experiments.outcome import Measure, Outcome

STATES, DIM, NEURONS = 20, 6, 256


def two_layer(weight: Tensor, sign: Tensor, x: Tensor) -> Tensor:
    """Q of `[B, d]` inputs: `[B]`."""
    return torch.relu(x @ weight.T) @ sign / math.sqrt(len(sign))


def symmetric(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Hidden weights `[m, d]` and output signs `[m]`, in pairs that cancel."""
    weight = torch.randn(NEURONS // 2, DIM, generator=generator, dtype=torch.float64)
    sign = torch.randint(2, (NEURONS // 2,), generator=generator) * 2.0 - 1
    return weight.repeat(2, 1), torch.cat([sign, -sign]).double()


def project(weight: Tensor, center: Tensor, kind: str, radius: float) -> Tensor:
    """The constraint after a step: `free`, `l2` (one ball) or `max-norm` (one ball a neuron, R / sqrt(m))."""
    if kind == "l2":
        return projections.frobenius_ball(weight, center, radius)
    if kind == "max-norm":
        return projections.max_norm(weight, center, radius / math.sqrt(len(weight)))
    return weight


@dataclass(frozen=True)
class Process:
    """Rewards and transitions of a Markov reward process whose states are sampled uniformly.

    Args:
        states: inputs of the network `[S, d]`, norm at most 1.
        following: transition probabilities `[S, S]`.
        reward: `[S]`.
        noise: standard deviation of the reward's noise.
        gamma: discount factor.
    """

    states: Tensor
    following: np.ndarray
    reward: np.ndarray
    noise: float
    gamma: float

    def value(self) -> Tensor:
        """V, `[S]`."""
        system = np.eye(len(self.reward)) - self.gamma * self.following
        return torch.from_numpy(np.linalg.solve(system, self.reward))


def off_policy(seed: int) -> Process:
    """All states look alike, state 0 twice as large as the others, and all lead there; V = 0."""
    noise = np.random.default_rng(seed).normal(size=(STATES, DIM))
    states = np.eye(DIM)[0] + 0.3 * noise
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    states[1:] /= 2
    following = np.eye(STATES)[np.zeros(STATES, int)]
    return Process(torch.from_numpy(states), following, np.zeros(STATES), noise=0.1, gamma=0.99)


def on_policy(seed: int) -> Process:
    """Unit-norm states, random transitions under which the uniform law is stationary, rewards in [0, 1]."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(STATES, DIM))
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    following = np.mean([np.eye(STATES)[rng.permutation(STATES)] for _ in range(3)], axis=0)
    return Process(torch.from_numpy(states), following, rng.random(STATES), noise=0.0, gamma=0.9)


def neural_td(
    process: Process, kind: str, radius: float, lr: float, steps: int, seed: int
) -> tuple[list[int], list[float], Tensor, Tensor]:
    """Semi-gradient TD on single samples: step, then project.

    Returns:
        steps, largest |Q| over the states at them, Q of the last iterate `[S]`, how far each neuron moved `[m]`.
    """
    weight, sign = symmetric(torch.Generator().manual_seed(seed))
    start, rng = weight.clone(), np.random.default_rng(seed)
    now = rng.integers(STATES, size=steps)
    after = (process.following.cumsum(1)[now] < rng.random((steps, 1))).sum(1).clip(max=STATES - 1)
    reward = process.reward[now] + process.noise * rng.standard_normal(steps)
    when, largest = [], []
    for step in range(steps):
        x = process.states[[now[step], after[step]]]
        hidden = x @ weight.T
        q = hidden.relu() @ sign / math.sqrt(NEURONS)
        delta = reward[step] + process.gamma * q[1] - q[0]
        weight = weight + lr * delta / math.sqrt(NEURONS) * torch.outer(
            sign * (hidden[0] >= 0), x[0]
        )
        weight = project(weight, start, kind, radius)
        if step % 20 == 19:
            when.append(step + 1)
            largest.append(two_layer(weight, sign, process.states).abs().max().item())
    return when, largest, two_layer(weight, sign, process.states), (weight - start).norm(dim=1)


def run(seed: int = 0) -> Outcome:
    """Off policy: 2000 steps at rate 1, radii 5 and 2. On policy: 8000 steps at rate .5, radii 60 and 10."""
    process, curves, top = off_policy(seed), {}, {}
    for kind, radius in (("free", 0.0), ("l2", 5.0), ("max-norm", 5.0), ("max-norm", 2.0)):
        when, largest, *_ = neural_td(process, kind, radius, 1.0, 2000, seed)
        top[kind, radius] = max(largest)
        curves[kind if kind == "free" else f"{kind}({radius:g})"] = (when, largest)
    process = on_policy(seed)
    truth = process.value()
    learned = {
        r: neural_td(process, "max-norm", r, 0.5, 8000, seed) for r in (math.inf, 60.0, 10.0)
    }
    error = {
        r: float((q - truth).square().mean().sqrt() / truth.square().mean().sqrt())
        for r, (_, _, q, _) in learned.items()
    }
    same = float((learned[math.inf][2] - learned[60.0][2]).abs().max())
    need = math.sqrt(NEURONS) * float(learned[math.inf][3].max())
    measures = (
        Measure("off policy, free: largest |Q|", top["free", 0.0], 1e6, math.inf, "unbounded"),
        Measure(
            "off policy, l2(5): largest |Q|",
            top["l2", 5.0],
            3.1 * 0.7,
            3.1 * 1.3,
            "measured oracle 3.1",
        ),
        Measure(
            "off policy, max-norm(5): largest |Q|",
            top["max-norm", 5.0],
            2.16 * 0.7,
            2.16 * 1.3,
            "measured oracle 2.16",
        ),
        Measure(
            "off policy, max-norm(2): largest |Q|",
            top["max-norm", 2.0],
            0.84 * 0.7,
            0.84 * 1.3,
            "measured oracle .84",
        ),
        Measure(
            "largest |Q| / R of any ball",
            max(v / r for (_, r), v in top.items() if r),
            0.0,
            1.0,
            "bound |Q| <= R",
        ),
        Measure(
            "on policy, free: relative error", error[math.inf], 0.0, 0.05, "measured oracle .02"
        ),
        Measure(
            "on policy: sqrt(m) max ||dw_i|| of the free run",
            need,
            10.0,
            60.0,
            "measured oracle 20 to 36",
        ),
        Measure(
            "on policy: |Q free - Q max-norm(60)|", same, 0.0, 1e-9, "0: the ball is not reached"
        ),
        Measure(
            "on policy: error max-norm(10) / free",
            error[10.0] / error[math.inf],
            2.0,
            math.inf,
            "> 1: biased",
        ),
    )
    return Outcome(measures, curves, x="step", y="largest |Q|", log="y")
