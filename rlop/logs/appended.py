"""Files of a log, which grow by whole pieces, also on a disk that is full for a while."""

from __future__ import annotations

import os
from pathlib import Path

from rlop.config.writing import unwritable_named
from rlop.types import InputError


class Appended:
    """A file that is extended by whole pieces.

    Each piece reaches the operating system before `write` returns. Where it cannot, it waits in
    memory, in order, for the next `write`: the file never ends within a piece.

    Args:
        path: the file.
        is_new: make it; otherwise extend the one that is there.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, is_new: bool) -> None:
        self.path = path
        self._file = open(path, "xb" if is_new else "ab", buffering=0)  # noqa: SIM115
        self._written = os.fstat(self._file.fileno()).st_size
        self._waiting: list[bytes] = []
        self.error: OSError | None = None  # why pieces wait

    @property
    def size(self) -> int:
        """Bytes of all pieces, also of those that wait."""
        return self._written + sum(map(len, self._waiting))

    def write(self, piece: bytes) -> None:
        """Extend the file, or let the piece wait."""
        self._waiting.append(piece)
        self.flush()

    def flush(self) -> None:
        """Write the pieces that wait."""
        self.error = None
        try:
            while self._waiting:
                self._append(self._waiting[0])
                self._written += len(self._waiting.pop(0))
        except OSError as error:
            self.error = error

    def _append(self, piece: bytes) -> None:
        """Write one piece, whole or not at all."""
        done = 0
        try:
            while done < len(piece):
                done += self._file.write(piece[done:])
        except OSError:
            self._file.truncate(self._written)
            raise

    def sync(self) -> None:
        """Wait until every piece is on disk.

        Raises:
            InputError: some cannot be written, or the file was removed.
        """
        self.check()
        with unwritable_named(self.path):
            os.fsync(self._file.fileno())

    def check(self) -> None:
        """Raise InputError unless every piece reached the operating system, at the file's path."""
        self.flush()
        with unwritable_named(self.path):
            if self.error is not None:
                raise self.error
        if not self.is_there():
            raise InputError(f"{self.path}: was removed while the training ran")

    def is_there(self) -> bool:
        """Whether the file still stands at its path."""
        try:
            at_path = os.stat(self.path)
        except OSError:
            return False
        return os.path.samestat(at_path, os.fstat(self._file.fileno()))

    def close(self) -> None:
        """Close the file; what waits is lost."""
        self._file.close()
