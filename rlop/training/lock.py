"""One writer for each run folder: a lock that a dead process does not hold.

The lock is the folder `.lock` with one file, whose name says who holds it. A folder moves into
place with its file, and only if there is none or an empty one, so that no two processes take it.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from rlop.types import InputError

LOCK = ".lock"
TRIES = 100


def acquire(folder: Path) -> Path:
    """Take the lock of a folder; return the file that says so, for `release`.

    Raises:
        InputError: another process holds it, or the folder cannot be written.
    """
    lock = folder / LOCK
    own = holder(os.getpid())
    try:
        for _ in range(TRIES):
            _drop_dead(folder)
            made = Path(tempfile.mkdtemp(prefix=".lock.", suffix=f".{os.getpid()}.tmp", dir=folder))
            (made / own).touch()

            try:
                os.rename(made, lock)
                return lock / own
            except OSError:  # another one was faster; Windows replaces no empty folder
                shutil.rmtree(made)
                with suppress(OSError):
                    lock.rmdir()
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error}), expected a folder to write to"
        ) from None
    raise InputError(f"{lock}: cannot be taken, expected a folder to write to")


def release(held: Path) -> None:
    """Give the lock back.

    Args:
        held: from `acquire`.
    """
    with suppress(OSError):
        held.unlink()
        held.parent.rmdir()


def _drop_dead(folder: Path) -> None:
    """Remove what a process that has ended left of the lock.

    Raises:
        InputError: a process holds it that lives, or that nothing is known of.
    """
    lock = folder / LOCK
    for name in _holders(lock):
        if not is_dead(name):
            pid, _, host = _parse(name)
            raise InputError(
                f"{folder}: process {pid or '?'} on {host} trains in this folder; expected another "
                f"folder, or its end (if it has ended, remove {lock})"
            )
        # By its name, so that the lock of another process, taken since, is left alone.
        (lock / name).unlink(missing_ok=True)


def drop_absent(folder: Path, hosts: Collection[str]) -> None:
    """Remove the lock of a process on a host that is gone, with all that ran there.

    Args:
        folder: whose lock it is.
        hosts: names of those that are there.
    """
    for name in _holders(folder / LOCK):
        host = _parse(name)[2]
        if host not in hosts and host != socket.gethostname():
            (folder / LOCK / name).unlink(missing_ok=True)


def is_held(folder: Path) -> bool:
    """Return whether a process holds the lock of a folder that is not known to have ended."""
    return any(not is_dead(name) for name in _holders(folder / LOCK))


def _holders(lock: Path) -> list[str]:
    """Return the names of the files in a lock: none or one."""
    try:
        return os.listdir(lock)
    except FileNotFoundError:
        return []


def holder(pid: int) -> str:
    """Name a process of this host: `PID-START-HOST`."""
    return f"{pid}-{_status(pid)[1]}-{socket.gethostname()}"


def _parse(name: str) -> tuple[int, str, str]:
    """Return process, start and host of a name; process 0 if it is none."""
    pid, _, rest = name.partition("-")
    start, _, host = rest.partition("-")
    return int(pid) if pid.isdecimal() else 0, start, host


def is_dead(name: str) -> bool:
    """Return whether a process is known to have ended.

    Nothing is known of processes on other hosts. A process that has the number of another one that
    has ended is told from it by its start, where the system tells it.

    Args:
        name: from `holder`.
    """
    pid, start, host = _parse(name)
    if pid == 0 or host != socket.gethostname():
        return False
    if not is_alive(pid):
        return True
    return _status(pid)[1] != start


def is_alive(pid: int) -> bool:
    """Return whether a process of this host runs."""
    if sys.platform == "win32":  # where os.kill(pid, 0) would end the process
        import ctypes

        still_active, query = 259, 0x1000
        kernel = ctypes.windll.kernel32
        process = kernel.OpenProcess(query, False, pid)
        if not process:
            return False
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(process, ctypes.byref(code))
        kernel.CloseHandle(process)
        return code.value == still_active

    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return _status(pid)[0] not in ("Z", "X")  # ended, and its parent has not asked yet


def _status(pid: int) -> tuple[str, str]:
    """Return the state of a process and the time of its start, where the system tells them."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", ""
    # The name of the program, in parentheses, may hold spaces; state and start are fields 3 and 22.
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]
