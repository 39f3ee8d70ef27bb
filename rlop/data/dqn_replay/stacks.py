"""Observations that are stacks of neighboring frames.

Every frame is kept once; stacks are built when they are sampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from rlop.data.mapped import Unchanged, file_of
from rlop.data.sampler import Table
from rlop.types import Batch

DEPTH = 4  # frames of a stack


def ring(add_count: int, rows: int, whole: bool) -> tuple[int, int]:
    """Find where time begins in a file of Dopamine's circular buffer.

    Args:
        add_count: transitions ever added; the cursor, where the next one goes, is `add_count`
            modulo `rows`.
        rows: of the file, or of the piece at its beginning that is read.
        whole: whether this is the whole file.

    Returns:
        Row of the oldest transition, and number of rows that hold data; in temporal order, position
        p is row (first + p) mod rows.

    Reference: `is_full` and `cursor` in circular_replay_buffer.py of Dopamine.
    Differs from: a piece there is a ring, too, in which the last row is followed by the first one
        wherever `rows` does not divide the file; here a piece is straight. Where the cursor is on
        the last row of the piece, as in every published file, both leave that row out.
    """
    if add_count < rows:
        return 0, add_count
    if whole:
        return add_count % rows, rows

    cursor_is_last = add_count % rows == rows - 1
    return 0, rows - 1 if cursor_is_last else rows


def valid_positions(
    terminal: np.ndarray,
    first: int,
    length: int,
    invalid_range: np.ndarray,
) -> np.ndarray:
    """Return the temporal positions at which a transition may be sampled, ascending.

    Left out are positions whose stack lacks frames (the first three), the last one, which has no
    successor, rows in `invalid_range`, and positions whose stack reaches over the end of an
    episode, which covers the padding.

    Args:
        terminal: `[rows]`, not 0 where an episode ended.
        first: row of the oldest transition, from `ring`.
        length: number of rows that hold data, from `ring`.
        invalid_range: rows about the cursor, as the file has them, of any length.

    Reference: `is_valid_transition` and `sample_index_batch` in circular_replay_buffer.py of
        Dopamine, update horizon 1.
    Differs from: `episode_end_indices`, a pickle that the published files lack, is not read.
    """
    rows = len(terminal)
    row = (first + np.arange(length)) % rows
    over = terminal[row] != 0
    position = np.arange(DEPTH - 1, max(length - 1, DEPTH - 1))

    crosses_end = np.zeros(len(position), bool)
    for offset in range(DEPTH - 1):
        crosses_end |= over[offset : offset + len(position)]
    is_invalid = np.isin(row[position], invalid_range)
    return position[~crosses_end & ~is_invalid]


@dataclass(frozen=True, eq=False)
class Stacks:
    """N row numbers into shared frames, which look like an array `[N, 4, H, W]`.

    Channels first, the oldest frame at channel 0 and the newest at channel 3. Indexing with a
    slice, a mask or indices gives `Stacks` again, which costs no frames; with one number, or
    through `numpy.asarray`, an array.

    Args:
        frames: `[M, H, W]` uint8, possibly a memory-mapped file.
        last: `[N]` int64, row of the newest frame of each stack, at least 3; the others stand
            before it.
    """

    frames: np.ndarray
    last: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """N, 4, height, width."""
        return (len(self.last), DEPTH, *self.frames.shape[1:])

    @property
    def ndim(self) -> int:
        """Always 4."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The frames' dtype."""
        return self.frames.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all frames, and of the row numbers."""
        return self.frames.nbytes + self.last.nbytes

    def __len__(self) -> int:
        return len(self.last)

    def __getitem__(self, rows: slice | np.ndarray | list[int] | int) -> Stacks | np.ndarray:
        chosen = replace(self, last=self.last[rows])
        if chosen.last.ndim == 0:
            return np.asarray(chosen)
        return chosen

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        rows = self.last[..., None] + np.arange(1 - DEPTH, 1)
        stacked = np.asarray(self.frames)[rows]
        if dtype is None:
            return stacked
        return stacked.astype(dtype, copy=False)

    def min(self, axis: int) -> np.ndarray:
        """Return the smallest value of every pixel `[H, W]` over all frames."""
        return np.asarray(self.frames.min(axis))

    def max(self, axis: int) -> np.ndarray:
        """Return the largest value of every pixel `[H, W]` over all frames."""
        return np.asarray(self.frames.max(axis))


class FrameTable(Table):
    """A `Table` whose observations are `Stacks`: one gather of frames builds obs and next_obs.

    A one-step transition needs five frames, not eight: `obs` and `next_obs` of a batch are
    overlapping views of one stretch of frames, its first and its last four, and must not be written
    to. Rows of several steps take two stretches of four. Frames of a memory-mapped file stay there,
    and batches are brought to the device.

    Args:
        columns: of a data set, `obs` and `next_obs` `Stacks` of the same frames.
        device: where batches are wanted; on a CPU frames share the array's memory.
    """

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        device: torch.device | str = "cpu",
    ) -> None:
        others = dict(columns)
        obs = cast(Stacks, others.pop("obs"))
        next_obs = cast(Stacks, others.pop("next_obs"))
        super().__init__(others, device)

        file = file_of(obs.frames)
        self.on_disk = file is not None
        self.check_file = Unchanged() if file is None else Unchanged(file)
        self.frames = torch.from_numpy(obs.frames)
        if not self.on_disk:
            self.frames = self.frames.to(device)
        self.first = torch.from_numpy(obs.last - (DEPTH - 1)).to(device)

        # How far the second stretch begins after the first; None where one stretch holds both.
        ahead = next_obs.last - obs.last
        one_step = bool((ahead == 1).all())
        self.ahead: Tensor | None = None
        if not one_step:
            self.ahead = torch.from_numpy(ahead).to(device)

        # Row i is the stretch of frames i, i + 1, ..., as one overlapping view of all frames.
        length = DEPTH + 1 if one_step else DEPTH
        pixels = self.frames[0].numel()
        n_stretches = len(self.frames) - length + 1
        self.stretches = self.frames.as_strided((n_stretches, length * pixels), (pixels, 1))

    def gather(self, index: Tensor) -> Batch:
        """Return the transitions at `index` `[R, B]`; observations `[R, B, 4, H, W]` uint8."""
        rows = {name: look_up(column, index) for name, column in self.columns.items()}
        starts = torch.take(self.first, index)
        if self.ahead is not None:
            starts = torch.stack([starts, starts + torch.take(self.ahead, index)], -1)

        if self.on_disk:
            self.check_file()
            window = torch.embedding(self.stretches, starts.cpu()).to(index.device)
        else:
            window = torch.embedding(self.stretches, starts)

        window = window.view(*index.shape, -1, *self.frames.shape[1:])
        obs = window.narrow(2, 0, DEPTH)
        next_obs = window.narrow(2, -DEPTH, DEPTH)
        extra = {key: rows.pop(key) for key in self.extra}
        return Batch(obs=obs, next_obs=next_obs, index=index, extra=extra, **rows)


def look_up(column: Tensor, index: Tensor) -> Tensor:
    """Return rows of a column at `index` `[R, B]`.

    One call suffices for a column of numbers, which counts at 10,000 batches a second.
    """
    if column.ndim == 1:
        return torch.take(column, index)
    return column.index_select(0, index.flatten()).unflatten(0, index.shape)
