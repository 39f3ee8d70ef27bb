"""The runs of a report: which there are, of which group and task, and which count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from rlop.config.checks import nearest
from rlop.logs.history import RECORD, History, read_metrics
from rlop.report.copies import once
from rlop.report.entries import Run, full_key, runs_of
from rlop.report.foreign import read_foreign
from rlop.report.groups import Curve, curves, logged_metrics, record_folders, tell_apart
from rlop.report.html import one_line
from rlop.report.labels import short_labels
from rlop.report.statistics import stability
from rlop.report.titles import HIGHER, LOWER, SCORES, SHOWN, metric, possible
from rlop.types import InputError


@dataclass(frozen=True)
class Study:
    """All runs of a report, in groups.

    Args:
        histories: their records; runs are numbered through them in order.
        runs: of all histories; also those that do not count, because they are there twice.
        groups: label -> numbers of the runs that count.
        notes: what a reader must know of the runs: copies, records without values, other sources.
    """

    histories: list[History]
    runs: list[Run]
    groups: dict[str, list[int]]
    notes: list[str]

    @property
    def counted(self) -> list[int]:
        """Numbers of the runs that count, group by group."""
        return list(chain.from_iterable(self.groups.values()))

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in order of appearance."""
        return list(dict.fromkeys(self.runs[run].task for run in self.counted))

    @property
    def rows(self) -> dict[str, list[int]]:
        """Runs of every group; with several tasks, of every group on every task."""
        if len(self.tasks) == 1:
            return self.groups
        rows = {}
        for task in self.tasks:
            for group in self.groups:
                runs = self.of_task(group, task)
                if runs:
                    rows[f"{group} on {task}"] = runs
        return rows

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics that were logged."""
        return logged_metrics(self.histories)

    @property
    def score(self) -> str | None:
        """The score that most runs have; the earlier one of `SCORES` where equally many do."""
        logged = [name for name in SCORES if name in self.metrics]
        return max(logged, key=self._count_curves, default=None)

    def _count_curves(self, name: str) -> int:
        """Count the runs that have a metric."""
        return sum(curve is not None for curve in self.curves(name))

    def of_task(self, group: str, task: str) -> list[int]:
        """Return the runs of a group on one task."""
        return [run for run in self.groups[group] if self.runs[run].task == task]

    def name_of(self, run: int) -> str:
        """Name a run: its group and its seed, or its folder."""
        group = next(label for label, runs in self.groups.items() if run in runs)
        seed = self.runs[run].seed
        return f"{group}, seed {seed}" if seed is not None else f"{group}, {self.runs[run].folder}"

    def curves(self, name: str) -> list[Curve | None]:
        """Return one curve per run, infinitely bad from where a run diverged on.

        Where no direction of the metric is better, values are NaN from there on.
        """
        worst = {HIGHER: -math.inf, LOWER: math.inf}.get(metric(name).better, math.nan)
        filled: list[Curve | None] = []
        for curve in curves(self.histories, name):
            if curve is None:
                filled.append(None)
                continue
            steps, values = curve
            filled.append((steps, np.where(np.isfinite(values), values, worst)))
        return filled

    def numbers(self, name: str, at: str = "final") -> dict[int, float]:
        """Return one number per counted run that logged a metric.

        Args:
            name: of the metric.
            at: final, average, peak or unlearning, see `statistics.stability`.
        """
        all_curves = self.curves(name)
        numbers = {}
        for run in self.counted:
            curve = all_curves[run]
            if curve is not None and len(curve[1]):
                # A run that is infinitely bad before its end has no difference of infinities.
                with np.errstate(invalid="ignore"):
                    numbers[run] = float(stability(curve[1])[at])
        return numbers

    def limits(self, name: str, task: str) -> tuple[float, float]:
        """Return the lowest and the highest value that a metric can have on a task."""
        sources = [self.runs[run].source for run in self.counted if self.runs[run].task == task]
        return possible(name, list(dict.fromkeys(sources)))


def gather(sources: Sequence[str | Path], by: Sequence[str] = ()) -> Study:
    """Read the runs of folders and files, and group them.

    Args:
        sources: log folders, folders of them, and records of other programs, see `foreign`.
        by: keys whose values make the groups; none takes every setting in which runs differ.

    Raises:
        InputError: no record, a damaged one, or an unknown key.
    """
    folders, histories, notes = _read(sources)
    tell_apart(histories)
    runs = runs_of(folders, histories, by)

    counted, copies = once(runs, histories)
    settings = {run: runs[run].settings for run in counted}
    if by:
        settings = {run: _chosen(runs[run].settings, by) for run in counted}
    labels = short_labels(list(settings.values()), everything=bool(by))

    groups: dict[str, list[int]] = {}
    for run, label in zip(counted, labels):
        groups.setdefault(one_line(label), []).append(run)
    return Study(histories, runs, groups, [*notes, *copies])


def chosen_metrics(study: Study, names: Sequence[str] | None) -> list[str]:
    """Return the metrics to show: those named, or the usual ones that were logged.

    Raises:
        InputError: a metric that was never logged.
    """
    logged = study.metrics
    for name in names or ():
        if name not in logged:
            raise InputError(f"metric '{name}' was never logged{nearest(name, logged)}")
    if names:
        return list(dict.fromkeys(names))
    penalties = [name for name in logged if name.startswith("reg/")]
    usual = [name for name in (*SHOWN, *penalties) if name in logged]
    return usual or logged[:4]


def _read(sources: Sequence[str | Path]) -> tuple[list[str], list[History], list[str]]:
    """Read every record once: its folder, its history, and what must be said of it."""
    folders: list[str] = []
    histories: list[History] = []
    notes: list[str] = []
    seen: set[Path] = set()

    for source in sources:
        path = Path(source).expanduser()
        found = read_foreign(path)
        if not found or any(path.rglob(RECORD)):
            found += [(folder, read_metrics(folder), "") for folder in record_folders(path)]
        before = set(seen)
        for place, history, note in found:
            seen.add(place.resolve())
            if place.resolve() in before:
                continue
            if not history.metrics:
                notes.append(f"{place}: nothing is logged yet, left out")
                continue
            folders.append(str(place))
            histories.append(history)
            if note:
                notes.append(f"{place}: {note}")

    if not histories:
        raise InputError(
            f"{', '.join(map(str, sources))}: found a record without a single value, expected a "
            "training that has begun"
        )
    return folders, histories, [one_line(note) for note in notes]


def _chosen(settings: Mapping[str, str], by: Sequence[str]) -> dict[str, str]:
    chosen = {}
    for key in by:
        name = full_key(key, settings)
        chosen[key] = "none" if name is None else settings[name]
    return chosen
