"""Runs that are there twice: copied folders, trainings that were repeated or went on elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlop.logs.history import History
from rlop.report.entries import Run


def once(runs: Sequence[Run], histories: Sequence[History]) -> tuple[list[int], list[str]]:
    """Leave out runs that are there twice: the same seed of the same settings.

    A training that was copied and went on has another number of steps, and the same values up to
    there; the longer one counts.

    Args:
        runs: of all histories.
        histories: their records.

    Returns:
        The numbers of the runs that count, and a sentence on those that do not.
    """
    places: list[tuple[int, int]] = []
    for number, history in enumerate(histories):
        places += [(number, run) for run in range(len(history.labels))]
    counted: dict[tuple[object, ...], list[int]] = {}
    twice: dict[tuple[str, str, str], list[str]] = {}  # two places, the one that counts -> seeds

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
        where = (runs[twin].folder, about.folder, runs[kept].folder)
        twice.setdefault(where, []).append(about.seed)

    notes = []
    for (first, second, kept_in), seeds in twice.items():
        named = ", ".join(dict.fromkeys(seeds))
        notes.append(f"seed {named}: in {first} and in {second}, counted once, from {kept_in}")
    kept_runs: list[int] = []
    for same_settings in counted.values():
        kept_runs += same_settings
    return sorted(kept_runs), notes


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
