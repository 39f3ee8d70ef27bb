"""Addresses of a file: mirrors first, and nothing but encrypted connections."""

from __future__ import annotations

import os
import re
from http.client import HTTPMessage, HTTPResponse
from typing import IO
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rlop.types import InputError

MIRRORS = "RLOP_MIRRORS"  # environment variable
LOOPBACK = ("127.0.0.1", "::1", "localhost")  # this machine, where nobody listens in between


def addresses(url: str, path: str) -> list[str]:
    """List where a file may be had, in the order in which to try.

    Each base address in `$RLOP_MIRRORS`, separated by commas or spaces, comes before the original.
    A mirror may have the folders of the original (`BASE/gym_mujoco_v2/NAME.hdf5`) or, like a folder
    of downloads, the file alone (`BASE/NAME.hdf5`).

    Args:
        url: the original address; `http:` becomes `https:`, except on this machine.
        path: of the file at the original, below what a mirror mirrors.

    Raises:
        InputError: a mirror that is neither https nor on this machine.
    """
    found: list[str] = []
    for base in re.split(r"[,\s]+", os.environ.get(MIRRORS, "").strip()):
        if base:
            check_secure(base)
            for place in (path, path.rpartition("/")[2]):
                found.append(f"{base.rstrip('/')}/{quote(place)}")

    original = url if _is_near(url) else re.sub("^http:", "https:", url)
    return list(dict.fromkeys([*found, original]))


def check_secure(url: str) -> None:
    """Raise InputError unless an address is https, or http on this machine."""
    scheme = url.partition(":")[0].lower()
    if scheme != "https" and not (scheme == "http" and _is_near(url)):
        raise InputError(f"{url}: expected an address that begins with https://")


def open_url(request: Request, timeout: float) -> HTTPResponse:
    """Open a secure address as `urllib.request.urlopen` does, and follow it to secure ones only.

    Raises:
        InputError: an address that it redirects to is not secure.
        OSError, HTTPException: no answer.
    """
    response: HTTPResponse = build_opener(_SecureRedirect).open(request, timeout=timeout)
    return response


class _SecureRedirect(HTTPRedirectHandler):
    """Follow a redirection only to a secure address."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> Request | None:
        """Check the new address."""
        check_secure(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_near(url: str) -> bool:
    """Return whether an address is on this machine."""
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:  # brackets that do not hold an IPv6 address
        return False
