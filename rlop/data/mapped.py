"""Arrays in mapped files: read when needed, and dropped from memory when it has no room for them.

Where a reader or a transform makes an array of many rows, `empty` decides whether memory holds it:
a file does while a cache is made, and where the array is made from one that a file holds already.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from rlop.config.writing import unwritable_named
from rlop.data.joined import Joined
from rlop.logs.transfer import Moved
from rlop.types import InputError

SMALL = 1 << 20  # bytes of an array that memory holds in any case
PIECE = 1 << 23  # bytes copied or written at a time
# Linux's MAP_NORESERVE, which Python names from 3.13 on. Without it the system refuses to map, for
# reading and private writing, a file that is larger than the whole memory.
NO_RESERVE = 0x4000 if sys.platform == "linux" else 0


@dataclass(eq=False)
class Room:
    """The folder in which arrays are made while a cache is made, each in a file of its own.

    Args:
        folder: of the files, `0.bin`, `1.bin`, ...
        moved: called with new bytes that are written, and the number of all that will be.
    """

    folder: Path
    moved: Moved
    arrays: dict[str, np.memmap] = field(default_factory=dict)  # by the name of the file
    total: int = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array in a new file, which the disk has the room for."""
        path = self.folder / f"{len(self.arrays)}.bin"
        array = _new(path, shape, dtype)
        self.arrays[path.name] = array
        self.expect(array.nbytes)
        return array

    def expect(self, size: int) -> None:
        """Count bytes that will be written."""
        self.total += size
        self.moved(0, self.total)

    def advance(self, size: int) -> None:
        """Count bytes that have been written."""
        self.moved(size, self.total)


_ROOM: ContextVar[Room | None] = ContextVar("room", default=None)


@contextmanager
def room(folder: Path, moved: Moved) -> Iterator[Room]:
    """Let `empty` make its arrays in files of a folder within the block.

    Args:
        folder: that holds no other files.
        moved: see `Room`.
    """
    made = Room(folder, moved)
    token = _ROOM.set(made)
    try:
        yield made
    finally:
        _ROOM.reset(token)
        made.arrays.clear()


def has_room() -> bool:
    """Return whether arrays are made in files now, whatever their size."""
    return _ROOM.get() is not None


def advancing() -> Callable[[int], None]:
    """Return the function that counts bytes written, for other threads as well."""
    current = _ROOM.get()
    return _ignore if current is None else current.advance


def _ignore(size: int) -> None:
    """Count nothing."""


def empty(shape: tuple[int, ...], dtype: DTypeLike, *like: object) -> np.ndarray:
    """Return an array to be filled: in memory, or in a file.

    Args:
        shape: of the array.
        dtype: of the array.
        like: arrays from which it is made; if a file holds one of them, a file without a name, in
            the same folder, holds this one, too.
    Raises:
        InputError: the disk has no room.
    """
    kind = np.dtype(dtype)
    if kind.itemsize * prod(shape) < SMALL:
        return np.empty(shape, kind)
    current = _ROOM.get()
    if current is not None:
        return current.empty(shape, kind)
    for array in like:
        held_by = file_of(array)
        if held_by is not None:
            return _nameless(held_by.parent, shape, kind)
    return np.empty(shape, kind)


def file_of(array: object) -> Path | None:
    """Return the file that holds an array, or whose rows it is a view of; None for memory.

    Args:
        array: an array, or several joined, of which the first file is returned.
    """
    if isinstance(array, Joined):
        files = [file_of(part) for part in array.parts]
        return next((file for file in files if file is not None), None)
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array.filename is not None:
            return Path(array.filename)
        array = array.base
    return None


