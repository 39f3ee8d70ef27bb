"""The sections of a report that look across runs: aggregates, profiles, ranks, strengths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from rlop.report import aggregates
from rlop.report.aggregates import bootstrap, matrix
from rlop.report.comparisons import spearman
from rlop.report.html import Cell, Html, grid, panel, paragraph, section, table, tag
from rlop.report.pictures import lines_picture, scatter_picture, strength_picture
from rlop.report.sections import two_lines
from rlop.report.study import Study
from rlop.report.summaries import Summary, number, summarize
from rlop.report.titles import REPRESENTATION, SOLVED, metric, titled

THRESHOLDS = 101  # points of a performance profile
CAVEAT = (
    "A higher rank does not make a higher return. Gulcehre et al. (2022, “An Empirical Study of "
    "Implicit Regularization in Deep Offline RL”, arXiv:2207.02099) found that the association "
    "depends on the setting, and holds only for some. The pooled correlation mixes the groups: "
    "methods that differ in both give one without any link between the two. The one within groups "
    "does not, but from a few seeds it is mostly noise."
)
LIGHT, DARK = np.array([247, 251, 255]), np.array([8, 69, 148])  # ends of the heat map's colors


def scores_of(study: Study, name: str) -> dict[str, np.ndarray]:
    """Return the last scores of every group as `[runs, tasks]`; only groups that have every task.

    Args:
        study: all runs.
        name: of the score.
    """
    numbers = study.numbers(name)
    scores = {}
    for group in study.groups:
        by_task = []
        for task in study.tasks:
            by_task.append([numbers[run] for run in study.of_task(group, task) if run in numbers])
        if all(by_task):
            scores[group] = matrix(by_task)
    return scores


def _is_comparable(study: Study, name: str) -> bool:
    """Whether scores of different tasks are on one scale."""
    return len(study.tasks) == 1 or name in SOLVED


def aggregated(study: Study) -> Html:
    """Show interquartile mean, median, mean and optimality gap over all tasks."""
    name = study.score
    if name is None or len(study.tasks) < 2:
        return Html("")
    if not _is_comparable(study, name):
        text = (
            "Returns of different tasks are on different scales, so they are not averaged. Scores "
            "that are normalized are, such as D4RL's."
        )
        return section("All tasks together", paragraph(text), anchor="together")

    solved = SOLVED[name]
    statistics = {
        "interquartile mean": aggregates.interquartile_mean,
        "median": aggregates.median,
        "mean": aggregates.mean,
        f"optimality gap to {solved:g}": lambda s: aggregates.optimality_gap(s, solved),
    }
    scores = scores_of(study, name)
    rows: list[list[Cell]] = []
    for group, of_group in scores.items():
        cells = []
        for statistic in statistics.values():
            with np.errstate(invalid="ignore"):
                value = float(statistic(of_group))
                low, high = bootstrap(statistic, of_group)
            cells.append(_with_interval(value, float(low), float(high)))
        rows.append([group, *cells])

    text = (
        f"{titled(name)} over {len(study.tasks)} tasks, with the 95 % interval of a bootstrap of "
        "runs within tasks. With 4 runs on 5 tasks it covers about 90 %."
    )
    left = [group for group in study.groups if group not in scores]
    if left:
        text += f" Without a run on every task, and left out: {', '.join(left)}."
    return section(
        "All tasks together",
        paragraph(text),
        table(["group", *statistics], rows),
        anchor="together",
    )


def _with_interval(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "diverged"
    ends = [number(end) if math.isfinite(end) else "diverged" for end in (low, high)]
    return f"{number(value)} [{ends[0]}, {ends[1]}]"


def profiles(study: Study) -> Html:
    """Show the performance profile, and how likely each group is to beat each other one."""
    name = study.score
    if name is None or not _is_comparable(study, name):
        return Html("")
    scores = scores_of(study, name)
    finite = [of_group[np.isfinite(of_group)] for of_group in scores.values()]
    values = np.concatenate(finite) if finite else np.zeros(0)
    if not values.size:
        return Html("")

    low, high = float(values.min()), float(values.max())
    margin = 0.03 * (high - low) or 0.5
    thresholds = np.linspace(low - margin, high + margin, THRESHOLDS)
    lines = {}
    for group, of_group in scores.items():

        def profile(drawn: np.ndarray) -> np.ndarray:
            return aggregates.performance_profile(drawn, thresholds)

        lines[group] = (profile(of_group), *bootstrap(profile, of_group, samples=500))
    labels = (f"threshold: {metric(name).title}", "share of runs above it")
    picture = lines_picture(study, thresholds, lines, labels)
    text = (
        "Further up or right is better. Shaded: a pointwise 95 % bootstrap of runs within tasks, "
        "too narrow below about ten runs. A diverged run is above no threshold."
    )
    parts = [paragraph(text), grid(panel("Performance profile", picture, name))]
    if len(scores) > 1:
        parts.append(_improvements(scores))
    return section("Performance profile and probability of improvement", *parts, anchor="profile")


def _improvements(scores: Mapping[str, np.ndarray]) -> Html:
    rows: list[list[Cell]] = []
    for a, mine in scores.items():
        cells: list[Cell] = [a]
        for b, theirs in scores.items():
            if a == b:
                cells.append("")
                continue
            value = float(aggregates.probability_of_improvement(mine, theirs))
            low, high = bootstrap(aggregates.probability_of_improvement, mine, theirs, samples=500)
            ends = tag("small", f"[{float(low):.2f}, {float(high):.2f}]")
            shown = Html(f"{value:.2f}{ends}")
            cells.append((shown, shade(value)))
        rows.append(cells)
    heading = tag("h3", "Probability that a run of the row scores above one of the column")
    return Html(f"{heading}{table(['', *scores], rows)}")


def shade(share: float) -> str:
    """Return the CSS of a cell between light (0) and dark (1), with text that can be read on it."""
    color = LIGHT + (DARK - LIGHT) * min(1.0, max(0.0, share))
    red, green, blue = (round(float(part)) for part in color)
    # Relative luminance of WCAG 2; black and white are equally readable at .179.
    light = [_linear(part / 255) for part in (red, green, blue)]
    luminance = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]
    text = "#000" if luminance > 0.179 else "#fff"
    return f"background:rgb({red},{green},{blue});color:{text}"


def _linear(part: float) -> float:
    """Return the light of a part of an sRGB color."""
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def representation(study: Study) -> Html:
    """Show measures of the features against the score, and correlations pooled and in groups."""
    name = study.score
    measured = [key for key in REPRESENTATION if key in study.metrics]
    if name is None or not measured:
        return Html("")

    scores = study.numbers(name)
    panels = []
    rows: list[list[Cell]] = []

    for key in measured:
        numbers = study.numbers(key)
        for task in study.tasks:
            on_task = f" — {task}" if len(study.tasks) > 1 else ""
            labels = (f"{metric(key).title}, at the end", metric(name).title)
            picture = scatter_picture(study, task, numbers, scores, labels)
            panels.append(panel(f"{titled(key)}{on_task}", picture, key))

            pooled, within = correlations(study, task, numbers, scores)
            rows.append([f"{metric(key).title}{on_task}", _number(pooled), *map(_number, within)])

    header = ["Spearman's correlation with the score", "pooled", *study.groups]
    return section(
        "Representation against return",
        tag("p", CAVEAT, class_="warning"),
        grid(*panels),
        table(header, rows),
        anchor="representation",
    )


def correlations(
    study: Study, task: str, x: Mapping[int, float], y: Mapping[int, float]
) -> tuple[float, list[float]]:
    """Return the rank correlation of two numbers over all runs of a task, and within each group.

    Runs that lack a finite pair are left out; NaN with fewer than three, or where one is constant.
    """
    pooled: list[tuple[float, float]] = []
    within = []
    for group in study.groups:
        pairs = []
        for run in study.of_task(group, task):
            pair = (x.get(run, math.nan), y.get(run, math.nan))
            if np.isfinite(pair).all():
                pairs.append(pair)
        pooled += pairs
        within.append(_spearman(pairs))
    return _spearman(pooled), within


def _spearman(pairs: Sequence[tuple[float, float]]) -> float:
    return spearman([x for x, _ in pairs], [y for _, y in pairs])


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def heat_map(study: Study, metrics: Sequence[str]) -> Html:
    """Show every group's last value of every metric, shaded within the metric."""
    parts = [
        paragraph(
            "Interquartile means at the end with 95 % intervals. Dark is the highest of a column, "
            "light the lowest; whether high is good is in the title."
        )
    ]

    for task in study.tasks:
        summaries: list[list[Summary]] = []
        for name in metrics:
            summaries.append([summarize(study, name, group, task) for group in study.groups])

        rows: list[list[Cell]] = []
        for place, group in enumerate(study.groups):
            if study.of_task(group, task):
                cells: list[Cell] = []
                for of_groups in summaries:
                    middles = [summary.iqm for summary in of_groups]
                    cells.append((two_lines(of_groups[place]), _shade_within(middles, place)))
                rows.append([group, *cells])

        if len(study.tasks) > 1:
            parts.append(tag("h3", task))
        header: list[Html] = [tag("span", titled(name), title=name) for name in metrics]
        parts.append(table(["group", *header], rows))
    return section("Groups and metrics", *parts, anchor="heat")


