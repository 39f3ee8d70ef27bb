"""Diagnoses as one HTML file that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlop.doctor.diagnosis import Diagnosis
from rlop.doctor.findings import Evidence, Finding
from rlop.doctor.measures import MEASURES
from rlop.doctor.ranges import Range
from rlop.doctor.rules import OK, UNMEASURED
from rlop.doctor.words import CAVEATS, remedy, sentence
from rlop.report import html

LEFT = "text-align: left"  # of words; numbers stand right
WHOLE = "white-space: nowrap"  # of a range, which cannot be read in two lines
APART = "margin-top: 1.8rem"  # from the finding above
HEADER = ("measure", "this run", "healthy runs", "runs with this disease")


def write_page(
    path: str | Path,
    source: str,
    found: Sequence[Diagnosis],
    config: str | None,
    data: str | None,
) -> Path:
    """Write diagnoses into a page.

    Args:
        path: the file.
        source: what was diagnosed, for the title.
        found: one for each run.
        config: see `rlop.doctor.words.remedy`.
        data: see there.
    Raises:
        InputError: the file cannot be written.
    """
    parts = [_overview(found)]
    for number, diagnosis in enumerate(found):
        parts.append(_section(diagnosis, number, config, data))
    parts.append(html.section("What nobody may conclude", html.bullets(CAVEATS), anchor="caveats"))
    return html.write_page(path, html.page(f"Diagnosis of {source}", parts))


def _overview(found: Sequence[Diagnosis]) -> html.Html:
    """List what every run is sick of, in one table."""
    rows: list[list[html.Cell]] = []
    for number, diagnosis in enumerate(found):
        link = html.tag("a", diagnosis.label, href=f"#run-{number}")
        watched = [item.disease for item in diagnosis.findings if item.level == "watch"]
        sick = ", ".join(diagnosis.sick) or "nothing"
        rows.append([link, (sick, LEFT), (", ".join(watched) or "nothing", LEFT)])
    table = html.table(("run", ("sick of", LEFT), ("worth watching", LEFT)), rows)
    return html.section("Runs", table, anchor="runs")


def _section(
    diagnosis: Diagnosis,
    number: int,
    config: str | None,
    data: str | None,
) -> html.Html:
    parts: list[html.Text] = []
    for finding in diagnosis.findings:
        if finding.level not in (OK, UNMEASURED):
            parts += _trouble(finding, config, data)
    for level in (OK, UNMEASURED):
        names = [item.disease for item in diagnosis.findings if item.level == level]
        if names:
            parts.append(html.paragraph(html.tag("strong", f"{level}:"), ", ".join(names)))
    return html.section(diagnosis.label, *parts, anchor=f"run-{number}")


def _trouble(finding: Finding, config: str | None, data: str | None) -> list[html.Text]:
    """Return what is said of one disease: words, evidence, remedy."""
    words = f"{sentence(finding.disease, finding.level)} Confidence: {finding.sure}."
    return [
        html.tag("h3", f"{finding.level}: {finding.disease}", style=APART),
        html.paragraph(words),
        html.table(HEADER, [_row(item) for item in finding.evidence]),
        html.paragraph("Try first:", html.tag("code", remedy(finding.disease, config, data))),
    ]


def _row(item: Evidence) -> list[html.Cell]:
    name = html.tag("span", MEASURES[item.measure], title=item.measure)
    ranges = (_shown(item.healthy), WHOLE), (_shown(item.sick), WHOLE)
    return [name, f"{item.value:.3g}", *ranges]


def _shown(reference: Range | None) -> str:
    return "not known" if reference is None else f"{reference[0]:.3g} to {reference[1]:.3g}"
