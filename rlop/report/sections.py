"""The sections of a report that stand on one metric at a time: overview, findings, curves."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from itertools import chain

from rlop.config.overrides import flatten
from rlop.report.findings import find, listed, sentence
from rlop.report.groups import is_bookkeeping, text_of
from rlop.report.html import (
    Cell,
    Html,
    bullets,
    escape,
    grid,
    one_line,
    panel,
    paragraph,
    section,
    table,
    tag,
)
from rlop.report.intervals import words as interval_words
from rlop.report.made_with import made_with
from rlop.report.pictures import (
    CROWDED,
    curves_picture,
    final_picture,
    look,
    scatter_picture,
)
from rlop.report.study import Study
from rlop.report.summaries import Summary, number, summarize
from rlop.report.titles import metric, titled

AT = {"final": "at the end", "average": "average", "peak": "peak", "unlearning": "peak - end"}
NO_BREAK = "white-space:nowrap"
DASH_PATTERNS = {"-": "none", "--": "5 3", ":": "1.5 3", "-.": "6 3 1.5 3"}


def legend(study: Study) -> Html:
    """Return the buttons that isolate a group, which stay in view."""
    buttons = []
    for place, (group, runs) in enumerate(study.groups.items()):
        color, dashes = look(place)
        sample = Html(
            '<svg viewBox="0 0 28 10" aria-hidden="true"><line x1="1" x2="27" y1="5" y2="5" '
            f'stroke="{color}" stroke-width="2.5" '
            f'stroke-dasharray="{DASH_PATTERNS[dashes]}"/></svg>'
        )

        settings = study.runs[runs[0]].settings
        hover = ", ".join(f"{key}={value}" for key, value in settings.items())
        buttons.append(
            tag(
                "button",
                sample,
                group,
                type="button",
                data_group=f"g{place}",
                aria_pressed="false",
                title=hover or group,
            )
        )
    return tag("nav", *buttons, class_="legend", aria_label="groups: click one to isolate it")


def overview(study: Study) -> Html:
    """Say which runs there are, which diverged, what was left out, and how settings differ."""
    last = max(int(history.steps[-1]) for history in study.histories)
    n_runs = len(study.counted)
    sentences = [
        f"{counted(n_runs, 'run')} of {counted(len(study.histories), 'training')} in "
        f"{counted(len(study.groups), 'group')}, up to step {last:,}."
    ]
    if len(study.tasks) > 1:
        sentences.append(f"{len(study.tasks)} tasks: {', '.join(study.tasks)}.")
    else:
        sentences.append(f"Task: {study.tasks[0]}.")

    diverged = [study.name_of(run) for run in study.counted if study.runs[run].diverged]
    if diverged:
        sentences.append(
            f"{len(diverged)} of {n_runs} runs diverged: {'; '.join(diverged)}. They are counted, "
            "and count as the worst wherever one direction is better."
        )
    else:
        sentences.append("No run diverged.")
    versions = made_with([study.runs[run].folder for run in study.counted])
    if versions:
        sentences.append(f"Made with {versions}.")

    parent = _parent({study.runs[run].folder for run in study.counted})
    rows: list[list[Cell]] = []
    for place, (group, runs) in enumerate(study.groups.items()):
        seeds = sorted({study.runs[run].seed or "?" for run in runs}, key=lambda s: (len(s), s))
        folders = list(dict.fromkeys(_below(study.runs[run].folder, parent) for run in runs))
        shown = ", ".join(folders[:3]) + (f" and {len(folders) - 3} more" if folders[3:] else "")
        color, _ = look(place)
        name = tag("span", group, style=f"border-left:.5em solid {color};padding-left:.4em")
        rows.append([name, shown, str(len(runs)), (", ".join(seeds), NO_BREAK)])
    where = f"logged in {parent}/" if parent else "logged in"
    parts = [
        paragraph(*sentences),
        table(["group", where, "runs", "seeds"], rows),
    ]
    if study.notes:
        parts.append(bullets(study.notes))
    parts.append(_differences(study))
    return section("Runs", *parts, anchor="runs")


def _parent(folders: Collection[str]) -> str:
    """Return the folder that holds all of these; empty for a single one, or without any."""
    # There is none above a path from the root and one from the working directory.
    if len(folders) < 2 or len({os.path.isabs(folder) for folder in folders}) > 1:
        return ""
    return os.path.commonpath(folders)


def _below(folder: str, parent: str) -> str:
    """Return a folder as seen from its parent; itself without one."""
    return os.path.relpath(folder, parent) if parent else folder


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural where there is not one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _differences(study: Study) -> Html:
    """Return a table of the settings in which groups differ."""
    values: dict[str, dict[str, list[str]]] = {}  # key -> group -> values
    for group, runs in study.groups.items():
        for run in runs:
            settings = {**_configuration(study, run), **study.runs[run].settings}
            for key, value in settings.items():
                if not is_bookkeeping(key):
                    of_group = values.setdefault(key, {}).setdefault(group, [])
                    if value not in of_group:
                        of_group.append(value)

    rows: list[list[Cell]] = []
    for key, of_groups in values.items():
        if len({tuple(texts) for texts in of_groups.values()}) > 1:
            cells = [", ".join(of_groups.get(group, ["-"])) for group in study.groups]
            rows.append([tag("code", key), *cells])
    if not rows:
        return paragraph("The groups' configurations do not differ.")

    heading = f"Settings in which groups differ ({len(rows)})"
    inner = table(["setting", *study.groups], rows)
    return tag("details", tag("summary", heading), inner)


def _configuration(study: Study, run: int) -> dict[str, str]:
    """Return the configuration of the training that a run belongs to."""
    place = run
    for history in study.histories:
        if place < len(history.labels):
            config = flatten(history.config)
            swept = set(history.hparams[place])
            # A list of values of one key is one value per run, which the run's settings name.
            return {
                one_line(key): one_line(text_of(value))
                for key, value in config.items()
                if key.rpartition(".")[2] not in swept
            }
        place -= len(history.labels)
    return {}


def findings(study: Study, metrics: Sequence[str]) -> Html:
    """Say in sentences what differs, metric by metric."""
    points: dict[str, list[Html]] = {}
    for name in metrics:
        for task in study.tasks:
            finding = find(study, name, task)
            on_task = f" on {task}" if len(study.tasks) > 1 else ""
            title = tag("strong", f"{metric(name).title}{on_task}", title=name)
            text = escape(sentence(finding, len(study.groups)))
            points.setdefault(name, []).append(Html(f"{title}: {text}"))

    first = study.score if study.score in points else metrics[0]
    parts = [bullets(points.pop(str(first)))]
    others = list(chain.from_iterable(points.values()))
    if others:
        heading = f"Other metrics ({len(metrics) - 1})"
        parts.append(tag("details", tag("summary", heading), bullets(others)))
    return section(
        "What differs",
        paragraph(
            "Means of the last values, compared between all pairs of groups: seed by seed where "
            "two groups have the same seeds (Student's t of the differences), else by Welch's "
            "test. For each metric and task, p-values are corrected for all its pairs (Holm); "
            "p < .05 counts. Undecided is not equal: a few seeds seldom decide."
        ),
        *parts,
        anchor="differences",
    )


def final_values(study: Study, metrics: Sequence[str]) -> Html:
    """Show the last value of every run, and a table of end, average, peak and unlearning."""
    name = study.score if study.score and study.score in metrics else metrics[0]
    panels = [_panel(study, name, task, final_picture(study, name, task)) for task in study.tasks]

    counts: set[int] = set()
    for task in study.tasks:
        counts.update(len(study.of_task(group, task)) for group in study.groups)
    text = paragraph(
        "A dot per run, a bar at the interquartile mean (the mean of the middle half), a line for "
        "the 95 % interval.",
        interval_words(counts - {0}),
    )
    tables = []
    for task in study.tasks:
        header = ["group", *(f"{metric(name).title}, {at}" for at in AT.values())]
        rows: list[list[Cell]] = []
        for group in study.groups:
            if study.of_task(group, task):
                cells = [two_lines(summarize(study, name, group, task, at)) for at in AT]
                rows.append([group, *cells])
        if len(study.tasks) > 1:
            tables.append(tag("h3", task))
        tables.append(table(header, rows))
    return section("Final values", text, grid(*panels), *tables, anchor="final")


def two_lines(summary: Summary) -> Html:
    """Return a summary with its interval on a line of its own."""
    if not summary.ends:
        return escape(summary.text)
    diverged = f" ({summary.diverged} diverged)" if summary.diverged else ""
    return Html(f"{number(summary.iqm)}{diverged}{tag('small', summary.ends)}")


def curves(study: Study, metrics: Sequence[str]) -> Html:
    """Show the curves of every metric on every task."""
    parts: list[Html] = [
        paragraph(
            "Thin lines are runs, thick ones interquartile means, both unsmoothed; shaded is the "
            "95 % interval, within what the metric can be. A cross is where a run diverged or was "
            "frozen."
        )
    ]

    is_crowded = len(study.groups) > CROWDED
    if is_crowded:
        parts.append(
            paragraph(
                f"With more than {CROWDED} groups only panels of one group, before all others in "
                "gray, have intervals."
            )
        )

    panels = []
    for name in metrics:
        for task in study.tasks:
            if is_crowded and name == study.score:
                for group in study.groups:
                    if study.of_task(group, task):
                        picture = curves_picture(study, name, task, group)
                        panels.append(_panel(study, name, task, picture, group))
            else:
                panels.append(_panel(study, name, task, curves_picture(study, name, task)))
    return section("Curves", *parts, grid(*panels), anchor="curves")


def final_against_peak(study: Study) -> Html:
    """Show what each run reached and what it kept."""
    name = study.score
    if name is None:
        return Html("")

    peaks, ends = study.numbers(name, "peak"), study.numbers(name)
    labels = (f"{metric(name).title}, peak", "at the end")

    panels = []
    for task in study.tasks:
        picture = scatter_picture(study, task, peaks, ends, labels, diagonal=True)
        panels.append(_panel(study, name, task, picture))

    lost = [run for run in ends if not math.isfinite(ends[run])]
    text = "Runs on the dashed line ended at their peak; those below it unlearned."
    if lost:
        text += f" {len(lost)} diverged runs have no end to show: "
        text += f"{listed([study.name_of(run) for run in lost])}."
    return section("Final against peak", paragraph(text), grid(*panels), anchor="peak")


def _panel(study: Study, name: str, task: str, picture: Html, group: str = "") -> Html:
    """Put a title in words above a picture, with the task or the group where there are several."""
    title = titled(name)
    for part in (group, task if len(study.tasks) > 1 else ""):
        if part:
            title += f" — {part}"
    missing = [
        label
        for label in study.groups
        if not group and study.of_task(label, task) and not _has_values(study, name, label, task)
    ]
    note = f"not logged by {listed(missing)}" if missing else ""
    return panel(title, picture, name, note)


def _has_values(study: Study, name: str, group: str, task: str) -> bool:
    numbers = study.numbers(name)
    return any(run in numbers for run in study.of_task(group, task))