def converted(array: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Return an array as another dtype, or as it is where the dtype is the same."""
    if array.dtype == dtype or not _in_files(array):
        return array.astype(dtype, copy=False)
    result = empty(array.shape, dtype, array)
    for rows in pieces(array):
        result[rows] = array[rows]
    return result


def take(array: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
    """Return some rows: of a slice a view, of others a copy, which a file holds where it must.

    Args:
        array: `[N, ...]`, or what looks like an array and copies nothing.
        rows: a slice, or indices.
    """
    if isinstance(rows, slice) or not isinstance(array, np.ndarray) or not _in_files(array):
        return array[rows]
    result = empty((len(rows), *array.shape[1:]), array.dtype, array)
    for some in pieces(result):
        result[some] = array[rows[some]]
    return result


def by_pieces(
    function: Callable[[np.ndarray], np.ndarray], array: np.ndarray, dtype: DTypeLike
) -> np.ndarray:
    """Apply a function of single rows to all rows, some megabytes at a time.

    Args:
        function: of rows `[n, ...]`, which returns as many of the same shape.
        array: `[N, ...]`, or what looks like an array.
        dtype: of the result.
    """
    result = empty(array.shape, dtype, array)
    for rows in pieces(array):
        result[rows] = function(np.asarray(array[rows]))
    return result


def concatenate(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Join the rows of arrays of one dtype."""
    if not any(map(_in_files, parts)):
        return np.concatenate(parts)
    rows = sum(map(len, parts))
    result = empty((rows, *parts[0].shape[1:]), parts[0].dtype, *parts)
    start = 0
    for part in parts:
        for some in pieces(part):
            result[start + some.start : start + some.stop] = part[some]
        start += len(part)
    return result


def ones(like: np.ndarray) -> np.ndarray:
    """Return a float32 1 for each row, `[N]`; for rows in files a single one that all rows share.

    Args:
        like: `[N, ...]`.
    """
    if not _in_files(like):
        return np.ones(len(like), np.float32)
    return np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (len(like),), (0,))


def pieces(array: np.ndarray) -> Iterator[slice]:
    """Yield the rows of an array in turn, some megabytes at a time."""
    row_bytes = array.dtype.itemsize * prod(array.shape[1:])
    step = max(1, PIECE // max(1, row_bytes))
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))


def _in_files(array: np.ndarray) -> bool:
    """Return whether what is made from an array belongs into a file."""
    return has_room() or file_of(array) is not None


# ---- files


def open_mapped(path: Path) -> np.memmap:
    """Map all bytes of a file, `[size]` uint8.

    What is written to the array stays in the memory of this process: PyTorch shares only memory
    that may be written to.

    Raises:
        OSError: no such file, or an empty one.
    """
    if not NO_RESERVE:
        return np.memmap(path, np.uint8, "c")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        pages = mmap.mmap(
            file.fileno(),
            size,
            flags=mmap.MAP_PRIVATE | NO_RESERVE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
        )
    # `numpy.memmap` has no option for the flag; its views know the file by these attributes.
    array = np.ndarray.__new__(np.memmap, (size,), np.uint8, pages)
    array._mmap, array.filename, array.offset, array.mode = pages, str(path), 0, "c"  # type: ignore[attr-defined]  # private
    return array


def reserve(path: Path, size: int) -> None:
    """Make a file of so many bytes that the disk really has.

    A mapped file that is written to on a full disk ends the process.

    Raises:
        OSError: the file exists, or the disk has no room.
    """
    with open(path, "xb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
        for start in range(0, size, PIECE):
            file.write(bytes(min(PIECE, size - start)))


def _new(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """Return an array in a new file.

    Raises:
        InputError: the disk has no room; readers take other errors for those of their own files.
    """
    with unwritable_named(path.parent):
        reserve(path, dtype.itemsize * prod(shape))
        return np.memmap(path, dtype, "r+", shape=shape)


def _nameless(folder: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """Return an array in a file that nobody else sees, and that is gone with the array."""
    with suppress(InputError, OSError):
        return _temporary(folder, shape, dtype)
    # Somebody else's cache, which may not be written to.
    return _temporary(Path(tempfile.gettempdir()), shape, dtype)


def _temporary(folder: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """Make a file, map it, and remove its name."""
    place = Path(tempfile.mkdtemp(prefix=".", suffix=f".{os.getpid()}.tmp", dir=folder))
    path = place / "0.bin"
    try:
        return _new(path, shape, dtype)
    finally:
        with suppress(OSError):  # Windows keeps what is open
            path.unlink(missing_ok=True)
            place.rmdir()


class Unchanged:
    """Refuses to read on from mapped files that were cut short or written to meanwhile.

    Reading what was cut off would end the process without a word. A file that was removed or
    replaced can still be read: the system keeps it as long as it is mapped.

    Args:
        paths: of the files.
    """

    def __init__(self, *paths: Path) -> None:
        self.states: dict[Path, os.stat_result] = {}
        for path in paths:
            with suppress(OSError):  # a file without a name, which nobody can change
                self.states[path] = path.stat()

    def __call__(self) -> None:
        """Look at the files' sizes and times, in a few microseconds.

        Raises:
            InputError: they have changed.
        """
        for path, then in self.states.items():
            try:
                now = os.stat(path)
            except OSError:
                continue
            same_file = os.path.samestat(now, then)
            if same_file and (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
                raise InputError(
                    f"{path}: was changed while data were read from it; start again, or resume"
                )
