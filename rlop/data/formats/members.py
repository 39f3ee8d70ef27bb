"""Arrays of NumPy archives: known by their headers, and checked, before any memory is taken."""

from __future__ import annotations

import io
import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from rlop.config.checks import nearest
from rlop.data.mapped import advancing, empty
from rlop.types import InputError

CHUNK = 1 << 20  # bytes read at a time
# An array may take this much memory in any case, or this multiple of its whole file's size: real
# data hardly compress further, and a file made to exhaust the memory does.
FREE = 1 << 30
RATIO = 100
SMALL = 1 << 16  # bytes of a member that holds one value

DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    EOFError,
    NotImplementedError,  # a method of compression that zipfile does not know
    RuntimeError,  # an encrypted member
)
BAD_HEADER = (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)


@dataclass(frozen=True)
class Header:
    """What an array's header says.

    Args:
        shape: of the array.
        dtype: of its entries, numbers or booleans.
        is_fortran: whether the first axis is the fastest.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * prod(self.shape[1:])


class Archive:
    """An archive of `numpy.savez` or `numpy.savez_compressed`, open for reading.

    Args:
        path: of the file, for messages.
        file: the open archive.
    """

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path = path
        self._file = file
        self.keys = [name.removesuffix(".npy") for name in file.namelist()]
        self._limit = max(FREE, RATIO * path.stat().st_size)

    def header(self, key: str) -> Header:
        """Return an array's shape and dtype without reading it.

        Raises:
            InputError: no such array, not numbers, or a size that its bytes do not have.
        """
        with self._open(key) as stream:
            return self._header(key, stream)

    def read(self, key: str, keep: np.ndarray | None = None) -> np.ndarray:
        """Return an array.

        Args:
            key: its name.
            keep: `[N]` bool, the rows to return; by default all.

        Raises:
            InputError: as in `header`, the bytes are damaged, or another number of rows.
        """
        header = self.header(key)
        if header.shape == ():
            raise InputError(f"{self.path}: {key}: a single number, expected an array")
        if keep is None:
            keep = np.ones(header.shape[0], bool)
        if len(keep) != header.shape[0]:
            raise InputError(f"{self.path}: {key}: {header.shape[0]} rows, expected {len(keep)}")

        array = empty((int(keep.sum()), *header.shape[1:]), header.dtype)
        advance = advancing()
        row = filled = 0
        for chunk in self.chunks(key):
            part = chunk[keep[row : row + len(chunk)]]
            array[filled : filled + len(part)] = part
            advance(part.nbytes)
            row += len(chunk)
            filled += len(part)
        return array

    def scalar(self, key: str) -> object:
        """Return the one value of a small array, a number or text.

        Raises:
            InputError: no such array, more than one value, or the bytes are damaged.
        """
        with self._open(key) as stream:
            content = stream.read(SMALL + 1)
        try:
            array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        except BAD_HEADER:
            array = np.empty(0)
        if array.size != 1 or len(content) > SMALL:
            raise InputError(f"{self.path}: {key}: expected a single value")
        return array.reshape(())[()]

    def chunks(self, key: str) -> Iterator[np.ndarray]:
        """Yield the rows of an array, some megabytes at a time, each `[n, ...]`.

        Raises:
            InputError: as in `read`.
        """
        with self._open(key) as stream:
            header = self._header(key, stream)
            rows = header.shape[0]
            if header.is_fortran:
                flat = self._numbers(key, stream, header, rows)
                yield flat.reshape(header.shape, order="F")
                return

            step = max(1, CHUNK // max(1, header.row_bytes))
            for start in range(0, rows, step):
                count = min(step, rows - start)
                flat = self._numbers(key, stream, header, count)
                yield flat.reshape(count, *header.shape[1:])
            stream.read(1)  # the end, where the checksum is compared

    def _numbers(self, key: str, stream: IO[bytes], header: Header, rows: int) -> np.ndarray:
        """Read the numbers of some rows, flat."""
        expected = rows * header.row_bytes
        content = stream.read(expected)
        if len(content) != expected:
            raise InputError(f"{self.path}: {key}: cut short")
        return np.frombuffer(content, header.dtype)

    def _header(self, key: str, stream: IO[bytes]) -> Header:
        """Read and check the header at the beginning of a member."""
        try:
            version = np.lib.format.read_magic(stream)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, is_fortran, dtype = read(stream)
        except (*BAD_HEADER, KeyError):
            raise InputError(f"{self.path}: {key}: not an array of numbers") from None

        if dtype.hasobject:
            raise InputError(
                f"{self.path}: {key}: an object array, which would need unpickling; save numbers"
            )
        if dtype.kind not in "fiub":
            raise InputError(f"{self.path}: {key}: dtype {dtype}, expected numbers")

        stored = self._file.getinfo(f"{key}.npy").file_size - stream.tell()
        needed = dtype.itemsize * prod(shape)
        if min(shape, default=0) < 0 or needed != stored:
            raise InputError(
                f"{self.path}: {key}: shape {shape} of {dtype} takes {needed:,} bytes, "
                f"but the file has {stored:,}"
            )
        if needed > self._limit:
            raise InputError(
                f"{self.path}: {key}: {needed:,} bytes, over {RATIO} times the size of the file, "
                f"expected at most {self._limit:,}"
            )
        return Header(shape, dtype, is_fortran)

    @contextmanager
    def _open(self, key: str) -> Iterator[IO[bytes]]:
        """Open one member."""
        if f"{key}.npy" not in self._file.namelist():
            raise InputError(f"{self.path}: no {key!r}{nearest(key, self.keys)}")
        with damage_named(self.path), self._file.open(f"{key}.npy") as stream:
            yield stream


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive of NumPy arrays.

    Raises:
        InputError: no such file, or not an archive.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with damage_named(path):
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path}: not an archive of numpy.savez")
        file = zipfile.ZipFile(path)

    with file:
        yield Archive(path, file)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Let errors of a damaged archive become one line."""
    try:
        yield
    except DAMAGE as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{path}: damaged or cut short ({lines[0]})") from None
