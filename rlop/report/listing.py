"""A list of trainings: their state, steps and score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlop.logs.history import History, read_metrics
from rlop.report.groups import frozen_at, record_folders
from rlop.report.html import one_line
from rlop.report.summaries import number
from rlop.report.tables import aligned
from rlop.report.titles import SCORES, metric
from rlop.training.lock import is_held


def listing(sources: Sequence[str | Path]) -> str:
    """Format a table with a row per training.

    Args:
        sources: log folders, or folders of them.

    Raises:
        InputError: there is no record, or a damaged one.
    """
    folders: dict[Path, Path] = {}
    for source in sources:
        for folder in record_folders(source):
            folders.setdefault(folder.resolve(), folder)

    columns = [["training"], ["agent"], ["runs"], ["state"], ["steps"], ["score"]]
    for folder in folders.values():
        history = read_metrics(folder)
        cells = [
            str(folder),
            str(history.config.get("agent", "-")),
            str(len(history.labels)),
            state(folder, history),
            _steps(history),
            _score(history),
        ]
        for column, cell in zip(columns, cells):
            column.append(one_line(cell))
    return aligned(columns)


def state(folder: Path, history: History) -> str:
    """Say whether a training runs, has finished, or has ended before its last step.

    Args:
        folder: of the training.
        history: its record.
    """
    diverged = int(np.isfinite(frozen_at(history)).sum())
    word = "ended early"
    if is_held(folder):
        word = "running"
    elif _last(history) >= _planned(history):
        word = "finished"
    return f"{word}, {diverged} diverged" if diverged else word


def _steps(history: History) -> str:
    planned = _planned(history)
    of_all = f" of {planned:,.0f}" if math.isfinite(planned) else ""
    return f"{_last(history):,}{of_all}"


def _last(history: History) -> int:
    return int(history.steps[-1]) if len(history.steps) else 0


def _planned(history: History) -> float:
    steps = history.config.get("steps")
    return float(steps) if isinstance(steps, int) else math.inf


def _score(history: History) -> str:
    """Return the mean of the last score over the runs that did not diverge."""
    for name in SCORES:
        if name in history.metrics:
            last = history.metrics[name][1][-1]
            counts = np.isfinite(last) & np.isinf(frozen_at(history))
            finite = last[counts]
            value = number(float(finite.mean())) if len(finite) else "diverged"
            return f"{value} ({metric(name).title})"
    return "-"
