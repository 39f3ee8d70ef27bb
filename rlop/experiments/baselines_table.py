"""BASELINES.md and its picture, from the records of `rlop.experiments.baselines`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from rlop.experiments.baselines import INERT, PLAIN, Record, Row, Strength
from rlop.report.figures import COLORS, canvas
from rlop.report.statistics import mean_ci

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Group: TypeAlias = tuple[str, str]  # task, agent

HEAD = """# Every module alone, in offline DQN and discrete CQL

Mean and half a 95 % Student-t interval over {seeds} seeds after {steps:,} updates. *Final score* is
the return of the last evaluation, *area under the curve* the mean return of all evaluations in
training, *srank* and *feature dot* are the last probe's. Runs that diverged count with their last
finite network; their number follows the strength. Every module has three strengths, of which other
seeds choose one for the first table: it is not the best of the seeds that report.

*Change* says whether a module does anything: after {early} updates, the distance of the parameters
to those without it, over the distance that these have moved; below {inert:g} it is inert. Made by
`scripts/reproduce.py baselines` in {hours:.1f} hours of processor time;
`rlop/experiments/baselines.py` says how the strengths were chosen.

In the picture blue, orange and green are a module's strengths in the order of the tables, gray is
the plain agent.
"""
COLUMNS = ("final score", "area under the curve", "srank", "feature dot", "change")


def interval(values: Sequence[float | None]) -> str:
    """Write `mean ± half a 95 % interval` of a row's runs; nan where a value is missing."""
    mean, low, _ = mean_ci(_with_nan(values))
    return f"{mean:.3g} ± {mean - low:.2g}"


