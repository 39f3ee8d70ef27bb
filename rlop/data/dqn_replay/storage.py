"""Where frames live: in memory, or in a memory-mapped file when they would take more of it than they may."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rlop.config.files import atomic
from rlop.types import InputError

ROW_BYTES = 64  # of a transition beside its frames: rows of the stacks, action, reward, flags, where it came from
Fill = Callable[[np.ndarray], None]


def available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not tell."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def store_frames(
    shape: tuple[int, ...],
    rows: int,
    fill: Fill,
    name: str,
    memory_gb: float | None,
    file: Callable[[], Path],
) -> np.ndarray:
    """Frames `shape` uint8, filled in memory if they may be there, else in a `.npy` file that is mapped.

    Pages of the file that memory has no room for are read again when needed. The file is written once, under a
    temporary name until it is whole, and used again by the next call.

    Args:
        shape: `[M, H, W]`.
        rows: transitions that go with them.
        fill: writes all of the frames into an array of this shape.
        name: of the data set, for messages.
        memory_gb: most that frames and rows may take, in 1e9 bytes; None: what is available, and never a file.
        file: where the file goes.

    Raises:
        InputError: neither memory nor the disk has the room, or the budget does not hold even the rows.
    """
    frame_bytes, row_bytes = int(np.prod(shape)), ROW_BYTES * rows
    needed = (frame_bytes + row_bytes) / 1e9
    available = available_bytes()
    if memory_gb is None and available is not None and needed > available / 1e9:
        raise InputError(
            f"{name}: needs {needed:.3g} GB of memory, {available / 1e9:.3g} GB are free: expected a smaller subset, "
            f"or memory_gb, beyond which frames are mapped from a file"
        )
    if memory_gb is None or needed <= memory_gb:
        frames = np.empty(shape, np.uint8)
        fill(frames)
        return frames
    if row_bytes / 1e9 > memory_gb:
        raise InputError(
            f"{name}: memory_gb = {memory_gb:g}: expected at least {row_bytes / 1e9:.3g} for what goes with the frames"
        )
    path = file()
    if not path.is_file():
        _write(path, shape, fill)
    # Private pages, for PyTorch shares only memory that may be written to.
    return np.load(path, mmap_mode="c", allow_pickle=False)


def _write(path: Path, shape: tuple[int, ...], fill: Fill) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free, size = shutil.disk_usage(path.parent).free, int(np.prod(shape))
        if size > free or not os.access(path.parent, os.W_OK):
            raise InputError(
                f"{path}: needs {size / 1e9:.3g} GB, expected a folder with room, see option cache"
            )
        with atomic(path) as temporary:
            mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            fill(mapped)
            mapped.flush()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}), see option cache"
        ) from None
