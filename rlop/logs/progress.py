"""Progress of a training: a bar on a terminal or in a notebook, plain lines in a batch log."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from rich.progress import Progress as RichBar

Value: TypeAlias = float | np.ndarray  # one number, or one per run

REFRESH = 0.25  # seconds between two states of the bar
LINE = 10.0  # shortest wait between plain lines, in seconds
CELLS = 24  # characters of the bar in a notebook
HEARTBEAT = 300.0  # longest wait between plain lines, in seconds


class Progress:
    """Show step, speed, loss, last return and time left on stderr.

        with Progress(total) as bar:
            bar.update(step, loss=loss, ret=ret)

    A bar moves at most four times a second; in a notebook it is a line that is replaced. Elsewhere
    (a pipe, a file) a line is printed for every tenth of the steps, at most every ten seconds, at
    least every five minutes, and at the end. Without a stderr nothing is shown.

    Args:
        total: gradient steps of the whole training.
        enabled: True forces the bar, False shows nothing; None shows the bar if stderr is a
            terminal or the program a notebook, else lines.
        start: steps already done before this process, e.g. when resuming.
    """

    def __init__(self, total: int, enabled: bool | None = None, start: int = 0) -> None:
        self.total = total
        self.step = start
        self._values: dict[str, Value] = {}
        self._clock_start: tuple[int, float] | None = None  # first step, and when it was done
        self._shown_step = start
        self._shown_at = -math.inf

        self._silent = enabled is False or sys.stderr is None
        self._cell: Callable[[str], None] | None = None if self._silent else _notebook_cell()
        self._bar: RichBar | None = None
        is_terminal = not self._silent and (enabled is True or sys.stderr.isatty())
        if is_terminal and self._cell is None:
            self._bar = _rich_bar(total, start, forced=enabled is True)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._show(time.monotonic())
            self._bar.stop()
        elif not self._silent and (self._cell is not None or self.step != self._shown_step):
            self._show(time.monotonic())

    def update(self, step: int, loss: Value | None = None, ret: Value | None = None) -> None:
        """Record the current step, and the loss and return if they are new."""
        self.step = step
        if loss is not None:
            self._values["loss"] = loss
        if ret is not None:
            self._values["return"] = ret

        if self._silent:
            return

        now = time.monotonic()
        if self._clock_start is None:
            # The clock starts after the first step, which may compile for a minute.
            self._clock_start = (step, now)
            if not self._is_live:
                self._shown_at = now
        if self._is_due(now):
            self._show(now)

    @property
    def _is_live(self) -> bool:
        """Whether what is shown replaces what was shown before."""
        return self._bar is not None or self._cell is not None

    def _is_due(self, now: float) -> bool:
        waited = now - self._shown_at
        if self._is_live:
            return waited >= REFRESH

        steps = self.step - self._shown_step
        is_tenth = steps >= self.total / 10
        return waited >= HEARTBEAT or (waited >= LINE and is_tenth)

    def _show(self, now: float) -> None:
        self._shown_at = now
        self._shown_step = self.step
        text = "  ".join(self._parts(now))
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=self.step, info=text, refresh=True)
            return

        percent = 100 * self.step / max(self.total, 1)
        line = f"step {self.step}/{self.total} ({percent:.0f} %)  {text}"
        if self._cell is not None:
            done = int(CELLS * self.step / max(self.total, 1))
            self._cell("█" * done + "░" * (CELLS - done) + "  " + line)
            return
        print(line, file=sys.stderr, flush=True)

    def _parts(self, now: float) -> list[str]:
        """Format speed, values and time left."""
        parts = []
        for name, value in self._values.items():
            parts.append(f"{name} {_finite_mean(value):.4g}")

        if self._clock_start is None:
            return parts

        first_step, began = self._clock_start
        steps = self.step - first_step
        seconds = now - began

        if steps > 0 and seconds > 0:
            left = (self.total - self.step) * seconds / steps
            parts.insert(0, f"{steps / seconds:,.0f} steps/s")
            parts.append(f"{_clock(left)} left")
        return parts


def _notebook_cell() -> Callable[[str], None] | None:
    """Return a function that replaces a line under the running cell; None outside a notebook."""
    # A program that runs in a notebook has imported IPython.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if type(shell).__name__ != "ZMQInteractiveShell":
        return None

    from IPython.display import display

    handle = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda line: handle.update({"text/plain": line}, raw=True)


def _rich_bar(total: int, start: int, forced: bool) -> RichBar:
    """Make a bar of one task, which is redrawn only when it is updated."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichBar

    bar = RichBar(
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[info]}"),
        console=Console(stderr=True, force_terminal=True if forced else None),
        auto_refresh=False,
        # Output to a file cannot disturb the bar; only on a terminal the two must be kept apart.
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )

    bar.add_task("training", total=total, completed=start, info="")
    return bar


def _finite_mean(value: Value) -> float:
    """Return the mean of the finite values; NaN if there are none."""
    values = np.atleast_1d(value)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return math.nan
    return float(finite.mean())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
