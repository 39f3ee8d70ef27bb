"""Markov reward processes for neural TD whose values, and the norm of these, are known.

A value function of the theory's class is V(x) = E[v(w) . x 1{w . x >= 0}] with w standard normal,
and its norm nu is the smallest sup |v(w)|. With inputs in the plane only the direction of w counts,
and the units that are active change at finitely many angles: on each arc v may be constant. By
duality

    1 / nu = min_u E |sum_s u_s x_s 1{w . x_s >= 0}|   subject to   sum_s u_s V_s = 1

which is a linear program once |z| is replaced by the largest of z . e over K directions e; that
lowers it by at most a factor cos(pi / K).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlop.data import Dataset
from rlop.types import InputError

STATES = 12
SUCCESSORS = 3  # of each state, equally likely
SPREAD = 1.0  # angle of the states, on either side of the middle
GAMMA = 0.25
NOISE = 0.25  # the reward is this much more or less, with equal probability
DIRECTIONS = 64  # K: the norm is found to .12 %


@dataclass(frozen=True)
class Process:
    """A finite process from which independent transitions are drawn, every state equally often.

    Args:
        states: inputs of the network, `[S, d]`, norm at most 1.
        successors: states that follow each state, equally likely, `[S, K]`.
        reward: mean reward of each state, `[S]`.
        noise: the reward is this much more or less, with equal probability.
        gamma: discount factor.
    """

    states: np.ndarray
    successors: np.ndarray
    reward: np.ndarray
    noise: float
    gamma: float

    @property
    def transitions(self) -> np.ndarray:
        """P(s' | s), `[S, S]`."""
        return np.eye(len(self.states))[self.successors].mean(1)

    @property
    def value(self) -> np.ndarray:
        """V, `[S]`, by a linear solve."""
        system = np.eye(len(self.states)) - self.gamma * self.transitions
        return np.linalg.solve(system, self.reward)

    def data(self) -> Dataset:
        """Return every transition once; one drawn from them at random is one of the process."""
        count, choices = self.successors.shape
        state = np.repeat(np.arange(count), 2 * choices)
        following = np.repeat(self.successors.ravel(), 2)
        sign = np.tile([1.0, -1.0], count * choices)

        return Dataset.from_arrays(
            np.float32(self.states[state]),
            np.zeros(len(state), int),
            np.float32(self.reward[state] + self.noise * sign),
            np.zeros(len(state), bool),
            np.ones(len(state), bool),
            next_obs=np.float32(self.states[following]),
            n_actions=1,
            name="neural TD process",
        )


def on_policy(seed: int, norm: float = 1.0) -> Process:
    """Draw a process whose states are sampled from its stationary law, with a value of this norm.

    States lie on an arc of the unit circle. Successors are permutations of the states, so that the
    uniform law is stationary. V has the angular frequencies 0 to 2, which the theory's class
    contains.
    """
    rng = np.random.default_rng(seed)
    middle, phase = rng.uniform(0, 2 * np.pi, 2)
    angle = rng.uniform(-SPREAD, SPREAD, STATES)
    value = 0.5 + np.cos(angle) + 0.5 * np.cos(2 * angle - phase)

    states = np.stack([np.cos(middle + angle), np.sin(middle + angle)], 1)
    value *= norm / class_norm(states, value)
    successors = np.stack([rng.permutation(STATES) for _ in range(SUCCESSORS)], 1)
    reward = value - GAMMA * value[successors].mean(1)
    return Process(states, successors, reward, NOISE, GAMMA)


def off_policy(seed: int) -> Process:
    """Draw a process on which TD without a constraint diverges; V = 0.

    Twenty similar states are drawn equally often, and all lead to the first, whose input is twice
    as large: its value is bootstrapped from, but hardly ever corrected.
    """
    count, size = 20, 6
    noise = np.random.default_rng(seed).normal(size=(count, size))
    states = np.eye(size)[0] + 0.3 * noise
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    states[1:] /= 2
    return Process(states, np.zeros((count, 1), int), np.zeros(count), noise=0.1, gamma=0.99)


def class_norm(states: np.ndarray, value: np.ndarray) -> float:
    """Compute nu, the smallest sup |v(w)| with V(x_s) = E[v(w) . x_s 1{w . x_s >= 0}].

    Args:
        states: x_s, in the plane, `[S, 2]`.
        value: V, `[S]`.
    Returns:
        An upper bound on nu that is at most .12 % too large; inf if no v has these values.
    Raises:
        InputError: when SciPy is not installed.
    """
    try:
        from scipy.optimize import linprog
    except ImportError as error:
        raise InputError("neural TD: needs SciPy, pip install 'rlop[supervised]'") from error

    share, active = arcs(states)
    masked = active[:, :, None] * states  # [arcs, S, 2]

    # Unknown: u of each state, then the norm t of each arc, t_a >= e_k . sum_s u_s x_s 1_as.
    angle = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    directions = np.stack([np.cos(angle), np.sin(angle)])  # [2, K]
    by_state = (masked @ directions).transpose(0, 2, 1).reshape(-1, len(states))
    by_arc = np.repeat(np.eye(len(share)), DIRECTIONS, axis=0)

    free = [(None, None)] * (len(states) + len(share))
    solved = linprog(
        np.concatenate([np.zeros(len(states)), share]),
        A_ub=np.hstack([by_state, -by_arc]),
        b_ub=np.zeros(len(by_state)),
        A_eq=np.concatenate([value, np.zeros(len(share))])[None],
        b_eq=[1.0],
        bounds=free,
    )
    return 1 / solved.fun if solved.fun > 0 else np.inf


def arcs(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide the directions of w into arcs on which the same states are active.

    Returns:
        Share of each arc `[arcs]`, and whether each state is active there, `[arcs, S]`.
    """
    # w . x changes its sign where w is at a right angle to x.
    angle = np.arctan2(states[:, 1], states[:, 0])
    ends = np.sort(np.concatenate([angle + np.pi / 2, angle - np.pi / 2]) % (2 * np.pi))
    ends = np.append(ends, ends[0] + 2 * np.pi)

    middle = (ends[1:] + ends[:-1]) / 2
    w = np.stack([np.cos(middle), np.sin(middle)], 1)
    return np.diff(ends) / (2 * np.pi), w @ states.T >= 0
