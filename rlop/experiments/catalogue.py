"""The 51 abstracts of the workshop: claims, implementations here, and experiments.

"Over-parameterization: Pitfalls and Opportunities", a workshop at ICML 2021. The rows are data, in
`workshop.yaml`. They hold no verdicts: a verdict is computed from the last run of
`scripts/reproduce.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from rlop.config.checks import check_known
from rlop.config.files import read_yaml
from rlop.config.schema import build
from rlop.types import InputError

WORKSHOP = Path(__file__).with_name("workshop.yaml")

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
NOT_TESTABLE = "not testable here"
NOT_RUN = "not run"

Kind: TypeAlias = Literal["module", "experiment", "probe", "theory only", "out of scope"]


@dataclass(frozen=True)
class Abstract:
    """One abstract of the workshop.

    Args:
        number: 1 to 51, in the order invited talks, contributed talks, posters.
        title: as announced.
        authors: as announced.
        kind: the form that the abstract takes in this package.
        claim: the claim in one sentence, in our words.
        use: what a user of this library takes from it, or would cite it for.
        homes: import paths of the code that implements it, if any.
        experiments: modules of `rlop.experiments` that test the claim.
        arxiv: arXiv identifier, "" if unknown.
    """

    number: int
    title: str
    authors: str
    kind: Kind
    claim: str
    use: str
    homes: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    arxiv: str = ""

    def __post_init__(self) -> None:
        if self.kind in ("module", "experiment", "probe") and not self.homes:
            raise InputError(f"homes: missing, expected import paths for kind {self.kind!r}")
        if self.kind == "experiment" and not self.experiments:
            raise InputError("experiments: missing, expected a name for kind 'experiment'")

    def verdict(self, verdicts: Mapping[str, str]) -> str:
        """Return the verdict on this abstract.

        Any failed experiment means not reproduced; otherwise a missing one means not run.

        Args:
            verdicts: experiment -> verdict, for the experiments that ran.
        """
        if not self.experiments:
            return NOT_TESTABLE

        results = [verdicts.get(name, NOT_RUN) for name in self.experiments]
        failures = set(results) - {REPRODUCED, NOT_RUN}
        if failures:
            return NOT_REPRODUCED
        return NOT_RUN if NOT_RUN in results else REPRODUCED


@dataclass(frozen=True)
class Workshop:
    """The content of `workshop.yaml`.

    Args:
        abstracts: in the order of their numbers, which count from 1.
        slow_experiments: experiments that take more than 3 seconds of processor time.
    """

    abstracts: tuple[Abstract, ...]
    slow_experiments: tuple[str, ...]

    def __post_init__(self) -> None:
        for position, abstract in enumerate(self.abstracts):
            if abstract.number != position + 1:
                raise InputError(
                    f"abstracts[{position}].number = {abstract.number}: expected {position + 1}"
                )
        for name in self.slow_experiments:
            check_known("slow_experiments:", name, self.experiments)

    @property
    def experiments(self) -> list[str]:
        """Every experiment, once, in the order of the abstracts."""
        names: list[str] = []
        for abstract in self.abstracts:
            names.extend(abstract.experiments)
        return list(dict.fromkeys(names))

    @property
    def fast_experiments(self) -> list[str]:
        """The experiments that are not slow, in the same order."""
        return [name for name in self.experiments if name not in self.slow_experiments]


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
