"""Gymnasium environments that step a `TabularMDP`, one at a time or many at once."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlop.envs.tabular import TabularMDP
from rlop.types import InputError


def successors(mdp: TabularMDP) -> tuple[np.ndarray, np.ndarray]:
    """The at most K states that can follow each pair, and their cumulative probabilities, both `[S, A, K]`."""
    p = mdp.transition.reshape(-1, mdp.n_states)
    row, col = np.nonzero(p)
    count = np.bincount(row, minlength=len(p))
    slot = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    state, mass = np.zeros((len(p), count.max()), np.int64), np.zeros((len(p), count.max()))
    state[row, slot], mass[row, slot] = col, p[row, col]
    cumulative = np.cumsum(mass, axis=1)
    # Divided by itself the last entry is exactly 1, so that no draw from [0, 1) falls behind the last successor.
    cumulative /= cumulative[:, -1:]
    shape = (mdp.n_states, mdp.n_actions, -1)
    return state.reshape(shape), cumulative.reshape(shape)


def sample_next(
    table: tuple[np.ndarray, np.ndarray],
    state: np.ndarray,
    action: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw the next states of pairs `[n]` from the table of `successors`, by inversion; one uniform number each."""
    if state.ndim != 1 or state.shape != action.shape:
        raise ValueError(
            f"state, action: expected one shape [n], got {state.shape} and {action.shape}"
        )
    following, cumulative = table
    draw = rng.random(len(state))
    return following[state, action, (draw[:, None] >= cumulative[state, action]).sum(1)]


def _observation_space(mdp: TabularMDP) -> gymnasium.spaces.Box:
    # One bound for all dimensions: a dimension that never varies would otherwise have equal bounds.
    low, high = float(mdp.observations.min()), float(mdp.observations.max())
    return gymnasium.spaces.Box(low, high, mdp.observations.shape[1:], np.float32)


class TabularEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One copy of an MDP. `info["state"]` is the state's index; a time limit is for `gymnasium.make` to add."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, mdp: TabularMDP) -> None:
        self.mdp = mdp
        self.observation_space = _observation_space(mdp)
        self.action_space = gymnasium.spaces.Discrete(mdp.n_actions)
        self._table = successors(mdp)
        self._state = -1

    def _look(self) -> tuple[np.ndarray, dict[str, Any]]:
        return self.mdp.observations[self._state].copy(), {"state": self._state}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a first state from `mdp.initial`; `options` are ignored."""
        super().reset(seed=seed)
        self._state = int(self.np_random.choice(self.mdp.n_states, p=self.mdp.initial))
        return self._look()

    def step(self, action: np.int64 | int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one action; terminated when the state it leads to is terminal."""
        if not self.action_space.contains(action):
            raise InputError(
                f"action: expected an integer in 0..{self.mdp.n_actions - 1}, got {action!r}"
            )
        if self._state < 0 or self.mdp.terminal[self._state]:
            raise InputError("step: the episode is over or has not begun, expected a call of reset")
        s, a = self._state, int(action)
        self._state = int(sample_next(self._table, np.array([s]), np.array([a]), self.np_random)[0])
        obs, info = self._look()
        return (
            obs,
            float(self.mdp.reward[s, a, self._state]),
            bool(self.mdp.terminal[self._state]),
            False,
            info,
        )


class TabularVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` copies of an MDP, stepped together in NumPy, with their own time limit.

    The step after an episode's end ignores the action, pays 0 and returns the first observation of the next episode
    (`AutoresetMode.NEXT_STEP`).

    Args:
        mdp: the process.
        num_envs: number of copies.
        max_episode_steps: steps after which an episode is truncated; None for never.

    Raises:
        InputError: num_envs or max_episode_steps below 1.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self, mdp: TabularMDP, num_envs: int = 1, max_episode_steps: int | None = None
    ) -> None:
        if num_envs < 1 or (max_episode_steps is not None and max_episode_steps < 1):
            raise InputError(
                f"num_envs, max_episode_steps: expected at least 1, got {num_envs}, {max_episode_steps}"
            )
        self.mdp, self.num_envs, self.max_episode_steps = mdp, num_envs, max_episode_steps
        self.single_observation_space = _observation_space(mdp)
        self.single_action_space = gymnasium.spaces.Discrete(mdp.n_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._table = successors(mdp)
        self._state: np.ndarray | None = None

    def _start(self, n: int) -> np.ndarray:
        return self.np_random.choice(self.mdp.n_states, size=n, p=self.mdp.initial)

    def _look(self, state: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        return self.mdp.observations[state], {
            "state": state.copy(),
            "_state": np.ones(self.num_envs, bool),
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin `num_envs` episodes; all draws come from one generator, and `options` are ignored."""
        super().reset(seed=seed)
        self._state = self._start(self.num_envs)
        self._steps = np.zeros(self.num_envs, np.int64)
        self._done = np.zeros(self.num_envs, bool)
        return self._look(self._state)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one action `[num_envs]` in every copy."""
        actions = np.asarray(actions)
        if not self.action_space.contains(actions):
            raise InputError(
                f"actions: expected {self.num_envs} integers in 0..{self.mdp.n_actions - 1}"
            )
        if self._state is None:
            raise InputError("step: no episode has begun, expected a call of reset")
        state, ended = self._state, self._done
        following = sample_next(self._table, state, actions, self.np_random)
        reward = np.where(ended, 0.0, self.mdp.reward[state, actions, following])
        following[ended] = self._start(int(ended.sum()))
        self._steps = np.where(ended, 0, self._steps + 1)
        terminated = self.mdp.terminal[following]
        limit = self.max_episode_steps
        truncated = np.zeros_like(ended) if limit is None else self._steps >= limit
        self._state, self._done = following, terminated | truncated
        obs, info = self._look(following)
        return obs, reward, terminated, truncated, info
