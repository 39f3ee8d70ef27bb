"""Logs of a training: TensorBoard event files for viewing, one plain JSON record for analysis."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeAlias

import numpy as np

from rlop.config.files import to_dict, write_atomic
from rlop.logs.appended import Appended
from rlop.logs.history import (
    RECORD,
    RUNS,
    History,
    Row,
    Runs,
    history_of,
    read_metrics,
    reopen,
)
from rlop.logs.messages import say
from rlop.types import InputError

__all__ = ["History", "Logger", "final_scores", "read_metrics", "safe_labels"]

# Files of a training in the same folder, which no run may be named like.
OTHER_FILES = (
    "config.yaml",
    "run.json",
    "checkpoint.pt",
    "checkpoint.previous.pt",
    "checkpoint.best.pt",
)
PerRun: TypeAlias = Mapping[str, Sequence[float] | np.ndarray]  # metric name -> R numbers


class Mark(NamedTuple):
    """Where a record ends, in bytes: the file of all runs, and each event file (`FOLDER/FILE`)."""

    record: int
    events: Mapping[str, int]


# Prefixes of the metrics that summarize a finished run.
FINAL = ("eval/", "rank/srank", "feature/dot", "q/data", "run/active")


class Logger:
    """Log of R runs: a TensorBoard folder per run, and one record of all of them.

    `metrics.jsonl` holds the metrics, and `runs.json` describes the runs. Each `log` reaches the
    operating system before it returns, so that a killed process loses nothing it logged.

    Args:
        logdir: folder of this training, created if missing; None keeps the record in memory only.
        labels: R names, one line each in TensorBoard; made safe for file names, and unique.
        hparams: R dicts of the values that distinguish the runs, including `seed`; `variant` names
            a group in reports.
        config: the whole configuration, kept in `runs.json`.
        resume: continue the record in the folder from where a checkpoint was written; None starts
            one.
        parent: the training that this one continues in another folder, kept in `runs.json`.

    Raises:
        InputError: the folder holds a record and `resume` is None, holds the record of other runs,
            or cannot be written.
    """

    def __init__(
        self,
        logdir: str | Path | None,
        labels: Sequence[str],
        hparams: Sequence[Mapping[str, object]],
        config: Mapping[str, object] | None = None,
        resume: Mark | None = None,
        parent: Mapping[str, object] | None = None,
    ) -> None:
        if len(labels) != len(hparams) or not labels:
            raise ValueError(
                f"expected one dict of hparams per run, got {len(labels)} labels, "
                f"{len(hparams)} dicts"
            )

        self.logdir = None if logdir is None else Path(logdir)
        self.labels = safe_labels(labels)
        self.hparams = [to_dict(values) for values in hparams]
        self._runs: Runs = {
            "labels": self.labels,
            "hparams": self.hparams,
            "config": to_dict(config or {}),
        }
        if parent is not None:
            self._runs["parent"] = to_dict(parent)

        self._rows: list[Row] = []  # only without a logdir
        self._step = 0
        self._began = time.monotonic()
        self._closed = False
        self._said: set[str] = set()

        if self.logdir is not None:
            self._open(self.logdir, resume)

    def log(self, step: int, metrics: PerRun) -> None:
        """Write one step; a number that is not finite becomes null in the record.

        On a full disk, what cannot be written waits for the next call.

        Raises:
            InputError: the folder was removed.
        """
        if self._closed:
            raise ValueError("this logger is closed")

        step = int(step)
        values = self._rows_of(metrics)
        finite = {name: _finite_or_none(row) for name, row in values.items()}
        if self.logdir is None:
            self._rows.append((step, finite))
            return

        # After a resume, the clock continues from the first start.
        seconds = round(time.monotonic() - self._began, 3)
        line = {"step": step, "time": seconds, "metrics": finite}
        text = json.dumps(line, allow_nan=False)
        self._record.write(text.encode() + b"\n")
        self._step = step
        self._write_scalars(values)
        self._say_what_waits()
        if not self._record.is_there():
            raise InputError(f"{self.logdir}: was removed while the training ran")

    def draw(self, step: int, pictures: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Show pictures in TensorBoard; the record does not hold them.

        Args:
            step: updates so far.
            pictures: tag -> a picture of each of the first runs, uint8 `[height, width]`.
        """
        if self.logdir is None or self._closed:
            return
        from rlop.logs.tensorboard import image

        for tag, of_runs in pictures.items():
            for writer, picture in zip(self._writers, of_runs):
                writer.write(image(tag, picture), int(step))
        self._say_what_waits()

    def say_once(self, text: str, key: str | None = None, level: int = logging.WARNING) -> None:
        """Log a message, unless one with the same key was logged before.

        Args:
            text: the message.
            key: by default the text.
            level: level of `logging`.
        """
        if (key or text) not in self._said:
            self._said.add(key or text)
            say(text, level)

    def mark(self) -> Mark:
        """Return where the record ends now, from which a resume continues it."""
        if self.logdir is None or self._closed:
            return Mark(0, {})
        events = dict(self._earlier)
        for writer in self._writers:
            events[writer.name] = writer.file.size
        return Mark(self._record.size, events)

    def sync(self) -> None:
        """Wait until the record is on disk, so that no checkpoint is ahead of it.

        Raises:
            InputError: it cannot be written.
        """
        if self.logdir is not None and not self._closed:
            self._record.sync()
            for file in self._files:
                file.check()

    @property
    def _files(self) -> list[Appended]:
        """The record and the event files."""
        return [self._record, *(writer.file for writer in self._writers)]

    def _say_what_waits(self) -> None:
        """Say it once if the disk takes no more."""
        for file in self._files:
            if file.error is not None:
                self.say_once(
                    f"{file.path}: cannot be written ({file.error.strerror}); what is logged waits "
                    "in memory",
                    key="disk",
                )

    @property
    def history(self) -> History:
        """Everything logged so far, also before a resume."""
        if self.logdir is None:
            return history_of(self._rows, self._runs)
        self.sync()
        return read_metrics(self.logdir)

    def close(self, final: PerRun | None = None, success: bool = True) -> None:
        """Close the record and the event files. Idempotent.

        Args:
            final: metrics for the hyper-parameter tab, as `final/<name>`.
            success: whether the training succeeded.
        """
        rows = {f"final/{name}": row for name, row in self._rows_of(final or {}).items()}
        if not self._closed and self.logdir is not None:
            self._finish(rows, success)
            self._record.flush()
            self._say_what_waits()
            for file in self._files:
                file.close()
        self._closed = True

    def __enter__(self) -> Logger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close(success=kind is None)

    def _open(self, logdir: Path, resume: Mark | None) -> None:
        # Imported here, so that reading a history does not load TensorBoard.
        from rlop.logs.tensorboard import (
            EventWriter,
            cut_events,
            dashboards,
            hyper_parameters,
            session_start,
        )

        if resume is None and (logdir / RECORD).exists():
            raise InputError(
                f"{logdir} already holds a record ({RECORD}): expected another logdir, or resume"
            )

        self._earlier: dict[str, int] = {}  # sizes of the event files written before a resume
        try:
            if resume is not None:
                self._step, seconds = reopen(logdir, self._runs, resume.record)
                self._began -= seconds
                self._earlier = cut_events(logdir, resume.events)
            for label in self.labels:
                (logdir / label).mkdir(parents=True, exist_ok=True)
            write_atomic(logdir / RUNS, json.dumps(self._runs, indent=1, default=str).encode())
            self._writers = [EventWriter(logdir / label) for label in self.labels]
            # Last, since a folder with a record is refused by the next training.
            self._record = Appended(logdir / RECORD, is_new=resume is None)
        except OSError as error:
            raise InputError(
                f"{logdir}: cannot be written ({error}), expected a folder to write to"
            ) from None

        if resume is None:
            for writer, values in zip(self._writers, self.hparams):
                writer.write(session_start(hyper_parameters(values, self._runs["config"])))
            self._writers[0].write(dashboards())

    def _write_scalars(self, values: Mapping[str, list[float]]) -> None:
        from rlop.logs.tensorboard import scalars

        for run, writer in enumerate(self._writers):
            numbers = {name: row[run] for name, row in values.items()}
            summary = scalars(numbers)
            writer.write(summary, self._step)

    def _finish(self, rows: Mapping[str, list[float]], success: bool) -> None:
        """Complete the hyper-parameter tab."""
        from rlop.logs.tensorboard import session_end

        # No summary names the columns of the tab: TensorBoard reads only one such summary in a
        # folder, and would not show what other trainings in it have. It finds all by itself.
        self._write_scalars(rows)
        for writer in self._writers:
            writer.write(session_end(success))

    def _rows_of(self, metrics: PerRun) -> dict[str, list[float]]:
        """Turn the values of metrics into lists of R floats."""
        rows = {}
        for name, value in metrics.items():
            row = np.asarray(value, dtype=np.float64)
            n_runs = len(self.labels)

            if row.shape != (n_runs,):
                raise ValueError(
                    f"{name}: expected one number per run, [{n_runs}], got {list(row.shape)}"
                )
            rows[name] = row.tolist()
        return rows


def safe_labels(labels: Sequence[str]) -> list[str]:
    """Make names valid and unique as names of folders, ignoring case.

    They hold letters, digits and `._=+,-` only, at most 100 characters.
    """
    taken = {RECORD, RUNS, *OTHER_FILES}
    safe = []
    for label in labels:
        stem = re.sub(r"[^\w.=+,-]+", "_", label, flags=re.ASCII).strip("._")[:100] or "run"

        name = stem
        count = 1
        while name.casefold() in taken:
            count += 1
            name = f"{stem}-{count}"

        taken.add(name.casefold())
        safe.append(name)
    return safe


def final_scores(history: History) -> dict[str, np.ndarray]:
    """Return the last values `[R]` of the metrics that summarize a finished run."""
    scores = {}
    for name, (_, values) in history.metrics.items():
        if name.startswith(FINAL):
            scores[name] = values[-1]
    return scores


def _finite_or_none(row: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in row]
