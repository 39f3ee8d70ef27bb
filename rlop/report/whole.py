"""A whole report as one page, and its numbers as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rlop.report import across, sections
from rlop.report.html import Html, page, paragraph, section, tag
from rlop.report.study import Study
from rlop.report.titles import metric


def html_report(study: Study, metrics: Sequence[str]) -> Html:
    """Return the page of a study. The same records give the same text.

    Args:
        study: the runs.
        metrics: that are shown, in this order.

    Raises:
        InputError: matplotlib is not installed.
    """
    parts = [
        sections.overview(study),
        sections.legend(study),
        sections.findings(study, metrics),
        sections.final_values(study, metrics),
        across.aggregated(study),
        across.profiles(study),
        sections.curves(study, metrics),
        sections.final_against_peak(study),
        across.representation(study),
        across.heat_map(study, metrics),
        across.strengths(study),
        section(
            "Numbers",
            paragraph(
                "All numbers per run are in this page as JSON: ",
                tag("code", 'JSON.parse(document.getElementById("numbers").textContent)'),
            ),
            anchor="numbers-as-json",
        ),
    ]
    return page(f"Report of {len(study.counted)} runs", parts, numbers(study, metrics))


def numbers(study: Study, metrics: Sequence[str]) -> dict[str, object]:
    """Return every run's group, task, seed and numbers; null where a number is not finite.

    Args:
        study: the runs.
        metrics: whose numbers are returned.
    """
    values: dict[str, dict[str, dict[int, float]]] = {}
    for name in metrics:
        values[name] = {at: study.numbers(name, at) for at in sections.AT}
    runs = []
    for group, members in study.groups.items():
        for run in members:
            about = study.runs[run]
            runs.append(
                {
                    "group": group,
                    "task": about.task,
                    "seed": about.seed,
                    "folder": about.folder,
                    "diverged": about.diverged,
                    "metrics": {name: _of_run(values[name], run) for name in metrics},
                }
            )

    about_metrics = {}
    for name in metrics:
        known = metric(name)
        limits = [finite_or_none(known.low), finite_or_none(known.high)]
        about_metrics[name] = {"title": known.title, "better": known.better, "range": limits}
    return {"metrics": about_metrics, "runs": runs, "notes": study.notes}


def _of_run(values: Mapping[str, Mapping[int, float]], run: int) -> dict[str, float | None]:
    """Return one run's numbers of a metric; empty if it did not log it."""
    return {at: finite_or_none(of_runs[run]) for at, of_runs in values.items() if run in of_runs}


def finite_or_none(value: float) -> float | None:
    """Return a number as JSON can have it."""
    return value if math.isfinite(value) else None
