"""The state of a sweep while it runs: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rlop.logs.history import RECORD
from rlop.logs.messages import say
from rlop.sweep.launches import Launch
from rlop.training.options import TrainOptions
from rlop.training.plan import duration

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table as RichTable

TAIL = 1 << 20  # bytes at the end of a record that hold its last line
SHOWN = 30  # rows of the table
HEARTBEAT = 300.0  # seconds between lines of a sweep in which nothing ends
WAITING, TRAINING, FINISHED, FAILED = "waiting", "training", "finished", "failed"
ORDER = (TRAINING, FAILED, WAITING, FINISHED)  # of the rows


@dataclass
class Row:
    """What is known of a launch.

    Args:
        launch: the launch.
        state: one of the states above.
        tries: how many times it was started.
        began: time and step of its last start.
        step: the last one that it logged.
        note: why it failed, or is tried again.
    """

    launch: Launch
    state: str = WAITING
    tries: int = 0
    began: tuple[float, int] | None = None
    step: int = 0
    note: str = ""


@dataclass
class Board:
    """The rows of all launches, and how they are shown.

    Args:
        folder: of the sweep.
        launches: all of them.
        live: whether a table is shown; by default on a terminal.
    """

    folder: Path
    launches: Sequence[Launch]
    live: bool | None = None
    rows: dict[str, Row] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = {launch.name: Row(launch) for launch in self.launches}
        self._table: Live | None = None
        self._shown_at = time.monotonic()

    def __enter__(self) -> Board:
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        if is_terminal if self.live is None else self.live:
            self._table = _live_table()
            self._table.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._table is not None:
            self._table.update(self._as_table(), refresh=True)
            self._table.stop()

    def change(self, launch: Launch, state: str, note: str = "") -> None:
        """Note the new state of a launch, and say so."""
        row = self.rows[launch.name]
        row.state, row.note = state, note
        if state == TRAINING:
            row.tries += 1
            row.step = last_step(self.folder / launch.name)
            row.began = time.monotonic(), row.step
        if self._table is None:
            ending = f": {note}" if note else f" ({self.done} of {len(self.rows)} are finished)"
            self._say(f"{launch.name}: {state}{ending}")

    @property
    def done(self) -> int:
        """Number of launches that have reached their end."""
        return sum(row.state == FINISHED for row in self.rows.values())

    def refresh(self) -> None:
        """Read how far the launches are, and show it."""
        training = [row for row in self.rows.values() if row.state == TRAINING]
        for row in training:
            row.step = max(row.step, last_step(self.folder / row.launch.name))

        if self._table is not None:
            self._table.update(self._as_table(), refresh=True)
        elif training and time.monotonic() - self._shown_at > HEARTBEAT:
            steps = [f"{row.launch.name} {row.step:,}" for row in training]
            self._say(f"steps: {', '.join(steps)}")

    def _say(self, text: str) -> None:
        self._shown_at = time.monotonic()
        say(text)

    def _as_table(self) -> RichTable:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, title=f"{self.done} of {len(self.rows)} finished")
        for name in ("launch", "runs", "state", "step", "left", ""):
            table.add_column(name, justify="right" if name in ("runs", "step", "left") else "left")

        rows = sorted(self.rows.values(), key=lambda row: ORDER.index(row.state))
        for row in rows[:SHOWN]:
            table.add_row(*cells(row))
        if len(rows) > SHOWN:
            table.add_row(f"... and {len(rows) - SHOWN} more")
        return table


def cells(row: Row) -> list[str]:
    """Return the cells of a row."""
    total = steps_of(row.launch)
    is_done = row.state == FINISHED
    step = "" if row.state == WAITING else f"{row.step:,}" if not is_done else "all"
    tries = f" (try {row.tries})" if row.tries > 1 else ""
    return [
        row.launch.name,
        str(row.launch.runs),
        row.state + tries,
        step,
        _left(row, total),
        row.note,
    ]


def steps_of(launch: Launch) -> int:
    """Return the steps of a launch."""
    steps = launch.values.get("steps", TrainOptions.steps)
    return steps if isinstance(steps, int) else 0


def _left(row: Row, total: int) -> str:
    """Return the time that a launch still takes at its present speed; "" where that is unknown."""
    if row.state != TRAINING or row.began is None or row.step <= row.began[1]:
        return ""
    began, first = row.began
    seconds = (total - row.step) * (time.monotonic() - began) / (row.step - first)
    return duration(seconds)


def last_step(home: Path) -> int:
    """Return the last step in the record of a launch; 0 without a record."""
    try:
        with open(home / RECORD, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            tail = file.read()
    except OSError:
        return 0
    found = re.findall(rb'^\{"step": (\d{1,18}),.*\n', tail, re.MULTILINE)
    return int(found[-1]) if found else 0


def _live_table() -> Live:
    from rich.console import Console
    from rich.live import Live

    return Live(console=Console(stderr=True), auto_refresh=False, transient=False)
