"""Read a source through its cache, which the first process that asks for it makes."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlop.config.checks import show
from rlop.config.writing import unwritable_named
from rlop.data.cache.entry import Unusable, open_entry, write_entry
from rlop.data.cache.sources import Options, Origin, Reader, origin_of
from rlop.data.dataset import Dataset
from rlop.data.mapped import room
from rlop.logs.messages import say
from rlop.logs.transfer import transfer
from rlop.types import InputError


def read_cached(source: str, options: Options, reader: Reader, folder: object) -> Dataset:
    """Return a data set whose columns are mapped from files, made now if they are not there.

    The numbers are those that the reader returns. The files are made under another name, in
    bounded memory, and get theirs once they are whole and on disk. A process that finds another
    one making them waits for it. They are made again when a file of the source, an option or the
    readers' code has changed, and when they are damaged.

    Args:
        source: of the reader.
        options: of the reader.
        reader: of the source.
        folder: of all caches, made if missing.
    Raises:
        InputError: what the reader refuses, a folder that cannot be written, no room on the disk,
            or a source that changes while it is read.
    """
    if not isinstance(folder, str | Path):
        raise InputError(f"cache = {show(folder)}: expected the path of a folder")
    home = Path(folder).expanduser()
    with unwritable_named(home):
        home.mkdir(parents=True, exist_ok=True)

    def describe() -> Origin:
        return origin_of(source, options, reader, home)

    origin = describe()
    entry = home / origin.name
    if not origin.is_complete:
        say(
            f"cache: the files that {source} reads are not known, so that no change of them is "
            f"seen: remove {entry} after one"
        )
    with suppress(Unusable):
        return open_entry(entry, origin.state)
    with _only_one(home / f".{origin.name}.lock"):
        try:
            return open_entry(entry, origin.state)  # another process has made it meanwhile
        except Unusable as reason:
            if str(reason):
                say(f"{reason}; the cache is made again", logging.WARNING)
        _make(entry, origin, describe, lambda: reader(source, **options))
        return open_entry(entry, origin.state)


def has_cache(source: str, options: Options, reader: Reader, folder: Path) -> bool:
    """Return whether `read_cached` would find the cache made; nothing is written."""
    origin = origin_of(source, options, reader, folder)
    try:
        open_entry(folder / origin.name, origin.state)
    except Unusable:
        return False
    return True


def _make(
    entry: Path, origin: Origin, describe: Callable[[], Origin], read: Callable[[], Dataset]
) -> None:
    """Make a cache, whole or not at all."""
    for left in entry.parent.glob(f".{entry.name}.*.tmp"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = entry.with_name(f".{entry.name}.{os.getpid()}.tmp")
    try:
        with unwritable_named(entry):
            temporary.mkdir()
        label = f"converting {origin.state['source']} -> {entry}"
        with transfer(label) as moved, room(temporary, moved) as made:
            data = read()
            if describe() != origin:
                raise InputError(f"{origin.state['source']}: has changed while it was read")
            with unwritable_named(entry):
                write_entry(made, data, origin.state)
            del data
        with unwritable_named(entry):
            _put(temporary, entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, entry: Path) -> None:
    """Give a folder its name. Processes that read from the one before keep its files."""
    if entry.exists():
        old = entry.with_name(f".{entry.name}.old.tmp")
        os.rename(entry, old)
        shutil.rmtree(old, ignore_errors=True)
    os.rename(temporary, entry)


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; the system frees it when a process dies.

    Where there are no such locks, several may make a cache, and the last one's stays.

    Args:
        path: of an empty file, which stays.
    """
    with unwritable_named(path):
        path.touch()
    with open(path, "ab") as file:
        with suppress(ImportError, OSError):  # a system, or a file system, without locks
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{path.parent}: another process makes the same cache; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
