"""Records of experiments as a table for the terminal and as `REPRODUCTION.md`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rlop.experiments.catalogue import Abstract, workshop
from rlop.experiments.outcome import Measure
from rlop.experiments.running import FailureRecord, MeasureRecord, OutcomeRecord, Record, measure_of

HEAD = """# Reproduction

The 51 abstracts of the workshop "Over-parameterization: Pitfalls and Opportunities" (ICML 2021):
what each claims, and what a run of the experiments here measured, beside the accepted band. Every
verdict is computed from these numbers. An abstract counts as reproduced when every measure of every
experiment on it holds; "not testable here" means that no experiment here tests it: it is theory,
needs other hardware or data, or is a tool whose formulas the unit tests check. Experiments marked
"report only" did not show the effect at this scale when first tried.
"""


def band(measure: Measure) -> str:
    """Write the accepted band as `[a, b]`, `>= a` or `<= b`."""
    low, high = _short(measure.low), _short(measure.high)
    if math.isinf(measure.high):
        return f">= {low}"
    if math.isinf(measure.low):
        return f"<= {high}"
    if low == high:  # narrower than four digits show
        low, high = f"{measure.low:.7g}", f"{measure.high:.7g}"

    return f"[{low}, {high}]"


def _short(value: float) -> str:
    return f"{value:.4g}"


def table(records: Iterable[Record]) -> str:
    """Write one line per experiment and per measure; a failed experiment is a line with its error.

    Args:
        records: from `running.to_record`, or `{"name": ..., "error": ...}`.
    """
    lines = []
    for record in records:
        if "error" in record:
            lines.append(f"{record['name']:24} FAILED: {record['error']}")
            continue

        note = ", report only" if record["report_only"] else ""
        lines.append(f"{record['name']:24} {record['verdict']} ({record['seconds']:.0f} s{note})")
        for measure in map(measure_of, record["measures"]):
            mark = " " if measure.holds else "!"
            value = _short(measure.value)
            lines.append(
                f"  {mark} {measure.name:58} {value:>10}  {band(measure):22} {measure.expected}"
            )

    return "\n".join(lines)


def verdicts(records: Iterable[Record]) -> dict[str, str]:
    """Return experiment -> verdict for the experiments that came to one."""
    return {record["name"]: record["verdict"] for record in records if "error" not in record}


def markdown(
    records: Sequence[Record],
    versions: Mapping[str, str],
    abstracts: Sequence[Abstract] | None = None,
) -> str:
    """Write the whole of `REPRODUCTION.md`.

    Args:
        records: records of the last run.
        versions: package -> version, for the last line.
        abstracts: rows of the catalogue; those of the workshop by default.
    """
    abstracts = workshop().abstracts if abstracts is None else abstracts
    by_experiment = verdicts(records)
    by_name = {record["name"]: record for record in records}
    verdict_of = {abstract.number: abstract.verdict(by_experiment) for abstract in abstracts}

    counts = sorted(Counter(verdict_of.values()).items())
    parts = [HEAD, ", ".join(f"{count} {verdict}" for verdict, count in counts) + ".\n"]

    parts.append("| # | abstract | here | verdict | measures that hold |")
    parts.append("|---|---|---|---|---|")
    for abstract in abstracts:
        parts.append(_summary(abstract, verdict_of[abstract.number], by_name))

    for abstract in abstracts:
        if abstract.experiments:
            parts.append(_section(abstract, verdict_of[abstract.number], by_name))

    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    parts += ["", f"Run with {packages}."]
    return "\n".join(parts) + "\n"


def _summary(abstract: Abstract, verdict: str, by_name: Mapping[str, Record]) -> str:
    """Write the abstract's row of the first table."""
    measures: list[MeasureRecord] = []
    for name in abstract.experiments:
        record = by_name.get(name)
        if record is not None and "error" not in record:
            measures.extend(record["measures"])

    held = ""
    if measures:
        held = f"{sum(measure['holds'] for measure in measures)} of {len(measures)}"
    return f"| {abstract.number} | {abstract.title} | {abstract.kind} | {verdict} | {held} |"


def _section(abstract: Abstract, verdict: str, by_name: Mapping[str, Record]) -> str:
    """Write the abstract's section: its claim, and a table for each of its experiments."""
    reference = f" arXiv:{abstract.arxiv}." if abstract.arxiv else ""
    lines = [
        f"\n## {abstract.number}. {abstract.title}\n",
        f"{abstract.authors}.{reference} {abstract.claim} **{verdict}**",
    ]
    for name in abstract.experiments:
        record = by_name.get(name, FailureRecord(name=name, error="not run"))
        lines.append("")
        if "error" in record:
            lines.append(f"`{name}`: {record['error']}")
        else:
            lines += _measures(record)

    return "\n".join(lines)


def _measures(record: OutcomeRecord) -> list[str]:
    """Write the measures of an experiment as a Markdown table under its verdict."""
    note = ", report only" if record["report_only"] else ""
    lines = [
        f"`{record['name']}`: {record['verdict']}{note}\n",
        "| measure | measured | band | expected | holds |",
        "|---|---|---|---|---|",
    ]
    for measure in map(measure_of, record["measures"]):
        cells = (
            measure.name,
            _short(measure.value),
            band(measure),
            measure.expected,
            "yes" if measure.holds else "no",
        )
        # A bar inside a cell would end it.
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")

    return lines
