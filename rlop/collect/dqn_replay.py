"""Write transitions in the format of the DQN Replay Dataset."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from rlop.config.checks import check_range
from rlop.config.files import atomic
from rlop.config.writing import unwritable_named
from rlop.data.dqn_replay.files import CHUNK, FLAG, KINDS, file_name
from rlop.data.dqn_replay.stacks import DEPTH
from rlop.types import InputError

CHECKPOINTS = "*_ckpt.*.gz"  # the names of its files
# As Dopamine stores its columns.
DTYPES = {"action": np.int32, "reward": np.float32, "terminal": np.uint8, FLAG: np.uint8}


def write_dqn_replay(
    folder: str | Path,
    frames: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    terminals: np.ndarray,
    truncated: np.ndarray | None = None,
    *,
    capacity: int | None = None,
    suffix: int = 0,
    overwrite: bool = False,
) -> int:
    """Write checkpoints that Dopamine, batch_rl and `read_dqn_replay` read.

    Each file is written whole or not at all. Three rows of zeros go before each episode. A file
    holds `capacity` rows, of which the last is never written, as in the published ones; the first
    three transitions of a file that begins within an episode have no complete stack, and its last
    one has no successor. The format cannot store the observation after the last action of an
    episode that timed out: these rows are marked as terminal, as in the published files, and in an
    additional file `truncated_ckpt`, which `read_dqn_replay` uses to omit them.

    Args:
        folder: `.../GAME/RUN/replay_logs`, created if missing.
        frames: `[T, H, W]` uint8, the newest frame at each step, in the order of play.
        actions: `[T]` integers.
        rewards: `[T]`, as they should be stored; the published ones are clipped to [-1, 1].
        terminals: `[T]` flags, whether the episode terminated.
        truncated: `[T]` flags, whether the episode was cut; the last row need not be marked.
        capacity: rows per file; by default one file for all rows.
        suffix: number of the first file.
        overwrite: replace existing files.

    Returns:
        The number of checkpoints written.

    Raises:
        InputError: arrays that do not fit, files that exist, or a disk that is full.

    Reference: `add` and `save` in circular_replay_buffer.py of Dopamine; logged_replay_buffer.py of
        batch_rl.
    Differs from: `add_count` counts the rows of its own file, so that each file reads as a buffer
        that is not full yet.
    """
    folder = Path(folder)
    columns = {"action": actions, "reward": rewards, "terminal": terminals}
    if truncated is not None and np.any(truncated):
        columns[FLAG] = truncated
    arrays = _check(frames, columns)

    over = arrays["terminal"] != 0
    if FLAG in arrays:
        over |= arrays[FLAG] != 0
    arrays["terminal"] = over.astype(np.uint8)

    source = padded(over)
    if capacity is None:
        capacity = len(source) + 1
    check_range("capacity", capacity, low=DEPTH + 2)

    step = capacity - 1
    pieces = [source[start : start + step] for start in range(0, len(source), step)]
    for number in range(len(pieces)):
        path = folder / file_name("observation", suffix + number)
        if path.exists() and not overwrite:
            raise InputError(
                f"{path}: exists already; choose another folder or suffix, or overwrite"
            )

    with unwritable_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number, piece in enumerate(pieces):
            _write_checkpoint(folder, suffix + number, frames, arrays, piece, capacity)
    return len(pieces)


def holds_checkpoints(folder: Path) -> bool:
    """Return whether files of checkpoints are in a folder."""
    return any(folder.glob(CHECKPOINTS))


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield the folder to write checkpoints to: this one, unless it holds some.

    Otherwise it is a new folder in the same parent, which takes its place at the end; after an
    error, or without a file in it, all is as it was. Other files of the folder stay.
    """
    if not holds_checkpoints(folder):
        yield folder
        return

    made = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        yield made
        if made.exists():
            with unwritable_named(folder):
                _take_place(made, folder, old)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _take_place(made: Path, folder: Path, old: Path) -> None:
    """Let a new folder take the place of one whose checkpoints it replaces."""
    os.rename(folder, old)
    try:
        os.rename(made, folder)
    except OSError:
        os.rename(old, folder)
        raise

    for path in set(old.iterdir()) - set(old.glob(CHECKPOINTS)):
        os.rename(path, folder / path.name)
    shutil.rmtree(old)


def padded(over: np.ndarray) -> np.ndarray:
    """Return the row of each stored transition, or -1 for padding.

    Args:
        over: `[T]`, whether an episode ended at the row.
    """
    ends = np.flatnonzero(over[:-1])
    starts = np.append(0, ends + 1)
    padding = np.repeat(starts, DEPTH - 1)
    return np.insert(np.arange(len(over)), padding, -1)


def _check(frames: np.ndarray, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert the columns to the dtypes of the format; reject what does not fit the frames."""
    if frames.ndim != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise InputError(
            f"frames: {frames.dtype} of shape {frames.shape}, expected uint8 [T, height, width]"
        )

    arrays = {}
    for key, values in columns.items():
        column = np.asarray(values)

        # Rewards are stored as floats, but may be given as integers.
        kinds = KINDS[key] + "iu" if key == "reward" else KINDS[key]
        if column.shape != (len(frames),) or column.dtype.kind not in kinds:
            raise InputError(
                f"{key}: {column.dtype} of shape {column.shape}, expected ({len(frames)},) as the "
                f"frames"
            )
        arrays[key] = column.astype(DTYPES[key])
    return arrays


def _write_checkpoint(
    folder: Path,
    suffix: int,
    frames: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    source: np.ndarray,
    capacity: int,
) -> None:
    """Write the files of one checkpoint: all of them, or none.

    Args:
        folder: folder of the files.
        suffix: number of the checkpoint.
        frames: `[T, H, W]`.
        arrays: the other columns, `[T]` each.
        source: row of each stored transition, -1 for padding; at most `capacity` - 1.
        capacity: rows of the files.
    """
    used = len(source)
    unused = np.full(capacity - used, -1)
    rows = np.append(source, unused)
    columns = {
        "invalid_range": (used - 1 + np.arange(DEPTH + 1)) % capacity,
        "add_count": np.array(used),
    }
    is_row = rows >= 0
    for name, array in arrays.items():
        column = np.zeros(capacity, array.dtype)
        column[is_row] = array[rows[is_row]]
        columns[name] = column

    # They take their names together, once all of them are written.
    with ExitStack() as files:
        frame_file = files.enter_context(atomic(folder / file_name("observation", suffix)))
        _write_frames(frame_file, frames, rows)
        for name, column in columns.items():
            file = files.enter_context(atomic(folder / file_name(name, suffix)))
            _write_array(file, column)


def _write_array(path: Path, array: np.ndarray) -> None:
    with gzip.open(path, "wb", compresslevel=6) as file:
        np.save(file, array, allow_pickle=False)


def _write_frames(path: Path, frames: np.ndarray, rows: np.ndarray) -> None:
    """Write the frames of these rows, zeros for -1, one piece at a time."""
    frame_shape = frames.shape[1:]
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *frame_shape)}
    step = max(1, CHUNK // frames[0].size)

    with gzip.open(path, "wb", compresslevel=1) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), step):
            piece_rows = rows[start : start + step]
            is_frame = piece_rows >= 0

            piece = np.zeros((len(piece_rows), *frame_shape), np.uint8)
            piece[is_frame] = frames[piece_rows[is_frame]]
            file.write(piece.data)
