"""Records of the doctor's patients, the reference ranges and the confusion table made from them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from rlop.config.files import write_atomic
from rlop.doctor.findings import Finding, findings
from rlop.doctor.measures import MEASURES, Measured
from rlop.doctor.ranges import percentiles
from rlop.doctor.rules import DISEASES, NEVER, SICK, Sign
from rlop.experiments.doctor_runs import HEALTHY, INDUCED, Patient, examine

CALIBRATION = [1, 2, 3]  # seeds that set thresholds and ranges
DECIDING = [101, 102, 103, 104, 105]  # seeds of the confusion table, a data set for each patient
# Healthy patients of the confusion table, ten runs in all.
HEALTHY_DECIDING = {
    "DQN, layer norm": [201, 202, 203, 204],
    "DQN, max-norm": [205, 206, 207],
    "CQL, linear system": [208, 209, 210],
}
# Marks in the page around each part that is generated.
PARTS = ("rules", "patients", "confusion")


class Record(TypedDict):
    """What was measured of one patient."""

    patient: str
    seeds: list[int]
    seconds: float  # of a processor
    runs: list[Measured]


def plan(calibrating: bool) -> dict[str, list[int]]:
    """Return the seeds of every patient, in the order in which they are examined."""
    if calibrating:
        return {name: CALIBRATION for name in [*HEALTHY, *INDUCED]}
    return {**HEALTHY_DECIDING, **{name: DECIDING for name in INDUCED}}


def collect(
    wanted: Mapping[str, list[int]],
    path: Path,
    say: Callable[[str], None] = print,
) -> list[Record]:
    """Examine the patients that have no record with these seeds yet; each is written at once.

    Args:
        wanted: patient -> seeds.
        path: of the records, one a line.
        say: called with a line for each patient.
    Returns:
        The records of the wanted patients.
    """
    records = read(path)
    patients: Mapping[str, Patient] = {**HEALTHY, **INDUCED}
    for name, seeds in wanted.items():
        if any(record["patient"] == name and record["seeds"] == seeds for record in records):
            continue
        began = time.process_time()
        runs = examine(patients[name], seeds)
        seconds = round(time.process_time() - began, 1)
        records.append({"patient": name, "seeds": seeds, "seconds": seconds, "runs": runs})
        lines = [json.dumps(record) + "\n" for record in records]
        write_atomic(path, "".join(lines).encode())
        say(f"{name}: {seconds} s")
    return [record for record in records if wanted.get(record["patient"]) == record["seeds"]]


def read(path: Path) -> list[Record]:
    """Read the records of a file; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def reference(records: Iterable[Record]) -> dict[str, object]:
    """Return the content of `rlop/doctor/ranges.json`: ranges of healthy and of sick runs."""
    healthy: list[Measured] = []
    sick: dict[str, dict[str, list[float]]] = {}
    for record in records:
        name = record["patient"]
        if name in HEALTHY:
            healthy += record["runs"]
            continue
        table = percentiles(record["runs"])
        sick[name] = {key: table[key] for key in DISEASES[name].measures if key in table}
    return {"healthy": percentiles(healthy), "sick": sick}


def named(measured: Measured) -> list[str]:
    """Return the diseases that a run is called sick of."""
    return [finding.disease for finding in sick_of(measured)]


def sick_of(measured: Measured) -> list[Finding]:
    """Return the findings whose level is sick."""
    return [finding for finding in findings(measured) if finding.level == SICK]


def table(records: Iterable[Record]) -> str:
    """Return the confusion table and what follows from it, in Markdown.

    Args:
        records: of the deciding seeds.
    """
    lines = [
        "| induced | runs | named | listed consequences named | others named |",
        "|---|---|---|---|---|",
    ]
    right = total = strange = doubly = healthy = 0
    seconds = 0.0
    for record in records:
        name, runs = record["patient"], [named(run) for run in record["runs"]]
        listed = INDUCED[name].consequences if name in INDUCED else ()
        counts = {other: sum(other in run for run in runs) for run in runs for other in run}
        own = counts.pop(name, 0)
        expected = {other: count for other, count in counts.items() if other in listed}
        others = {other: count for other, count in counts.items() if other not in listed}
        shown = str(own) if name in INDUCED else "-"
        label = name if name in INDUCED else f"nothing ({name})"
        lines.append(
            f"| {label} | {len(runs)} | {shown} | {_counted(expected)} | {_counted(others)} |"
        )

        seconds += record["seconds"]
        if name in INDUCED:
            right, total = right + own, total + len(runs)
            strange += sum(any(other in run for other in others) for run in runs)
        else:
            healthy += len(runs)
            doubly += sum(len(run) > 1 for run in runs)

    lines += [
        "",
        f"Named: {right} of {total} ({right / total:.0%}). Runs with a disease named that was not "
        f"listed: {strange} of {total}. Healthy runs called sick of more than one disease: "
        f"{doubly} of {healthy}. Measured in {seconds / 60:.1f} processor minutes.",
    ]
    return "\n".join(lines)


def _counted(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"


def patients() -> str:
    """Return the list of what is induced and which consequences were listed, in Markdown."""
    lines = ["| disease | induced by | may also show |", "|---|---|---|"]
    for name, patient in INDUCED.items():
        also = ", ".join(patient.consequences) or "nothing"
        lines.append(f"| {name} | {patient.how} | {also} |")
    return "\n".join(lines)


def rules() -> str:
    """Return the diseases with their signs and thresholds, in Markdown."""
    lines = ["| disease | measure | watch | sick |", "|---|---|---|---|"]
    for name, disease in DISEASES.items():
        joint = " and " if disease.together else " or "
        words = joint.join(MEASURES[sign.measure] for sign in disease.signs)
        watch = joint.join(_bound(sign, sign.watch) for sign in disease.signs)
        sick = joint.join(_bound(sign, sign.sick) for sign in disease.signs)
        lines.append(f"| {name} | {words} | {watch} | {sick} |")
    return "\n".join(lines)


def _bound(sign: Sign, value: float) -> str:
    if value == NEVER:
        return "never"
    return f"{'at most' if sign.below else 'at least'} {value:g}"


def filled(page: str, records: Iterable[Record]) -> str:
    """Put the generated parts into the page, each between its marks."""
    for name, text in zip(PARTS, (rules(), patients(), table(records)), strict=True):
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        head, _, rest = page.partition(begin)
        _, _, tail = rest.partition(end)
        page = f"{head}{begin}\n\n{text}\n\n{end}{tail}"
    return page
