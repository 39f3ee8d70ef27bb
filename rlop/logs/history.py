"""Read and repair the record of a training, `metrics.jsonl` and `runs.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, TypeAlias, TypedDict

import numpy as np

from rlop.config.checks import nearest
from rlop.config.files import read_whole
from rlop.types import InputError

RECORD, RUNS = "metrics.jsonl", "runs.json"
EVENTS = "events.out.tfevents."  # beginning of the names of TensorBoard's files
DEEPEST = 64  # nesting of a configuration
# What content that is no record leads to; numbers may be too long, and brackets too many.
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
Values: TypeAlias = list[float | None]  # R numbers; None for a number that is not finite
Row: TypeAlias = tuple[int, dict[str, Values]]  # step, and metric -> R numbers


class Runs(TypedDict):
    """The content of `runs.json`."""

    labels: list[str]
    hparams: list[dict[str, object]]  # of each run
    config: NotRequired[dict[str, object]]
    earlier_configs: NotRequired[list[object]]  # of a training that was resumed, oldest first
    parent: NotRequired[object]  # the training that this one continues under other options


@dataclass(frozen=True)
class History:
    """Every metric that a training logged, with the steps at which it was logged.

    Args:
        steps: `[T]`, every step at which anything was logged.
        metrics: name -> (steps `[T']`, values `[T', R]`); NaN where a value was not finite.
        labels, hparams: names and hyper-parameters of the R runs.
        config: the configuration of the training.
        parent: the training that this one continues under other options, if any.
    """

    steps: np.ndarray
    metrics: dict[str, tuple[np.ndarray, np.ndarray]]
    labels: list[str]
    hparams: list[dict[str, object]]
    config: dict[str, object] = field(default_factory=dict)
    parent: object = None

    def get(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return steps `[T']` and values `[T', R]` of one metric.

        Raises:
            InputError: it was never logged; the message has the nearest name.
        """
        if name not in self.metrics:
            raise InputError(f"metric '{name}' was never logged{nearest(name, self.metrics)}")
        return self.metrics[name]


def read_metrics(logdir: str | Path) -> History:
    """Read the history of a logdir, without a last line that a crash cut short.

    In records of version 0.2 or before, a training that was resumed from an earlier step logged the
    later ones again: the values logged last replace earlier ones.

    Raises:
        InputError: there is no record, or a line is damaged.
    """
    logdir = Path(logdir)
    record = logdir / RECORD
    if not record.is_file():
        raise InputError(f"{logdir}: found no {RECORD}, expected the logdir of a training run")

    runs = _read_runs(logdir)

    try:
        lines = _whole_lines(record.read_bytes())
    except OSError as error:
        raise InputError(f"{record}: cannot be read, {error.strerror}") from None

    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_parse(line, len(runs["labels"])))
        except MALFORMED:
            raise InputError(
                f"{record}: line {number} is damaged, expected a step and its metrics"
            ) from None
    return history_of(rows, runs)


def history_of(rows: Iterable[Row], runs: Runs) -> History:
    """Turn rows, in the order in which they were logged, into arrays."""
    curves: dict[str, list[tuple[int, Values]]] = {}
    for step, metrics in rows:
        for name, values in metrics.items():
            curve = curves.setdefault(name, [])

            # A training that was resumed from an earlier step logs the later ones again.
            while curve and curve[-1][0] >= step:
                curve.pop()
            curve.append((step, values))

    all_steps: set[int] = set()
    arrays = {}
    for name, curve in curves.items():
        steps, numbers = zip(*curve)
        arrays[name] = (np.array(steps), np.array(numbers, dtype=np.float64))
        all_steps.update(steps)

    return History(
        steps=np.array(sorted(all_steps), dtype=np.int64),
        metrics=arrays,
        labels=runs["labels"],
        hparams=runs["hparams"],
        config=runs.get("config", {}),
        parent=runs.get("parent"),
    )


