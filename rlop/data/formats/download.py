"""Fetch one file over HTTP: resumable, verified, and under its own name only once it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request

import h5py

from rlop.config.files import read_whole
from rlop.data.formats.mirrors import check_secure, open_url
from rlop.data.scores import Published
from rlop.logs.transfer import transfer
from rlop.types import InputError

TIMEOUT = 30.0  # seconds without an answer
CHUNK = 1 << 20  # bytes written between two moves of the progress bar


class Busy(InputError):
    """Another process is downloading the same file."""


def download(urls: str | Sequence[str], path: Path, published: Published | None = None) -> None:
    """Bring a file to `path` from the first address that gives it whole.

    It grows in `PATH.part`, which an interruption leaves on disk for the next call to continue
    (HTTP Range), from any address if it is known what was published. If that is not known, only
    the same address continues it, and only where the server says by ETag or Last-Modified that the
    file there is still the same (If-Range); `PATH.part.origin` remembers this. All else begins
    again. The file gets its name when its size and SHA-256 are the published ones; if these are not
    known, when its size is the announced one and HDF5 opens it.

    Args:
        urls: addresses, in the order in which to try them; https, or http on this machine.
        path: the file.
        published: size and SHA-256; None if unknown.

    Raises:
        InputError: from every address no connection, an HTTP error, a transfer that broke off, or
            another file than was published; `Busy` while another process downloads it.
        KeyboardInterrupt: passed on; the bytes received are kept in `PATH.part`.
    """
    reasons: list[str] = []
    for url in [urls] if isinstance(urls, str) else urls:
        try:
            _fetch(url, path, published)
            return
        except Busy:
            raise
        except InputError as error:
            reasons.append(str(error))
    raise InputError("; ".join(reasons))


def fault_of(path: Path, published: Published | None) -> str:
    """Compare a file with what was published.

    Returns:
        What is wrong, empty if nothing is.
    """
    size = path.stat().st_size
    if published is None:
        return "" if _opens(path) else f"the {size:,} bytes are not a whole HDF5 file"
    if size != published.size:
        return f"{size:,} bytes, {published.size:,} were published"

    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != published.sha256:
        return f"sha256 is {digest[:16]}..., {published.sha256[:16]}... was published"
    return ""


def _fetch(url: str, path: Path, published: Published | None) -> None:
    """Bring a file from one address."""
    part = path.with_name(f"{path.name}.part")
    if published and part.exists() and not fault_of(part, published):
        os.replace(part, path)  # whole, but for its name
        return

    start, validator = _resumable(part, url, published)
    is_resumed = _transfer(url, part, path, start, validator, published)

    fault = fault_of(part, published)
    if fault and is_resumed:
        # The first bytes may have been another file's: once more, from the beginning.
        _transfer(url, part, path, 0, "", published)
        fault = fault_of(part, published)

    _origin(part).unlink(missing_ok=True)
    if fault:
        part.unlink()
        raise InputError(f"{url}: {fault}; nothing is kept")
    os.replace(part, path)


def _resumable(part: Path, url: str, published: Published | None) -> tuple[int, str]:
    """Return how many bytes of a part can be continued, and the validator that the server gave."""
    size = part.stat().st_size if part.exists() else 0
    if published is not None:
        return (size if size < published.size else 0), ""

    with suppress(OSError, ValueError, KeyError, TypeError):
        origin = json.loads(read_whole(_origin(part)))
        if origin["url"] == url:
            return size, str(origin["validator"])
    return 0, ""


def _origin(part: Path) -> Path:
    return part.with_name(f"{part.name}.origin")


def _transfer(
    url: str,
    part: Path,
    path: Path,
    start: int,
    validator: str,
    published: Published | None,
) -> bool:
    """Receive what is missing in a part.

    Returns:
        Whether bytes that were there before are still used.

    Raises:
        InputError: no connection, an error, another size than was published, or broken off.
    """
    size_before = part.stat().st_size if part.exists() else 0
    answer = _request(url, start, validator)
    if published and answer.total not in (None, published.size):
        answer.response.close()
        raise InputError(
            f"{url}: a file of {answer.total:,} bytes, {published.size:,} were published"
        )
    path.parent.mkdir(parents=True, exist_ok=True)

    with answer.response as response, open(part, "ab") as file:
        _lock(file, part, size_before)
        file.truncate(answer.start)
        if published is None and not answer.start:
            _remember(part, url, answer.validator)
        label = f"downloading {url} -> {path}"
        with transfer(label, answer.total, answer.start) as moved:
            limit = published.size if published else None
            fault = _copy(response, file, lambda new: moved(new, answer.total), limit)

    received = part.stat().st_size
    is_complete = answer.total is None or received == answer.total
    if fault or not is_complete:
        total = f"{answer.total:,}" if answer.total is not None else "an unknown number of"
        raise InputError(
            f"{url}: broke off after {received:,} of {total} bytes{fault}; "
            f"they are kept in {part}, run again to continue"
        )
    return answer.start > 0


def _remember(part: Path, url: str, validator: str) -> None:
    """Note where a part comes from, so that a later call can tell whether to continue it."""
    if validator:
        _origin(part).write_text(json.dumps({"url": url, "validator": validator}))
    else:
        _origin(part).unlink(missing_ok=True)


class _Answer(NamedTuple):
    """A server's answer.

    Args:
        response: open, at the first byte of the content.
        start: the byte of the file that it begins at.
        total: size of the whole file; None where the server does not say.
        validator: changes when the file does; empty where the server gives none.
    """

    response: HTTPResponse
    start: int
    total: int | None
    validator: str


def _request(url: str, start: int, validator: str) -> _Answer:
    """Ask for the file from byte `start` on; a server may answer from the beginning."""
    check_secure(url)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    if start and validator:
        headers["If-Range"] = validator

    try:
        response = open_url(Request(url, headers=headers), TIMEOUT)
    except HTTPError as error:
        error.close()
        # 416: nothing follows these bytes, so they are not the beginning of this file.
        if error.code == 416 and start:
            return _request(url, 0, "")
        raise InputError(f"{url}: {error.code} {_one_line(error.reason)}") from None
    except URLError as error:
        raise InputError(f"{url}: {_one_line(error.reason)}") from None
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{url}: {_one_line(error)}") from None

    found = _validator(response)
    if response.status == 206 and start:
        content_range = response.headers.get("Content-Range", "")
        place = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range)
        is_same = not validator or found == validator
        if place and int(place[1]) == start and is_same:
            return _Answer(response, start, int(place[2]), found)
        response.close()
        return _request(url, 0, "")

    length = response.headers.get("Content-Length", "")
    return _Answer(response, 0, int(length) if length.isdecimal() else None, found)


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())


def _validator(response: HTTPResponse) -> str:
    """Return the server's strong ETag, or else its date; a weak ETag holds for similar files."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified", "")


def _lock(file: BinaryIO, part: Path, size: int) -> None:
    """Refuse to append where another process does.

    Args:
        file: the open part, locked until it is closed.
        part: its path.
        size: before this process asked for the rest.
    """
    is_free = True
    with suppress(ImportError, OSError):  # a system, or a file system, without locks
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = False
    if not is_free or os.fstat(file.fileno()).st_size != size:
        raise Busy(f"{part}: another process is downloading it")


def _copy(
    response: HTTPResponse,
    file: BinaryIO,
    advance: Callable[[int], None],
    limit: int | None,
) -> str:
    """Write the content, up to little more than `limit` bytes of the file.

    Returns:
        Why it stopped: empty when the server ended it, or at the limit.
    """
    try:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            advance(len(chunk))
            if limit is not None and file.tell() > limit:
                break
        file.flush()
        os.fsync(file.fileno())
    except (OSError, HTTPException) as error:
        return f" ({error})"
    return ""


def _opens(path: Path) -> bool:
    """Return whether HDF5 opens a file."""
    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False
