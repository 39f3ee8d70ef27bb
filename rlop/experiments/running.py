"""Run one experiment by its name; keep its outcome as a JSON record and a picture."""

from __future__ import annotations

import json
import math
import time
from importlib import import_module
from pathlib import Path
from typing import TypeAlias, TypedDict, final

import numpy as np
import torch

from rlop.config.checks import check_known
from rlop.config.files import write_atomic
from rlop.experiments.catalogue import workshop
from rlop.experiments.outcome import Measure, Outcome
from rlop.report.figures import COLORS, DASHES, canvas
from rlop.types import InputError


class MeasureRecord(TypedDict):
    """A `Measure` as JSON holds it: infinity and NaN are text that `float` reads."""

    name: str
    value: float | str
    low: float | str
    high: float | str
    expected: str
    holds: bool


@final
class OutcomeRecord(TypedDict):
    """An `Outcome` without its curves, and how it was made."""

    name: str
    verdict: str
    report_only: bool
    seed: int
    seconds: float
    measures: list[MeasureRecord]


@final
class FailureRecord(TypedDict):
    """An experiment without a verdict, and the reason."""

    name: str
    error: str


Record: TypeAlias = OutcomeRecord | FailureRecord


def run_experiment(name: str, seed: int = 0) -> tuple[Outcome, float]:
    """Run `rlop.experiments.NAME` on one thread.

    Returns:
        Its outcome, and the processor seconds that it took. Processor time, not wall-clock time,
        since other programs may use the machine.
    Raises:
        InputError: for an unknown name, or an optional package that is not installed.
    """
    check_known("experiment", name, workshop().experiments)
    torch.set_num_threads(1)
    experiment = import_module(f"rlop.experiments.{name}")

    started = time.process_time()
    outcome = experiment.run(seed)
    return outcome, time.process_time() - started


def to_record(name: str, outcome: Outcome, seconds: float, seed: int) -> OutcomeRecord:
    """Convert an outcome, all but its curves, to plain values for JSON."""
    measures: list[MeasureRecord] = []
    for measure in outcome.measures:
        measures.append(
            {
                "name": measure.name,
                "value": _number(measure.value),
                "low": _number(measure.low),
                "high": _number(measure.high),
                "expected": measure.expected,
                "holds": bool(measure.holds),
            }
        )

    return {
        "name": name,
        "verdict": outcome.verdict,
        "report_only": outcome.report_only,
        "seed": seed,
        "seconds": round(seconds, 1),
        "measures": measures,
    }


def _number(value: float) -> float | str:
    """Return the number, as text where JSON has no such number."""
    return float(value) if math.isfinite(value) else str(float(value))


def measure_of(record: MeasureRecord) -> Measure:
    """Convert a record back to its measure."""
    return Measure(
        record["name"],
        float(record["value"]),
        float(record["low"]),
        float(record["high"]),
        record["expected"],
    )


def save(name: str, seed: int, folder: Path) -> OutcomeRecord:
    """Run an experiment, write `NAME.json` and, with matplotlib, `NAME.png`; return the record."""
    outcome, seconds = run_experiment(name, seed)
    record = to_record(name, outcome, seconds, seed)

    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{name}.json", json.dumps(record, indent=1).encode())
    try:
        draw(outcome, folder / f"{name}.png", f"{name}: {outcome.verdict}")
    except InputError as error:
        print(error)  # without matplotlib, the record is still useful

    return record


def draw(outcome: Outcome, path: str | Path, title: str) -> Path:
    """Write the curves of an outcome as a PNG.

    Args:
        outcome: outcome of an experiment.
        path: PNG file, written whole or not at all.
        title: text above the axes.
    Raises:
        InputError: matplotlib is not installed.
    """
    with canvas(path, 6.4, 3.8) as figure:
        axis = figure.subplots()
        for i, (label, curve) in enumerate(outcome.curves.items()):
            x, y = (np.asarray(numbers, float) for numbers in curve)
            axis.plot(
                x,
                np.where(np.isfinite(y), y, np.nan),
                DASHES[i // len(COLORS) % len(DASHES)],
                color=COLORS[i % len(COLORS)],
                marker="o" if len(x) <= 12 else None,
                markersize=4,
                label=label,
            )

        axis.set(title=title, xlabel=outcome.x, ylabel=outcome.y)
        if "x" in outcome.log:
            axis.set_xscale("log")
        if "y" in outcome.log:
            axis.set_yscale("log")
        if outcome.curves:
            figure.legend(loc="outside right upper", fontsize=9)

    return Path(path)
