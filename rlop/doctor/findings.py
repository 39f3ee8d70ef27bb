"""From measures to findings: which disease a network or its data has, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlop.doctor.ranges import Range, ranges
from rlop.doctor.rules import DISEASES, OK, SICK, UNMEASURED, WATCH, Disease, Sign

# Levels from best to worst; what was not measured is none of them.
ORDER = (OK, WATCH, SICK)


@dataclass(frozen=True)
class Evidence:
    """One measure behind a finding.

    Args:
        measure: its name.
        value: what was measured.
        healthy: its range in our healthy runs, where we have one.
        sick: its range in our runs made sick by this disease, where we have one.
    """

    measure: str
    value: float
    healthy: Range | None
    sick: Range | None


@dataclass(frozen=True)
class Finding:
    """What the doctor says of one disease.

    Args:
        disease: its name, a key of `rlop.doctor.rules.DISEASES`.
        level: ok, watch, sick or not measured.
        evidence: the measures that were there.
        sure: high, medium or low; none where nothing was measured.
    """

    disease: str
    level: str
    evidence: tuple[Evidence, ...]
    sure: str


def findings(measured: Mapping[str, float], approximate: bool = False) -> list[Finding]:
    """Return a finding for every disease, the worst first.

    Args:
        measured: name -> value, see `rlop.doctor.measures.MEASURES`.
        approximate: the start of the training is not known and was redrawn, so that no multiple of
            it is sure.
    """
    found = [_finding(name, disease, measured, approximate) for name, disease in DISEASES.items()]
    rank = {SICK: 0, WATCH: 1, OK: 2, UNMEASURED: 3}
    return sorted(found, key=lambda finding: rank[finding.level])


def _finding(
    name: str,
    disease: Disease,
    measured: Mapping[str, float],
    approximate: bool,
) -> Finding:
    table = ranges()
    evidence = []
    for measure in disease.measures:
        if measure in measured:
            healthy = table["healthy"].get(measure)
            sick = table["sick"].get(name, {}).get(measure)
            evidence.append(Evidence(measure, measured[measure], healthy, sick))

    level = level_of(disease, measured)
    sure = ""
    if level != UNMEASURED:
        sure = _certainty(disease.signs, evidence, level)
        if approximate and disease.from_start:
            sure = "low"
    return Finding(name, level, tuple(evidence), sure)


def level_of(disease: Disease, measured: Mapping[str, float]) -> str:
    """Return the level of a disease: of its worst sign, or of its mildest where all must agree."""
    levels = []
    for sign in disease.signs:
        if sign.measure in measured:
            levels.append(_level(sign, measured[sign.measure]))

    is_complete = len(levels) == len(disease.signs)
    if not levels or (disease.together and not is_complete):
        return UNMEASURED
    choose = min if disease.together else max
    return choose(levels, key=ORDER.index)


def _level(sign: Sign, value: float) -> str:
    """Return the level of one sign; a threshold counts as passed when it is reached."""
    if sign.below:
        value, watch, sick = -value, -sign.watch, -sign.sick
    else:
        watch, sick = sign.watch, sign.sick
    if value >= sick:
        return SICK
    return WATCH if value >= watch else OK


def _certainty(signs: Sequence[Sign], evidence: Sequence[Evidence], level: str) -> str:
    """Compare the deciding measures with the reference ranges.

    High: where our healthy (for ok) or sick runs (for sick) were, and where the others were not.
    Low: where the level says one thing and the ranges say the other. Medium: all between.
    """
    deciding = {sign.measure: sign for sign in signs}
    marks = []
    for item in evidence:
        if item.measure not in deciding or item.healthy is None:
            continue
        below = deciding[item.measure].below
        healthy = _like_healthy(item.value, item.healthy, below)
        sick = item.sick is not None and _like_sick(item.value, item.sick, below)
        marks.append((healthy, sick))

    if not marks:
        return "low"
    looks_healthy = all(healthy and not sick for healthy, sick in marks)
    looks_sick = any(sick and not healthy for healthy, sick in marks)
    if level == OK:
        return "high" if looks_healthy else "medium" if not looks_sick else "low"
    if level == SICK:
        return "high" if looks_sick else "medium" if not looks_healthy else "low"
    return "low" if looks_healthy else "medium"


def _like_healthy(value: float, healthy: Range, below: bool) -> bool:
    """Whether a value is no worse than those of our healthy runs; `below`: small ones are sick."""
    low, high = healthy
    return value >= low if below else value <= high


def _like_sick(value: float, sick: Range, below: bool) -> bool:
    """Whether a value is as bad as those of our sick runs, or worse."""
    low, high = sick
    return value <= high if below else value >= low
