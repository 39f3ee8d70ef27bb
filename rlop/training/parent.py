"""The tie of a process to the one that started it."""

from __future__ import annotations

import os
import signal
import threading


def end_with_parent() -> None:
    """Ask this process to end, with a checkpoint, once the process that started it is gone.

    The parent holds the other end of stdin, which closes with it however it ends.
    """
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(0, 1):  # not through `sys.stdin`, whose lock would be held at the exit
        pass
    os.kill(os.getpid(), signal.SIGTERM)