def _shade_within(values: Sequence[float], place: int) -> str:
    finite = [value for value in values if math.isfinite(value)]
    if not math.isfinite(values[place]) or max(finite) == min(finite):
        return ""
    return shade((values[place] - min(finite)) / (max(finite) - min(finite)))


def strengths(study: Study) -> Html:
    """Show the score over the values of every swept setting; of two settings also as a map."""
    name = study.score
    swept = swept_settings(study)
    if name is None or not swept:
        return Html("")

    panels = []
    for key, lines in swept.items():
        values = _values(study, key)
        for task in study.tasks:
            on_task = f" — {task}" if len(study.tasks) > 1 else ""
            picture = strength_picture(study, values, lines, name, task, key)
            panels.append(panel(f"{titled(name)} over {key}{on_task}", picture, name))

    parts = [
        paragraph(
            "A line joins interquartile means of groups that differ in this setting alone; values "
            "are evenly spaced."
        ),
        grid(*panels),
    ]

    if len(swept) == 2 and _vary_together(study, list(swept)):
        parts += [_map_of(study, name, task, list(swept)) for task in study.tasks]
    return section("Strengths", *parts, anchor="strengths")


def swept_settings(study: Study) -> dict[str, list[list[str | None]]]:
    """Find the numeric settings in which groups differ, all else equal.

    Returns:
        setting -> lines of groups, one per value of the setting; None where there is no group.
    """
    settings = {group: dict(study.runs[runs[0]].settings) for group, runs in study.groups.items()}
    keys = dict.fromkeys(chain.from_iterable(settings.values()))

    swept = {}
    for key in keys:
        values = _values(study, key)
        if len(values) < 2:
            continue

        lines: dict[frozenset[tuple[str, str]], list[str | None]] = {}
        for group, of_group in settings.items():
            if of_group.get(key) in values:
                rest = frozenset(item for item in of_group.items() if item[0] != key)
                line = lines.setdefault(rest, [None] * len(values))
                line[values.index(of_group[key])] = group

        long = [line for line in lines.values() if len(line) - line.count(None) > 1]
        if long:
            swept[key] = long
    return swept


