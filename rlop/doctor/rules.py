"""The diseases, and from which value of which measure on the doctor says so.

A threshold is "house" unless it has a source: chosen by us on the calibration seeds of
`python scripts/doctor.py calibrate`, and never on those of the confusion table.
"""

from __future__ import annotations

from dataclasses import dataclass

OK, WATCH, SICK, UNMEASURED = "ok", "watch", "sick", "not measured"
NEVER = float("inf")  # threshold of a level that a sign does not reach


@dataclass(frozen=True)
class Sign:
    """One measure and its thresholds.

    Args:
        measure: a key of `rlop.doctor.measures.MEASURES`.
        watch: from here on worth watching.
        sick: from here on sick.
        below: the thresholds are passed by small values instead of large ones.
    """

    measure: str
    watch: float
    sick: float
    below: bool = False


@dataclass(frozen=True)
class Disease:
    """A disease: its signs, and further measures that are shown with them.

    Args:
        signs: the measures that decide.
        together: all signs must agree, and the mildest decides; else the worst one does.
        also: measures shown as evidence that decide nothing.
        from_start: whether a sign is a multiple of what it was before training.
    """

    signs: tuple[Sign, ...]
    together: bool = False
    also: tuple[str, ...] = ()
    from_start: bool = False

    @property
    def measures(self) -> tuple[str, ...]:
        """Return the names of all measures, the deciding ones first."""
        return (*(sign.measure for sign in self.signs), *self.also)


DISEASES: dict[str, Disease] = {
    # House. Srank (arXiv:2010.14498) overlaps between our healthy and sick runs: not used.
    "rank collapse": Disease(
        (Sign("rank/effective", watch=0.55, sick=0.45, below=True),), from_start=True
    ),
    # tau = 0.1 of Sokar et al., arXiv:2302.12902; the shares are house.
    "dormant units": Disease((Sign("units/dormant", 0.4, 0.55),), also=("units/inactive",)),
    # Co-adaptation of Kumar et al., arXiv:2112.04716; the thresholds are house.
    "alignment": Disease(
        (Sign("feature/dot", 5, 10), Sign("feature/angle", 0.2, 0.05, below=True)),
        together=True,
        also=("feature/cosine",),
        from_start=True,
    ),
    # Feature growth alone did no harm in our runs: worth watching, no more.
    "feature growth": Disease((Sign("feature/norm", 5, NEVER),), from_start=True),
    # |Q| <= max |r| / (1 - gamma) holds for every policy. A factor of two is left to the errors of
    # a network that did not diverge: our healthy ones exceeded the limit by 15 %.
    "divergence": Disease((Sign("run/frozen", 1, 1), Sign("value/limit", 1, 2))),
    # An improved policy may exceed the mean return, and hardly the best one everywhere.
    "over-estimation": Disease((Sign("value/best", 0, 0.5), Sign("value/mean", 2, NEVER))),
    "over-conservatism": Disease((Sign("value/worst", 0, 0.5), Sign("value/random", 2, NEVER))),
    "values outside the data": Disease(
        (Sign("value/policy", 0.5, 1),), also=("value/random", "churn/policy")
    ),
    "moving target": Disease((Sign("value/drift", 0.5, NEVER),), also=("churn/value",)),
    "policy on the bound": Disease((Sign("policy/bound", 0.1, 0.3),)),
    # Lyle, Rowland, Dabney, arXiv:2204.09560; the factor is house.
    "lost plasticity": Disease(
        (Sign("plasticity/refit", 2, 4),), also=("units/dormant", "units/inactive"), from_start=True
    ),
    "constant rewards": Disease((Sign("data/flat", 1, 1),)),
    "missing ends": Disease((Sign("data/ends", 0.001, 0.0001, below=True),), also=("data/broken",)),
    "single behavior": Disease((Sign("data/varied", 0.1, 0.03, below=True),)),
}
