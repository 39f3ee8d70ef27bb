"""Mean and deviation of observations that memory may not hold."""

from __future__ import annotations

import numpy as np

from rlop.data.mapped import pieces


def moments(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of every entry, in two passes, some rows at a time.

    Args:
        obs: `[N, *S]`, or what looks like an array.
    Returns:
        Both float64 `[*S]`, the same whether memory or a file holds the rows.
    """
    total = np.zeros(obs.shape[1:])
    for rows in pieces(obs):
        total += np.asarray(obs[rows]).sum(0, dtype=np.float64)
    mean = total / len(obs)

    squares = np.zeros(obs.shape[1:])
    for rows in pieces(obs):
        squares += np.square(np.asarray(obs[rows]) - mean).sum(0)
    return mean, np.sqrt(squares / len(obs))
