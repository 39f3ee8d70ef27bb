"""Count the episodes of one run."""

from __future__ import annotations

import numpy as np


class Tally:
    """Returns and lengths of one run's episodes; every environment plays a fixed number of them.

    Args:
        quota: `[n]`, episodes of each environment.
    """

    def __init__(self, quota: np.ndarray) -> None:
        n = len(quota)
        self.quota = quota
        self.done = np.zeros(n, int)
        self.reward_sum = np.zeros(n)
        self.steps = np.zeros(n, int)
        # Where an episode has just ended: the next step only resets the environment (Gymnasium's
        # next-step autoreset) and belongs to no episode.
        self.fresh = np.zeros(n, bool)
        self.returns: list[float] = []
        self.lengths: list[float] = []

    @property
    def complete(self) -> bool:
        """Whether every environment has played its episodes."""
        return bool((self.done >= self.quota).all())

    def stop_if_broken(self, *arrays: np.ndarray) -> None:
        """End the run, with NaN for the episodes that are left, at NaN or infinity in an array."""
        if all(array.dtype.kind != "f" or np.isfinite(array).all() for array in arrays):
            return
        missing = int(self.quota.sum()) - len(self.returns)
        self.returns += [np.nan] * missing
        self.lengths += [np.nan] * missing
        self.done = self.quota.copy()

    def add(self, reward: np.ndarray, over: np.ndarray) -> None:
        """Count one step of all environments.

        Args:
            reward: `[n]`.
            over: `[n]`, whether an episode ended.
        """
        played = ~self.fresh
        self.reward_sum += np.where(played, reward, 0.0)
        self.steps += played

        ended = over & played
        counted = ended & (self.done < self.quota)
        for slot in np.flatnonzero(counted):
            self.returns.append(self.reward_sum[slot])
            self.lengths.append(self.steps[slot])

        self.done += ended
        self.reward_sum[ended] = 0.0
        self.steps[ended] = 0
        self.fresh = ended
