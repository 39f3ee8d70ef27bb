"""Gymnasium environments that step a `TabularMDP`, one at a time or many at once."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlop.envs.spaces import Info
from rlop.envs.tabular import TabularMDP
from rlop.types import InputError


def successors(mdp: TabularMDP) -> tuple[np.ndarray, np.ndarray]:
    """Tabulate the states that can follow each pair (s, a).

    Returns:
        At most K states for each pair and their cumulative probabilities, both `[S, A, K]`.
    """
    p = mdp.transition.reshape(-1, mdp.n_states)
    row, state = np.nonzero(p)

    # Position of every possible transition among those of its pair.
    count = np.bincount(row, minlength=len(p))
    first = np.cumsum(count) - count
    slot = np.arange(len(row)) - first[row]

    shape = (len(p), count.max())
    states = np.zeros(shape, np.int64)
    mass = np.zeros(shape)
    states[row, slot] = state
    mass[row, slot] = p[row, state]

    # Divided by itself the last entry is exactly 1: no draw from [0, 1) misses every successor.
    cumulative = np.cumsum(mass, axis=1)
    cumulative /= cumulative[:, -1:]

    table_shape = (mdp.n_states, mdp.n_actions, -1)
    return states.reshape(table_shape), cumulative.reshape(table_shape)


def sample_next(
    table: tuple[np.ndarray, np.ndarray],
    state: np.ndarray,
    action: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw next states by inversion, with one uniform number each.

    Args:
        table: from `successors`.
        state, action: `[n]`.
        rng: source of the numbers.
    Returns:
        Next states, `[n]`.
    Raises:
        ValueError: when shapes do not fit.
    """
    if state.ndim != 1 or state.shape != action.shape:
        shapes = f"{state.shape} and {action.shape}"
        raise ValueError(f"state, action: expected one shape [n], got {shapes}")

    next_states, cumulative = table
    draw = rng.random(len(state))
    slot = (draw[:, None] >= cumulative[state, action]).sum(1)
    return next_states[state, action, slot]


def _observation_space(mdp: TabularMDP) -> gymnasium.spaces.Box:
    # One bound for all dimensions: a dimension that never varies would have equal bounds.
    low = float(mdp.observations.min())
    high = float(mdp.observations.max())
    return gymnasium.spaces.Box(low, high, mdp.observations.shape[1:], np.float32)


class TabularEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One copy of an MDP.

    `info["state"]` is the state's index; `gymnasium.make` adds a time limit.
    """

    metadata: dict[str, object] = {"render_modes": []}  # noqa: RUF012  # Gymnasium's declaration

    def __init__(self, mdp: TabularMDP) -> None:
        self.mdp = mdp
        self.observation_space = _observation_space(mdp)
        self.action_space = gymnasium.spaces.Discrete(mdp.n_actions)
        self._table = successors(mdp)
        self._state = -1

    def _look(self) -> tuple[np.ndarray, Info]:
        # A copy, because callers may write into their observations.
        return self.mdp.observations[self._state].copy(), {"state": self._state}

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, object] | None = None,
    ) -> tuple[np.ndarray, Info]:
        """Draw a first state from `mdp.initial`; `options` are ignored."""
        super().reset(seed=seed)
        self._state = int(self.np_random.choice(self.mdp.n_states, p=self.mdp.initial))
        return self._look()

    def step(self, action: np.int64 | int) -> tuple[np.ndarray, float, bool, bool, Info]:
        """Take one action; terminated when the state it leads to is terminal.

        Raises:
            InputError: for an action out of range, or outside an episode.
        """
        if not self.action_space.contains(action):
            expected = f"expected an integer in 0..{self.mdp.n_actions - 1}"
            raise InputError(f"action: {expected}, got {action!r}")
        if self._state < 0 or self.mdp.terminal[self._state]:
            raise InputError("step: the episode is over or has not begun, expected a call of reset")

        state = self._state
        pair = np.array([state]), np.array([int(action)])
        (next_state,) = sample_next(self._table, *pair, self.np_random)
        self._state = int(next_state)

        obs, info = self._look()
        reward = float(self.mdp.reward[state, int(action), self._state])
        terminated = bool(self.mdp.terminal[self._state])
        return obs, reward, terminated, False, info


class TabularVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` copies of an MDP, stepped together in NumPy, with their own time limit.

    The step after an episode's end ignores the action, pays 0 and returns the first observation of
    the next episode (`AutoresetMode.NEXT_STEP`).

    Args:
        mdp: the process.
        num_envs: number of copies.
        max_episode_steps: steps after which an episode is truncated; None for never.
    Raises:
        InputError: num_envs or max_episode_steps below 1.
    """

    metadata: dict[str, object] = {  # noqa: RUF012  # Gymnasium's declaration
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        mdp: TabularMDP,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
    ) -> None:
        if num_envs < 1 or (max_episode_steps is not None and max_episode_steps < 1):
            numbers = f"{num_envs}, {max_episode_steps}"
            raise InputError(f"num_envs, max_episode_steps: expected at least 1, got {numbers}")

        self.mdp = mdp
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps

        self.single_observation_space = _observation_space(mdp)
        self.single_action_space = gymnasium.spaces.Discrete(mdp.n_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        self._table = successors(mdp)
        self._state: np.ndarray | None = None

    def _start(self, n: int) -> np.ndarray:
        return self.np_random.choice(self.mdp.n_states, size=n, p=self.mdp.initial)

    def _look(self, state: np.ndarray) -> tuple[np.ndarray, Info]:
        info: Info = {"state": state.copy(), "_state": np.ones(self.num_envs, bool)}
        return self.mdp.observations[state], info

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, object] | None = None,
    ) -> tuple[np.ndarray, Info]:
        """Begin `num_envs` episodes; one generator draws everything, and `options` are ignored."""
        super().reset(seed=seed)
        self._state = self._start(self.num_envs)
        self._steps = np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, bool)
        return self._look(self._state)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Take one action `[num_envs]` in every copy.

        Raises:
            InputError: for actions out of range, or before the first reset.
        """
        actions = np.asarray(actions)
        # Gymnasium 1.1 and 1.2 take floats for actions, which cannot index a table.
        is_integer = np.issubdtype(actions.dtype, np.integer)
        if not is_integer or not self.action_space.contains(actions):
            values = f"integers in 0..{self.mdp.n_actions - 1}"
            raise InputError(f"actions: expected {self.num_envs} {values}")
        if self._state is None:
            raise InputError("step: no episode has begun, expected a call of reset")

        # Copies whose episode has ended begin a new one instead of taking a step.
        state = self._state
        restarts = self._ended
        next_state = sample_next(self._table, state, actions, self.np_random)
        reward = np.where(restarts, 0.0, self.mdp.reward[state, actions, next_state])
        next_state[restarts] = self._start(int(restarts.sum()))
        self._steps = np.where(restarts, 0, self._steps + 1)

        terminated = self.mdp.terminal[next_state]
        truncated = np.zeros_like(restarts)
        if self.max_episode_steps is not None:
            truncated = self._steps >= self.max_episode_steps

        self._state = next_state
        self._ended = terminated | truncated
        obs, info = self._look(next_state)
        return obs, reward, terminated, truncated, info
