"""Launches as processes of this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from rlop.sweep.executor import Ended, outcome
from rlop.sweep.launches import Launch
from rlop.sweep.worker import log_of

POLL = 0.1  # seconds between looks at the processes


class Processes:
    """Runs up to `jobs` launches at a time, each in a process of its own.

    Args:
        folder: of the sweep, which holds its plan.
        jobs: launches at a time.
    """

    def __init__(self, folder: Path, jobs: int) -> None:
        self.folder = folder
        self.jobs = jobs
        self.running: dict[str, tuple[Launch, subprocess.Popen[bytes]]] = {}

    def has_room(self) -> bool:
        """Return whether another process may start."""
        return len(self.running) < self.jobs

    def start(self, launch: Launch) -> None:
        """Start the process of a launch."""
        with open(log_of(self.folder, launch), "ab") as log:
            # Ctrl-C in a terminal reaches the sweep alone, which passes it on; see `interrupt`.
            process = subprocess.Popen(
                worker_command(self.folder, launch),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.running[launch.name] = launch, process

    def ended(self, seconds: float) -> list[Ended]:
        """Wait for processes to end, at most so long; return the launches of those that did."""
        end = time.monotonic() + seconds
        while True:
            gone = [item for item in self.running.values() if item[1].poll() is not None]
            if gone or time.monotonic() >= end:
                break
            time.sleep(POLL)

        found = []
        for launch, process in gone:
            del self.running[launch.name]
            _close_pipe(process)
            found.append(outcome(self.folder, launch, process.returncode))
        return found

    def interrupt(self) -> None:
        """Send SIGINT to all processes: they write a checkpoint and end."""
        for _, process in self.running.values():
            process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Kill the processes that are left."""
        for _, process in self.running.values():
            process.kill()
            process.wait()
            _close_pipe(process)
        self.running.clear()


def worker_command(folder: Path, launch: Launch) -> list[str]:
    """Return the command that trains a launch of the sweep in a folder."""
    return [sys.executable, "-m", "rlop.sweep.worker", str(folder), launch.name]


def _close_pipe(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
