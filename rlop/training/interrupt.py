"""Interrupt a training where nothing is lost: between two updates, never during a save."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rlop.types import Interrupted

# Ctrl-C, the request of a scheduler, and (not on Windows) a terminal that was closed.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class StopSignal:
    """Handler of SIGINT, SIGTERM and SIGHUP while a training runs.

    The first signal takes effect at the end of an update, so that the checkpoint is complete; a
    second one takes effect at once. Within `at_once` the first one does, too; within `shield` none
    does. Outside the main thread, where Python accepts no handlers, nothing is changed.
    """

    def __enter__(self) -> StopSignal:
        self.number: int | None = None  # of the first signal
        self.eager = False
        self.shielded = False
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for name in NAMES:
                if name in signal.Signals.__members__:
                    number = signal.Signals[name]
                    self.before[number] = signal.signal(number, self.ask)
        return self

    @property
    def asked(self) -> bool:
        """Whether there was a signal."""
        return self.number is not None

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal; raise Interrupted if it takes effect at once."""
        is_first = not self.asked
        if is_first:
            self.number = number
        takes_effect = self.eager or not is_first
        if takes_effect and not self.shielded:
            self.leave()

    def leave(self) -> None:
        """Raise Interrupted if there was a signal."""
        if self.number is not None:
            raise Interrupted(self.number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal interrupt what runs here: a resume does it again."""
        self.leave()
        self.eager = True
        try:
            yield
        finally:
            self.eager = False

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Let no signal interrupt what runs here; it takes effect at the end of the update."""
        self.shielded = True
        try:
            yield
        finally:
            self.shielded = False

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
