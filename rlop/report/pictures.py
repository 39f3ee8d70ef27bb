"""The pictures of a report, each one SVG without a title: the page writes that above it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlop.report.figures import COLORS, DASHES, set_scale, short_number, side_by_side
from rlop.report.groups import Curve
from rlop.report.html import Html, svg
from rlop.report.intervals import interval, iqm_over_runs
from rlop.report.study import Study
from rlop.report.summaries import Summary, number, summarize
from rlop.report.titles import SCORES, metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.4, 2.9  # inches of a panel
POINTS = 200  # of a curve, at most
CROWDED = 7  # groups; with more, curves have no bands, and scores a panel per group
LONGEST_LABEL = 30  # letters of a group's name beside an axis


def look(group: int) -> tuple[str, str]:
    """Return the color and the dash pattern of a group; 28 groups differ.

    Through the gaps of dashes a line shows that lies exactly below.
    """
    return COLORS[group % len(COLORS)], DASHES[group % len(DASHES)]


def shortened(label: str) -> str:
    """Return a label that fits beside an axis, without its middle if it is long."""
    if len(label) <= LONGEST_LABEL:
        return label
    half = LONGEST_LABEL // 2
    return f"{label[: half - 1]}…{label[-half:]}"


# ---- curves


def curves_picture(study: Study, name: str, task: str, only: str | None = None) -> Html:
    """Draw the curves of a metric: runs thin, their interquartile mean thick, its interval shaded.

    A cross is where a run diverged or was frozen.

    Args:
        study: all runs.
        name: of the metric.
        task: whose runs are drawn.
        only: the one group that is drawn in color, in front of all others in gray.
    """
    all_curves = study.curves(name)
    limits = study.limits(name, task)
    hover = {}

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        middles = []
        for number_of_group, group in enumerate(study.groups):
            runs = [run for run in study.of_task(group, task) if all_curves[run] is not None]
            gid = f"g{number_of_group}"
            for run in runs:
                hover[f"{gid}:{run}"] = study.name_of(run)
            mine = {f"{gid}:{run}": thinned(all_curves[run]) for run in runs}
            if mine and only in (None, group):
                with_band = only is not None or len(study.groups) <= CROWDED
                middles.append(_group_of_curves(axis, number_of_group, mine, limits, with_band))
            else:
                for steps, values in mine.values():
                    axis.plot(steps, _finite(values), color="#cccccc", linewidth=0.5, zorder=1)

        if middles and name not in SCORES:
            set_scale(axis, np.concatenate(middles))
        _step_axis(axis)

    words = f"{metric(name).title} over gradient steps on {task}, {only or 'all groups'}"
    return svg(draw, WIDTH, HEIGHT, words, hover)


def _group_of_curves(
    axis: Axes,
    group: int,
    runs: Mapping[str, Curve],
    limits: tuple[float, float],
    with_band: bool,
) -> np.ndarray:
    """Draw the curves of one group; return the values of the thick line."""
    color, dashes = look(group)
    for gid, (steps, values) in runs.items():
        axis.plot(steps, _finite(values), color=color, linewidth=0.6, alpha=0.6, gid=gid)
        ends = np.flatnonzero(~np.isfinite(values))
        if len(ends) and ends[0] > 0:
            last = ends[0] - 1
            axis.plot(steps[last], values[last], "x", color=color, markersize=6, gid=gid)

    steps, values = side_by_side(list(runs.values()))
    middle = _finite(iqm_over_runs(values))
    marker = "o" if len(steps) == 1 else None
    axis.plot(steps, middle, dashes, color=color, marker=marker, gid=f"g{group}", zorder=3)
    if with_band:
        low, high = interval(values, *limits)
        band = (_finite(low), _finite(high))
        axis.fill_between(steps, *band, color=color, alpha=0.15, linewidth=0, gid=f"g{group}")
    return middle


def thinned(curve: Curve | None) -> Curve:
    """Return at most 200 points of a curve, among them the first, the last and where it ended."""
    assert curve is not None  # callers choose the runs that have one
    steps, values = curve
    if len(steps) <= POINTS:
        return curve
    kept = np.linspace(0, len(steps) - 1, POINTS).astype(int)
    ends = np.flatnonzero(~np.isfinite(values))[:1]
    kept = np.unique(np.concatenate([kept, ends, np.maximum(ends - 1, 0)]))
    return steps[kept], values[kept]


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _step_axis(axis: Axes) -> None:
    axis.set_xlabel("gradient steps")
    axis.xaxis.set_major_formatter(lambda step, _: short_number(step))


# ---- one number per run


def final_picture(study: Study, name: str, task: str) -> Html:
    """Draw the last value of every run as a dot, with the group's middle and interval.

    Diverged runs are counted at the right.
    """
    groups = [group for group in study.groups if study.of_task(group, task)]
    numbers = study.numbers(name)
    hover = {}

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for place, group in enumerate(groups):
            number_of_group = list(study.groups).index(group)
            color, _ = look(number_of_group)
            runs = [run for run in study.of_task(group, task) if run in numbers]
            summary = summarize(study, name, group, task)
            _middle_and_interval(axis, place, summary, f"g{number_of_group}")
            for order, run in enumerate(runs):
                gid = f"g{number_of_group}:{run}"
                hover[gid] = f"{study.name_of(run)}: {number(numbers[run])}"
                # Runs of one value would hide each other on a line.
                height = place + 0.12 * ((order % 3) - 1)
                if math.isfinite(numbers[run]):
                    axis.plot(numbers[run], height, "o", color=color, ms=4, gid=gid)
            if summary.diverged:
                text = f" {summary.diverged} diverged"
                axis.text(1, place, text, transform=axis.get_yaxis_transform(), va="center")

        axis.set_yticks(range(len(groups)), [shortened(group) for group in groups])
        axis.set_ylim(len(groups) - 0.5, -0.5)
        axis.grid(visible=False, axis="y")

    words = f"{metric(name).title} at the end on {task}, a dot per run"
    return svg(draw, WIDTH + 1, 0.7 + 0.32 * len(groups), words, hover)


def _middle_and_interval(axis: Axes, place: int, summary: Summary, gid: str) -> None:
    if math.isfinite(summary.low) and math.isfinite(summary.high):
        ends = [summary.low, summary.high]
        axis.plot(ends, [place, place], color="#555555", linewidth=1.2, gid=gid)
    if math.isfinite(summary.iqm):
        ends = [place - 0.32, place + 0.32]
        axis.plot([summary.iqm, summary.iqm], ends, color="#222222", linewidth=2, gid=gid)


def scatter_picture(
    study: Study,
    task: str,
    across: Mapping[int, float],
    up: Mapping[int, float],
    labels: tuple[str, str],
    diagonal: bool = False,
) -> Html:
    """Draw a dot per run that has both numbers.

    Args:
        study: all runs.
        task: whose runs are drawn.
        across, up: run -> number; runs without a finite pair are left to the text around.
        labels: of the two axes.
        diagonal: draw the line on which both numbers are equal.
    """
    hover = {}

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for place, group in enumerate(study.groups):
            color, _ = look(place)
            marker = "os^Dv"[place // len(COLORS) % 5]
            for run in study.of_task(group, task):
                x, y = across.get(run, math.nan), up.get(run, math.nan)
                if math.isfinite(x) and math.isfinite(y):
                    gid = f"g{place}:{run}"
                    hover[gid] = f"{study.name_of(run)}: {number(x)}, {number(y)}"
                    axis.plot(x, y, marker, color=color, ms=5, alpha=0.8, gid=gid)
        if diagonal:
            # `axline` needs a linear axis, and leaves the limits alone.
            axis.axline((0, 0), slope=1, color="#999999", linewidth=0.8, linestyle="--", zorder=1)
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])

    words = f"{labels[1]} against {labels[0]} on {task}, a dot per run"
    return svg(draw, WIDTH, HEIGHT, words, hover)


def lines_picture(
    study: Study,
    x: np.ndarray,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    labels: tuple[str, str],
) -> Html:
    """Draw a line with a band for every group.

    Args:
        study: all runs.
        x: `[T]`.
        lines: group -> line, low and high, `[T]` each; NaN where there is no band.
        labels: of the two axes.
    """

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for place, group in enumerate(study.groups):
            if group not in lines:
                continue
            color, dashes = look(place)
            line, low, high = lines[group]
            gid = f"g{place}"
            axis.plot(x, line, dashes, color=color, gid=gid)
            if len(study.groups) <= CROWDED:
                axis.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0, gid=gid)
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])
        axis.set_ylim(-0.02, 1.02)

    return svg(draw, WIDTH + 1, HEIGHT, f"{labels[1]} against {labels[0]}, a line per group")


def strength_picture(
    study: Study,
    values: Sequence[str],
    lines: Sequence[Sequence[str | None]],
    name: str,
    task: str,
    key: str,
) -> Html:
    """Draw a metric at the end over the values of one setting, evenly spaced.

    Args:
        study: all runs.
        values: of the setting, in order.
        lines: of groups that differ in this setting alone, one per value; None where there is none.
        name: of the metric.
        task: whose runs are drawn.
        key: name of the setting.
    """
    numbers = study.numbers(name)
    places = {group: place for place, group in enumerate(study.groups)}

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for line, groups in enumerate(lines):
            middles = []
            for x, group in enumerate(groups):
                if group is None:
                    continue
                color, _ = look(places[group])
                gid = f"g{places[group]}"
                middles.append((x, summarize(study, name, group, task).iqm))
                for run in study.of_task(group, task):
                    if math.isfinite(numbers.get(run, math.nan)):
                        axis.plot(x, numbers[run], "o", color=color, ms=4, alpha=0.7, gid=gid)
            xs, ys = zip(*middles)
            axis.plot(xs, _finite(np.array(ys)), DASHES[line % len(DASHES)], color="#555555")
        axis.set_xticks(range(len(values)), list(values))
        axis.set_xlabel(shortened(key))

    words = f"{metric(name).title} at the end over {key} on {task}"
    return svg(draw, WIDTH, HEIGHT, words)
