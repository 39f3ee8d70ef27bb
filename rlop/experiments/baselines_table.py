"""BASELINES.md and its picture, from the records of `rlop.experiments.baselines`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlop.experiments.baselines import PLAIN
from rlop.report.figures import COLOURS, canvas
from rlop.report.statistics import mean_ci

Record = Mapping[str, Any]
COLUMNS = {
    "score": "final score",
    "auc": "area under the curve",
    "srank": "srank",
    "dot": "feature dot",
}
HEAD = """# Every module alone, in offline DQN and discrete CQL

Mean and half a 95 % Student-t interval over {seeds} seeds after {steps:,} updates. *Final score* is the return of the
last evaluation, *area under the curve* the mean return of all evaluations in training, *srank* and *feature dot* are
the last probe's. Runs that diverged count with their last finite network; their number stands behind the strength. Few
seeds and many rows: the best of them are best partly by luck. Made by `scripts/reproduce.py baselines`; how strengths
were chosen is said in `rlop/experiments/baselines.py`.

In the picture blue, orange and green are a module's strengths in the order of the tables, grey is the plain agent.
"""


def interval(values: Sequence[float | None]) -> str:
    """`mean ± half a 95 % interval` of a row's runs, three significant digits; nan where a value is missing."""
    mean, low, _ = mean_ci([np.nan if v is None else v for v in values])
    return f"{mean:.3g} ± {mean - low:.2g}"


def cells(record: Record, row: Mapping[str, Any]) -> list[str]:
    """A row of the long table."""
    lost = sum(active == 0 for active in row["active"])
    strength = (
        ""
        if row["strength"] is None
        else f"{row['strength']:g}"
        if _is_number(row)
        else str(row["strength"])
    )
    strength += f" ({lost} diverged)" if lost else ""
    return [record["module"], strength, *(interval(row[name]) for name in COLUMNS)]


def _is_number(row: Mapping[str, Any]) -> bool:
    return isinstance(row["strength"], (int, float)) and not isinstance(row["strength"], bool)


def mean_auc(row: Mapping[str, Any]) -> float:
    """Mean area under the curve, -inf where a run has none."""
    return float(np.mean([-np.inf if v is None else v for v in row["auc"]]))


def groups(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """(task, agent) -> records, in order."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record["task"], record["agent"]), []).append(record)
    return found


def best(records: Sequence[Record]) -> dict[str, tuple[Record, Mapping[str, Any]]]:
    """Module -> the record and row with the largest mean area under the curve."""
    found: dict[str, tuple[Record, Mapping[str, Any]]] = {}
    for record in records:
        for row in record.get("rows", ()):
            name = record["module"]
            if name not in found or mean_auc(row) > mean_auc(found[name][1]):
                found[name] = record, row
    return found


def markdown(records: Sequence[Record]) -> str:
    """The whole of BASELINES.md: a short table with the best strength of each module, then every row."""
    steps, seeds = records[0]["settings"]
    parts = [
        HEAD.format(steps=steps, seeds=seeds),
        "![areas under the curve](baselines.png)\n",
        *short(records),
    ]
    for (task, agent), group in groups(records).items():
        parts.append(f"## {agent} on {task}: every strength\n")
        parts += lines(["module", "strength", *COLUMNS.values()])
        for record in group:
            if "error" in record:
                parts.append(
                    f"| {record['module']} | failed: {record['error']} |" + " |" * len(COLUMNS)
                )
            parts += [f"| {' | '.join(cells(record, row))} |" for row in record.get("rows", ())]
        parts.append("")
    return "\n".join(parts)


def short(records: Sequence[Record]) -> list[str]:
    """For each module its best area under the curve in every task and agent, with the strength it was reached at."""
    chosen = {" on ".join(reversed(key)): best(group) for key, group in groups(records).items()}
    names = list(dict.fromkeys(record["module"] for record in records))
    parts = [
        "## Area under the curve, the best of each module's strengths\n",
        *lines(["module", *chosen]),
    ]
    for name in names:
        found = (rows.get(name) for rows in chosen.values())
        parts.append(
            f"| {name} | {' | '.join('' if f is None else at_strength(*f) for f in found)} |"
        )
    return [*parts, ""]


def at_strength(record: Record, row: Mapping[str, Any]) -> str:
    """The interval, and which strength it belongs to."""
    return interval(row["auc"]) + ("" if row["strength"] is None else f" ({cells(record, row)[1]})")


def lines(header: Sequence[str]) -> list[str]:
    """The first two lines of a Markdown table."""
    return [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]


def draw(records: Sequence[Record], path: Path) -> None:
    """One panel for each task and agent: area under the curve of every strength, the plain agent's as a grey band.

    Raises:
        InputError: matplotlib is not installed.
    """
    panels = groups(records)
    names = [name for name in dict.fromkeys(r["module"] for r in records) if name != PLAIN.name]
    with canvas(path, 3.6 * len(panels) + 1.2, 0.26 * len(names) + 1.2, dpi=100) as figure:
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, ((task, agent), group) in zip(axes, panels.items()):
            panel(axis, group, names)
            axis.set(title=f"{agent}, {task}", xlabel="area under the curve")
        axes[0].set_yticks(range(len(names)), names, fontsize=9)
        axes[0].invert_yaxis()


def panel(axis: Any, group: Sequence[Record], names: Sequence[str]) -> None:
    """Points with intervals, the strengths of a module one below another from weak to strong."""
    for name, position in zip(names, range(len(names))):
        rows = [
            row for record in group if record["module"] == name for row in record.get("rows", ())
        ]
        for i, row in enumerate(rows):
            mean, low, high = mean_ci([np.nan if v is None else v for v in row["auc"]])
            place = position + 0.25 * (i - (len(rows) - 1) / 2)
            axis.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt="o", markersize=3, linewidth=1,
                          color=COLOURS[i % len(COLOURS)])  # fmt: skip
    for record in group:
        if record["module"] == PLAIN.name and "rows" in record:
            axis.axvspan(
                *mean_ci(record["rows"][0]["auc"])[1:], color="#BBBBBB", alpha=0.5, linewidth=0
            )
