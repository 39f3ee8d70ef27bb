"""The tables of `jax`, from the lines of its record, one for each contestant of a case."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from scripts.bench.problems import JAX_PROBLEMS

Line: TypeAlias = dict[str, Any]

HEADINGS = {"cost": "CPU ms of an update", "start": "First call, memory, agreement"}
PLAIN, EAGER, COMPILED = "plain PyTorch", "rlop eager", "rlop compiled"
JAX, IM2COL = "JAX", "JAX, im2col"


def tables(lines: Sequence[Line]) -> list[Line]:
    """Return the rows of all tables, each with its `piece`, from the lines of a record."""
    (about, *contestants) = lines
    rows = [{"piece": "machine", **machine_row(about["machine"], contestants)}]
    cases = by_case(contestants)
    rows += [{"piece": "cost", **cost_row(case)} for case in cases]
    rows += [{"piece": "start", **start_row(case)} for case in cases]
    return rows


def by_case(lines: Iterable[Line]) -> list[dict[str, Line]]:
    """Return the lines of every case by contestant, in the order of the problems and of R."""
    cases: dict[tuple[str, int], dict[str, Line]] = {}
    for line in lines:
        cases.setdefault((line["case"], line["R"]), {})[line["contestant"]] = line

    names = [problem.name for problem in JAX_PROBLEMS.values()]
    return [cases[key] for key in sorted(cases, key=lambda key: (names.index(key[0]), key[1]))]


def machine_row(about: Mapping[str, Any], lines: Iterable[Line]) -> Line:
    """Return what the page says of the machine."""
    versions = about["versions"]
    row = {"CPU": about["cpu"], "vector unit": about["vector_unit"], "time": about["time"]}
    row |= {"cores": about["cores"], "load": about["load"][0]}
    row |= {package: versions[package] for package in ("torch", "jax", "numpy")}
    rounds = {len(line["cpu_ms"]) for line in lines if "cpu_ms" in line}
    return {**row, "rounds": " or ".join(map(str, sorted(rounds)))}


def cost_row(case: Mapping[str, Line]) -> Line:
    """Return the milliseconds of every contestant, and the ratios of ours with the others."""
    row = title(case)
    for name in (PLAIN, EAGER, COMPILED, JAX, IM2COL):
        row[name] = milliseconds(case.get(name))
    row["compiled / JAX"] = ratio(case.get(COMPILED), best_of_jax(case))
    row["compiled / eager"] = ratio(case.get(COMPILED), case.get(EAGER))
    row["eager / plain"] = ratio(case.get(EAGER), case.get(PLAIN))
    return row


def start_row(case: Mapping[str, Line]) -> Line:
    """Return first calls, memory, and by how much the losses differ."""
    row = title(case)
    for name in (COMPILED, JAX, IM2COL):
        line = case.get(name, {})
        row[f"{name}, s"] = line.get("cold_cpu_s")
        row[f"{name} again, s"] = line.get("warm_cpu_s")
    for name in (PLAIN, EAGER, COMPILED, JAX, IM2COL):
        memory = case.get(name, {}).get("peak_mb")
        row[f"{name}, MB"] = None if memory is None else round(memory)
    row["losses differ by"] = max(
        (line["losses_differ"] for line in case.values() if "losses_differ" in line), default=None
    )
    return row


def title(case: Mapping[str, Line]) -> Line:
    """Return the columns that name a case."""
    line = next(iter(case.values()))
    return {"case": line["case"], "R": line["R"]}


def milliseconds(line: Line | None) -> str | None:
    """Write the median of the rounds, and the lowest and the highest."""
    if line is None:
        return None
    return spread(line["cpu_ms"]) if "cpu_ms" in line else line["note"]


def ratio(line: Line | None, base: Line | None) -> str | None:
    """Write the ratio of two costs within a round: median, lowest and highest."""
    if line is None or base is None or "cpu_ms" not in line or "cpu_ms" not in base:
        return None
    return spread([a / b for a, b in zip(line["cpu_ms"], base["cpu_ms"], strict=True)])


def best_of_jax(case: Mapping[str, Line]) -> Line | None:
    """Return the faster one of JAX's contestants."""
    measured = [case[name] for name in (JAX, IM2COL) if "cpu_ms" in case.get(name, {})]
    return min(measured, key=lambda line: statistics.median(line["cpu_ms"]), default=None)


def spread(values: Sequence[float]) -> str:
    """Write median, lowest and highest."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"
