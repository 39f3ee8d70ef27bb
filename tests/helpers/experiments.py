"""Small outcomes and abstracts, and the scripts as modules."""

import importlib.util
from pathlib import Path
from types import ModuleType

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
