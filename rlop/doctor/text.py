"""A diagnosis as text: what is wrong first, with its evidence and what to try."""

from __future__ import annotations

from rlop.doctor.diagnosis import Diagnosis
from rlop.doctor.findings import Evidence, Finding
from rlop.doctor.measures import MEASURES
from rlop.doctor.rules import OK, UNMEASURED
from rlop.doctor.words import remedy, sentence


def as_text(diagnosis: Diagnosis, config: str | None = None, data: str | None = None) -> str:
    """Return a diagnosis line by line.

    Args:
        diagnosis: of one run.
        config: see `rlop.doctor.words.remedy`.
        data: see there.
    """
    lines = [diagnosis.label]
    for finding in diagnosis.findings:
        if finding.level not in (OK, UNMEASURED):
            lines += _trouble(finding, config, data)

    for level in (OK, UNMEASURED):
        names = [found.disease for found in diagnosis.findings if found.level == level]
        if names:
            lines.append(f"  {level}: {', '.join(names)}")
    return "\n".join(lines)


def _trouble(finding: Finding, config: str | None, data: str | None) -> list[str]:
    words = sentence(finding.disease, finding.level)
    lines = [f"  {finding.level.upper()}: {finding.disease}. {words} (confidence: {finding.sure})"]
    lines += [f"    {evidence_text(item)}" for item in finding.evidence]
    return [*lines, f"    try: {remedy(finding.disease, config, data)}"]


def evidence_text(item: Evidence) -> str:
    """Return a measure with its value and reference ranges, in one line."""
    text = f"{MEASURES[item.measure]}: {item.value:.3g}"
    for name, reference in (("healthy", item.healthy), ("sick", item.sick)):
        if reference is not None:
            text += f"; {name} runs {reference[0]:.3g} to {reference[1]:.3g}"
    return text
