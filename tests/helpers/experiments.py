"""Small catalogues and records, and the scripts as modules or as main programs."""

import importlib.util
import runpy
import sys
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from rlop.experiments import Outcome
from rlop.experiments.catalogue import Abstract, Clause, Measure, Workshop
from rlop.experiments.records import Record

ROOT = Path(__file__).resolve().parents[2]
DAY = date(2026, 11, 26)


def outcome() -> Outcome:
    """An outcome with an infinite value, one that is NaN, and a curve with a gap."""
    values = {"within": 1.5, "beyond |x|": float("nan"), "far": float("inf")}
    curves = {"curve": ([1, 2, 3], [1.0, float("inf"), 3.0])}
    return Outcome(values, curves, x="x", y="y", log="xy")


def record(value: float, seed: int = 101, part: str = "run", experiment: str = "some") -> Record:
    """A record of the one number `gain`."""
    return Record(
        experiment=experiment,
        seed=seed,
        part=part,
        values={"gain": value},
        seconds=2.0,
        day="2026-11-27",
        commit="abcdef123",
        source="0123456789abcdef",
        versions={"torch": "2.0"},
    )


def records(values: list[float], part: str = "run", experiment: str = "some") -> list[Record]:
    """Records of `gain` for the seeds from 101 on."""
    return [record(value, 101 + i, part, experiment) for i, value in enumerate(values)]


def measure(low: float, high: float, name: str = "gain", experiment: str = "some") -> Measure:
    """A measure with a band."""
    return Measure(experiment, name, "a theorem", DAY, low, high)


def abstract(*clauses: Clause, number: int = 1) -> Abstract:
    """An abstract with these clauses."""
    return Abstract(
        number=number,
        title="title",
        authors="authors",
        kind="probe",
        use="Use.",
        clauses=clauses,
        homes=("rlop",),
        arxiv="1234.56789",
        note="A note.",
    )


def catalogue(*measures: Measure) -> Workshop:
    """A catalogue of one abstract: a clause with these measures, and one that is not tested."""
    tested = Clause("It gains.", measures)
    untested = Clause("It is fast.", untested="no clock")
    return Workshop((abstract(tested, untested),))


def script(name: str) -> ModuleType:
    """Import `scripts/NAME.py`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main_program(monkeypatch: pytest.MonkeyPatch, script: str, *argv: object) -> int:
    """Run a file of `scripts/` in the checkout as Python does, but in this process.

    Args:
        monkeypatch: puts arguments, import path and folder back.
        script: name of the file.
        argv: the arguments.
    Returns:
        its exit code, 0 where it just ends.
    """
    path = ROOT / "scripts" / script
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, argv)])
    monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as stopped:
        return stopped.code or 0
    return 0
