"""Which runs of the Rank Atlas collapse, and what foretells it: question 5 of `atlas_questions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlop.experiments.atlas_questions import NOW, Atlas, Transfer
from rlop.experiments.atlas_settings import EARLY, FALL, LEARNED
from rlop.report.associations import SAMPLES, Association, auc, auc_gain


@dataclass(frozen=True)
class Risk:
    """Runs that could still collapse, and whether they did.

    Args:
        rows: which runs, `[m]` int.
        collapsed: `[m]` bool.
        groups: data set and agent of each, `[m]`.
    """

    rows: np.ndarray
    collapsed: np.ndarray
    groups: np.ndarray

    def among(self, kept: np.ndarray) -> Risk:
        """Return a part, `[m]` bool."""
        return Risk(self.rows[kept], self.collapsed[kept], self.groups[kept])


def collapses(atlas: Atlas) -> np.ndarray:
    """Say which runs that had learned lost half of it at the end, or diverged, `[n]` bool."""
    earned = atlas.peak - atlas.floor
    has_fallen = atlas.final - atlas.floor < (1 - FALL) * earned
    diverged = np.array([run.diverged for run in atlas.runs])
    return has_learned(atlas) & (has_fallen | diverged)


def has_learned(atlas: Atlas) -> np.ndarray:
    """Say which runs earned a tenth of the best run's return over a random policy, `[n]` bool."""
    return atlas.peak - atlas.floor >= LEARNED * (atlas.best - atlas.floor)


def at_risk(atlas: Atlas) -> Risk:
    """Return the runs that had learned and had not collapsed when probes were early."""
    so_far = atlas.returns[:, 1 : EARLY + 1].max(1) - atlas.floor
    now = atlas.returns[:, EARLY] - atlas.floor
    is_up = now >= (1 - FALL) * so_far
    rows = np.flatnonzero(has_learned(atlas) & is_up)
    return Risk(rows, collapses(atlas)[rows], atlas.clusters[rows])


def warned(risk: Risk, scores: np.ndarray, samples: int = SAMPLES) -> Association:
    """Answer question 5 for scores `[n]`: the area under the curve within data and agent."""
    return auc(scores[risk.rows], risk.collapsed, risk.groups, risk.groups, samples)


def warned_better(risk: Risk, scores: np.ndarray, base: np.ndarray) -> Association:
    """Return how much farther from 1/2 the area of scores is than that of a base."""
    rows = risk.rows
    return auc_gain(scores[rows], base[rows], risk.collapsed, risk.groups, risk.groups)


def transferred_warnings(atlas: Atlas, names: Sequence[str]) -> list[Transfer]:
    """Answer questions 3 and 5: the best early warning elsewhere, in each data set left out."""
    answers = []
    risk = at_risk(atlas)
    where = np.array([atlas.runs[row].data for row in risk.rows])
    for data in atlas.data:
        inside = where == data
        rest, own = risk.among(~inside), risk.among(inside)
        there = {name: warned(rest, atlas.probe(name, NOW), samples=0).value for name in names}
        best = max(names, key=lambda name: np.nan_to_num(abs(there[name] - 0.5)))
        here = warned(own, atlas.probe(best, NOW), samples=0)
        answers.append(Transfer(data, best, there[best], here.value))
    return answers
