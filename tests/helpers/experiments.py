"""Small outcomes and abstracts, and the scripts as modules or as main programs."""

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rlop.experiments import Measure, Outcome
from rlop.experiments.catalogue import Abstract

ROOT = Path(__file__).resolve().parents[2]


def outcome() -> Outcome:
    """An outcome with one measure that holds, one that is NaN, and a curve with a gap."""
    measures = (
        Measure("within", 1.5, low=1.0, high=2.0, expected="two"),
        Measure("beyond |x|", float("nan"), low=0.0, high=float("inf"), expected="any"),
    )
    curves = {"curve": ([1, 2, 3], [1.0, float("inf"), 3.0])}
    return Outcome(measures, curves, x="x", y="y", log="xy")


def abstract(*experiments: str, number: int = 1) -> Abstract:
    """An abstract with these experiments."""
    return Abstract(
        number=number,
        title="title",
        authors="authors",
        kind="probe",
        claim="Claim.",
        use="Use.",
        homes=("rlop",),
        experiments=experiments,
        arxiv="1234.56789",
    )


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
