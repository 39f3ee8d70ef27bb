"""The runs of a report: which there are, of which group and task, and which count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlop.config.checks import nearest
from rlop.logs.history import RECORD, History, read_metrics
from rlop.report.foreign import read_foreign
from rlop.report.groups import (
    Curve,
    all_keys,
    curves,
    flatten,
    frozen_at,
    is_same_key,
    logged_metrics,
    record_folders,
    tell_apart,
    text_of,
)
from rlop.report.html import visible
from rlop.report.labels import short_labels
from rlop.report.statistics import stability
from rlop.report.titles import HIGHER, LOWER, SCORES, SHOWN, metric, possible
from rlop.types import InputError

TASK_KEYS = ("data", "env")


@dataclass(frozen=True)
class Run:
    """One run of a report.

    Args:
        folder: where it was logged.
        seed: None where the record has none.
        task: what it was trained on, as the report names it.
        source: its environment or data, as the configuration names it.
        settings: everything that tells its group from others, seed and task excluded.
        diverged: whether it was frozen, or its score ended in a value that is not finite.
    """

    folder: str
    seed: str | None
    task: str
    source: str
    settings: Mapping[str, str]
    diverged: bool


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
        return [run for runs in self.groups.values() for run in runs]

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
        counts = {name: sum(curve is not None for curve in self.curves(name)) for name in logged}
        return max(logged, key=counts.__getitem__, default=None)

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
    runs = _runs(folders, histories, by)

    counted, copies = _once(runs, histories)
    settings = {run: runs[run].settings for run in counted}
    if by:
        settings = {run: _chosen(runs[run].settings, by) for run in counted}
    labels = short_labels(list(settings.values()), everything=bool(by))

    groups: dict[str, list[int]] = {}
    for run, label in zip(counted, labels):
        groups.setdefault(visible(label), []).append(run)
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
    return folders, histories, [visible(note) for note in notes]


def _runs(folders: Sequence[str], histories: Sequence[History], by: Sequence[str]) -> list[Run]:
    """Describe every run of all histories."""
    everything = []
    for history in histories:
        config = flatten(history.config)
        everything += [{**config, **hparams} for hparams in history.hparams]
    _check_keys(by, everything)

    varying = _task_keys(everything, by)
    runs = []
    for folder, history in zip(folders, histories):
        frozen = np.isfinite(frozen_at(history))
        for number, hparams in enumerate(history.hparams):
            values = everything[len(runs)]
            source = _source(values)
            present = [text_of(values[key]) for key in varying if values.get(key) is not None]
            named = ", ".join(present) or source or "one task"
            runs.append(
                Run(
                    folder=visible(folder),
                    seed=None if hparams.get("seed") is None else visible(str(hparams["seed"])),
                    task=visible(named),
                    source=visible(source),
                    settings=_settings(hparams, values, varying, by),
                    diverged=bool(frozen[number]) or _ends_in_nothing(history, number),
                )
            )
    return runs


def _source(values: Mapping[str, object]) -> str:
    """Return the environment of a run, or its data where no environment is named."""
    source = values.get("env") or values.get("collect.env") or values.get("data") or ""
    return text_of(source).removeprefix("d4rl:")


def _task_keys(everything: Sequence[Mapping[str, object]], by: Sequence[str]) -> list[str]:
    """Return the keys that tell tasks apart; a key that makes the groups is none of them.

    Records of other programs name an environment, but no data: then environments are the tasks.
    """
    if any(values.get("data") is None for values in everything):
        return []
    keys = [key for key in TASK_KEYS if key not in by]
    return [key for key in keys if len({text_of(values.get(key)) for values in everything}) > 1]


def _settings(
    hparams: Mapping[str, object],
    values: Mapping[str, object],
    task_keys: Sequence[str],
    by: Sequence[str],
) -> dict[str, str]:
    """Return the settings of a run, as text, without seed and task."""
    hidden = task_keys or (key for key in TASK_KEYS if key not in by)
    kept = {key: value for key, value in hparams.items() if key not in ("seed", *hidden)}
    for key in by:
        match = _match(key, values)
        if match is not None:
            kept[match] = values[match]
    return {visible(key): visible(text_of(value)) for key, value in kept.items()}


def _ends_in_nothing(history: History, run: int) -> bool:
    """Whether a score of the run ends in a value that is not finite."""
    for name in SCORES:
        if name in history.metrics and not np.isfinite(history.metrics[name][1][-1, run]):
            return True
    return False


def _check_keys(by: Sequence[str], everything: Sequence[Mapping[str, object]]) -> None:
    known = all_keys(everything)
    for key in by:
        if not any(is_same_key(name, key) for name in known):
            raise InputError(f"--by {key}: no run has this setting{nearest(key, known)}")


def _match(key: str, values: Mapping[str, object]) -> str | None:
    """Return the full name of a key among settings: itself, or the one that ends in it."""
    if key in values:
        return key
    return next((name for name in values if is_same_key(name, key)), None)


def _chosen(settings: Mapping[str, str], by: Sequence[str]) -> dict[str, str]:
    chosen = {}
    for key in by:
        match = _match(key, settings)
        chosen[key] = "none" if match is None else settings[match]
    return chosen


def _once(runs: Sequence[Run], histories: Sequence[History]) -> tuple[list[int], list[str]]:
    """Leave out runs that are there twice: the same seed of the same settings.

    A training that was copied and went on has another number of steps, and the same values up to
    there; the longer one counts.

    Returns:
        The numbers of the runs that count, and a sentence for each that does not.
    """
    places = [(number, run) for number, h in enumerate(histories) for run in range(len(h.labels))]
    counted: dict[tuple[object, ...], list[int]] = {}
    notes = []

    for run, about in enumerate(runs):
        if about.seed is None:
            counted[run,] = [run]
            continue
        rest = frozenset(item for item in about.settings.items() if item[0] != "steps")
        others = counted.setdefault((about.seed, about.task, rest), [])
        twin = next(
            (other for other in others if _is_twin(run, other, runs, histories, places)), None
        )
        if twin is None:
            others.append(run)
            continue

        ends = [_last_step(histories[places[number][0]]) for number in (twin, run)]
        kept = run if ends[1] > ends[0] else twin
        others[others.index(twin)] = kept
        notes.append(
            f"seed {about.seed} is in {runs[twin].folder} and in {about.folder}, counted once, "
            f"from {runs[kept].folder}"
        )
    return sorted(run for same in counted.values() for run in same), list(dict.fromkeys(notes))


def _is_twin(
    run: int,
    other: int,
    runs: Sequence[Run],
    histories: Sequence[History],
    places: Sequence[tuple[int, int]],
) -> bool:
    """Whether two runs of one seed are the same: by their settings, or by their values."""
    if runs[run].settings == runs[other].settings:
        return True
    (first, row), (second, column) = places[run], places[other]
    equal = []
    for name, (steps, values) in histories[first].metrics.items():
        if name.startswith("time/") or name not in histories[second].metrics:
            continue
        other_steps, other_values = histories[second].metrics[name]
        shared = np.intersect1d(steps, other_steps)
        shared = shared[shared > 0]
        mine = values[np.searchsorted(steps, shared), row]
        theirs = other_values[np.searchsorted(other_steps, shared), column]
        equal.append(len(shared) > 0 and np.array_equal(mine, theirs, equal_nan=True))
    return bool(equal) and all(equal)


def _last_step(history: History) -> int:
    return int(history.steps[-1]) if len(history.steps) else 0
