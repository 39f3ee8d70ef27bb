"""The 51 abstracts of the workshop by the clauses of their claims, and the bands that judge them.

"Over-parameterization: Pitfalls and Opportunities", a workshop at ICML 2021. The rows are data, in
`workshop.yaml`. They hold no verdicts: `rlop.experiments.verdicts` computes them from the records
of `scripts/reproduce.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from rlop.config.checks import check_known
from rlop.config.files import read_yaml
from rlop.config.schema import build
from rlop.types import InputError

WORKSHOP = Path(__file__).with_name("workshop.yaml")

Kind: TypeAlias = Literal["module", "experiment", "probe", "theory only", "out of scope"]


@dataclass(frozen=True)
class Measure:
    """One number of an experiment, and the band that its mean over the seeds must lie in.

    Args:
        experiment: module of `rlop.experiments`.
        name: name of the number among the values of that experiment.
        source: why this band: a theorem, a closed form, a number of the paper, or the sign of the
            sentence.
        fixed: date on which the band was written, before the runs that it judges.
        low: lower end of the band; by default there is none.
        high: upper end of the band; by default there is none. A number that cannot lie beyond a
            limit, such as a share above 1, needs no end there.
        moved: what was changed and why, if the band was changed after a run that it judged.
    """

    experiment: str
    name: str
    source: str
    fixed: date
    low: float = -math.inf
    high: float = math.inf
    moved: str = ""

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise InputError(f"low = {self.low}: expected a number <= high = {self.high}")
        if math.isinf(self.low) and math.isinf(self.high):
            raise InputError("low: missing, expected a band with a low or a high end")


@dataclass(frozen=True)
class Clause:
    """One part of an abstract's claim, with what tests it.

    Args:
        text: the part, one sentence in our words.
        measures: the numbers that test it.
        untested: why nothing tests it, and what that would take.
    """

    text: str
    measures: tuple[Measure, ...] = ()
    untested: str = ""

    def __post_init__(self) -> None:
        if bool(self.measures) == bool(self.untested):
            raise InputError("measures: expected either measures or the reason as `untested`")


@dataclass(frozen=True)
class Abstract:
    """One abstract of the workshop.

    Args:
        number: 1 to 51, in the order invited talks, contributed talks, posters.
        title: as announced.
        authors: as announced.
        kind: the form that the abstract takes in this package.
        use: what a user of this library takes from it, or would cite it for.
        clauses: every part of its claim.
        homes: import paths of the code that implements it, if any.
        arxiv: arXiv identifier, "" if unknown.
        note: what a reader of the verdicts should know, above all on what did not reproduce: the
            best explanation, and what was tried.
    """

    number: int
    title: str
    authors: str
    kind: Kind
    use: str
    clauses: tuple[Clause, ...]
    homes: tuple[str, ...] = ()
    arxiv: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.clauses:
            raise InputError("clauses: empty, expected at least one")
        if self.kind in ("module", "experiment", "probe") and not self.homes:
            raise InputError(f"homes: missing, expected import paths for kind {self.kind!r}")
        if self.kind == "experiment" and not self.experiments:
            raise InputError("clauses: without measures, expected some for kind 'experiment'")

    @property
    def measures(self) -> list[Measure]:
        """The measures of all clauses, in their order."""
        measures: list[Measure] = []
        for clause in self.clauses:
            measures.extend(clause.measures)
        return measures

    @property
    def experiments(self) -> list[str]:
        """The experiments on this abstract, each once, in the order of the measures."""
        return list(dict.fromkeys(measure.experiment for measure in self.measures))


@dataclass(frozen=True)
class Workshop:
    """The content of `workshop.yaml`.

    Args:
        abstracts: in the order of their numbers, which count from 1.
    """

    abstracts: tuple[Abstract, ...]

    def __post_init__(self) -> None:
        for position, abstract in enumerate(self.abstracts):
            if abstract.number != position + 1:
                raise InputError(
                    f"abstracts[{position}].number = {abstract.number}: expected {position + 1}"
                )

    @property
    def experiments(self) -> list[str]:
        """Every experiment, once, in the order of the abstracts."""
        return self.experiments_of([abstract.number for abstract in self.abstracts])

    def experiments_of(self, rows: list[int]) -> list[str]:
        """Return the experiments on the abstracts of these numbers, each once.

        Raises:
            InputError: there is no abstract of that number.
        """
        names: list[str] = []
        for number in rows:
            check_known("row", number, range(1, len(self.abstracts) + 1))
            names.extend(self.abstracts[number - 1].experiments)
        return list(dict.fromkeys(names))

    def measures_of(self, experiment: str) -> list[Measure]:
        """Return the measures that judge an experiment, each once."""
        measures: list[Measure] = []
        for abstract in self.abstracts:
            measures.extend(m for m in abstract.measures if m.experiment == experiment)
        return list(dict.fromkeys(measures))


def load_workshop(path: Path = WORKSHOP) -> Workshop:
    """Read and check a catalogue.

    Args:
        path: YAML file with the keys of `Workshop` and `Abstract`.
    Raises:
        InputError: an unknown or missing key, or a wrong value; names the file, row and key.
    """
    return build(Workshop, read_yaml(path), where=path.name)


@cache
def workshop() -> Workshop:
    """Return the catalogue of this package, read once."""
    return load_workshop()
