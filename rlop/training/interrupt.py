"""Interrupting a training without losing anything."""

from __future__ import annotations

import signal
import threading
from typing import Any


class StopSignal:
    """Ctrl-C or SIGTERM waits for the end of a step, so that the checkpoint is a whole one; a second one does not.

    Outside the main thread, where Python takes no signals, nothing is changed.
    """

    def __enter__(self) -> StopSignal:
        self.asked = False
        main = threading.current_thread() is threading.main_thread()
        self.before = {
            number: signal.signal(number, self.ask)
            for number in (signal.SIGINT, signal.SIGTERM)
            if main
        }
        return self

    def ask(self, number: int, frame: Any) -> None:
        """Remember the signal; raise at the second one."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
