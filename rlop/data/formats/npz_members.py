"""Read single arrays of a NumPy archive, after their sizes were checked against the file's."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy

from rlop.types import InputError

# Deflate shrinks nothing further than this; a member that claims more is damaged or a bomb.
LARGEST_RATIO = 1_032
ALLOWANCE = 1 << 20  # bytes beyond it, for members of a few bytes


class Header(NamedTuple):
    """What an array's header says."""

    shape: tuple[int, ...]
    dtype: np.dtype


@contextmanager
def open_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive of `numpy.savez`.

    Raises:
        InputError: no such file, not an archive, or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path}: not an archive of numpy.savez")
        with zipfile.ZipFile(path) as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # what zipfile and NumPy raise for wrong bytes depends on where
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: damaged or cut short ({reason})") from None


def arrays_of(file: zipfile.ZipFile) -> list[str]:
    """Return the names of the arrays in an archive."""
    return [name.removesuffix(".npy") for name in file.namelist() if name.endswith(".npy")]


def read_header(file: zipfile.ZipFile, path: Path, name: str) -> Header:
    """Read shape and dtype of an array, without its numbers.

    Raises:
        InputError: an object array, or a shape that the archive does not hold.
    """
    info = file.getinfo(f"{name}.npy")
    with file.open(info) as member:
        version = npy.read_magic(member)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(member)
        length = member.tell()

    if dtype.hasobject:
        raise InputError(
            f"{path}: {name}: an object array, which would need unpickling; save numbers"
        )
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if length + size != info.file_size:
        raise InputError(
            f"{path}: {name}: shape {shape} of {dtype} needs {size:,} bytes, "
            f"the archive holds {info.file_size - length:,}"
        )
    if info.file_size > LARGEST_RATIO * info.compress_size + ALLOWANCE:
        raise InputError(
            f"{path}: {name}: {info.file_size:,} bytes cannot come from {info.compress_size:,}"
        )
    return Header(shape, dtype)


def read_array(file: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    """Read an array; see `read_header` for what is refused."""
    read_header(file, path, name)
    with file.open(f"{name}.npy") as member:
        return npy.read_array(member, allow_pickle=False)
