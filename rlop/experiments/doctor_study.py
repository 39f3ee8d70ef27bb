"""Records of the doctor's patients, the reference ranges and the confusion table made from them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict, cast

from rlop.config.files import read_json_lines, write_atomic
from rlop.doctor.findings import findings
from rlop.doctor.measures import MEASURES, Measured
from rlop.doctor.ranges import percentiles
from rlop.doctor.rules import DISEASES, NEVER, SICK, Sign
from rlop.experiments.doctor_runs import HEALTHY, INDUCED, Patient, examine

CALIBRATION = [1, 2, 3]  # seeds that set thresholds and ranges
DECIDING = [101, 102, 103, 104, 105]  # seeds of the confusion table, a data set for each patient
# What the first deciding seeds changed is decided by seeds that nobody had seen: dormant units were
# induced too weakly, and missing ends had consequences that were not listed. See the records.
AGAIN = {
    "dormant units": [111, 112, 113, 114, 115],
    "missing ends": [121, 122, 123, 124, 125],
}
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
    return {**HEALTHY_DECIDING, **{name: DECIDING for name in INDUCED}, **AGAIN}


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
    return chosen(records, wanted)


def chosen(records: Iterable[Record], wanted: Mapping[str, list[int]]) -> list[Record]:
    """Return the records of these patients with these seeds, in the order of the patients."""
    order = list(wanted)
    of_plan = [item for item in records if wanted.get(item["patient"]) == item["seeds"]]
    return sorted(of_plan, key=lambda item: order.index(item["patient"]))


def read(path: Path) -> list[Record]:
    """Return the records of a file, one a line; none if there is no file.

    Raises:
        InputError: a line that is no record.
    """

    def record(content: Any) -> Record:
        missing = Record.__annotations__.keys() - content.keys()
        if missing:
            raise KeyError(*sorted(missing))
        return cast(Record, content)

    return read_json_lines(path, record)


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
    return [finding.disease for finding in findings(measured) if finding.level == SICK]


def table(records: Sequence[Record]) -> str:
    """Return the confusion table and what follows from it, in Markdown.

    Args:
        records: of the deciding seeds.
    """
    lines = [
        "| induced | runs | named | listed consequences named | others named |",
        "|---|---|---|---|---|",
        *map(_row, records),
    ]

    sick = [record for record in records if record["patient"] in INDUCED]
    well = [record for record in records if record["patient"] in HEALTHY]
    runs: list[tuple[str, list[str]]] = []
    for record in sick:
        runs += [(record["patient"], named(run)) for run in record["runs"]]
    healthy = named_of(well)
    right = sum(name in diseases for name, diseases in runs)
    strange = sum(bool(_others(name, diseases)) for name, diseases in runs)
    doubly = sum(len(diseases) > 1 for diseases in healthy)
    minutes = sum(record["seconds"] for record in records) / 60

    share = f" ({right / len(runs):.0%})" if runs else ""
    lines += [
        "",
        f"Named: {right} of {len(runs)}{share}. Runs with a disease named that was not listed: "
        f"{strange} of {len(runs)}. Healthy runs called sick of more than one disease: {doubly} of "
        f"{len(healthy)}. Measured in {minutes:.1f} processor minutes.",
    ]
    examined = {record["patient"] for record in records}
    missing = [name for name in plan(calibrating=False) if name not in examined]
    if missing:
        lines.append(f"Not examined yet: {', '.join(missing)}.")
    return "\n".join(lines)


def named_of(records: Sequence[Record]) -> list[list[str]]:
    """Return the diseases that each run of all patients was said to have."""
    every: list[list[str]] = []
    for record in records:
        every += [named(run) for run in record["runs"]]
    return every


def _row(record: Record) -> str:
    """Return the row of one patient."""
    name = record["patient"]
    diseases = list(chain.from_iterable(named_of([record])))
    own = str(diseases.count(name)) if name in INDUCED else "-"
    others = _others(name, diseases)
    expected = [disease for disease in diseases if disease != name and disease not in others]
    label = name if name in INDUCED else f"nothing ({name})"
    return (
        f"| {label} | {len(record['runs'])} | {own} | {_counted(expected)} | {_counted(others)} |"
    )


def _others(name: str, diseases: Sequence[str]) -> list[str]:
    """Return the diseases that a patient neither was given nor was expected to show."""
    listed = INDUCED[name].consequences if name in INDUCED else ()
    return [disease for disease in diseases if disease != name and disease not in listed]


def _counted(diseases: Sequence[str]) -> str:
    ordered = sorted(Counter(diseases).items(), key=lambda item: (-item[1], item[0]))
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


def filled(page: str, records: Sequence[Record]) -> str:
    """Put the generated parts into the page, each between its marks."""
    for name, text in zip(PARTS, (rules(), patients(), table(records)), strict=True):
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        head, _, rest = page.partition(begin)
        _, _, tail = rest.partition(end)
        page = f"{head}{begin}\n\n{text}\n\n{end}{tail}"
    return page
