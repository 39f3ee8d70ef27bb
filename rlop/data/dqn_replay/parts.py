"""Select what is read of each checkpoint of a replay log, and join the parts to one data set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from rlop.data.changes import with_dropped
from rlop.data.columns import action_column
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.files import (
    FLAG,
    Checkpoint,
    file_name,
    read_checkpoint,
    read_frames,
)
from rlop.data.dqn_replay.queries import Subset
from rlop.data.dqn_replay.stacks import DEPTH, Stacks, ring, valid_positions
from rlop.data.dqn_replay.storage import identity
from rlop.data.mapped import advancing
from rlop.types import InputError, Spec

THREADS = 4  # files unpacked at once, on as many cores at most
INCOMPLETE = "padding, or rows whose stack or next frame is not there"


@dataclass(frozen=True, eq=False)
class Part:
    """The selection from one checkpoint.

    Positions count in the order of time, rows as the file does.

    Args:
        folder: of the checkpoint.
        suffix: its number.
        shape: `[N, H, W]` of all its frames.
        columns: of the first rows, those that are read.
        first: row of position 0.
        position: of the transitions, ascending.
        dropped: number of the rows that are no transitions.
        kept: positions of the frames that they need, ascending.
    """

    folder: Path
    suffix: int
    shape: tuple[int, ...]
    columns: dict[str, np.ndarray]
    first: int
    position: np.ndarray
    dropped: int
    kept: np.ndarray

    @property
    def path(self) -> Path:
        """The file of the frames."""
        return self.folder / file_name("observation", self.suffix)

    @property
    def n_rows(self) -> int:
        """Number of rows that are read."""
        return len(self.columns["terminal"])

    def rows(self, position: np.ndarray) -> np.ndarray:
        """Return the rows of positions."""
        return (self.first + position) % self.n_rows

    def place(self, offset: int) -> np.ndarray:
        """Return for each row the row of its frame among the frames of all parts, or -1."""
        place = np.full(self.n_rows, -1)
        place[self.rows(self.kept)] = offset + np.arange(len(self.kept))
        return place


def read_parts(folder: Path, suffixes: Sequence[int], subset: Subset) -> list[Part]:
    """Read everything but the frames, and select.

    Args:
        folder: of the checkpoints.
        suffixes: their numbers, in order.
        subset: what to select.
    """
    checkpoints = [read_checkpoint(folder, suffix) for suffix in suffixes]
    total = sum(checkpoint.shape[0] for checkpoint in checkpoints)
    rows_left = round(subset.share * total) if subset.kind == "first" else total

    parts: list[Part] = []
    for suffix, checkpoint in zip(suffixes, checkpoints):
        rows = checkpoint.shape[0]
        if subset.kind == "each":
            rows = round(subset.share * rows)
        rows = min(rows_left, rows)

        if subset.kind == "first":
            rows_left -= rows
        if rows > 0:
            parts.append(_part(folder, suffix, checkpoint, rows, subset))
    return parts


def _part(folder: Path, suffix: int, checkpoint: Checkpoint, rows: int, subset: Subset) -> Part:
    """Select from the first rows of a checkpoint."""
    columns = {key: column[:rows].copy() for key, column in checkpoint.columns.items()}
    is_whole = rows == checkpoint.shape[0]
    first, length = ring(checkpoint.add_count, rows, is_whole)
    position = valid_positions(columns["terminal"], first, length, checkpoint.invalid_range)

    if FLAG in columns:
        # The row after a truncated one belongs to another episode.
        truncated = columns[FLAG][(first + position) % rows] != 0
        position = position[~truncated]

    dropped = rows - len(position)
    if subset.kind == "iid":
        # Seeded by the file's number too: files of equal size get different draws.
        rng = np.random.default_rng([subset.seed, suffix])
        count = round(subset.share * len(position))
        drawn = rng.choice(position, count, replace=False)
        position = np.sort(drawn)

    kept = _frames_of(position, length)
    return Part(folder, suffix, checkpoint.shape, columns, first, position, dropped, kept)


def _frames_of(position: np.ndarray, length: int) -> np.ndarray:
    """Return the positions of the frames in the stacks of transitions and of their successors."""
    needed = np.zeros(length, bool)
    oldest, successor = 1 - DEPTH, 1
    for offset in range(oldest, successor + 1):
        needed[position + offset] = True
    return np.flatnonzero(needed)


def frame_offsets(parts: Sequence[Part]) -> list[int]:
    """Return for each part the row of its first frame among the frames of all parts."""
    offsets: list[int] = []
    offset = 0
    for part in parts:
        offsets.append(offset)
        offset += len(part.kept)
    return offsets


def fill(parts: Sequence[Part], out: np.ndarray) -> None:
    """Read the frames of all parts, several files at once.

    Args:
        parts: in order.
        out: `[M, H, W]` uint8, M the sum of the frames kept.
    """

    advance = advancing()

    def fill_part(part: Part, offset: int) -> None:
        whole = part.n_rows == part.shape[0]
        read_frames(part.path, part.place(offset), out, whole)
        advance(len(part.kept) * out[0].nbytes)

    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        # A list, because exceptions appear only where results are taken.
        list(pool.map(fill_part, parts, frame_offsets(parts)))


def cache_file(parts: Sequence[Part], folder: Path) -> Path:
    """Name the file of these frames in a folder.

    Another selection of frames, or a file that has changed, gives another name.
    """
    digest = hashlib.sha256()
    for part in parts:
        state = (*identity(part.path), part.first, part.n_rows)
        digest.update(" ".join(map(str, state)).encode())
        digest.update(part.kept.tobytes())

    game, run = parts[0].folder.parts[-3:-1]
    return folder / f"{game}-{run}-{digest.hexdigest()[:16]}.frames"


def assemble(
    parts: Sequence[Part],
    frames: np.ndarray,
    name: str,
    clip_reward: bool,
    n_actions: int | None,
    env_id: str | None,
) -> Dataset:
    """Join the parts to one data set.

    Raises:
        InputError: an action out of range.
    """
    pieces = [_columns(part, frames, offset) for part, offset in zip(parts, frame_offsets(parts))]
    data = join(pieces, frames, name, n_actions, env_id)
    if clip_reward:
        data.reward = np.clip(data.reward, -1, 1)
    dropped = sum(part.dropped for part in parts)
    return with_dropped(data, dropped, sum(part.n_rows for part in parts), INCOMPLETE)


def join(
    pieces: Sequence[dict[str, np.ndarray]],
    frames: np.ndarray,
    name: str,
    n_actions: int | None,
    env_id: str | None,
) -> Dataset:
    """Join columns of transitions to one data set of stacked frames.

    Args:
        pieces: each with `action`, `reward`, `terminated`, `end`, `last` (row of the newest frame,
            which the next one's follows), and columns for `infos`.
        frames: `[M, H, W]` uint8.
        name: of the data set.
        n_actions: number of actions; by default the largest one plus one.
        env_id: Gymnasium id for evaluation.

    Raises:
        InputError: an action out of range.
    """
    columns: dict[str, np.ndarray] = {}
    for key in pieces[0]:
        columns[key] = np.concatenate([piece[key] for piece in pieces])

    try:
        action, n_actions = action_column("action", columns.pop("action"), n_actions)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None

    # A `Dataset` treats stacks as the arrays that they look like.
    last = columns.pop("last")
    obs = cast(np.ndarray, Stacks(frames, last))
    next_obs = cast(np.ndarray, Stacks(frames, last + 1))
    terminated, end = columns.pop("terminated"), columns.pop("end")
    return Dataset(
        obs=obs,
        action=action,
        reward=columns.pop("reward").astype(np.float32, copy=False),
        next_obs=next_obs,
        terminated=terminated,
        truncated=end & ~terminated,
        spec=Spec(obs.shape[1:], n_actions, obs_dtype="uint8", env_id=env_id),
        name=name,
        infos=columns,
        end=end,
    )


def _columns(part: Part, frames: np.ndarray, offset: int) -> dict[str, np.ndarray]:
    """Return the columns of a part's transitions.

    Args:
        part: of one checkpoint.
        frames: of all parts.
        offset: of the part's frames among them.
    """
    position = part.position
    row = part.rows(position)
    terminal = part.columns["terminal"] != 0
    terminated = terminal[row]

    last = offset + np.searchsorted(part.kept, position)
    follows = np.append(np.diff(position) == 1, False)

    # Three rows of padding follow a terminal row, then the first row of the next episode.
    first = (position >= DEPTH) & terminal[part.rows(position - DEPTH)]
    if len(position) and position[0] == DEPTH - 1:
        padding = frames[last[0] - DEPTH + 1 : last[0]]
        first[0] = not padding.any()

    return {
        "action": part.columns["action"][row],
        "reward": part.columns["reward"][row],
        "terminated": terminated,
        "end": terminated | ~follows,
        "last": last,
        "file": np.full(len(row), part.suffix, np.int32),
        "row": row.astype(np.int32),
        "first": first,
    }
