"""The files of a Dopamine replay log: gzip, each with one NumPy array; read piece by piece and without pickles."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rlop.data.columns import check_finite
from rlop.types import InputError

STORED = ("observation", "action", "reward", "terminal")  # one row per transition
NAMES = (*(f"$store${name}" for name in STORED), "add_count", "invalid_range")
FLAG = "truncated"  # ours alone: a seventh file, of which readers of the format take no notice
CHUNK = 1 << 23  # bytes of frames read at once
KINDS = {"action": "iu", "reward": "f", "terminal": "uib", FLAG: "uib"}


def file_name(name: str, suffix: int) -> str:
    """`$store$_action_ckpt.0.gz` for `action` and 0; `add_count`, `invalid_range` and `truncated` bear no prefix."""
    return f"{f'$store$_{name}' if name in STORED else name}_ckpt.{suffix}.gz"


def suffixes(folder: Path) -> list[int]:
    """Numbers of the checkpoints in a folder, ascending, 0 among them.

    Raises:
        InputError: no such folder, no checkpoint in it, or one of whose six files some are missing.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder, expected {file_name('observation', 0)} and its like in it"
        )
    numbers = [re.fullmatch(r"(.+)_ckpt\.(\d+)\.gz", path.name) for path in folder.iterdir()]
    found = sorted({int(number[2]) for number in numbers if number})
    if not found:
        raise InputError(
            f"{folder}: no checkpoint, expected {file_name('observation', 0)} and its like"
        )
    check_complete(folder, found)
    return found


def check_complete(folder: Path, wanted: list[int]) -> None:
    """Raise InputError for the first file that a checkpoint lacks."""
    for suffix in wanted:
        for name in (*STORED, "add_count", "invalid_range"):
            path = folder / file_name(name, suffix)
            if not path.is_file():
                raise InputError(f"{path}: no such file; a checkpoint has six: {', '.join(NAMES)}")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The unpacked content of a file; whatever is wrong with it becomes an InputError that names it."""
    try:
        with gzip.open(path, "rb") as file:
            yield file  # type: ignore[misc]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError:
        raise
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}: damaged or cut short ({error}), expected a whole gzip file"
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: no NumPy array free of Python objects ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def read_array(path: Path, kinds: str, rows: int | None = None) -> np.ndarray:
    """A whole array, of these kinds of dtype, with one row per transition unless `rows` is None."""
    with opened(path) as file:
        array = np.load(file, allow_pickle=False)
        if file.read(1):
            raise InputError(f"{path}: goes on behind its array")
    if array.dtype.kind not in kinds or (rows is not None and array.ndim != 1):
        expected = {"f": "floats", "iu": "integers"}.get(
            kinds, "flags" if rows is not None else "numbers"
        )
        raise InputError(
            f"{path}: {array.dtype} of shape {array.shape}, expected {expected}, one per row"
        )
    if rows is not None and len(array) != rows:
        raise InputError(f"{path}: {len(array)} rows, expected {rows} as in the observations")
    return array


def read_columns(folder: Path, suffix: int) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Everything of a checkpoint but its frames, and the shape `[N, H, W]` of these.

    Returns:
        `action`, `reward`, `terminal` and, if there, `truncated`, each `[N]`; `add_count` and `invalid_range`.

    Raises:
        InputError: naming the file that is missing, damaged, or has another length, shape or dtype than expected.
    """
    check_complete(folder, [suffix])
    paths = {
        name: folder / file_name(name, suffix)
        for name in (*STORED, "add_count", "invalid_range", FLAG)
    }
    with opened(paths["observation"]) as file:
        shape = read_header(file, paths["observation"])
    columns = {name: read_array(paths[name], KINDS[name], shape[0]) for name in STORED[1:]}
    if paths[FLAG].exists():
        columns[FLAG] = read_array(paths[FLAG], KINDS[FLAG], shape[0])
    check_finite(str(paths["reward"]), columns["reward"])
    for name in ("add_count", "invalid_range"):
        columns[name] = read_array(paths[name], "iuf")
    if columns["add_count"].size != 1 or columns["add_count"] < 0:
        raise InputError(
            f"{paths['add_count']}: {columns['add_count']}, expected one number of transitions"
        )
    return columns, shape


def read_header(file: BinaryIO, path: Path) -> tuple[int, ...]:
    """Read up to the first frame; the shape `[N, H, W]`."""
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(file)
    if dtype != np.uint8 or len(shape) != 3 or fortran:
        raise InputError(
            f"{path}: {dtype} of shape {shape}, expected uint8 frames [N, height, width]"
        )
    return shape


def read_frames(path: Path, place: np.ndarray, out: np.ndarray, whole: bool) -> None:
    """Bring the frames that are needed to their places, without ever holding the others.

    Args:
        path: of the observations.
        place: `[rows]`, row of `out` for each of the first rows of the file, -1 for frames that are not needed.
        out: `[M, H, W]` uint8.
        whole: read to the end, so that the checksum is looked at.

    Raises:
        InputError: the file is damaged or cut short, or its frames have another size.
    """
    stop = len(place) if whole else int(np.flatnonzero(place >= 0).max(initial=-1)) + 1
    with opened(path) as file:
        shape = read_header(file, path)
        if shape[1:] != out.shape[1:]:
            raise InputError(
                f"{path}: frames of {shape[1:]}, expected {out.shape[1:]} as in the other checkpoints"
            )
        size = int(np.prod(shape[1:]))
        step = max(1, CHUNK // size)
        for start in range(0, stop, step):
            rows = place[start : min(start + step, stop)]
            _put(_read_exactly(file, len(rows) * size, path).reshape(-1, *shape[1:]), rows, out)
        if whole and file.read(1):
            raise InputError(f"{path}: goes on behind its {shape[0]} frames")


def _read_exactly(file: BinaryIO, size: int, path: Path) -> np.ndarray:
    data = file.read(size)
    if len(data) != size:
        raise InputError(f"{path}: ends before its last frame, expected as many as its header says")
    return np.frombuffer(data, np.uint8)


def _put(frames: np.ndarray, rows: np.ndarray, out: Any) -> None:
    if rows[0] >= 0 and (np.diff(rows) == 1).all():  # the usual case, without a temporary
        out[rows[0] : rows[0] + len(rows)] = frames
    else:
        out[rows[rows >= 0]] = frames[rows >= 0]
