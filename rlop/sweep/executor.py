"""What runs the launches of a sweep: processes of this machine, or the tasks of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlop.sweep.launches import Launch
from rlop.sweep.worker import log_of

KILL = 9  # SIGKILL, which Windows does not know
TAIL = 4096  # bytes at the end of a log in which the reason of a failure stands


@dataclass(frozen=True)
class Ended:
    """A try of a launch that has ended.

    Args:
        launch: the launch.
        reason: why it did not reach its end; "" if it did.
        can_retry: whether another try may end otherwise: the process was killed, and did not fail.
    """

    launch: Launch
    reason: str = ""
    can_retry: bool = False


class Executor(Protocol):
    """Starts launches, and tells when they have ended."""

    def has_room(self) -> bool:
        """Return whether another launch can start."""

    def start(self, launch: Launch) -> None:
        """Start a launch."""

    def ended(self, seconds: float) -> list[Ended]:
        """Wait for launches to end, at most so long; return those that did."""

    def interrupt(self) -> None:
        """Ask all launches to end with a checkpoint."""

    def close(self) -> None:
        """End all launches at once."""


def outcome(folder: Path, launch: Launch, code: int) -> Ended:
    """Return how a launch ended.

    Args:
        folder: of the sweep.
        launch: the launch.
        code: exit code of its process; minus the signal for one that was killed.
    """
    if code == 0:
        return Ended(launch)
    if code < 0 or code > 128:
        number = -code if code < 0 else code - 128
        cause = ", perhaps for its memory" if number == KILL else ""
        return Ended(launch, f"killed by signal {number}{cause}", can_retry=True)
    return Ended(launch, _last_line(log_of(folder, launch)))


def _last_line(log: Path) -> str:
    """Return the last line of a log that is not empty, without the program's name."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError as error:
        return f"{log}: {error.strerror}"
    filled = [line.strip() for line in lines if line.strip()]
    return filled[-1].removeprefix("rlop: ") if filled else f"no message, see {log}"
