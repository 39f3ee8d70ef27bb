"""Finite Markov decision processes and their exact values, in NumPy and float64.

S states, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlop.types import InputError


@dataclass(frozen=True, eq=False)
class TabularMDP:
    """A finite Markov decision process with a table of observations.

    Entering a terminal state ends the episode, and its value is 0: its rows of `transition` and
    `reward` are never read, and `initial` may put no mass on it.

    Args:
        transition: P(s' | s, a), `[S, A, S]`.
        reward: expected reward of the transition s, a, s', `[S, A, S]`.
        terminal: `[S]` bool.
        initial: distribution of the first state, `[S]`.
        observations: what the agent sees of each state, `[S, *obs_shape]`, kept as float32.
    Raises:
        ValueError: a shape does not fit, a distribution does not sum to 1, or a number is not
            finite.
    """

    transition: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    initial: np.ndarray
    observations: np.ndarray

    def __post_init__(self) -> None:
        # The class is frozen; arrays are converted once, here.
        object.__setattr__(self, "transition", np.asarray(self.transition, np.float64))
        object.__setattr__(self, "reward", np.asarray(self.reward, np.float64))
        object.__setattr__(self, "terminal", np.asarray(self.terminal, bool))
        object.__setattr__(self, "initial", np.asarray(self.initial, np.float64))
        object.__setattr__(self, "observations", np.asarray(self.observations, np.float32))

        self._check_shapes()
        self._check_values()

    def _check_shapes(self) -> None:
        if self.transition.ndim != 3 or self.transition.shape[0] != self.transition.shape[2]:
            raise ValueError(f"transition: expected shape [S, A, S], got {self.transition.shape}")

        s, a, _ = self.transition.shape
        check_shape("reward", self.reward, (s, a, s))
        check_shape("terminal", self.terminal, (s,))
        check_shape("initial", self.initial, (s,))

        shape = self.observations.shape
        if len(shape) < 2 or shape[0] != s:
            raise ValueError(f"observations: expected shape [{s}, *obs_shape], got {shape}")

    def _check_values(self) -> None:
        check_distribution("transition", self.transition)
        check_distribution("initial", self.initial)

        if not np.isfinite(self.reward).all() or not np.isfinite(self.observations).all():
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


def check_shape(
    name: str,
    array: np.ndarray,
    shape: tuple[int, ...],
) -> None:
    """Raise ValueError unless `array` has exactly this shape."""
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")


def check_distribution(name: str, p: np.ndarray) -> None:
    """Raise ValueError unless `p` is a distribution over its last axis."""
    sums_to_one = np.allclose(p.sum(-1), 1, rtol=0, atol=1e-8)
    if not (p >= 0).all() or not sums_to_one:
        expected = "non-negative probabilities that sum to 1 over the last axis"
        raise ValueError(f"{name}: expected {expected}")


def check_noise(slip: float, obs_dim: int) -> None:
    """Raise InputError unless slip is a probability and obs_dim at least 1."""
    if not 0 <= slip <= 1:
        raise InputError(f"slip: expected a probability in [0, 1], got {slip}")
    if obs_dim < 1:
        raise InputError(f"obs_dim: expected at least 1, got {obs_dim}")


def slippery(successor: np.ndarray, slip: float) -> np.ndarray:
    """Build the transitions of moves that a uniformly random action replaces at times.

    Args:
        successor: state that each move leads to, `[S, A]`.
        slip: probability of the random action.
    Returns:
        P(s' | s, a), `[S, A, S]`.
    """
    intended = np.eye(len(successor))[successor]
    random_move = intended.mean(1, keepdims=True)
    return (1 - slip) * intended + slip * random_move


def _check_gamma(gamma: float) -> None:
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma: expected 0 <= gamma < 1, got {gamma}")


def _backup(
    mdp: TabularMDP,
    gamma: float,
    value: np.ndarray,
) -> np.ndarray:
    """Return r + gamma P value, `[S, A]`; 0 at terminal states."""
    live_value = np.where(mdp.terminal, 0.0, value)
    next_value = mdp.transition.reshape(-1, mdp.n_states) @ live_value
    q = mdp.expected_reward + gamma * next_value.reshape(mdp.n_states, mdp.n_actions)
    return np.where(mdp.terminal[:, None], 0.0, q)


def _under(mdp: TabularMDP, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the Markov reward process of a policy.
    Returns:
        The policy `[S, A]`, P_pi `[S, S]` into states where the episode continues, and r_pi `[S]`.
    """
    policy = np.asarray(policy, np.float64)
    check_shape("policy", policy, (mdp.n_states, mdp.n_actions))
    check_distribution("policy", policy)

    p = (policy[:, None] @ mdp.transition)[:, 0] * ~mdp.terminal
    return policy, p, (policy * mdp.expected_reward).sum(1)


def optimal_q(
    mdp: TabularMDP,
    gamma: float,
    tol: float = 1e-12,
) -> np.ndarray:
    """Compute Q* by value iteration, to `tol` in sup norm (up to float64 rounding).

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
        previous = q
        q = _backup(mdp, gamma, previous.max(1))

        # Both bound |q - Q*|. The first falls in spite of rounding, so the loop ends.
        change = np.abs(q - previous).max()
        error = min(gamma * error, gamma / (1 - gamma) * change)
    return q


def policy_q(
    mdp: TabularMDP,
    policy: np.ndarray,
    gamma: float,
) -> np.ndarray:
    """Compute Q of a policy exactly, by one linear solve.

        V = (I - gamma P_pi)^-1 r_pi,  Q = r + gamma P V

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
    value = np.linalg.solve(np.eye(mdp.n_states) - gamma * p, r)
    return _backup(mdp, gamma, value)


def policy_return(
    mdp: TabularMDP,
    policy: np.ndarray,
    gamma: float,
) -> float:
    """Compute the expected discounted return from `initial` without a time limit.

    Arguments and errors as in `policy_q`.
    """
    value = (np.asarray(policy) * policy_q(mdp, policy, gamma)).sum(1)
    return float(mdp.initial @ value)


def policy_return_undiscounted(
    mdp: TabularMDP,
    policy: np.ndarray,
    horizon: int,
) -> float:
    """Compute the expected sum of the first `horizon` rewards from `initial`.

    It is the mean return of an episode with that time limit, computed by dynamic programming;
    `policy` and errors as in `policy_q`.
    """
    _, p, r = _under(mdp, policy)
    if horizon < 0:
        raise ValueError(f"horizon: expected at least 0 steps, got {horizon}")

    value = np.zeros(mdp.n_states)
    for _ in range(horizon):
        value = r + p @ value
    return float(mdp.initial @ value)


def occupancy(
    mdp: TabularMDP,
    policy: np.ndarray,
    gamma: float,
) -> np.ndarray:
    """Compute the discounted visits to state-action pairs.

        d(s, a) ~ sum_t gamma^t P(s_t = s, a_t = a),  scaled to sum to 1

    Arguments and errors as in `policy_q`.
    Returns:
        `[S, A]`, 0 at terminal states, where no action is taken.
    """
    _check_gamma(gamma)
    policy, p, _ = _under(mdp, policy)
    state_visits = np.linalg.solve(np.eye(mdp.n_states) - gamma * p.T, mdp.initial)
    visits = state_visits[:, None] * policy
    return visits / visits.sum()


def greedy_policy(q: np.ndarray) -> np.ndarray:
    """Return the one-hot greedy policy `[S, A]` of q `[S, A]`; ties go to the lowest action."""
    q = np.asarray(q)
    if q.ndim != 2:
        raise ValueError(f"q: expected shape [S, A], got {q.shape}")
    return np.eye(q.shape[1])[q.argmax(1)]


def epsilon_greedy(q: np.ndarray, epsilon: float) -> np.ndarray:
    """Return a policy `[S, A]` that is random with probability epsilon, else greedy.

    Args:
        q: action values, `[S, A]`.
        epsilon: probability of a uniformly random action.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon: expected a probability, got {epsilon}")
    return (1 - epsilon) * greedy_policy(q) + epsilon / np.shape(q)[1]


def _rows(observations: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the bytes of each observation as one comparable item."""
    flat = observations.reshape(-1, int(np.prod(shape)))
    flat = np.ascontiguousarray(flat + np.float32(0))  # makes -0.0 and 0.0 the same
    row = np.dtype((np.void, flat.itemsize * flat.shape[1]))
    return flat.view(row)[:, 0]


def check_distinct(observations: np.ndarray) -> np.ndarray:
    """Return observations `[S, *obs_shape]` as float32; InputError if two states look alike."""
    observations = np.asarray(observations, np.float32)
    distinct = np.unique(_rows(observations, observations.shape[1:]))
    if len(distinct) < len(observations):
        raise InputError(
            "observations: two states look alike; use a larger obs_dim or another seed"
        )
    return observations


def state_index(mdp: TabularMDP, obs: np.ndarray) -> np.ndarray:
    """Find the state of each observation, by an exact match in float32.

    Args:
        mdp: the process, whose observations must be distinct.
        obs: `[..., *obs_shape]`.
    Returns:
        `[...]` int64.
    Raises:
        InputError: an observation belongs to no state, or two states look alike.
        ValueError: the trailing axes are not `obs_shape`.
    """
    shape = mdp.observations.shape[1:]
    obs = np.asarray(obs, np.float32)
    lead = obs.ndim - len(shape)
    if lead < 0 or obs.shape[lead:] != shape:
        axes = ", ".join(str(length) for length in shape)
        raise ValueError(f"obs: expected shape [..., {axes}], got {obs.shape}")

    # Binary search in the sorted table; positions beyond its end match nothing.
    table = _rows(check_distinct(mdp.observations), shape)
    wanted = _rows(obs, shape)
    order = np.argsort(table)
    position = np.searchsorted(table, wanted, sorter=order)
    index = order[np.minimum(position, len(table) - 1)]

    unknown = np.flatnonzero(table[index] != wanted)
    if len(unknown):
        where = f"{len(unknown)} of {len(wanted)} are of no state of this MDP"
        raise InputError(f"obs: {where} (first at {unknown[0]})")
    return index.reshape(obs.shape[:lead])
