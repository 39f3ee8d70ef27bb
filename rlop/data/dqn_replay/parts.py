"""What is wanted of each checkpoint of a replay log, and how the parts become one data set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlop.data.columns import action_column
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.files import FLAG, STORED, file_name, read_columns, read_frames
from rlop.data.dqn_replay.stacks import DEPTH, Stacks, ring, valid_positions
from rlop.types import InputError, Spec

THREADS = 4  # files unpacked at once, on as many cores as there are


@dataclass(eq=False)
class Part:
    """What is wanted of one checkpoint; positions count in the order of time, rows as the file does.

    Args:
        folder, suffix: which checkpoint.
        shape: `[N, H, W]` of all its frames.
        columns: of the first rows, those that are read.
        first: row of position 0.
        position: of the transitions, ascending.
        kept: positions of the frames that they need, ascending.
    """

    folder: Path
    suffix: int
    shape: tuple[int, ...]
    columns: dict[str, np.ndarray]
    first: int
    position: np.ndarray
    kept: np.ndarray

    @property
    def path(self) -> Path:
        """The file of the frames."""
        return self.folder / file_name("observation", self.suffix)

    def rows(self, position: np.ndarray) -> np.ndarray:
        """Rows of positions."""
        return (self.first + position) % len(self.columns["terminal"])

    def place(self, offset: int) -> np.ndarray:
        """For each row that is read, the row of its frame among the frames of all parts, or -1."""
        place = np.full(len(self.columns["terminal"]), -1)
        place[self.rows(self.kept)] = offset + np.arange(len(self.kept))
        return place


def read_parts(
    folder: Path, suffixes: Sequence[int], kind: str, share: float, seed: int
) -> list[Part]:
    """Everything but the frames.

    Args:
        folder: of the checkpoints.
        suffixes: their numbers, in order.
        kind: each, first or iid, see `read_dqn_replay`.
        share: in (0, 1].
        seed: of the draws.
    """
    found = [read_columns(folder, suffix) for suffix in suffixes]
    total = sum(shape[0] for _, shape in found)
    left = round(share * total) if kind == "first" else total
    parts = []
    for suffix, (columns, shape) in zip(suffixes, found):
        rows = min(left, round(share * shape[0]) if kind == "each" else shape[0])
        left -= rows if kind == "first" else 0
        if rows > 0:
            parts.append(_part(folder, suffix, columns, shape, rows))
            if kind == "iid":
                _draw(parts[-1], share, np.random.default_rng([seed, suffix]))
    return parts


def _part(
    folder: Path, suffix: int, columns: dict[str, np.ndarray], shape: tuple[int, ...], rows: int
) -> Part:
    cut = {key: columns[key][:rows].copy() for key in (*STORED[1:], FLAG) if key in columns}
    first, length = ring(int(columns["add_count"]), rows, rows == shape[0])
    position = valid_positions(cut["terminal"], first, length, columns["invalid_range"])
    if FLAG in cut:
        position = position[cut[FLAG][(first + position) % rows] == 0]
    return Part(folder, suffix, shape, cut, first, position, _frames_of(position, length))


def _draw(part: Part, share: float, rng: np.random.Generator) -> None:
    count = round(share * len(part.position))
    part.position = np.sort(rng.choice(part.position, count, replace=False))
    part.kept = _frames_of(part.position, part.shape[0])


def _frames_of(position: np.ndarray, length: int) -> np.ndarray:
    """Positions of the frames in the stacks at and behind these positions."""
    needed = np.zeros(length, bool)
    for offset in range(1 - DEPTH, 2):
        needed[position + offset] = True
    return np.flatnonzero(needed)


def fill(parts: Sequence[Part], out: np.ndarray) -> None:
    """Read the frames of all parts, some files at once.

    Args:
        parts: in order.
        out: `[M, H, W]` uint8, M the sum of the frames kept.
    """
    offsets = np.cumsum([0, *(len(part.kept) for part in parts)])

    def one(part: Part, offset: int) -> None:
        whole = len(part.columns["terminal"]) == part.shape[0]
        read_frames(part.path, part.place(offset), out, whole)

    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(one, parts, offsets))


def cache_file(parts: Sequence[Part], folder: Path) -> Path:
    """Name of the file of these frames; other frames, or a file that has changed, give another name."""
    digest = hashlib.sha256()
    for part in parts:
        state = part.path.stat()
        digest.update(
            f"{part.path.resolve()} {state.st_size} {state.st_mtime_ns} {part.first}".encode()
        )
        digest.update(part.kept.tobytes())
    game, run = parts[0].folder.parts[-3:-1]
    return folder / f"{game}-{run}-{digest.hexdigest()[:16]}.npy"


def assemble(
    parts: Sequence[Part],
    frames: np.ndarray,
    name: str,
    clip_reward: bool,
    n_actions: int | None,
    env_id: str | None,
) -> Dataset:
    """The data set of these parts.

    Raises:
        InputError: an action out of range.
    """
    offsets = np.cumsum([0, *(len(part.kept) for part in parts)])
    pieces = [_columns(part, frames, offset) for part, offset in zip(parts, offsets)]
    columns = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
    action, n_actions = _actions(name, columns["action"], n_actions)
    reward = columns["reward"].astype(np.float32, copy=False)
    obs: Any = Stacks(frames, columns["last"])
    following: Any = Stacks(frames, columns["last"] + 1)
    return Dataset(
        obs=obs,
        action=action,
        reward=np.clip(reward, -1, 1) if clip_reward else reward,
        next_obs=following,
        terminated=columns["terminated"],
        truncated=columns["end"] & ~columns["terminated"],
        spec=Spec(obs.shape[1:], n_actions, (), "uint8", env_id),
        name=name,
        infos={key: columns[key] for key in ("file", "row", "first")},
        end=columns["end"],
    )


def _columns(part: Part, frames: np.ndarray, offset: int) -> dict[str, np.ndarray]:
    position, row = part.position, part.rows(part.position)
    terminal = part.columns["terminal"] != 0
    last = offset + np.searchsorted(part.kept, position)
    follows = np.append(np.diff(position) == 1, False)
    # Behind a terminal row stand three rows of padding, then the first of the next episode.
    first = (position >= DEPTH) & terminal[part.rows(position - DEPTH)]
    if len(position) and position[0] == DEPTH - 1:
        first[0] = not frames[last[0] - DEPTH + 1 : last[0]].any()
    return {
        "action": part.columns["action"][row],
        "reward": part.columns["reward"][row],
        "terminated": terminal[row],
        "end": terminal[row] | ~follows,
        "last": last,
        "file": np.full(len(row), part.suffix, np.int32),
        "row": row.astype(np.int32),
        "first": first,
    }


def _actions(name: str, action: np.ndarray, n_actions: int | None) -> tuple[np.ndarray, int | None]:
    try:
        return action_column("action", action, n_actions)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
