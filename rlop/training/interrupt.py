"""Interrupt a training between two steps, so that nothing is lost."""

from __future__ import annotations

import signal
import threading
from types import FrameType

# Ctrl-C, the request of a scheduler, and (not on Windows) a terminal that was closed.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class StopSignal:
    """Handler of SIGINT, SIGTERM and SIGHUP while a training runs.

    The first signal takes effect at the end of a step, so that the checkpoint is complete; a second
    one takes effect at once. Outside the main thread, where Python accepts no handlers, nothing is
    changed.
    """

    def __enter__(self) -> StopSignal:
        self.asked = False
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for name in NAMES:
                if name in signal.Signals.__members__:
                    number = signal.Signals[name]
                    self.before[number] = signal.signal(number, self.ask)
        return self

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal; raise KeyboardInterrupt at the second one."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
