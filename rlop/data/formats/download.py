"""Fetch one HDF5 file over HTTP: resumable, and under its own name only once it is whole."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import h5py

from rlop.logs.messages import say
from rlop.types import InputError

TIMEOUT = 30.0  # seconds without an answer
CHUNK = 1 << 20  # bytes written between two moves of the progress bar
BAR = 24  # characters


def download(url: str, path: Path) -> None:
    """Bring the HDF5 file at `url` to `path`.

    It grows in `PATH.part`, which an interruption leaves on disk for the next call to continue
    (HTTP Range). It gets its name when its size is the announced one and HDF5 opens it.

    Raises:
        InputError: no connection, an HTTP error, a transfer that broke off, or a result that is not
            an HDF5 file.
        KeyboardInterrupt: passed on; the bytes received are kept in `PATH.part`.
    """
    part = path.with_name(f"{path.name}.part")
    size = part.stat().st_size if part.exists() else 0
    answer = _request(url, size)
    path.parent.mkdir(parents=True, exist_ok=True)

    with answer.response as response, open(part, "ab") as file:
        _lock(file, part, size)
        file.truncate(answer.start)
        with _progress(f"{url} -> {path}", answer) as advance:
            fault = _copy(response, file, advance)

    received = part.stat().st_size
    is_complete = answer.total is None or received == answer.total
    if fault or not is_complete:
        total = f"{answer.total:,}" if answer.total is not None else "an unknown number of"
        raise InputError(
            f"{url}: broke off after {received:,} of {total} bytes{fault}; "
            f"they are kept in {part}, run again to continue"
        )

    if not _opens(part):
        part.unlink()
        raise InputError(
            f"{url}: the {received:,} bytes received are not a whole HDF5 file; nothing is kept"
        )

    os.replace(part, path)


class _Answer(NamedTuple):
    """A server's answer.

    Args:
        response: open, at the first byte of the content.
        start: the byte of the file that it begins at.
        total: size of the whole file; None where the server does not say.
    """

    response: HTTPResponse
    start: int
    total: int | None


def _request(url: str, size: int) -> _Answer:
    """Ask for the file from byte `size` on; a server may answer from the beginning."""
    headers = {"Accept-Encoding": "identity"}
    if size:
        headers["Range"] = f"bytes={size}-"

    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        # 416: nothing follows these bytes, so they are not the beginning of this file.
        if error.code == 416 and size:
            return _request(url, 0)
        raise InputError(f"{url}: {error.code} {error.reason}") from None
    except URLError as error:
        raise InputError(f"{url}: {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise InputError(f"{url}: {error}") from None

    if response.status == 206 and size:
        content_range = response.headers.get("Content-Range", "")
        place = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range)
        if place and int(place[1]) == size:
            return _Answer(response, size, int(place[2]))
        response.close()
        return _request(url, 0)

    length = response.headers.get("Content-Length")
    return _Answer(response, 0, int(length) if length else None)


def _lock(file: BinaryIO, part: Path, size: int) -> None:
    """Refuse to append where another process does.

    Args:
        file: the open part, locked until it is closed.
        part: its path.
        size: from which this process has asked to continue.
    """
    is_free = True
    with suppress(ImportError, OSError):  # a system, or a file system, without locks
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = False
    if not is_free or os.fstat(file.fileno()).st_size != size:
        raise InputError(f"{part}: another process is downloading it")


def _copy(response: HTTPResponse, file: BinaryIO, advance: Callable[[int], None]) -> str:
    """Write the content, and return why it stopped: empty when the server ended it."""
    try:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    except (OSError, HTTPException) as error:
        return f" ({error})"
    return ""


def _opens(path: Path) -> bool:
    """Whether HDF5 opens a file."""
    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False


@contextmanager
def _progress(label: str, answer: _Answer) -> Iterator[Callable[[int], None]]:
    """Show the download: a bar on a terminal, else one line.

    Yields:
        A function to call with the number of new bytes.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        size = f" ({answer.total / 1e6:,.1f} MB)" if answer.total else ""
        say(f"downloading {label}{size}")
        yield lambda n: None
        return

    # Imported here, because few calls draw a bar.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    say(f"downloading {label}")
    columns = (
        BarColumn(bar_width=BAR),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )

    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=answer.total, completed=answer.start)
        yield lambda n: bar.update(task, advance=n)
