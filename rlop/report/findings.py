"""Sentences on which groups differ, with the multiplicity of the comparisons corrected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from rlop.report.comparisons import Difference, holm, paired, unpaired
from rlop.report.study import Study
from rlop.report.summaries import number

LEVEL = 0.05


class Finding(NamedTuple):
    """What the comparisons of one metric on one task say.

    Args:
        metric, task: what was compared.
        pairs: comparisons that were made.
        higher: group -> groups that are lower, beyond chance.
        largest_p: the largest corrected p-value among those; NaN without one.
        left_out: groups that were not compared, because runs diverged or are too few.
    """

    metric: str
    task: str
    pairs: int
    higher: dict[str, list[str]]
    largest_p: float
    left_out: dict[str, str]


def find(study: Study, name: str, task: str) -> Finding:
    """Compare the last values of a metric between all pairs of groups on one task.

    Runs are paired where two groups have the same seeds, else Welch's test is used. P-values are
    corrected by Holm's procedure over all pairs.

    Args:
        study: all runs.
        name: of the metric.
        task: whose runs are compared.
    """
    numbers = study.numbers(name)
    values: dict[str, dict[int, float]] = {}
    left_out: dict[str, str] = {}
    for group in study.groups:
        runs = {run: numbers[run] for run in study.of_task(group, task) if run in numbers}
        diverged = sum(not math.isfinite(value) for value in runs.values())
        if diverged:
            left_out[group] = f"{diverged} of {len(runs)} runs diverged"
        elif len(runs) == 1:
            left_out[group] = "one run"
        elif runs:
            values[group] = runs

    pairs = list(combinations(values, 2))
    differences = [compare(study, values[a], values[b]) for a, b in pairs]
    corrected = holm([difference.p for difference in differences])

    higher: dict[str, list[str]] = {}
    largest = math.nan
    for (a, b), difference, p in zip(pairs, differences, corrected):
        if p < LEVEL:
            upper, lower = (b, a) if difference.mean > 0 else (a, b)
            higher.setdefault(upper, []).append(lower)
            largest = p if math.isnan(largest) else max(largest, p)
    ordered = sorted(higher, key=lambda group: -float(np.mean(list(values[group].values()))))
    ranked = {group: higher[group] for group in ordered}
    return Finding(name, task, len(pairs), ranked, largest, left_out)


def compare(study: Study, first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """Compare two groups of runs: pair by pair where both have the same seeds, once each.

    Args:
        study: all runs.
        first, second: run -> finite number.
    """
    mine = {study.runs[run].seed: value for run, value in first.items()}
    theirs = {study.runs[run].seed: value for run, value in second.items()}
    is_once = len(mine) == len(first) and len(theirs) == len(second)
    if is_once and mine.keys() == theirs.keys() and None not in mine:
        return paired(list(mine.values()), [theirs[seed] for seed in mine])
    return unpaired(list(first.values()), list(second.values()))


def sentence(finding: Finding, n_groups: int) -> str:
    """Say what a finding found, and how much it leaves open."""
    parts = []
    for upper, lower in finding.higher.items():
        is_all = len(lower) == n_groups - 1 and n_groups > 2
        parts.append(f"{upper} is higher than {'every other group' if is_all else listed(lower)}")

    certain = sum(len(lower) for lower in finding.higher.values())
    open_pairs = finding.pairs - certain
    if parts:
        text = f"{'; '.join(parts)} (p ≤ {number(max(finding.largest_p, 1e-4))})."
    elif finding.pairs:
        text = "no difference beyond chance."
    else:
        text = "nothing to compare."
    if open_pairs:
        text += f" {open_pairs} of {finding.pairs} pairs are undecided."
    for group, reason in finding.left_out.items():
        text += f" {group} is not compared: {reason}."
    return text


def listed(names: Sequence[str]) -> str:
    """Join names with commas and an "and"."""
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"
