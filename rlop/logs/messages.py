"""Messages to the user, through the logger named "rlop" of the standard library.

A program that imports the library decides what it shows, by `logging` as for any other package:
by default warnings only, on stderr. The command line shows all of them as plain text.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger("rlop")


def say(text: str, level: int = logging.INFO) -> None:
    """Log one line.

    Args:
        text: the line.
        level: level of `logging`: INFO for progress, WARNING for what the user should act on.
    """
    LOGGER.log(level, "%s", text)


@contextmanager
def messages_on_stderr(level: int = logging.INFO) -> Iterator[None]:
    """Print messages of this level and above as plain lines on stderr while the block runs."""
    handler = _Stderr()
    level_before = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(level)

    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level_before)


class _Stderr(logging.Handler):
    """Handler that looks up stderr at every message: it may be replaced, or absent."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message alone, without a level or a time."""
        if sys.stderr is not None:
            print(record.getMessage(), file=sys.stderr, flush=True)