def _with_nan(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def strength_text(row: Row) -> str:
    """Write the strength of a row, with the number of runs that diverged."""
    text = _number_text(row["strength"])
    diverged = sum(active == 0 for active in row["active"])
    return f"{text} ({diverged} diverged)" if diverged else text


def _number_text(strength: Strength) -> str:
    if strength is None:
        return ""
    is_number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
    return f"{strength:g}" if is_number else str(strength)


def cells(record: Record, row: Row) -> list[str]:
    """Write a row of the long table."""
    intervals = [interval(row["score"]), interval(row["auc"])]
    intervals += [interval(row["srank"]), interval(row["dot"])]
    return [record["module"], strength_text(row), *intervals, change_text(row)]


def change_text(row: Row) -> str:
    """Write how far the module moved the parameters, and whether it is inert."""
    if not row["change"]:
        return "other parameters"
    text = interval(row["change"])
    return f"{text}, inert" if is_inert(row) else text


def is_inert(row: Row) -> bool:
    """Return whether the parameters are those without the module, to less than `INERT`."""
    return bool(row["change"]) and float(np.mean(_with_nan(row["change"]))) < INERT


def acts(rows: Sequence[Row]) -> str:
    """Say in a word or two whether a module did anything, at any of its strengths."""
    if not any(row["change"] for row in rows):
        return "other parameters"
    inert = sum(map(is_inert, rows))
    if inert == len(rows):
        return "inert"
    return f"inert at {inert} of {len(rows)}" if inert else "yes"


def tuning_score(row: Row) -> float:
    """Return the tuning seeds' mean area under the curve, -inf if a run has none."""
    return float(np.mean([-np.inf if value is None else value for value in row["tuning"]]))


def groups(records: Sequence[Record]) -> dict[Group, list[Record]]:
    """Return (task, agent) -> records, in order."""
    result: dict[Group, list[Record]] = {}
    for record in records:
        result.setdefault((record["task"], record["agent"]), []).append(record)
    return result


def best(records: Sequence[Record]) -> dict[str, Row]:
    """Return module -> the row that the tuning seeds choose."""
    result: dict[str, Row] = {}
    for record in records:
        name = record["module"]
        for row in record.get("rows", ()):
            if name not in result or tuning_score(row) > tuning_score(result[name]):
                result[name] = row
    return result


def markdown(records: Sequence[Record]) -> str:
    """Write the whole of BASELINES.md: the chosen strength of each module, then every row."""
    steps, seeds, early = records[0]["settings"]
    hours = sum(record.get("seconds", 0) for record in records) / 3600
    parts = [
        HEAD.format(steps=steps, seeds=seeds, early=early, inert=INERT, hours=hours),
        "![areas under the curve](baselines.png)\n",
        *short(records),
    ]
    for (task, agent), group in groups(records).items():
        parts.append(f"## {agent} on {task}: every strength\n")
        parts += header(["module", "strength", *COLUMNS])
        for record in group:
            if "error" in record:
                failure = f"| {record['module']} | failed: {record['error']} |"
                parts.append(failure + " |" * len(COLUMNS))
            for row in record.get("rows", ()):
                parts.append(line(cells(record, row)))
        parts.append("")

    return "\n".join(parts)


def short(records: Sequence[Record]) -> list[str]:
    """Write each module's area under the curve at the chosen strength, and whether it acts."""
    chosen = {f"{agent} on {task}": best(group) for (task, agent), group in groups(records).items()}
    lines = [
        "## Area under the curve at the strength that the tuning seeds chose\n",
        *header(["module", "does anything", *chosen]),
    ]
    for name in modules(records):
        rows = [rows_by_module.get(name) for rows_by_module in chosen.values()]
        lines.append(line([name, acts(rows_of(records, name)), *map(at_strength, rows)]))

    return [*lines, ""]


def at_strength(row: Row | None) -> str:
    """Write the interval of a row and its strength; "" for no row."""
    if row is None:
        return ""
    text = interval(row["auc"])
    return text if row["strength"] is None else f"{text} ({strength_text(row)})"


def modules(records: Sequence[Record]) -> list[str]:
    """Return the names of the modules, once each, in order."""
    return list(dict.fromkeys(record["module"] for record in records))


def header(names: Sequence[str]) -> list[str]:
    """Write the first two lines of a Markdown table."""
    return [line(names), "|" + "---|" * len(names)]


def line(texts: Sequence[str]) -> str:
    """Write one line of a Markdown table."""
    return f"| {' | '.join(texts)} |"


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw a panel for each task and agent: area under the curve of every strength.

    The plain agent's interval is a gray band.

    Raises:
        InputError: matplotlib is not installed.
    """
    panels = groups(records)
    names = [name for name in modules(records) if name != PLAIN.name]
    width, height = 3.6 * len(panels) + 1.2, 0.26 * len(names) + 1.2

    with canvas(path, width, height, dpi=100) as figure:
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, ((task, agent), group) in zip(axes, panels.items()):
            panel(axis, group, names)
            axis.set(title=f"{agent}, {task}", xlabel="area under the curve")
        axes[0].set_yticks(range(len(names)), names, fontsize=9)
        axes[0].invert_yaxis()


def panel(axis: Axes, group: Sequence[Record], names: Sequence[str]) -> None:
    """Draw points with intervals, the strengths of a module one below another, weak to strong."""
    for position, name in enumerate(names):
        rows = rows_of(group, name)
        for i, row in enumerate(rows):
            mean, low, high = mean_ci(_with_nan(row["auc"]))
            low = max(low, 0.0)  # no return of these tasks is negative
            axis.errorbar(
                mean,
                position + 0.25 * (i - (len(rows) - 1) / 2),
                xerr=[[mean - low], [high - mean]],
                fmt="o",
                markersize=3,
                linewidth=1,
                color=COLORS[i % len(COLORS)],
            )

    plain = best(group).get(PLAIN.name)
    if plain is not None:
        _, low, high = mean_ci(_with_nan(plain["auc"]))
        axis.axvspan(max(low, 0.0), high, color="#BBBBBB", alpha=0.5, linewidth=0)


def rows_of(records: Sequence[Record], module: str) -> list[Row]:
    """Return the rows of one module, in order."""
    rows: list[Row] = []
    for record in records:
        if record["module"] == module:
            rows.extend(record.get("rows", ()))
    return rows
