"""A chain of states whose optimal values are known by hand."""

from __future__ import annotations

import numpy as np

from rlop.envs.gridworld import check_options, slippery
from rlop.envs.tabular import TabularMDP, check_distinct
from rlop.types import InputError

MAX_LENGTH = 1024  # transition and reward are dense


def chain(
    length: int = 6,
    *,
    slip: float = 0.0,
    observation: str = "tabular",
    obs_dim: int = 8,
    seed: int = 0,
) -> TabularMDP:
    """A line of states with the actions left (0) and right (1), from the left end to the right end.

    Entering the right end pays 1 and is terminal, all else pays 0; left of the left end is the left end. Without slip

        Q*(s, right) = gamma^(length - 2 - s),   Q*(s, left) = gamma^(length - 1 - max(s - 1, 0))

    for every s but the right end, where Q* = 0.

    Args:
        length: number of states, 2 to 1024.
        slip: probability that a uniformly random action replaces the agent's.
        observation: tabular (one-hot of the state) or random (uniform in [-1, 1], independent, `[obs_dim]`).
        obs_dim: width of random observations.
        seed: of random observations.

    Returns:
        The MDP.

    Raises:
        InputError: an impossible value.
    """
    check_options(slip, obs_dim, observation=(observation, ("tabular", "random")))
    if not isinstance(length, int) or not 2 <= length <= MAX_LENGTH:
        raise InputError(f"length: expected an integer from 2 to {MAX_LENGTH}, got {length!r}")
    state = np.arange(length)
    following = np.stack([np.maximum(state - 1, 0), np.minimum(state + 1, length - 1)], 1)
    transition, last = slippery(following, slip), state == length - 1
    transition[-1] = last
    reward = np.broadcast_to(last, transition.shape) * ~last[:, None, None]
    observations = np.eye(length)
    if observation == "random":
        observations = check_distinct(np.random.default_rng(seed).uniform(-1, 1, (length, obs_dim)))
    return TabularMDP(transition, reward, last, np.eye(length)[0], observations)
