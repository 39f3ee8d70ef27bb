"""Run one experiment by its name, and keep what it found as a JSON record and a picture."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlop.config.checks import check_known
from rlop.config.files import write_atomic
from rlop.experiments.catalogue import available
from rlop.experiments.outcome import Measure, Outcome
from rlop.report.figures import COLOURS, DASHES, canvas
from rlop.types import InputError

Record = Mapping[str, Any]  # what `to_record` returns, or {"name": ..., "error": ...}


def run_experiment(name: str, seed: int = 0) -> tuple[Outcome, float]:
    """Run `rlop.experiments.NAME` on one thread: its outcome, and the processor seconds that it took.

    Raises:
        InputError: for a name that the catalogue does not know, or an optional package that is not there.
    """
    check_known("experiment", name, available())
    torch.set_num_threads(1)
    experiment = import_module(f"rlop.experiments.{name}")
    started = (
        time.process_time()
    )  # the processor's, not the wall's: others may be using the machine
    return experiment.run(seed), time.process_time() - started


def to_record(name: str, outcome: Outcome, seconds: float, seed: int) -> dict[str, Any]:
    """All but the curves, as JSON holds it."""
    measures = [
        {
            "name": m.name,
            "value": _number(m.value),
            "low": _number(m.low),
            "high": _number(m.high),
            "expected": m.expected,
            "holds": bool(m.holds),
        }
        for m in outcome.measures
    ]
    return {
        "name": name,
        "verdict": outcome.verdict,
        "report_only": outcome.report_only,
        "seed": seed,
        "seconds": round(seconds, 1),
        "measures": measures,
    }


def _number(value: float) -> float | str:
    """JSON has neither infinity nor NaN: these become words that `float` reads."""
    return float(value) if math.isfinite(value) else str(float(value))


def measure_of(record: Record) -> Measure:
    """A measure from its record."""
    low, value, high = (float(record[key]) for key in ("low", "value", "high"))
    return Measure(record["name"], value, low, high, record["expected"])


def save(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Run an experiment and write `NAME.json` and, with matplotlib, `NAME.png`; returns the record."""
    outcome, seconds = run_experiment(name, seed)
    record = to_record(name, outcome, seconds, seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{name}.json", json.dumps(record, indent=1).encode())
    try:
        draw(outcome, folder / f"{name}.png", f"{name}: {outcome.verdict}")
    except InputError as error:
        print(error)
    return record


def draw(outcome: Outcome, path: str | Path, title: str) -> Path:
    """Write the outcome's curves as a PNG.

    Args:
        outcome: of an experiment.
        path: PNG file, written whole or not at all.
        title: above the axes.
    Raises:
        InputError: matplotlib is not installed.
    """
    with canvas(path, 6.4, 3.8) as figure:
        axis = figure.subplots()
        for i, (label, (x, y)) in enumerate(outcome.curves.items()):
            x, y = np.asarray(x, float), np.asarray(y, float)
            dashes = DASHES[i // len(COLOURS) % len(DASHES)]
            marker = "o" if len(x) <= 12 else None
            axis.plot(x, np.where(np.isfinite(y), y, np.nan), dashes, color=COLOURS[i % len(COLOURS)],
                      marker=marker, markersize=4, label=label)  # fmt: skip
        axis.set(title=title, xlabel=outcome.x, ylabel=outcome.y)
        if "x" in outcome.log:
            axis.set_xscale("log")
        if "y" in outcome.log:
            axis.set_yscale("log")
        if outcome.curves:
            figure.legend(loc="outside right upper", fontsize=9)
    return Path(path)
