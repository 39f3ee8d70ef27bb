"""Keep frames in memory, or in a memory-mapped file where they would take too much of it."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from rlop.config.files import atomic
from rlop.data.mapped import empty, has_room, open_mapped, reserve
from rlop.logs.messages import say
from rlop.types import InputError

# Of a transition besides its frames: rows of the stacks, action, reward, flags, and its origin.
ROW_BYTES = 64
GB = 1e9
SPREAD = 256  # frames of a file that its checksum covers
DIGEST = hashlib.sha256().digest_size  # bytes at the end of a file

Fill: TypeAlias = Callable[[np.ndarray], None]


def available_bytes() -> int | None:
    """Return the memory available without swapping; None where the system does not say."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key == "MemAvailable":
                    return int(value.split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return None
    return None


def store_frames(
    shape: tuple[int, ...],
    rows: int,
    fill: Fill,
    name: str,
    memory_gb: float | None,
    file: Callable[[], Path],
) -> np.ndarray:
    """Fill frames in memory if they may be kept there, else in a file that is mapped.

    Pages of the file that memory has no room for are read again when needed. The file is written
    once, under a temporary name until it is whole, and used again by the next call, unless it was
    cut short or damaged.

    Args:
        shape: `[M, H, W]`.
        rows: transitions that go with the frames.
        fill: writes all of the frames into an array of this shape.
        name: of the data set, for messages.
        memory_gb: most that frames and rows may take, in 1e9 bytes; None: as much as is available,
            and never a file.
        file: returns the file's path.

    Returns:
        Frames, uint8.

    Raises:
        InputError: neither memory nor the disk has the room, or the budget does not even hold the
            rows.
    """
    row_gb = ROW_BYTES * rows / GB
    needed_gb = (int(np.prod(shape)) + ROW_BYTES * rows) / GB

    if has_room():
        frames = empty(shape, np.uint8)
        fill(frames)
        return frames
    if memory_gb is None:
        _check_available(needed_gb, name)
    if memory_gb is None or needed_gb <= memory_gb:
        frames = np.empty(shape, np.uint8)
        fill(frames)
        return frames

    # Only the frames can be kept in a file.
    if row_gb > memory_gb:
        raise InputError(
            f"{name}: memory_gb = {memory_gb:g}: expected at least {row_gb:.3g} "
            "for what goes with the frames"
        )

    path = file()
    if path.exists() and not is_whole(path, shape):
        say(f"{path}: damaged or cut short, it is written again", logging.WARNING)
        path.unlink()
    if not path.exists():
        _write(path, shape, fill)
    return _mapped(path, shape)


def identity(path: Path) -> tuple[object, ...]:
    """Return what identifies a file and its present state: path, size and times.

    Content may change at an equal size, and a copy may keep the time of modification but not the
    time of change.
    """
    state = path.stat()
    return path.resolve(), state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _check_available(needed_gb: float, name: str) -> None:
    """Raise InputError when more memory is needed than is available."""
    available = available_bytes()
    if available is not None and needed_gb > available / GB:
        raise InputError(
            f"{name}: needs {needed_gb:.3g} GB of memory, {available / GB:.3g} GB are free: "
            "expected a smaller subset, or memory_gb, beyond which frames are mapped from a file"
        )


def _write(path: Path, shape: tuple[int, ...], fill: Fill) -> None:
    """Write the file of the frames, whole or not at all."""
    size = int(np.prod(shape))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)

        free = shutil.disk_usage(path.parent).free
        if size > free or not os.access(path.parent, os.W_OK):
            raise InputError(
                f"{path}: needs {size / GB:.3g} GB, expected a folder with room, see option cache"
            )

        with atomic(path) as temporary:
            reserve(temporary, size + DIGEST)
            mapped = np.memmap(temporary, np.uint8, "r+", shape=shape)
            fill(mapped)
            mapped.flush()
            with open(temporary, "r+b") as file:
                file.seek(size)
                file.write(_digest(mapped))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}), see option cache"
        ) from None


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Map the frames of a file."""
    return open_mapped(path)[: int(np.prod(shape))].reshape(shape)


def _digest(frames: np.ndarray) -> bytes:
    """Return a checksum of some frames, spread over all of them."""
    rows = np.unique(np.linspace(0, len(frames) - 1, SPREAD).astype(int))
    return hashlib.sha256(np.asarray(frames[rows]).tobytes()).digest()


def is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a file holds all of its frames, by its size and by a checksum of some of them."""
    size = int(np.prod(shape))
    if not path.is_file() or path.stat().st_size != size + DIGEST:
        return False
    with open(path, "rb") as file:
        file.seek(size)
        return file.read() == _digest(_mapped(path, shape))
