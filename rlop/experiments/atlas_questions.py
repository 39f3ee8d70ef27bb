"""What the Rank Atlas is asked, and which number answers it; written 2026-11-26, before the runs.

A run's *final return* is the mean of its last two evaluations, its *peak* the best one after the
start, its *fall* the difference. Returns are rounded to a fiftieth of what the best run on the same
data earns over a random policy, so that ranks do not make much of little. A return that is not
finite counts as the lowest, such a probe as not measured. Runs are compared within groups alone,
at four levels:

    seeds          one configuration, four seeds: does the seed with the higher rank earn more?
    strengths      one data set, agent and regularizer: its strengths (0 among them) x seeds
    regularizers   one data set and agent: all regularizers, strengths and seeds
    agents         one data set: all runs

Associations are rank correlations within groups, pooled over groups, with 95 % intervals from
resampled clusters; a cluster is a data set with an agent, whose runs share data and initial
networks.

1. Does a probe at the end go with the final return? Every probe, four levels. It does where the
   p-value after Holm's correction over all of these is below .05.
2. Is it more than the norm? The same with the feature norm held and, where agents differ, the
   conservative weight.
3. Does it hold in every data set? Its correlation in each, and the probe that is best in all other
   data sets, with its sign there, judged in the one left out.
4. Does a probe at a quarter of the training foretell the final return, beyond the return at that
   time? Partial correlation that holds the latter.
5. Does it foretell collapse? Of runs that had learned, not collapsed by then: the area under the
   curve for "loses half of what it earned at its peak over a random policy, or diverges", beside
   those of the return now and of the feature norm now. A probe is of use where its area is farther
   from 1/2 than that of the return now, after Holm's correction over probes.
   `atlas_collapse` has these.
6. Does it go with the fall from the peak, and with the value that fitted Q evaluation gives?

What would say that rank predicts return: srank or effective rank significant, of one sign at all
four levels, that sign kept in every data set and with the norm held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from rlop.experiments.atlas_settings import EARLY, GRAIN, PROBED, SOURCES
from rlop.experiments.atlas_study import Run
from rlop.report.associations import (
    SAMPLES,
    Association,
    codes,
    correlation,
)
from rlop.report.comparisons import holm

END = PROBED.index(8)
NOW = PROBED.index(EARLY)
NORM = "feature/norm"
RANKS = ("rank/srank", "rank/effective_rank")
LEVELS = ("seeds", "strengths", "regularizers", "agents")


@dataclass(frozen=True, eq=False)  # one is as good as its identity, by which groups are kept
class Atlas:
    """The runs as arrays: n runs, P probes, T times.

    Args:
        runs: they themselves.
        names: of the probes.
        probes: `[n, P, T]`; NaN where a probe was not measured.
        returns: `[n, 9]`, never NaN.
        final, peak: see the top of this file, `[n]`.
        floor: return of a random policy, `[n]`.
        best: highest return of any run on the same data, `[n]`.
    """

    runs: Sequence[Run]
    names: Sequence[str]
    probes: np.ndarray
    returns: np.ndarray
    final: np.ndarray
    peak: np.ndarray
    floor: np.ndarray
    best: np.ndarray

    def probe(self, name: str, time: int = END) -> np.ndarray:
        """Return a probe at one of the times, `[n]`."""
        return self.probes[:, self.names.index(name), time]

    def number(self, key: Callable[[Run], object]) -> np.ndarray:
        """Number the runs by what they have in common, `[n]` int."""
        return codes([key(run) for run in self.runs])

    @cached_property
    def clusters(self) -> np.ndarray:
        """Number of each run's data set and agent, `[n]`."""
        return self.number(lambda run: (run.data, run.agent))

    @property
    def data(self) -> list[str]:
        """Data sets, in the order of the settings."""
        present = {run.data for run in self.runs}
        return [name for name in SOURCES if name in present]


