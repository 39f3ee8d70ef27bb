"""Records of experiments as a table for the terminal and as `REPRODUCTION.md`, abstract by abstract."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rlop.experiments.catalogue import CATALOGUE, Row
from rlop.experiments.outcome import Measure
from rlop.experiments.running import Record, measure_of

HEAD = """# Reproduction

The 51 abstracts of the workshop "Over-parameterization: Pitfalls and Opportunities" (ICML 2021): what each claims, and
what a run of the experiments here measured, beside the band it is held to. Every verdict is computed
from these numbers. An abstract counts as reproduced when every measure of every experiment on it holds; "not testable
here" means that no experiment here tests it: it is theory, needs other hardware or data, or is a tool whose formulas
the unit tests hold. Experiments marked "report only" did not show the effect at this scale when first tried.
"""


def band(measure: Measure) -> str:
    """The accepted band in words: `[a, b]`, `>= a` or `<= b`."""
    low, high = _short(measure.low), _short(measure.high)
    if math.isinf(measure.high):
        return f">= {low}"
    if math.isinf(measure.low):
        return f"<= {high}"
    return f"[{low}, {high}]" if low != high else f"[{measure.low:.7g}, {measure.high:.7g}]"


def _short(value: float) -> str:
    return f"{value:.4g}"


def table(records: Iterable[Record]) -> str:
    """One line per measure; a failed experiment is one line that says why.

    Args:
        records: of `running.to_record`, or `{"name": ..., "error": ...}`.
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
            lines.append(
                f"  {mark} {measure.name:58} {_short(measure.value):>10}  {band(measure):22} {measure.expected}"
            )
    return "\n".join(lines)


def verdicts(records: Iterable[Record]) -> dict[str, str]:
    """experiment -> verdict, of those that came to one."""
    return {record["name"]: record["verdict"] for record in records if "error" not in record}


def markdown(
    records: Sequence[Record], versions: Mapping[str, str], rows: Sequence[Row] = CATALOGUE
) -> str:
    """The whole of `REPRODUCTION.md`.

    Args:
        records: of the last run.
        versions: package -> version, for the foot.
        rows: the catalogue.
    """
    found, by_name = verdicts(records), {record["name"]: record for record in records}
    count: dict[str, int] = {}
    for row in rows:
        count[row.verdict(found)] = count.get(row.verdict(found), 0) + 1
    parts = [
        HEAD,
        ", ".join(f"{number} {verdict}" for verdict, number in sorted(count.items())) + ".\n",
    ]
    parts += ["| # | abstract | here | verdict | measures that hold |", "|---|---|---|---|---|"]
    parts += [_summary(row, row.verdict(found), by_name) for row in rows]
    parts += [_section(row, row.verdict(found), by_name) for row in rows if row.experiments]
    parts += [
        "",
        "Run with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
    return "\n".join(parts) + "\n"


def _summary(row: Row, verdict: str, by_name: Mapping[str, Record]) -> str:
    measures = [m for name in row.experiments for m in by_name.get(name, {}).get("measures", ())]
    hold = f"{sum(m['holds'] for m in measures)} of {len(measures)}" if measures else ""
    return f"| {row.number} | {row.title} | {row.kind} | {verdict} | {hold} |"


def _section(row: Row, verdict: str, by_name: Mapping[str, Record]) -> str:
    reference = f" arXiv:{row.arxiv}." if row.arxiv else ""
    lines = [
        f"\n## {row.number}. {row.title}\n",
        f"{row.authors}.{reference} {row.claim} **{verdict}**",
    ]
    for name in row.experiments:
        lines += ["", *_measures(by_name.get(name, {"name": name, "error": "not run"}))]
    return "\n".join(lines)


def _measures(record: Record) -> list[str]:
    if "error" in record:
        return [f"`{record['name']}`: {record['error']}"]
    note = ", report only" if record["report_only"] else ""
    lines = [
        f"`{record['name']}`: {record['verdict']}{note}\n",
        "| measure | measured | band | expected | holds |",
    ]
    lines.append("|---|---|---|---|---|")
    for measure in map(measure_of, record["measures"]):
        cells = (
            measure.name,
            _short(measure.value),
            band(measure),
            measure.expected,
            "yes" if measure.holds else "no",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines
