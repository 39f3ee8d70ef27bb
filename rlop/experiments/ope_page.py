"""The tables of `docs/ope.md`: how right `rlop.ope` was, from the records alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlop.experiments.ope_study import DECIDING, TARGETS, Record
from rlop.report.comparisons import spearman

BEGIN, END = "<!-- study -->", "<!-- end of study -->"
WORLDS = {"gridworld": "gridworld, the truth exact", "pendulum": "Pendulum, the truth played"}


def decided(records: Sequence[Record], study: str) -> list[Record]:
    """Return the records of a study with the seeds that decide."""
    return [one for one in records if one["study"] == study and one["seed"] in DECIDING[study]]


def correlations(records: Sequence[Record]) -> list[float]:
    """Return the rank correlation of FQE with the truth, for each record."""
    found = []
    for record in records:
        values = [estimate.value for estimate in record["estimates"]["FQE"]]
        found.append(spearman(values, record["truth"]))
    return found


def coverage(records: Sequence[Record], name: str) -> list[float]:
    """Return the share of an estimator's intervals that held the truth, for each policy."""
    held = []
    for record in records:
        intervals = record["estimates"][name]
        truths = record["truth"]
        held.append([one.low <= truth <= one.high for one, truth in zip(intervals, truths)])
    return np.mean(held, axis=0).tolist()


def errors(records: Sequence[Record], name: str) -> list[float]:
    """Return the root mean square error of an estimator, for each policy."""
    squares = []
    for record in records:
        values = np.array([estimate.value for estimate in record["estimates"][name]])
        squares.append((values - record["truth"]) ** 2)
    return np.sqrt(np.mean(squares, axis=0)).tolist()


def tables(records: Sequence[Record]) -> str:
    """Return both tables as Markdown."""
    return f"{ranks(records)}\n\n{intervals(records)}"


def ranks(records: Sequence[Record]) -> str:
    """Return the table of rank correlations."""
    lines = [
        "| FQE of eight policies | data sets | rank correlation, mean | least |",
        "|---|---|---|---|",
    ]
    for study, title in WORLDS.items():
        found = correlations(decided(records, study))
        if found:
            lines.append(f"| {title} | {len(found)} | {np.mean(found):.3f} | {min(found):.3f} |")
    return "\n".join(lines)


def intervals(records: Sequence[Record]) -> str:
    """Return the table of intervals: how often they held the truth, and the errors."""
    chosen = decided(records, "coverage")
    policies = [f"{share:.0%} random" for share in TARGETS]
    lines = [
        f"| share of {len(chosen)} intervals that held the truth, and error | "
        f"{' | '.join(policies)} |",
        f"|{'---|' * (1 + len(policies))}",
    ]
    for name in chosen[0]["estimates"]:
        shares, sizes = coverage(chosen, name), errors(chosen, name)
        cells = [f"{share:.1%}, {size:.3f}" for share, size in zip(shares, sizes)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def filled(page: str, records: Sequence[Record]) -> str:
    """Put the tables into the page, between their marks."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{tables(records)}\n\n{END}{tail}"
