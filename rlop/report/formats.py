"""The table of a report as CSV, LaTeX or Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from rlop.report.study import Study
from rlop.report.summaries import summarize
from rlop.report.titles import titled

Format: TypeAlias = Callable[[Study, Sequence[str], str], str]

FORMULA = ("=", "+", "-", "@", "\t")  # what makes a spreadsheet compute a cell
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def as_csv(study: Study, metrics: Sequence[str], at: str) -> str:
    """Return one line per group, task and metric: interquartile mean and 95 % interval.

    Args:
        study: the runs.
        metrics: names as logged.
        at: final, average, peak or unlearning, see `statistics.stability`.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["group", "task", "metric", "at", "runs", "diverged", "iqm", "low", "high"])
    for task in study.tasks:
        for group in study.groups:
            for name in metrics:
                summary = summarize(study, name, group, task, at)
                if not summary.values:
                    continue
                ends = (summary.iqm, summary.low, summary.high)
                cells = [repr(value) if math.isfinite(value) else "" for value in ends]
                counts = [len(summary.values), summary.diverged]
                writer.writerow([_plain(group), _plain(task), _plain(name), at, *counts, *cells])
    return out.getvalue().rstrip("\n")


def _plain(text: str) -> str:
    """Keep a spreadsheet from computing a name."""
    return f"'{text}" if text.startswith(FORMULA) else text


def as_markdown(study: Study, metrics: Sequence[str], at: str) -> str:
    """Return a table with a row per group and a column per metric; arguments as of `as_csv`."""
    header = ["group", *map(titled, metrics)]
    lines = [_piped(header), _piped(["---"] * len(header))]
    for row, cells in _rows(study, metrics, at):
        lines.append(_piped([row, *cells]))
    return "\n".join(lines)


def _piped(cells: Sequence[str]) -> str:
    escaped = [cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def as_latex(study: Study, metrics: Sequence[str], at: str) -> str:
    """Return a `tabular` for the package booktabs; arguments as of `as_csv`."""
    header = " & ".join(_latex(text) for text in ["group", *map(titled, metrics)])
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        r"\toprule",
        rf"{header} \\",
        r"\midrule",
    ]
    for row, cells in _rows(study, metrics, at):
        lines.append(" & ".join(_latex(cell) for cell in [row, *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def _rows(study: Study, metrics: Sequence[str], at: str) -> list[tuple[str, list[str]]]:
    rows = []
    for task in study.tasks:
        for group in study.groups:
            if study.of_task(group, task):
                cells = [summarize(study, name, group, task, at).text for name in metrics]
                on_task = f" on {task}" if len(study.tasks) > 1 else ""
                rows.append((f"{group}{on_task}", cells))
    return rows


FORMATS: dict[str, Format] = {"csv": as_csv, "latex": as_latex, "markdown": as_markdown}
