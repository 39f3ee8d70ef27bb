"""What the catalogue says of one abstract, and the one way to compute its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KINDS = ("module", "experiment", "probe", "theory only", "out of scope")
REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE, NOT_RUN = (
    "reproduced",
    "not reproduced",
    "not testable here",
    "not run",
)


@dataclass(frozen=True)
class Row:
    """One abstract of the workshop.

    Args:
        number: 1 to 51: invited talks, contributed talks, posters.
        title: as announced.
        authors: as announced.
        kind: one of `KINDS`, what it became here.
        homes: dotted names of what implements it; empty where nothing does.
        claim: in one sentence, in our words.
        experiments: modules of `rlop.experiments` that test the claim.
        use: what a user of this library takes from it, or would cite it for.
        arxiv: identifier, where we know it.
    """

    number: int
    title: str
    authors: str
    kind: str
    homes: tuple[str, ...]
    claim: str
    experiments: tuple[str, ...]
    use: str
    arxiv: str = ""

    def verdict(self, verdicts: Mapping[str, str]) -> str:
        """From the verdicts of the experiments that ran, by name: one that fails decides, one that is missing is told.

        Args:
            verdicts: experiment -> `reproduced` or anything else.
        """
        if not self.experiments:
            return NOT_TESTABLE
        found = [verdicts[name] for name in self.experiments if name in verdicts]
        if any(verdict != REPRODUCED for verdict in found):
            return NOT_REPRODUCED
        return REPRODUCED if len(found) == len(self.experiments) else NOT_RUN
