"""Finite Markov decision processes and their exact values, in NumPy and float64; S states, A actions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlop.types import InputError


@dataclass(frozen=True, eq=False)
class TabularMDP:
    """A finite Markov decision process with a table of observations.

    Entering a terminal state ends the episode, and its value is 0: its own rows of `transition` and `reward` are read
    by nothing, and `initial` may put no mass on it.

    Args:
        transition: P(s' | s, a), `[S, A, S]`.
        reward: expected reward of the transition s, a, s', `[S, A, S]`.
        terminal: `[S]` bool.
        initial: distribution of the first state, `[S]`.
        observations: what the agent sees of each state, `[S, *obs_shape]`, kept as float32.

    Raises:
        ValueError: a shape does not fit, a distribution does not sum to 1, or a number is not finite.
    """

    transition: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    initial: np.ndarray
    observations: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in (
            ("transition", "f8"),
            ("reward", "f8"),
            ("terminal", "?"),
            ("initial", "f8"),
        ):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        object.__setattr__(self, "observations", np.asarray(self.observations, np.float32))
        if self.transition.ndim != 3 or self.transition.shape[0] != self.transition.shape[2]:
            raise ValueError(f"transition: expected shape [S, A, S], got {self.transition.shape}")
        s, a, _ = self.transition.shape
        for name, shape in (("reward", (s, a, s)), ("terminal", (s,)), ("initial", (s,))):
            check_shape(name, getattr(self, name), shape)
        if self.observations.ndim < 2 or len(self.observations) != s:
            raise ValueError(
                f"observations: expected shape [{s}, *obs_shape], got {self.observations.shape}"
            )
        check_distribution("transition", self.transition)
        check_distribution("initial", self.initial)
        if not (np.isfinite(self.reward).all() and np.isfinite(self.observations).all()):
            raise ValueError("reward, observations: expected finite numbers")
        if self.initial[self.terminal].any():
            raise ValueError("initial: expected no mass on terminal states")

    @property
    def n_states(self) -> int:
        """Number of states S, terminal ones included."""
        return self.transition.shape[0]

    @property
    def n_actions(self) -> int:
        """Number of actions A."""
        return self.transition.shape[1]

    @cached_property
    def expected_reward(self) -> np.ndarray:
        """E[r | s, a], `[S, A]`."""
        return np.einsum("sap,sap->sa", self.transition, self.reward)


def check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `array` has exactly this shape."""
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")


def check_distribution(name: str, p: np.ndarray) -> None:
    """Raise ValueError unless `p` is a distribution over its last axis."""
    if not ((p >= 0).all() and np.allclose(p.sum(-1), 1, rtol=0, atol=1e-8)):
        raise ValueError(
            f"{name}: expected non-negative probabilities that sum to 1 over the last axis"
        )


def _check_gamma(gamma: float) -> None:
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma: expected 0 <= gamma < 1, got {gamma}")


def _backup(mdp: TabularMDP, gamma: float, value: np.ndarray) -> np.ndarray:
    following = mdp.transition.reshape(-1, mdp.n_states) @ np.where(mdp.terminal, 0.0, value)
    q = mdp.expected_reward + gamma * following.reshape(mdp.n_states, mdp.n_actions)
    return np.where(mdp.terminal[:, None], 0.0, q)


def _under(mdp: TabularMDP, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The policy as an array, P_pi `[S, S]` into states where the episode goes on, and r_pi `[S]`."""
    policy = np.asarray(policy, np.float64)
    check_shape("policy", policy, (mdp.n_states, mdp.n_actions))
    check_distribution("policy", policy)
    p = (policy[:, None] @ mdp.transition)[:, 0] * ~mdp.terminal
    return policy, p, (policy * mdp.expected_reward).sum(1)


def optimal_q(mdp: TabularMDP, gamma: float, tol: float = 1e-12) -> np.ndarray:
    """Q* by value iteration, to `tol` in sup norm (up to float64 rounding).

        Q(s, a) = E[ r + gamma (1 - terminal(s')) max_a' Q(s', a') ]

    Args:
        mdp: the process.
        gamma: discount, 0 <= gamma < 1.
        tol: bound on max |Q - Q*|.

    Returns:
        `[S, A]`, 0 at terminal states.

    Raises:
        ValueError: gamma out of range, or tol not positive.
    """
    _check_gamma(gamma)
    if not tol > 0:
        raise ValueError(f"tol: expected a positive number, got {tol}")
    q = np.zeros((mdp.n_states, mdp.n_actions))
    error = np.abs(mdp.expected_reward).max() / (1 - gamma)
    while error > tol:
        q, previous = _backup(mdp, gamma, q.max(1)), q
        # Both bound |q - Q*|; the first falls whatever rounding does, so the loop ends.
        error = min(gamma * error, gamma / (1 - gamma) * np.abs(q - previous).max())
    return q


def policy_q(mdp: TabularMDP, policy: np.ndarray, gamma: float) -> np.ndarray:
    """Q of a policy, exact by one linear solve: V = (I - gamma P_pi)^-1 r_pi, Q = r + gamma P V.

    Args:
        mdp: the process.
        policy: pi(a | s), `[S, A]`.
        gamma: discount, 0 <= gamma < 1.

    Returns:
        `[S, A]`, 0 at terminal states.

    Raises:
        ValueError: a wrong shape, rows that do not sum to 1, or gamma out of range.
    """
    _check_gamma(gamma)
    _, p, r = _under(mdp, policy)
    return _backup(mdp, gamma, np.linalg.solve(np.eye(mdp.n_states) - gamma * p, r))


def policy_return(mdp: TabularMDP, policy: np.ndarray, gamma: float) -> float:
    """Expected discounted return from `initial` with no time limit; arguments and errors as in `policy_q`."""
    value = (np.asarray(policy) * policy_q(mdp, policy, gamma)).sum(1)
    return float(mdp.initial @ value)


def policy_return_undiscounted(mdp: TabularMDP, policy: np.ndarray, horizon: int) -> float:
    """Expected sum of the first `horizon` rewards from `initial`, by dynamic programming.

    This is what an episode pays on average under that time limit; `policy` and errors as in `policy_q`.
    """
    _, p, r = _under(mdp, policy)
    if horizon < 0:
        raise ValueError(f"horizon: expected at least 0 steps, got {horizon}")
    value = np.zeros(mdp.n_states)
    for _ in range(horizon):
        value = r + p @ value
    return float(mdp.initial @ value)


def occupancy(mdp: TabularMDP, policy: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted visits to state-action pairs: d(s, a) ~ sum_t gamma^t P(s_t = s, a_t = a), scaled to sum to 1.

    `[S, A]`, 0 at terminal states, where nobody acts; arguments and errors as in `policy_q`.
    """
    _check_gamma(gamma)
    policy, p, _ = _under(mdp, policy)
    visits = np.linalg.solve(np.eye(mdp.n_states) - gamma * p.T, mdp.initial)[:, None] * policy
    return visits / visits.sum()


def greedy_policy(q: np.ndarray) -> np.ndarray:
    """One-hot policy `[S, A]` of the largest q `[S, A]`; among equals the lowest action."""
    q = np.asarray(q)
    if q.ndim != 2:
        raise ValueError(f"q: expected shape [S, A], got {q.shape}")
    return np.eye(q.shape[1])[q.argmax(1)]


def epsilon_greedy(q: np.ndarray, epsilon: float) -> np.ndarray:
    """Policy `[S, A]`: a uniformly random action with probability epsilon, else the greedy one of q `[S, A]`."""
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon: expected a probability, got {epsilon}")
    return (1 - epsilon) * greedy_policy(q) + epsilon / np.shape(q)[1]


def _rows(observations: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each observation's bytes as one comparable item; adding 0 makes -0.0 and 0.0 the same."""
    flat = np.ascontiguousarray(observations.reshape(-1, int(np.prod(shape))) + np.float32(0))
    return flat.view(np.dtype((np.void, flat.itemsize * flat.shape[1])))[:, 0]


def check_distinct(observations: np.ndarray) -> np.ndarray:
    """The same `[S, *obs_shape]` as float32; InputError if two states look alike."""
    observations = np.asarray(observations, np.float32)
    if len(np.unique(_rows(observations, observations.shape[1:]))) < len(observations):
        raise InputError(
            "observations: two states look alike; use a larger obs_dim or another seed"
        )
    return observations


def state_index(mdp: TabularMDP, obs: np.ndarray) -> np.ndarray:
    """Which state each observation is of, by an exact match in float32.

    Args:
        mdp: the process, whose observations must be distinct.
        obs: `[..., *obs_shape]`.

    Returns:
        `[...]` int64.

    Raises:
        InputError: an observation is of no state, or two states look alike.
        ValueError: the trailing axes are not `obs_shape`.
    """
    shape = mdp.observations.shape[1:]
    obs = np.asarray(obs, np.float32)
    lead = obs.ndim - len(shape)
    if lead < 0 or obs.shape[lead:] != shape:
        raise ValueError(
            f"obs: expected shape [..., {', '.join(map(str, shape))}], got {obs.shape}"
        )
    table, wanted = _rows(check_distinct(mdp.observations), shape), _rows(obs, shape)
    order = np.argsort(table)
    index = order[np.minimum(np.searchsorted(table, wanted, sorter=order), len(table) - 1)]
    unknown = np.flatnonzero(table[index] != wanted)
    if len(unknown):
        raise InputError(
            f"obs: {len(unknown)} of {len(wanted)} are of no state of this MDP (first at {unknown[0]})"
        )
    return index.reshape(obs.shape[:lead])