def reopen(logdir: Path, runs: Runs, size: int) -> tuple[int, float]:
    """Prepare a record for appending: the same runs, and nothing after a checkpoint.

    Args:
        logdir: folder of the record.
        runs: new content of `runs.json`; the earlier configurations of the record are added to it
            as `earlier_configs`, oldest first.
        size: bytes of the record at the checkpoint; what follows is removed.

    Returns:
        The step of the last line that is left, and the seconds from the first start to it.

    Raises:
        InputError: the record is of other runs, or shorter.
    """
    before = _read_runs(logdir)
    if before["labels"] != runs["labels"]:
        found, expected = _shortened(before["labels"]), _shortened(runs["labels"])
        raise InputError(f"{logdir}: found the runs {found}, expected {expected} to resume")

    runs["earlier_configs"] = list(before.get("earlier_configs", []))
    if before.get("config") != runs["config"]:
        runs["earlier_configs"].append(before.get("config"))
    if "parent" in before:
        runs["parent"] = before["parent"]

    path = logdir / RECORD
    length = path.stat().st_size if path.is_file() else 0
    if length < size:
        raise InputError(
            f"{path}: {length:,} bytes, expected the {size:,} that a checkpoint was written after; "
            "--fork NEW continues in another folder"
        )
    with open(path, "rb") as record:
        lines = record.read(size).splitlines()
    step, seconds = 0, 0.0
    try:
        if lines:
            step, _ = _parse(lines[-1], len(runs["labels"]))
            seconds = json.loads(lines[-1]).get("time", 0.0)
    except MALFORMED:
        raise InputError(f"{path}: line {len(lines)} is damaged, expected a step") from None
    os.truncate(path, size)
    return step, seconds


def clear(logdir: Path) -> None:
    """Remove the record of a training that starts over, with its curves."""
    for path in (logdir / RECORD, logdir / RUNS):
        path.unlink(missing_ok=True)
    for path in logdir.glob(f"*/{EVENTS}*"):
        path.unlink()
        with suppress(OSError):  # other files are in the folder
            path.parent.rmdir()


def _parse(line: bytes, n_runs: int) -> Row:
    """Read one line.

    Raises:
        MALFORMED: not a step and R numbers per metric.
    """
    content = json.loads(line)
    step = content["step"]
    metrics = content["metrics"]

    if not isinstance(step, int) or not 0 <= step < 2**63:
        raise ValueError
    if not isinstance(content.get("time", 0.0), int | float):
        raise ValueError
    for values in metrics.values():
        if np.asarray(values, np.float64).shape != (n_runs,):
            raise ValueError
    return step, metrics


def _whole_lines(data: bytes) -> list[bytes]:
    """Split a record into lines, without the partial one that a crash may have left at the end."""
    *lines, rest = data.split(b"\n")
    try:
        is_whole = bool(json.loads(rest))  # only the end of the line is lost
    except (ValueError, RecursionError):
        is_whole = False
    return [*lines, rest] if is_whole else lines


def _read_runs(logdir: Path) -> Runs:
    try:
        content = read_whole(logdir / RUNS)
        runs = json.loads(content)
        labels, hparams = runs["labels"], runs["hparams"]
        of_lists = isinstance(labels, list) and isinstance(hparams, list)
        of_mappings = all(isinstance(values, dict) for values in hparams)
        has_config = isinstance(runs.get("config", {}), dict)
        of_text = all(isinstance(label, str) for label in labels)
        if not (of_lists and of_mappings and has_config and of_text):
            raise ValueError
        if len(labels) != len(hparams) or not _is_shallow(runs, DEEPEST):
            raise ValueError
    except (OSError, *MALFORMED):
        raise InputError(
            f"{logdir}: found no readable {RUNS} beside {RECORD}, expected both"
        ) from None
    return runs


def _is_shallow(value: object, levels: int) -> bool:
    """Whether mappings and lists are nested at most so many times."""
    if not isinstance(value, (dict, list)):
        return True
    items = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in items)


def _shortened(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:3])
    if len(labels) > 3:
        shown += f" and {len(labels) - 3} more"
    return shown
