"""A chain of states whose optimal values are known by hand."""

from __future__ import annotations

import numpy as np

from rlop.config.checks import check_known
from rlop.envs.tabular import TabularMDP, check_distinct, check_noise, slippery
from rlop.types import InputError

MAX_LENGTH = 1024  # transition and reward are dense
OBSERVATIONS = ("tabular", "random")


def chain(
    length: int = 6,
    *,
    slip: float = 0.0,
    observation: str = "tabular",
    obs_dim: int = 8,
    seed: int = 0,
) -> TabularMDP:
    """Build a line of states with the actions left (0) and right (1), starting at the left end.

    Entering the right end pays 1 and is terminal, everything else pays 0; moving left at the left
    end changes nothing. Without slip

        Q*(s, right) = gamma^(length - 2 - s),   Q*(s, left) = gamma^(length - 1 - max(s - 1, 0))

    for every s but the right end, where Q* = 0.

    Args:
        length: number of states, 2 to 1024.
        slip: probability that a uniformly random action replaces the agent's.
        observation: tabular (one-hot of the state) or random (uniform in [-1, 1], independent,
            `[obs_dim]`).
        obs_dim: width of random observations.
        seed: seed of random observations.
    Returns:
        The MDP.
    Raises:
        InputError: an impossible value.
    """
    check_noise(slip, obs_dim)
    check_known("observation", observation, OBSERVATIONS)
    if not isinstance(length, int) or not 2 <= length <= MAX_LENGTH:
        raise InputError(f"length: expected an integer from 2 to {MAX_LENGTH}, got {length!r}")

    state = np.arange(length)
    left = np.maximum(state - 1, 0)
    right = np.minimum(state + 1, length - 1)
    transition = slippery(np.stack([left, right], 1), slip)

    # The right end is absorbing, and pays when it is entered from another state.
    terminal = state == length - 1
    transition[-1] = terminal
    reward = np.broadcast_to(terminal, transition.shape) * ~terminal[:, None, None]

    observations = np.eye(length)
    if observation == "random":
        rng = np.random.default_rng(seed)
        observations = check_distinct(rng.uniform(-1, 1, (length, obs_dim)))

    start = np.eye(length)[0]
    return TabularMDP(transition, reward, terminal, start, observations)