def _values(study: Study, key: str) -> list[str]:
    """Return the numeric values of a setting in order."""
    texts = {study.runs[run].settings.get(key) for run in study.counted}
    numeric = {}
    for text in texts:
        try:
            numeric[str(text)] = float(str(text))
        except ValueError:
            continue
    return sorted(numeric, key=numeric.__getitem__)


def _vary_together(study: Study, keys: Sequence[str]) -> bool:
    """Whether some group differs from another one in both settings."""
    pairs = set()
    for runs in study.groups.values():
        settings = study.runs[runs[0]].settings
        if all(key in settings for key in keys):
            pairs.add(tuple(settings[key] for key in keys))
    firsts, seconds = {first for first, _ in pairs}, {second for _, second in pairs}
    return len(firsts) > 1 and len(seconds) > 1


def _map_of(study: Study, name: str, task: str, keys: Sequence[str]) -> Html:
    """Return the score as a table, a row per value of the first setting."""
    first, second = keys
    places = {}
    for group, runs in study.groups.items():
        settings = study.runs[runs[0]].settings
        places[settings.get(first), settings.get(second)] = group
    columns = _values(study, second)
    middles = {}
    for place, group in places.items():
        middles[place] = summarize(study, name, group, task)

    everything = [summary.iqm for summary in middles.values()]
    rows: list[list[Cell]] = []
    for value in _values(study, first):
        cells: list[Cell] = [f"{first} = {value}"]
        for other in columns:
            summary = middles.get((value, other))
            if summary is None:
                cells.append("")
            else:
                cells.append(
                    (summary.text, _shade_within(everything, everything.index(summary.iqm)))
                )
        rows.append(cells)
    on_task = f" on {task}" if len(study.tasks) > 1 else ""
    heading = tag("h3", f"{titled(name)}{on_task}")
    return Html(f"{heading}{table(['', *(f'{second} = {v}' for v in columns)], rows)}")
