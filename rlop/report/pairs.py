"""Compare two sets of runs: paired by seed and data, an effect with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain

from rlop.report.comparisons import Difference, holm, paired
from rlop.report.study import Study
from rlop.report.summaries import number
from rlop.report.tables import aligned
from rlop.report.titles import HIGHER, LOWER, metric
from rlop.types import InputError

Key = tuple[str, str, frozenset[tuple[str, str]]]  # seed, task, and other settings


def split(study: Study, first: str, second: str) -> tuple[list[int], list[int]]:
    """Return the runs of two groups, or of two folders.

    Args:
        study: all runs.
        first, second: labels of groups, or folders that runs were logged in or below.

    Raises:
        InputError: there are no such runs.
    """
    return _members(study, first), _members(study, second)


def _members(study: Study, name: str) -> list[int]:
    if name in study.groups:
        return study.groups[name]
    folder = name.rstrip("/")
    members = []
    for run in study.counted:
        if f"{study.runs[run].folder}/".startswith(f"{folder}/"):
            members.append(run)
    if not members:
        labels = ", ".join(repr(label) for label in list(study.groups)[:20])
        raise InputError(f"--compare {name}: expected a folder of runs, or a group: {labels}")
    return members


def compared(
    study: Study, first: str, second: str, metrics: Sequence[str], at: str = "final"
) -> str:
    """Format a table of what the second set of runs changes against the first.

    A pair is a run of each with the same seed, the same data, and the same other settings, except
    those in which the two sets differ as a whole. P-values are corrected over the metrics (Holm).

    Args:
        study: all runs.
        first, second: see `split`.
        metrics: names as logged.
        at: final, average, peak or unlearning, see `statistics.stability`.

    Raises:
        InputError: no pairs, or pairs that are not unique.
    """
    mine, theirs = split(study, first, second)
    pairs = matched(study, mine, theirs, first, second)

    rows: list[list[str]] = []
    differences: list[Difference] = []
    for name in metrics:
        numbers = study.numbers(name, at)
        kept = [(numbers[a], numbers[b]) for a, b in pairs if a in numbers and b in numbers]
        finite = [pair for pair in kept if all(map(math.isfinite, pair))]
        before, after = [a for a, _ in finite], [b for _, b in finite]
        difference = Difference(math.nan, math.nan, math.nan, math.nan, 0)
        if finite:
            difference = paired(before, after)
        differences.append(difference)
        rows.append([metric(name).title, *_cells(name, before, after, difference, kept)])

    corrected = holm([difference.p for difference in differences])
    for row, p in zip(rows, corrected):
        row.append("-" if math.isnan(p) else number(max(p, 1e-4)))
    header = ["metric", "A", "B", "B - A", "95 % interval", "B is better", "pairs", "p (Holm)"]
    columns = [list(column) for column in zip(header, *rows)]
    return "\n".join(
        [
            f"A: {first}, {len(mine)} runs; B: {second}, {len(theirs)} runs; {len(pairs)} pairs",
            "",
            aligned(columns),
            "means over pairs at the same seed and data; Student-t interval of the differences",
        ]
    )


def _cells(
    name: str,
    before: Sequence[float],
    after: Sequence[float],
    difference: Difference,
    pairs: Sequence[tuple[float, float]],
) -> list[str]:
    """Return the cells of one metric but the first and the last."""
    lost = len(pairs) - len(before)
    count = f"{len(before)} ({lost} diverged)" if lost else str(len(before))
    if not before:
        return ["-", "-", "-", "-", "-", count]

    sign = {HIGHER: 1, LOWER: -1}.get(metric(name).better, 0)
    better = sum(sign * (b - a) > 0 for a, b in pairs) if sign else 0
    interval = "-"
    if not math.isnan(difference.low):
        interval = f"{number(difference.low)} to {number(difference.high)}"
    return [
        number(sum(before) / len(before)),
        number(sum(after) / len(after)),
        number(difference.mean),
        interval,
        f"{better} of {len(pairs)}" if sign else "-",
        count,
    ]


def matched(
    study: Study, mine: Sequence[int], theirs: Sequence[int], first: str, second: str
) -> list[tuple[int, int]]:
    """Pair runs by seed, task and the settings that vary within one of the two sets.

    Raises:
        InputError: no pairs, or pairs that are not unique.
    """
    varying = _varying(study, mine) | _varying(study, theirs)
    left = _by_key(study, mine, varying, first)
    right = _by_key(study, theirs, varying, second)
    pairs = [(left[key], right[key]) for key in left if key in right]
    if not pairs:
        raise InputError(
            f"--compare {first} {second}: no two runs have the same seed and data, expected some"
        )
    return pairs


def _by_key(study: Study, runs: Sequence[int], varying: set[str], name: str) -> Mapping[Key, int]:
    keys: dict[Key, int] = {}
    for run in runs:
        about = study.runs[run]
        if about.seed is None:
            continue
        rest = frozenset((k, v) for k, v in about.settings.items() if k in varying)
        key = (about.seed, about.task, rest)
        if key in keys:
            raise InputError(
                f"--compare {name}: {study.name_of(keys[key])} and {study.name_of(run)} have the "
                "same seed and data, expected one run of each"
            )
        keys[key] = run
    return keys


def _varying(study: Study, runs: Sequence[int]) -> set[str]:
    """Return the settings in which these runs differ."""
    all_settings = [study.runs[run].settings for run in runs]
    varying = set()
    for key in dict.fromkeys(chain.from_iterable(all_settings)):
        values = {settings.get(key) for settings in all_settings}
        if len(values) > 1:
            varying.add(key)
    return varying
