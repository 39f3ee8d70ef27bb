"""Signals that end a collection: its rows are written before the process stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, the request of a scheduler, and (not on Windows) a terminal that was closed.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
STOPPING = [signal.Signals[name] for name in NAMES if name in signal.Signals.__members__]


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list; a second signal of a kind is handled as before.

    Outside the main thread the list stays empty: only the main thread may set handlers, and only
    it is interrupted.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])

    before = {int(number): signal.signal(number, receive) for number in STOPPING}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_received(received: Sequence[int]) -> None:
    """Raise what the first signal would have raised; do nothing if none was received.

    Raises:
        KeyboardInterrupt: after SIGINT.
        SystemExit: after another signal, with the exit code 128 + its number, by the convention of
            shells.
    """
    if not received:
        return
    if received[0] == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + received[0])
