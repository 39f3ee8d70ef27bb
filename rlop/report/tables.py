"""Tables of trainings: a statistic over seeds with its interval; diverged runs are counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlop.config.checks import check_known
from rlop.report.entries import source_of
from rlop.report.figures import draw
from rlop.report.groups import (
    Curves,
    Groups,
    Histories,
    all_hparams,
    as_list,
    curves,
    flatten,
    group_runs,
    load,
)
from rlop.report.statistics import iqm, mean_ci, stability, stratified_bootstrap_ci
from rlop.report.study import Study, gather
from rlop.report.titles import SCORES, possible

__all__ = ["AT", "STABILITY", "STATISTICS", "figure", "report", "table"]

DEFAULT_METRICS = (*SCORES, "loss/td", "q/data", "rank/srank", "feature/dot")
AT = {  # number taken from a curve: in words, and its name in `stability`
    "final": ("last logged value", "final"),
    "mean": ("average over training", "average"),
    "best": ("maximum over training", "peak"),
    "unlearning": ("maximum over training minus last logged value", "unlearning"),
}
STABILITY = "stability"
STATISTICS = {  # statistic over the runs of a group -> how the caption names it and its interval
    "mean": "mean ± 95 % Student-t interval over runs",
    "iqm": "interquartile mean [95 % stratified bootstrap interval] over runs",
}


def table(
    history: Histories,
    metrics: Sequence[str],
    at: str = "final",
    statistic: str = "mean",
    groups: Groups | None = None,
) -> str:
    """Format a text table: a row per group of runs, a column per metric, a caption.

    Diverged runs are excluded from the statistic and counted in the cell.

    Args:
        history: one, or several whose runs are combined.
        metrics: names as logged.
        at: final (last logged value), mean (average over training), best (maximum over training,
            which is optimistic), unlearning (best minus final), or stability for all four side by
            side, see `statistics.stability`.
        statistic: mean ("mean ± half width", Student-t over runs) or iqm ("mean of the middle half
            [low, high]", bootstrap over runs), see `rlop.report.statistics`.
        groups: label -> runs; None groups the runs that differ in nothing but `seed`.

    Raises:
        InputError: an unknown metric, `at` or `statistic`.
    """
    check_known("at =", at, (*AT, STABILITY))
    check_known("statistic =", statistic, STATISTICS)
    histories = as_list(history)
    if groups is None:
        groups = group_runs(all_hparams(histories))

    # The first two columns; those of the metrics follow.
    columns = [
        ["group", *groups],
        ["runs", *(str(len(runs)) for runs in groups.values())],
    ]
    for name in metrics:
        metric_curves = curves(histories, name)
        if at == STABILITY:
            for kind in AT:
                cells = _cells(metric_curves, groups, kind, statistic)
                columns.append([f"{name} {kind}", *cells])
        else:
            columns.append([name, *_cells(metric_curves, groups, at, statistic)])

    words = STABILITY if at == STABILITY else AT[at][0]
    return f"{aligned(columns)}\n{words}; {STATISTICS[statistic]}"


def report(
    logdir: str | Path,
    metrics: Sequence[str] | None = None,
    at: str = "final",
    png: str | Path | None = None,
    statistic: str = "mean",
) -> str:
    """Format the table of a logdir, or of all logdirs below a folder; optionally draw the curves.

    Args:
        logdir: where trainings were logged.
        metrics: names as logged; None takes the usual ones that were logged.
        at: see `table`.
        png: file for a picture of the curves, with means and Student-t intervals; None for no
            picture.
        statistic: see `table`.

    Raises:
        InputError: there is no record, or an unknown metric, `at` or `statistic`.
    """
    study = gather([logdir])
    text = report_of(study, str(logdir), metrics, at, statistic)
    if png:
        names = list(metrics) if metrics else usual_metrics(study.metrics, at)
        text += f"\npicture: {figure(study.histories, names, png, study.rows)}"
    return text


def report_of(
    study: Study, name: str, metrics: Sequence[str] | None, at: str, statistic: str
) -> str:
    """Format the heading, the table and the notes of a study.

    Args:
        study: the runs.
        name: where they are from.
        metrics, at, statistic: see `report`.

    Raises:
        InputError: an unknown metric, `at` or `statistic`.
    """
    names = list(metrics) if metrics else usual_metrics(study.metrics, at)
    text = table(study.histories, names, at, statistic, study.rows)
    parts = [f"{_heading(name, study)}\n\n{text}", *study.notes]
    return "\n".join(parts)


def figure(
    source: Histories | str | Path,
    names: Sequence[str],
    path: str | Path,
    groups: Groups | None = None,
) -> Path:
    """Draw one PNG, a panel per metric: mean of every group of runs with its 95 % band.

    Args:
        source: a logdir, a folder of logdirs, or histories.
        names: metrics as logged.
        path: path of the file.
        groups: label -> runs; None groups the runs that differ in nothing but `seed`.

    Raises:
        InputError: a metric that was never logged, or matplotlib is not installed.
    """
    histories = load(source) if isinstance(source, (str, Path)) else as_list(source)
    if groups is None:
        groups = group_runs(all_hparams(histories))
    panels = {name: curves(histories, name) for name in names}
    sources = [source_of(flatten(history.config)) for history in histories]
    limits = {name: possible(name, sources) for name in names}
    return draw(panels, groups, path, limits)


def usual_metrics(logged: Sequence[str], at: str) -> list[str]:
    """Choose what to show: scores, losses and ranks, or the first few if none was logged."""
    names = [name for name in DEFAULT_METRICS if name in logged]
    if at == STABILITY:
        # Four columns each: the first score alone.
        names = [name for name in names if name in SCORES][:1]
    return names or list(logged)[:4]


def _heading(name: str, study: Study) -> str:
    """Summarize the number of runs and the last step."""
    last_step = max(int(history.steps[-1]) for history in study.histories)
    n_trainings = len(study.histories)
    trainings = f" of {n_trainings} trainings" if n_trainings > 1 else ""
    return f"{name}: {len(study.counted)} runs{trainings}, up to step {last_step}"


def _cells(metric_curves: Curves, groups: Groups, kind: str, statistic: str) -> list[str]:
    """Format one column: a number of every curve, and the statistic of every group."""
    _, key = AT[kind]
    cells = []

    for runs in groups.values():
        numbers = []
        for run in runs:
            curve = metric_curves[run]
            if curve is not None:
                numbers.append(float(stability(curve[1])[key]))
        cells.append(_cell(numbers, statistic))
    return cells


def _cell(values: Sequence[float], statistic: str) -> str:
    """Format the statistic of one group of runs, and how many of them diverged."""
    if not values:
        return "-"
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return f"all {len(values)} diverged"

    text = _mean_text(finite) if statistic == "mean" else _iqm_text(finite)
    diverged = len(values) - len(finite)
    return f"{text} ({diverged} diverged)" if diverged else text


def _mean_text(values: Sequence[float]) -> str:
    mean, _, high = mean_ci(values)
    if len(values) == 1:
        return f"{mean:.3g}"
    return f"{mean:.3g} ± {high - mean:.2g}"


def _iqm_text(values: Sequence[float]) -> str:
    scores = np.array(values)[:, None]  # [runs, one task]
    middle = iqm(scores)
    if len(values) == 1:
        return f"{middle:.3g}"
    low, high = stratified_bootstrap_ci(scores)
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


def aligned(columns: Sequence[Sequence[str]]) -> str:
    """Join columns to lines, every column as wide as its widest cell."""
    padded = []
    for column in columns:
        width = max(map(len, column))
        padded.append([text.ljust(width) for text in column])

    lines = ["  ".join(row).rstrip() for row in zip(*padded)]
    return "\n".join(lines)
