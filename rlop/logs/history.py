"""The plain record of a training run, `metrics.jsonl` and `runs.json`: read, repaired, turned into arrays."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlop.config.checks import nearest
from rlop.config.files import write_atomic
from rlop.types import InputError

RECORD, RUNS = "metrics.jsonl", "runs.json"
Row = tuple[int, dict[str, list[Any]]]  # step, metric -> R numbers; None for what is not finite


@dataclass(frozen=True)
class History:
    """What a board wrote: every metric with the steps at which it was logged.

    Args:
        steps: `[T]`, every step at which anything was logged.
        metrics: name -> (steps `[T']`, values `[T', R]`); NaN where a value was not finite.
        labels, hparams: of the R runs.
        config: the configuration that was kept with them.
    """

    steps: np.ndarray
    metrics: dict[str, tuple[np.ndarray, np.ndarray]]
    labels: list[str]
    hparams: list[dict[str, Any]]
    config: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps `[T']` and values `[T', R]` of one metric; InputError with the nearest name if it was never logged."""
        if name not in self.metrics:
            raise InputError(f"metric '{name}' was never logged{nearest(name, self.metrics)}")
        return self.metrics[name]


def read_metrics(logdir: str | Path) -> History:
    """The history of a logdir. A last line cut short by a crash is left out.

    Where a resumed run went back to an earlier step, what a metric held from that step on is what was logged last.

    Raises:
        InputError: no record there, or a line that is damaged.
    """
    logdir = Path(logdir)
    if not (logdir / RECORD).is_file():
        raise InputError(f"{logdir}: found no {RECORD}, expected the logdir of a training run")
    runs = _read_runs(logdir)
    rows = []
    for number, line in enumerate(_whole_lines((logdir / RECORD).read_bytes()), start=1):
        try:
            rows.append(_parse(line, len(runs["labels"])))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{logdir / RECORD}: line {number} is damaged, expected a step and its metrics"
            ) from None
    return history_of(rows, runs)


def _parse(line: bytes, runs: int) -> Row:
    found = json.loads(line)
    if not isinstance(found["step"], int) or any(
        len(row) != runs for row in found["metrics"].values()
    ):
        raise ValueError
    return found["step"], found["metrics"]


def history_of(rows: Iterable[Row], runs: dict[str, Any]) -> History:
    """Rows in the order they were logged to arrays; `runs` is the content of `runs.json`."""
    series: dict[str, dict[int, list[Any]]] = {}
    for step, metrics in rows:
        for name, row in metrics.items():
            curve = series.setdefault(name, {})
            while curve and next(reversed(curve)) >= step:
                curve.popitem()
            curve[step] = row
    arrays = {
        name: (np.array([*s]), np.array([*s.values()], dtype=np.float64))
        for name, s in series.items()
    }
    steps = np.unique([step for curve in series.values() for step in curve]).astype(np.int64)
    return History(steps, arrays, runs["labels"], runs["hparams"], runs.get("config", {}))


def _whole_lines(data: bytes) -> list[bytes]:
    """The lines of a record, without the part of one that a crash may have left at the end."""
    *lines, last = data.split(b"\n")
    try:
        return [*lines, last] if json.loads(last) else lines
    except ValueError:
        return lines


def _read_runs(logdir: Path) -> dict[str, Any]:
    try:
        runs = json.loads((logdir / RUNS).read_bytes())
        if len(runs["labels"]) != len(runs["hparams"]):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{logdir}: found no readable {RUNS} beside {RECORD}, expected both"
        ) from None
    return runs


def reopen(logdir: Path, runs: dict[str, Any]) -> tuple[int, float]:
    """Ready a record for appending: the same runs, no half line at the end; configs it had before go into `runs`.

    Returns:
        The last step, and the seconds since the first start.
    """
    before, history = _read_runs(logdir), read_metrics(logdir)
    if before["labels"] != runs["labels"]:
        raise InputError(
            f"{logdir}: found the runs {_few(before['labels'])}, expected {_few(runs['labels'])} to resume"
        )
    changed = [before.get("config")] if before.get("config") != runs["config"] else []
    runs["earlier_configs"] = before.get("earlier_configs", []) + changed
    data = (logdir / RECORD).read_bytes()
    lines = _whole_lines(data)
    repaired = b"".join(line + b"\n" for line in lines)
    if repaired != data:
        write_atomic(logdir / RECORD, repaired)
    return (
        (int(history.steps.max()), json.loads(lines[-1]).get("time", 0.0))
        if history.steps.size
        else (0, 0.0)
    )


def _few(labels: list[str]) -> str:
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
