"""How far a training is: a bar on a terminal, a few plain lines in the log of a batch job."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import Any

REFRESH, LINE, HEARTBEAT = (
    0.25,
    10.0,
    300.0,
)  # seconds: bar; shortest and longest wait between plain lines


class Progress:
    """Step, speed, loss, last return and time left, on stderr.

        with Progress(total) as bar:
            bar.update(step, loss=loss, ret=ret)

    A bar moves at most four times a second. Without a terminal a line is printed for every tenth of the way, but no
    two within ten seconds and one at least every five minutes; and one at the end.

    Args:
        total: gradient steps of the whole training.
        enabled: True forces the bar, False prints nothing; None shows the bar where stderr is a terminal, else lines.
        start: steps already done before this process, e.g. when resuming.
    """

    def __init__(self, total: int, enabled: bool | None = None, start: int = 0) -> None:
        self.total, self.start, self.step = total, start, start
        self._silent = enabled is False
        self._as_bar = enabled or (enabled is None and sys.stderr.isatty())
        self._forced = enabled is True
        self._values: dict[str, Any] = {}
        self._began: float | None = None
        self._first, self._shown_at, self._shown_step = start, -math.inf, start
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self._as_bar and not self._silent:
            self._bar, self._task = _rich_bar(self.total, self.start, self._forced)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._refresh_bar(time.monotonic())
            self._bar.stop()
        elif not self._silent and self.step != self._shown_step:
            self._print(time.monotonic())

    def update(self, step: int, loss: Any = None, ret: Any = None) -> None:
        """Note the present step and what is new; numbers, or arrays or tensors `[R]`, read only when shown."""
        self.step = step
        if loss is not None:
            self._values["loss"] = loss
        if ret is not None:
            self._values["return"] = ret
        if self._silent:
            return
        now = time.monotonic()
        if (
            self._began is None
        ):  # the clock starts after the first step, which may compile for a minute
            self._began, self._first = now, step
            if self._bar is None:
                self._shown_at = now
        if self._bar is not None:
            if now - self._shown_at >= REFRESH:
                self._refresh_bar(now)
        elif self._line_due(now):
            self._print(now)

    def _line_due(self, now: float) -> bool:
        waited = now - self._shown_at
        tenth = self.step - self._shown_step >= self.total / 10
        return waited >= HEARTBEAT or (waited >= LINE and tenth)

    def _refresh_bar(self, now: float) -> None:
        self._shown_at = now
        self._bar.update(self._task, completed=self.step, info=self._info(now), refresh=True)

    def _print(self, now: float) -> None:
        self._shown_at, self._shown_step = now, self.step
        percent = 100 * self.step / max(self.total, 1)
        print(
            f"step {self.step}/{self.total} ({percent:.0f} %)  {self._info(now)}",
            file=sys.stderr,
            flush=True,
        )

    def _info(self, now: float) -> str:
        parts = [f"{name} {_mean(value):.4g}" for name, value in self._values.items()]
        done, seconds = self.step - self._first, now - (self._began or now)
        if done > 0 and seconds > 0:
            left = (self.total - self.step) * seconds / done
            parts = [f"{done / seconds:,.0f} steps/s", *parts, f"{_clock(left)} left"]
        return "  ".join(parts)


def _rich_bar(total: int, start: int, forced: bool) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = [BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[info]}")]
    console = Console(stderr=True, force_terminal=True if forced else None)
    # What the caller prints to a file stays out of the bar's way; only a terminal needs rich to keep the two apart.
    bar = RichProgress(
        *columns, console=console, auto_refresh=False, redirect_stdout=sys.stdout.isatty()
    )
    return bar, bar.add_task("training", total=total, completed=start, info="")


def _mean(value: Any) -> float:
    """Mean of what is finite in a number or in one number per run."""
    found = value.tolist() if hasattr(value, "tolist") else value
    finite = [
        v for v in (found if isinstance(found, (list, tuple)) else [found]) if math.isfinite(v)
    ]
    return sum(finite) / len(finite) if finite else math.nan


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
