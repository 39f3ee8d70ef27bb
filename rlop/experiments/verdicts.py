"""Verdicts from numbers over seeds: intervals against bands.

A measure is reproduced if the 95 % Student-t interval of its mean over at least five seeds lies
inside of its band, not reproduced if both have nothing in common, and undecided in between. A
clause takes the worst verdict of its measures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlop.experiments.catalogue import Clause, Measure
from rlop.experiments.records import CONTROL, RUN, Records
from rlop.report.statistics import mean_ci

FEWEST_SEEDS = 5

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
UNDECIDED = "undecided"
NO_VERDICT = "no verdict"  # not run, or on too few seeds
UNTESTED = "not tested"
WORST_FIRST = (NOT_REPRODUCED, UNDECIDED, NO_VERDICT, REPRODUCED)


@dataclass(frozen=True)
class Sample:
    """One number on several seeds.

    Args:
        values: one for each seed.
    """

    values: tuple[float, ...]

    @property
    def interval(self) -> tuple[float, float, float]:
        """Mean, and ends of its 95 % interval, which are NaN for one seed; all NaN for none.

        Where a number is infinite, as the samples to an error that is never reached, so is the
        mean, and there is no interval.
        """
        if not self.values:
            return math.nan, math.nan, math.nan
        if not all(map(math.isfinite, self.values)):
            return sum(self.values) / len(self.values), math.nan, math.nan
        return mean_ci(self.values)

    def verdict(self, measure: Measure) -> str:
        """Judge the numbers by the band of a measure; one that is NaN or infinite fails it."""
        if len(self.values) < FEWEST_SEEDS:
            return NO_VERDICT
        if not all(map(math.isfinite, self.values)):
            return NOT_REPRODUCED

        _, low, high = self.interval
        if measure.low <= low and high <= measure.high:
            return REPRODUCED
        if high < measure.low or measure.high < low:
            return NOT_REPRODUCED
        return UNDECIDED

    def inside(self, measure: Measure) -> int:
        """Count the seeds whose number lies in the closed band of a measure."""
        return sum(measure.low <= value <= measure.high for value in self.values)


@dataclass(frozen=True)
class Result:
    """A measure with its numbers.

    Args:
        measure: the measure.
        run: its numbers.
        control: the same where the effect is absent by construction.
    """

    measure: Measure
    run: Sample
    control: Sample

    @property
    def verdict(self) -> str:
        """Verdict of the measure."""
        return self.run.verdict(self.measure)

    @property
    def has_power(self) -> bool:
        """Whether the control has numbers, and they do not pass the band."""
        exists = not any(map(math.isnan, self.control.values))
        verdict = self.control.verdict(self.measure)
        return exists and verdict in (NOT_REPRODUCED, UNDECIDED)


def result(measure: Measure, records: Records) -> Result:
    """Collect the numbers of a measure over the seeds that ran."""
    samples = {}
    for part in (RUN, CONTROL):
        found = records.of(measure.experiment, part)
        values = [record.values[measure.name] for record in found if measure.name in record.values]
        samples[part] = Sample(tuple(values))
    return Result(measure, samples[RUN], samples[CONTROL])


def clause_verdict(clause: Clause, records: Records) -> str:
    """Return the worst verdict of a clause's measures."""
    if clause.untested:
        return UNTESTED
    return worst([result(measure, records).verdict for measure in clause.measures])


def worst(verdicts: Sequence[str]) -> str:
    """Return the worst of some verdicts: one failure decides, whatever is missing."""
    return min(verdicts, key=WORST_FIRST.index)
