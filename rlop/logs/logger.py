"""What a training run writes down: TensorBoard event files for the eye, one plain JSON record for everything else."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from rlop.config.files import to_dict, write_atomic
from rlop.logs.history import RECORD, RUNS, History, Row, history_of, read_metrics, reopen
from rlop.types import InputError

__all__ = ["Board", "History", "read_metrics", "safe_labels"]


class Board:
    """Log of R runs: a TensorBoard folder per run, `metrics.jsonl` for all of them, `runs.json` for what they are.

    Each `log` reaches the operating system before it returns, so that a killed process loses nothing it logged.

    Args:
        logdir: folder of this launch, made if absent; None keeps the record in memory only.
        labels: R names, one line each in TensorBoard; made safe for file names, and unique.
        hparams: R dicts of what tells the runs apart, `seed` among them; `variant` names a group in reports.
        config: the whole configuration, kept in `runs.json`.
        resume: append to what the folder holds already instead of refusing it.
    Raises:
        InputError: the folder holds a record and `resume` is off, or holds the record of other runs.
    """

    def __init__(
        self,
        logdir: str | Path | None,
        labels: Sequence[str],
        hparams: Sequence[Mapping[str, Any]],
        config: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        if len(labels) != len(hparams) or not labels:
            raise ValueError(
                f"expected one dict of hparams per run, got {len(labels)} labels, {len(hparams)} dicts"
            )
        self.logdir = None if logdir is None else Path(logdir)
        self.labels, self.hparams = safe_labels(labels), [to_dict(values) for values in hparams]
        self._runs = {
            "labels": self.labels,
            "hparams": self.hparams,
            "config": to_dict(config or {}),
        }
        self._rows: list[Row] = []  # only without a logdir
        self._step, self._began, self._resumed, self._closed = 0, time.monotonic(), False, False
        self._said: set[str] = set()
        if self.logdir is not None:
            self._open(self.logdir, resume)

    def _open(self, logdir: Path, resume: bool) -> None:
        from rlop.logs import (
            tensorboard as events,
        )  # here, so that reading a history does not pay for TensorBoard

        self._resumed = (logdir / RECORD).exists()
        if self._resumed and not resume:
            raise InputError(
                f"{logdir} already holds a record ({RECORD}): expected another logdir, or resume"
            )
        if self._resumed:
            self._step, spent = reopen(logdir, self._runs)
            self._began -= spent
        try:
            for label in self.labels:
                (logdir / label).mkdir(parents=True, exist_ok=True)
            self._record = open(logdir / RECORD, "ab" if self._resumed else "xb")  # noqa: SIM115
            write_atomic(logdir / RUNS, json.dumps(self._runs, indent=1, default=str).encode())
            self._writers = [events.EventWriter(logdir / label) for label in self.labels]
        except OSError as error:
            raise InputError(
                f"{logdir}: cannot be written ({error}), expected a folder to write to"
            ) from None
        if not self._resumed:
            for writer, values in zip(self._writers, self.hparams):
                writer.write(events.session_start(values))

    def log(self, step: int, metrics: Mapping[str, Sequence[float] | np.ndarray]) -> None:
        """Write one step: metric name -> R numbers. What is not finite becomes null in the record."""
        if self._closed:
            raise ValueError("this board is closed")
        values = {name: self._row(name, value) for name, value in metrics.items()}
        finite = {
            name: [v if math.isfinite(v) else None for v in row] for name, row in values.items()
        }
        if self.logdir is None:
            self._rows.append((int(step), finite))
            return
        line = {
            "step": int(step),
            "time": round(time.monotonic() - self._began, 3),
            "metrics": finite,
        }
        self._record.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._record.flush()
        self._draw(int(step), values)

    def _draw(self, step: int, values: dict[str, list[float]]) -> None:
        from rlop.logs import tensorboard as events

        went_back = self._resumed and step <= self._step
        self._step, self._resumed = step, False
        for run, writer in enumerate(self._writers):
            if went_back:
                writer.restart(step)
            writer.write(events.scalars({name: row[run] for name, row in values.items()}), step)

    def _row(self, name: str, value: Sequence[float] | np.ndarray) -> list[float]:
        row = np.asarray(value, dtype=np.float64)
        if row.shape != (len(self.labels),):
            raise ValueError(
                f"{name}: expected one number per run, [{len(self.labels)}], got {list(row.shape)}"
            )
        return row.tolist()

    def say_once(self, text: str, key: str | None = None) -> None:
        """Print a line on stderr, unless one with the same key (by default the line itself) was printed already."""
        if (key or text) not in self._said:
            self._said.add(key or text)
            print(text, file=sys.stderr)

    @property
    def history(self) -> History:
        """All that was logged so far, what a resumed folder held included."""
        return (
            history_of(self._rows, self._runs) if self.logdir is None else read_metrics(self.logdir)
        )

    def close(
        self, final: Mapping[str, Sequence[float] | np.ndarray] | None = None, success: bool = True
    ) -> None:
        """Finish the hyper-parameter tab, with `final` metrics (name -> R numbers) as `final/<name>`; once only."""
        rows = {f"final/{name}": self._row(name, value) for name, value in (final or {}).items()}
        if not self._closed and self.logdir is not None:
            self._record.close()
            self._finish(rows, success)
        self._closed = True

    def _finish(self, rows: dict[str, list[float]], success: bool) -> None:
        from rlop.logs import tensorboard as events

        if rows:  # without it TensorBoard finds the hyper-parameters by itself, but lists every metric there is
            self._writers[0].write(events.experiment(self.hparams, list(rows)))
        for run, writer in enumerate(self._writers):
            writer.write(events.scalars({name: row[run] for name, row in rows.items()}), self._step)
            writer.write(events.session_end(success))
            writer.close()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close(success=kind is None)


def safe_labels(labels: Sequence[str]) -> list[str]:
    """Names fit for folders: letters, digits and `._=+,-` only, at most 100 characters, no two alike in any case."""
    taken, safe = {RECORD, RUNS}, []
    for label in labels:
        stem = re.sub(r"[^\w.=+,-]+", "_", label, flags=re.ASCII).strip("._")[:100] or "run"
        name, count = stem, 1
        while name.casefold() in taken:
            count += 1
            name = f"{stem}-{count}"
        taken.add(name.casefold())
        safe.append(name)
    return safe


def final_scores(history: History) -> dict[str, np.ndarray]:
    """Last value of every metric that tells how a run ended, for the hyper-parameter tab."""
    groups = ("eval/", "rank/srank", "feature/dot", "q/data", "run/active")
    return {
        name: values[-1] for name, (_, values) in history.metrics.items() if name.startswith(groups)
    }
