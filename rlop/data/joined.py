"""Several data sets as one: which source each row is from, and observations that are not copied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike


@dataclass(frozen=True, eq=False)
class Mixture:
    """The sources of the rows of a data set.

    Args:
        names: of the sources.
        weights: share of each in a batch, relative to the others'.
        source: `[N]`, number of the source of each row.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    source: np.ndarray

    def of(self, rows: slice | np.ndarray) -> Mixture:
        """Return the sources of some rows."""
        return Mixture(self.names, self.weights, self.source[rows])


@dataclass(frozen=True, eq=False)
class Joined:
    """The rows of several arrays, one array after another, which look like one array `[N, *S]`.

    Nothing is copied: slices are slices of the arrays. Indexing with rows in ascending order gives
    `Joined` again, or one of the arrays where all rows are from it. Other indices, and
    `numpy.asarray`, give an array.

    Args:
        parts: arrays, or `rlop.data.dqn_replay.stacks.Stacks`, of one dtype and shape of rows, each
            with at least one row.
    """

    parts: tuple[np.ndarray, ...]

    @property
    def starts(self) -> np.ndarray:
        """First row of each part, and the number of all rows."""
        return np.cumsum([0, *map(len, self.parts)])

    @property
    def shape(self) -> tuple[int, ...]:
        """N, and the shape of a row."""
        return (len(self), *self.parts[0].shape[1:])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.parts[0].ndim

    @property
    def dtype(self) -> np.dtype:
        """The parts' dtype."""
        return self.parts[0].dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, rows: slice | np.ndarray | list[int] | int) -> Joined | np.ndarray:
        index = np.arange(len(self))[rows]
        if index.ndim == 0:
            return self._rows(index[None])[0]
        if (np.diff(index) < 0).any():
            return self._rows(index)

        starts = self.starts
        stops = np.searchsorted(index, starts)
        chosen = []
        for part, start, first, stop in zip(self.parts, starts, stops, stops[1:]):
            inside = index[first:stop] - start
            if len(inside):
                is_run = bool((np.diff(inside) == 1).all())
                chosen.append(part[inside[0] : inside[-1] + 1] if is_run else part[inside])
        if not chosen:
            return self.parts[0][:0]
        return chosen[0] if len(chosen) == 1 else Joined(tuple(chosen))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        array = np.concatenate([np.asarray(part) for part in self.parts])
        return array if dtype is None else array.astype(dtype, copy=False)

    def min(self, axis: int) -> np.ndarray:
        """Return the smallest value of every entry over all rows; `axis` is 0."""
        return np.minimum.reduce([part.min(axis) for part in self.parts])

    def max(self, axis: int) -> np.ndarray:
        """Return the largest value of every entry over all rows; `axis` is 0."""
        return np.maximum.reduce([part.max(axis) for part in self.parts])

    def _rows(self, index: np.ndarray) -> np.ndarray:
        """Copy rows in any order."""
        array = np.empty((len(index), *self.shape[1:]), self.dtype)
        starts = self.starts
        for part, start, stop in zip(self.parts, starts, starts[1:]):
            here = (index >= start) & (index < stop)
            array[here] = part[index[here] - start]
        return array
