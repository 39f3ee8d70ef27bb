"""Fetch one HDF5 file over HTTP: resumable, and under its own name only once it is whole."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import h5py

from rlop.types import InputError

TIMEOUT, CHUNK = 30.0, 1 << 20  # seconds without an answer; bytes between looks at the clock


def download(url: str, path: Path) -> None:
    """Bring the HDF5 file at `url` to `path`.

    It grows in `PATH.part`, which an interruption leaves behind for the next call to continue (HTTP Range), and gets
    its name when its size is the announced one and HDF5 opens it.

    Raises:
        InputError: no connection, an HTTP error, a transfer that broke off, or something that is not an HDF5 file.
        KeyboardInterrupt: passed on; what has come is kept in `PATH.part`.
    """
    part = path.with_name(f"{path.name}.part")
    have = part.stat().st_size if part.exists() else 0
    response, start, total = _request(url, have)
    path.parent.mkdir(parents=True, exist_ok=True)
    with response, open(part, "ab") as file:
        _lock(file, part, have)
        file.truncate(start)
        with _progress(f"{url} -> {path}", start, total) as advance:
            fault = _copy(response, file, advance)
    got = part.stat().st_size
    if fault or (total is not None and got != total):
        said = f"{total:,}" if total is not None else "an unknown number of"
        raise InputError(
            f"{url}: broke off after {got:,} of {said} bytes{fault}; they are kept in {part}, run again to continue"
        )
    if not _opens(part):
        part.unlink()
        raise InputError(
            f"{url}: the {got:,} bytes received are not a whole HDF5 file; nothing is kept"
        )
    os.replace(part, path)


def _request(url: str, have: int) -> tuple[Any, int, int | None]:
    """The open response, the byte it starts at, and the size of the whole file where the server says it."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if (
            error.code == 416 and have
        ):  # nothing lies beyond these bytes: they are not a beginning of this file
            return _request(url, 0)
        raise InputError(f"{url}: {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise InputError(f"{url}: {getattr(error, 'reason', error)}") from None
    if response.status == 206 and have:
        place = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if place and int(place[1]) == have:
            return response, have, int(place[2])
        response.close()
        return _request(url, 0)
    length = response.headers.get("Content-Length")
    return response, 0, int(length) if length else None


def _lock(file: BinaryIO, part: Path, have: int) -> None:
    """Two processes must not both append; `have` is the size that this one has asked to continue from."""
    with suppress(ImportError, OSError):  # a system, or a file system, without locks
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            have = -1
    if os.fstat(file.fileno()).st_size != have:
        raise InputError(f"{part}: another process is downloading it")


def _copy(response: Any, file: BinaryIO, advance: Callable[[int], None]) -> str:
    """Write what comes, and say why it stopped coming: empty when the server ended it."""
    fault = ""
    try:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    except (OSError, HTTPException) as error:
        fault = f" ({error})"
    return fault


def _opens(path: Path) -> bool:
    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False


@contextmanager
def _progress(label: str, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A function that takes the number of new bytes; draws a bar on a terminal, else says once what is going on."""
    if not sys.stderr.isatty():
        print(
            f"downloading {label}{f' ({total / 1e6:,.1f} MB)' if total else ''}",
            file=sys.stderr,
            flush=True,
        )
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = [
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    ]
    print(f"downloading {label}", file=sys.stderr)
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=start)
        yield lambda n: bar.update(task, advance=n)