def atlas_of(runs: Sequence[Run]) -> Atlas:
    """Return runs as arrays."""
    names = list(dict.fromkeys(name for run in runs for name in run.probes))
    times = len(PROBED)
    probes = np.full((len(runs), len(names), times), np.nan)
    for number, run in enumerate(runs):
        for name, values in run.probes.items():
            probes[number, names.index(name)] = np.array(values, float)

    returns = np.array([run.returns for run in runs], float)
    data = codes([run.data for run in runs])
    for group in np.unique(data):
        rows = np.flatnonzero(data == group)
        lowest = np.nanmin(returns[rows])
        returns[rows] = np.where(np.isnan(returns[rows]), lowest, returns[rows])

    floor = np.array([SOURCES[run.data].floor for run in runs])
    best = np.array([returns[data == group].max() for group in data])
    grain = GRAIN * (best - floor)
    final = returns[:, -2:].mean(1)
    return Atlas(
        runs=runs,
        names=names,
        probes=probes,
        returns=to_grain(returns, best[:, None], grain[:, None]),
        final=to_grain(final, best, grain),
        peak=to_grain(returns[:, 1:].max(1), best, grain),
        floor=floor,
        best=best,
    )


def to_grain(values: np.ndarray, best: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """Round the distances of values from the best to a grain; if that is 0, leave them."""
    safe = np.where(grain > 0, grain, 1.0)
    return np.where(grain > 0, best - np.round((best - values) / safe) * safe, values)


# --- groups


@lru_cache
def rows_at(atlas: Atlas, level: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the runs of a level and the group of each; a plain run is in several "strengths".

    Args:
        atlas: the runs.
        level: one of `LEVELS`.
    Returns:
        Indices of runs, and numbers of groups, `[m]` each.
    """
    everyone = np.arange(len(atlas.runs))
    if level == "seeds":
        return everyone, atlas.number(
            lambda run: (run.data, run.agent, run.family, run.strength),
        )
    if level == "regularizers":
        return everyone, atlas.clusters
    if level == "agents":
        return everyone, atlas.number(lambda run: run.data)

    families: dict[tuple[str, str], set[str]] = {}
    for run in atlas.runs:
        families.setdefault((run.data, run.agent), set()).add(run.family)
    rows: list[int] = []
    groups: list[tuple[str, str, str]] = []
    for number, run in enumerate(atlas.runs):
        own = {run.family}
        if run.family == "plain":
            own = families[run.data, run.agent] - {"plain"} or own
        for family in sorted(own):
            rows.append(number)
            groups.append((run.data, run.agent, family))
    return np.array(rows, int), codes(groups)


def related(
    atlas: Atlas,
    x: np.ndarray,
    y: np.ndarray,
    level: str,
    held: Sequence[np.ndarray] = (),
    among: np.ndarray | None = None,
    samples: int = SAMPLES,
) -> Association:
    """Correlate two variables `[n]` at a level.

    Args:
        atlas: the runs.
        x, y: the variables.
        level: one of `LEVELS`.
        held: variables that are held, `[n]` each.
        among: which runs take part, `[n]` bool; None for all.
        samples: resamples; 0 gives no interval.
    """
    rows, groups = rows_at(atlas, level)
    if among is not None:
        kept = among[rows]
        rows, groups = rows[kept], groups[kept]
    controls = [variable[rows] for variable in held]
    return correlation(x[rows], y[rows], groups, atlas.clusters[rows], controls, samples)


def in_one(atlas: Atlas, x: np.ndarray, y: np.ndarray, among: np.ndarray) -> Association:
    """Correlate two variables among the runs of one group; its interval is over runs."""
    rows = np.flatnonzero(among)
    together = np.zeros(len(rows), int)
    return correlation(x[rows], y[rows], together, np.arange(len(rows)))


def significant(associations: Sequence[Association]) -> list[bool]:
    """Say which differ from no association after Holm's correction over all of them."""
    adjusted = holm([one.p for one in associations])
    return [p < 0.05 for p in adjusted]


# --- answers


@dataclass(frozen=True)
class Verdict:
    """What the criterion at the top of this file says of one rank.

    Args:
        name: of the probe.
        levels: at which it is significant.
        of_one_sign: whether it has the same sign at all four.
        kept: data sets that have the sign of the level "regularizers".
        beyond_norm: its correlation there with the feature norm held.
    """

    name: str
    levels: list[str]
    of_one_sign: bool
    kept: list[str]
    beyond_norm: Association

    def predicts(self, data: Sequence[str]) -> bool:
        """Say whether it predicts the return by the criterion, on all of these data sets."""
        one = self.beyond_norm
        is_beyond = one.low > 0 or one.high < 0
        is_everywhere = len(self.levels) == len(LEVELS) and len(self.kept) == len(data)
        return self.of_one_sign and is_everywhere and is_beyond


def verdict(atlas: Atlas, name: str) -> Verdict:
    """Judge a rank by the criterion at the top of this file."""
    answers = ends(atlas)
    sure = dict(zip(answers, significant(list(answers.values())), strict=True))
    signs = [np.sign(answers[name, level].value) for level in LEVELS]
    sign = signs[LEVELS.index("regularizers")]

    kept = []
    for data in atlas.data:
        inside = np.array([run.data == data for run in atlas.runs])
        end = atlas.probe(name)
        here = related(atlas, end, atlas.final, "regularizers", among=inside, samples=0)
        if np.sign(here.value) == sign:
            kept.append(data)

    beyond = beyond_norm(atlas, name, "regularizers")
    return Verdict(
        name=name,
        levels=[level for level in LEVELS if sure[name, level]],
        of_one_sign=len(set(signs)) == 1 and np.sign(beyond.value) == sign,
        kept=kept,
        beyond_norm=beyond,
    )


@lru_cache
def ends(atlas: Atlas) -> dict[tuple[str, str], Association]:
    """Answer question 1: (probe, level) -> its correlation with the final return."""
    answers = {}
    for name in atlas.names:
        for level in LEVELS:
            answers[name, level] = related(atlas, atlas.probe(name), atlas.final, level)
    return answers


def alpha(atlas: Atlas) -> np.ndarray:
    """Return the conservative weight of every run, `[n]`."""
    return np.array([run.alpha for run in atlas.runs])


def beyond_norm(atlas: Atlas, name: str, level: str) -> Association:
    """Answer question 2 for a probe: its correlation with norm and conservative weight held."""
    held = [atlas.probe(NORM)]
    if level == "agents":
        held.append(alpha(atlas))
    return related(atlas, atlas.probe(name), atlas.final, level, held)


def foretold(atlas: Atlas, name: str) -> tuple[Association, Association]:
    """Answer question 4 for a probe: its early correlation, and beyond the return at that time."""
    early, now = atlas.probe(name, NOW), atlas.returns[:, EARLY]
    plain = related(atlas, early, atlas.final, "regularizers")
    return plain, related(atlas, early, atlas.final, "regularizers", [now])


@dataclass(frozen=True)
class Transfer:
    """What all other data sets say of one, and what is there.

    Args:
        data: the data set that was left out.
        probe: the best one elsewhere.
        there: its value elsewhere.
        here: its value in the one left out.
    """

    data: str
    probe: str
    there: float
    here: float


def transferred(atlas: Atlas, names: Sequence[str]) -> list[Transfer]:
    """Answer question 3: the best correlation at the end elsewhere, in each data set left out."""
    answers = []
    where = np.array([run.data for run in atlas.runs])
    for data in atlas.data:
        inside = where == data

        def value(name: str, among: np.ndarray) -> float:
            end = atlas.probe(name)
            return related(atlas, end, atlas.final, "regularizers", among=among, samples=0).value

        there = {name: value(name, ~inside) for name in names}
        best = max(names, key=lambda name: np.nan_to_num(abs(there[name])))
        answers.append(Transfer(data, best, there[best], value(best, inside)))
    return answers


def fqe(atlas: Atlas) -> np.ndarray:
    """Return the value of every final policy by fitted Q evaluation, `[n]`; NaN for none."""
    return np.array([run.fqe for run in atlas.runs], float)
