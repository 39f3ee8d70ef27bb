"""Progress of bytes that are received or written: a bar on a terminal, else one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rlop.logs.messages import say

WIDTH = 24  # characters of the bar
Moved: TypeAlias = Callable[[int, int | None], None]  # new bytes, and how many there will be in all


@contextmanager
def transfer(label: str, total: int | None = None, done: int = 0) -> Iterator[Moved]:
    """Show how many bytes have been moved.

    Args:
        label: what is done, as in `downloading URL -> FILE`.
        total: how many bytes there will be; None if that is not known yet.
        done: how many there are already.
    Yields:
        A function to call with the number of new bytes, and of all; threads may call it.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        size = f" ({total / 1e6:,.1f} MB)" if total else ""
        say(f"{label}{size}")
        yield lambda new, total: None
        return

    # Imported here, because few calls draw a bar.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    say(label)
    columns = (
        BarColumn(bar_width=WIDTH),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda new, total: bar.update(task, advance=new, total=total)
