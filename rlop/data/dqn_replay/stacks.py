"""Observations that are stacks of neighbouring frames: every frame is kept once, stacks are built when sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlop.data.sampler import Table
from rlop.types import Batch

DEPTH = 4  # frames of a stack


def ring(add_count: int, rows: int, whole: bool) -> tuple[int, int]:
    """Where time begins in a file of Dopamine's circular buffer, and how many of its rows hold data.

    Args:
        add_count: transitions ever added; the cursor, where the next one goes, is `add_count` modulo `rows`.
        rows: of the file, or of the piece at its beginning that is read.
        whole: whether this is the whole file.

    Returns:
        Row of the oldest transition, and number of rows; in temporal order, position p is row (first + p) mod rows.

    Reference: `is_full` and `cursor` in circular_replay_buffer.py of Dopamine. Differs from: a piece there is a ring,
    too, in which the last row is followed by the first one wherever `rows` does not divide the file; here a piece is
    straight. Where the cursor is on the last row of the piece, as in every published file, both leave that row out.
    """
    if add_count < rows:
        return 0, add_count
    if whole:
        return add_count % rows, rows
    return 0, rows - (add_count % rows == rows - 1)


def valid_positions(
    terminal: np.ndarray, first: int, length: int, invalid_range: np.ndarray
) -> np.ndarray:
    """Temporal positions at which a transition may be sampled, ascending.

    Not those whose stack lacks frames (the first three), the last one, which has no successor, rows in
    `invalid_range`, and those whose stack reaches over the end of an episode, which covers the padding.

    Args:
        terminal: `[rows]`, not 0 where an episode ended.
        first, length: from `ring`.
        invalid_range: rows about the cursor, as the file has them, of any length.

    Reference: `is_valid_transition` and `sample_index_batch` in circular_replay_buffer.py of Dopamine, update horizon
    1. Differs from: `episode_end_indices`, a pickle that the published files lack, is not read.
    """
    over = terminal[(first + np.arange(length)) % len(terminal)] != 0
    position = np.arange(DEPTH - 1, max(length - 1, DEPTH - 1))
    crossed = np.zeros(len(position), bool)
    for back in range(DEPTH - 1):
        crossed |= over[back : back + len(position)]
    return position[~crossed & ~np.isin((first + position) % len(terminal), invalid_range)]


@dataclass(frozen=True, eq=False)
class Stacks:
    """What looks like an array `[N, 4, H, W]` and is N row numbers into frames that all of them share.

    Channels first, the oldest frame at channel 0 and the newest at channel 3. Indexing with a slice, a mask or
    indices gives `Stacks` again, which costs no frames; with one number, or through `numpy.asarray`, an array.

    Args:
        frames: `[M, H, W]` uint8, possibly a memory-mapped file.
        last: `[N]` int64, row of the newest frame of each stack, at least 3; the others stand before it.
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
    def dtype(self) -> np.dtype[Any]:
        """Of the frames."""
        return self.frames.dtype

    def __len__(self) -> int:
        return len(self.last)

    def __getitem__(self, rows: Any) -> Any:
        chosen = replace(self, last=self.last[rows])
        return chosen if chosen.last.ndim else np.asarray(chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        stacked = np.asarray(self.frames)[self.last[..., None] + np.arange(1 - DEPTH, 1)]
        return stacked if dtype is None else stacked.astype(dtype, copy=False)

    def min(self, axis: int) -> np.ndarray:
        """Smallest value of every pixel `[H, W]` over all frames."""
        return np.asarray(self.frames.min(axis))

    def max(self, axis: int) -> np.ndarray:
        """Largest value of every pixel `[H, W]` over all frames."""
        return np.asarray(self.frames.max(axis))


class FrameTable(Table):
    """A `Table` whose observations are `Stacks`: one gather of stretches of frames builds obs and next_obs.

    A one-step transition needs five frames, not eight: `obs` and `next_obs` of a batch are overlapping views of one
    stretch, its first and its last four frames, and must not be written to. Rows of several steps take two
    stretches of four. Frames of a memory-mapped file stay there, and batches are brought to the device.

    Args:
        columns: of a data set, `obs` and `next_obs` `Stacks` of the same frames.
        device: where batches are wanted; on a CPU frames share the array's memory.
    """

    def __init__(self, columns: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        obs, next_obs = columns["obs"], columns["next_obs"]
        super().__init__(
            {key: value for key, value in columns.items() if key not in ("obs", "next_obs")}, device
        )
        self.on_disk = isinstance(obs.frames, np.memmap)
        self.frames = torch.from_numpy(obs.frames).to("cpu" if self.on_disk else device)
        self.first = torch.from_numpy(obs.last - (DEPTH - 1)).to(device)
        ahead = next_obs.last - obs.last
        one_step = bool((ahead == 1).all())
        self.ahead = None if one_step else torch.from_numpy(ahead).to(device)
        length, pixels = DEPTH + one_step, self.frames[0].numel()
        self.stretches = self.frames.as_strided(
            (len(self.frames) - length + 1, length * pixels), (pixels, 1)
        )

    def gather(self, index: Tensor) -> Batch:
        """The transitions at `index` `[R, B]`; observations `[R, B, 4, H, W]` uint8."""
        rows = {name: look_up(column, index) for name, column in self.columns.items()}
        starts = torch.take(self.first, index)
        if self.ahead is not None:
            starts = torch.stack([starts, starts + torch.take(self.ahead, index)], -1)
        if self.on_disk:
            window = torch.embedding(self.stretches, starts.cpu()).to(index.device)
        else:
            window = torch.embedding(self.stretches, starts)
        window = window.view(*index.shape, -1, *self.frames.shape[1:])
        obs, next_obs = window.narrow(2, 0, DEPTH), window.narrow(2, -DEPTH, DEPTH)
        extra = {key: rows.pop(key) for key in self.extra}
        return Batch(obs=obs, next_obs=next_obs, index=index, extra=extra, **rows)


def look_up(column: Tensor, index: Tensor) -> Tensor:
    """Rows of a column at `index` `[R, B]`: for numbers one call, which at 10,000 batches a second counts."""
    if column.ndim == 1:
        return torch.take(column, index)
    return column.index_select(0, index.flatten()).unflatten(0, index.shape)


def make_table(columns: Mapping[str, Any], device: torch.device | str = "cpu") -> Table:
    """The table that fits the columns of a data set: `FrameTable` for stacked frames, else `Table`."""
    return (FrameTable if isinstance(columns["obs"], Stacks) else Table)(columns, device)
