"""Episodes of a data set side by side, as importance weighting reads them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlop.data.dataset import Dataset


class Grid(NamedTuple):
    """Episodes E by steps T, T that of the longest one.

    Args:
        row: row of the data at each step, `[E, T]` int64; 0 where there is none.
        exists: whether there is one, `[E, T]` bool.
        counts: whether the outcome of the step is known, `[E, T]` bool: it exists, or the episode
            had terminated before, and nothing is earned any more. After a cut it is unknown.
    """

    row: np.ndarray
    exists: np.ndarray
    counts: np.ndarray

    def lay(self, values: np.ndarray, filler: float = 0.0) -> np.ndarray:
        """Lay values `[..., N]` of the rows out as `[..., E, T]` float64.

        Args:
            values: one for each row of the data.
            filler: where there is no row.
        """
        return np.where(self.exists, np.asarray(values, np.float64)[..., self.row], filler)

    @property
    def first(self) -> np.ndarray:
        """Rows at which the episodes begin, `[E]`."""
        return self.row[:, 0]


def grid_of(data: Dataset) -> Grid:
    """Lay the episodes of a data set out side by side.

    Args:
        data: with one-step rows, in episode order.
    """
    lengths = data.episode_lengths()
    last = data.episode_ends
    first = last - lengths + 1

    step = np.arange(lengths.max())
    exists = step < lengths[:, None]
    row = np.where(exists, first[:, None] + step, 0)
    counts = exists | data.terminated[last][:, None]
    return Grid(row, exists, counts)
