"""Writers on a disk that is full, gone, or may not be written to: one line, and nothing torn."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from rlop.types import InputError


@contextmanager
def unwritable_named(path: str | Path) -> Iterator[None]:
    """Let what the system refuses to write be an InputError that names the file or folder."""
    try:
        yield
    except OSError as error:
        # HDF5's messages go on with addresses and times.
        reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
        raise InputError(f"{path}: cannot be written ({reason})") from error


class LateErrors(io.RawIOBase):
    """A file for writers in C, which crash, or leave a torn file, when a write fails.

    After the first write that fails, all others are dropped and seem to succeed, until `check`
    raises what went wrong.

    Args:
        file: open for reading and writing, unbuffered.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def check(self) -> None:
        """Raise the error of the first write that failed."""
        if self.error is not None:
            raise self.error

    def write(self, data: object) -> int:
        """Write all of the bytes, or remember why not."""
        view = memoryview(data)  # type: ignore[arg-type]  # any buffer, as of `RawIOBase`
        done = 0
        try:
            while self.error is None and done < view.nbytes:
                done += self.file.write(view[done:])
        except OSError as error:
            self.error = error
        return view.nbytes

    def truncate(self, size: int | None = None) -> int:
        """Set the size, or remember why not."""
        end = self.tell() if size is None else size
        try:
            if self.error is None:
                self.file.truncate(end)
        except OSError as error:
            self.error = error
        return end

    def readinto(self, buffer: object) -> int:
        """Read into a buffer."""
        return self.file.readinto(buffer)  # type: ignore[attr-defined]  # of unbuffered files

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self.file.tell()

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def writable(self) -> bool:
        """Whether it can be written: always."""
        return True

    def seekable(self) -> bool:
        """Whether it has positions: always."""
        return True


@contextmanager
def late_errors(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file for a writer in C; what went wrong is raised at the end.

    Raises:
        OSError: of the first write that failed.
    """
    with open(path, "w+b", buffering=0) as file:
        guard = LateErrors(file)
        yield cast(IO[bytes], guard)
        guard.check()


def sync_file(path: Path) -> None:
    """Wait until a file is on disk."""
    with open(path, "r+b") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())
