"""Read the files of a Dopamine replay log: gzip, each with one NumPy array, without pickles."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from rlop.data.columns import check_finite
from rlop.types import InputError

STORED = ("observation", "action", "reward", "terminal")  # one row per transition
ABOUT = ("add_count", "invalid_range")  # about the buffer as a whole
NAMES = (*(f"$store${name}" for name in STORED), *ABOUT)
FLAG = "truncated"  # ours alone: a seventh file, which other readers of the format ignore
LARGEST_RATIO = 1_100  # most that gzip shrinks anything to is 1,032
SMALL = 1 << 20  # bytes that an array may take in any case
CHUNK = 1 << 23  # bytes of frames read at once
KINDS = {"action": "iu", "reward": "f", "terminal": "uib", FLAG: "uib"}  # of dtype
ABOUT_KINDS = "iuf"
IN_WORDS = {"f": "floats", "iu": "integers", "uib": "flags", ABOUT_KINDS: "numbers"}


class Checkpoint(NamedTuple):
    """Everything of a checkpoint but its frames.

    Args:
        columns: `action`, `reward`, `terminal` and, where the file exists, `truncated`, each `[N]`.
        add_count: transitions ever added to the buffer.
        invalid_range: rows about the cursor.
        shape: `[N, H, W]` of the frames.
    """

    columns: dict[str, np.ndarray]
    add_count: int
    invalid_range: np.ndarray
    shape: tuple[int, ...]


def file_name(name: str, suffix: int) -> str:
    """Return `$store$_action_ckpt.0.gz` for `action` and 0.

    `add_count`, `invalid_range` and `truncated` have no prefix.
    """
    prefix = "$store$_" if name in STORED else ""
    return f"{prefix}{name}_ckpt.{suffix}.gz"


def suffixes(folder: Path) -> list[int]:
    """List the numbers of the checkpoints in a folder, ascending, 0 among them.

    Raises:
        InputError: no such folder, no checkpoint in it, or one that lacks some of its six files.
    """
    example = file_name("observation", 0)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected {example} and its like in it")

    numbers: set[int] = set()
    for path in folder.iterdir():
        match = re.fullmatch(r".+_ckpt\.(\d+)\.gz", path.name)
        if match is not None:
            numbers.add(int(match[1]))
    if not numbers:
        raise InputError(f"{folder}: no checkpoint, expected {example} and its like")

    check_complete(folder, sorted(numbers))
    return sorted(numbers)


def check_complete(folder: Path, numbers: Sequence[int]) -> None:
    """Raise InputError for the first file that one of the checkpoints lacks."""
    for suffix in numbers:
        for name in (*STORED, *ABOUT):
            path = folder / file_name(name, suffix)
            if not path.is_file():
                raise InputError(f"{path}: no such file; a checkpoint has six: {', '.join(NAMES)}")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open the unpacked content of a file; every fault becomes an InputError that names it."""
    try:
        with gzip.open(path, "rb") as file:
            yield cast(BinaryIO, file)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}: damaged or cut short ({error}), expected a whole gzip file"
        ) from None
    except (ValueError, TypeError, SyntaxError, TokenError, MemoryError) as error:
        raise InputError(f"{path}: no NumPy array free of Python objects ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def read_array(path: Path, kinds: str) -> np.ndarray:
    """Read a whole array of one of these kinds of dtype.

    Its size is checked before memory is taken: it is the header's, and gzip's ratio has a limit.
    """
    limit = max(SMALL, LARGEST_RATIO * path.stat().st_size) if path.exists() else SMALL
    with opened(path) as file:
        shape, _, dtype = _array_header(file)
        needed = dtype.itemsize * math.prod(shape)
        if needed > limit:
            raise InputError(
                f"{path}: {dtype} of shape {shape} takes {needed:,} bytes, which no gzip file of "
                "its size holds"
            )
    with opened(path) as file:
        array = np.load(file, allow_pickle=False)
        if file.read(1):
            raise InputError(f"{path}: goes on after its array")
    if array.dtype.kind not in kinds:
        raise _unexpected(path, array, kinds)
    return array


def read_column(path: Path, kinds: str, rows: int) -> np.ndarray:
    """Read an array with one entry per transition, `[rows]`."""
    array = read_array(path, kinds)

    if array.ndim != 1:
        raise _unexpected(path, array, kinds)
    if len(array) != rows:
        raise InputError(f"{path}: {len(array)} rows, expected {rows} as in the observations")
    return array


def _unexpected(path: Path, array: np.ndarray, kinds: str) -> InputError:
    return InputError(
        f"{path}: {array.dtype} of shape {array.shape}, expected {IN_WORDS[kinds]}, one per row"
    )


def read_checkpoint(folder: Path, suffix: int) -> Checkpoint:
    """Read everything of a checkpoint but its frames.

    Raises:
        InputError: naming the file that is missing, damaged, or has another length, shape or dtype
            than expected.
    """
    check_complete(folder, [suffix])
    path = {name: folder / file_name(name, suffix) for name in (*STORED, *ABOUT, FLAG)}

    frames = path["observation"]
    with opened(frames) as file:
        shape = read_header(file, frames)

    columns: dict[str, np.ndarray] = {}
    for name, kinds in KINDS.items():
        if name == FLAG and not path[FLAG].exists():
            continue
        columns[name] = read_column(path[name], kinds, shape[0])
    check_finite(str(path["reward"]), columns["reward"])

    add_count = read_array(path["add_count"], ABOUT_KINDS)
    if add_count.size != 1 or not 0 <= add_count < 2**63:
        raise InputError(f"{path['add_count']}: {add_count}, expected one number of transitions")
    invalid_range = read_array(path["invalid_range"], ABOUT_KINDS)
    return Checkpoint(columns, int(add_count.item()), invalid_range, shape)


def read_header(file: BinaryIO, path: Path) -> tuple[int, ...]:
    """Read up to the first frame and return the shape `[N, H, W]`."""
    shape, is_fortran, dtype = _array_header(file)
    if dtype != np.uint8 or len(shape) != 3 or is_fortran:
        raise InputError(
            f"{path}: {dtype} of shape {shape}, expected uint8 frames [N, height, width]"
        )
    return shape


def _array_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read up to the first number; return shape, whether Fortran's order, and dtype."""
    read = np.lib.format.read_array_header_2_0
    if np.lib.format.read_magic(file) == (1, 0):
        read = np.lib.format.read_array_header_1_0
    return read(file)


def read_frames(path: Path, place: np.ndarray, out: np.ndarray, whole: bool) -> None:
    """Bring the frames that are needed to their places, without ever holding the others.

    Args:
        path: of the observations.
        place: `[rows]`, row of `out` for each of the first rows of the file, -1 for frames that are
            not needed.
        out: `[M, H, W]` uint8.
        whole: read to the end, so that gzip verifies its checksum.

    Raises:
        InputError: the file is damaged or cut short, or its frames have another size.
    """
    stop = len(place)
    if not whole:
        stop = int(np.flatnonzero(place >= 0).max(initial=-1)) + 1

    with opened(path) as file:
        shape = read_header(file, path)
        if shape[1:] != out.shape[1:]:
            raise InputError(
                f"{path}: frames of {shape[1:]}, "
                f"expected {out.shape[1:]} as in the other checkpoints"
            )

        size = int(np.prod(shape[1:]))
        step = max(1, CHUNK // size)
        for start in range(0, stop, step):
            rows = place[start : min(start + step, stop)]
            frames = _read_exactly(file, len(rows) * size, path)
            _put(frames.reshape(-1, *shape[1:]), rows, out)
        if whole and file.read(1):
            raise InputError(f"{path}: goes on after its {shape[0]} frames")


def _read_exactly(file: BinaryIO, size: int, path: Path) -> np.ndarray:
    """Read `size` bytes."""
    data = file.read(size)
    if len(data) != size:
        raise InputError(f"{path}: ends before its last frame, expected as many as its header says")
    return np.frombuffer(data, np.uint8)


def _put(frames: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Copy frames to their rows of `out`, leaving out those whose row is -1."""
    if rows[0] >= 0 and (np.diff(rows) == 1).all():
        # The usual case, without a temporary.
        out[rows[0] : rows[0] + len(rows)] = frames
        return
    needed = rows >= 0
    out[rows[needed]] = frames[needed]
