"""Write the tables of docs/rank_and_return.md, and its picture, from the runs of the Rank Atlas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlop.experiments import atlas_collapse as collapse
from rlop.experiments import atlas_questions as questions
from rlop.experiments.atlas_questions import LEVELS, NORM, NOW, RANKS, Atlas, Verdict
from rlop.experiments.atlas_settings import EARLY, trainings
from rlop.experiments.atlas_study import Run
from rlop.experiments.baselines_table import header, line
from rlop.report.associations import Association
from rlop.report.figures import COLORS, canvas

SHORT = ("<!-- in short -->", "<!-- end of in short -->")
TABLES = ("<!-- tables -->", "<!-- end of tables -->")
SHOWN = (*RANKS, NORM, "units/dormant", "agreement/disagreement")  # in each data set and agent
AGENTS = ("DQN", "CQL", "IQL", "ReBRAC", "BC")
LOOKS = dict(zip(AGENTS, zip(COLORS, "osD^v", strict=False), strict=True))  # color and marker
PANELS = 4  # in a row of the picture


def filled(text: str, runs: Sequence[Run]) -> str:
    """Put what is generated into the page, each part between its marks."""
    atlas = questions.atlas_of(runs)
    for (begin, end), content in ((SHORT, in_short(atlas)), (TABLES, tables(atlas))):
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n\n{content}\n\n{end}{after}"
    return text


# --- numbers


def shown(one: Association) -> str:
    """Write an estimate with its interval, if it has one."""
    if np.isnan(one.value):
        return "-"
    if np.isnan(one.low):
        return f"{one.value:.2f}"
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


def starred(ones: Sequence[Association]) -> list[str]:
    """Write estimates; a star marks those that Holm's correction over all of them leaves."""
    marks = questions.significant(ones)
    return [f"{shown(one)}{' *' if mark else ''}" for one, mark in zip(ones, marks, strict=True)]


def in_short(atlas: Atlas) -> str:
    """Write the paragraph that answers the question with numbers."""
    verdicts = [questions.verdict(atlas, name) for name in RANKS]
    answer = "**Yes**" if any(one.predicts(atlas.data) for one in verdicts) else "**No**"
    texts = [judged(atlas, one) for one in verdicts]
    opening = f"{answer}, by the criterion that was written before the runs. {' '.join(texts)}"
    return "\n\n".join([opening, *at_the_end(atlas), early(atlas)])


def judged(atlas: Atlas, verdict: Verdict) -> str:
    """Write what a criterion says of one rank."""
    sign = "one sign" if verdict.of_one_sign else "both signs"
    levels = f" ({', '.join(verdict.levels)})" if verdict.levels else ""
    return (
        f"`{verdict.name}` at the end has {sign}, differs from 0 at {len(verdict.levels)} of "
        f"{len(LEVELS)} levels{levels}, keeps its sign in {len(verdict.kept)} of "
        f"{len(atlas.data)} data sets, and with the feature norm held its correlation with the "
        f"final return is {shown(verdict.beyond_norm)}."
    )


def at_the_end(atlas: Atlas) -> list[str]:
    """Write the correlations of srank at the end, and how many of all differ from 0."""
    ends = questions.ends(atlas)
    marks = questions.significant(list(ends.values()))
    tests = sum(not np.isnan(one.p) for one in ends.values())
    srank = {level: shown(ends[RANKS[0], level]) for level in LEVELS}
    up, down, pairs = cell_signs(atlas)
    return [
        f"{len(atlas.runs)} runs on {len(atlas.data)} data sets. Rank correlation of srank with "
        f"the final return: {srank['seeds']} among the seeds of one configuration, "
        f"{srank['strengths']} among the strengths of one regularizer, {srank['regularizers']} "
        f"among all regularizers of an agent, {srank['agents']} among the agents on one data set. "
        f"Of {pairs} pairs of data and agent, by their own intervals, it is positive in {up} and "
        f"negative in {down}.",
        f"Of {tests} correlations of {len(atlas.names)} probes with the final return, "
        f"{sum(marks)} differ from 0 after Holm's correction{listed(ends)}.",
    ]


def listed(ends: Mapping[tuple[str, str], Association]) -> str:
    """Write the correlations that differ from 0, probe by probe; "" for none."""
    marks = questions.significant(list(ends.values()))
    texts: dict[str, list[str]] = {}
    for (name, level), one, mark in zip(ends, ends.values(), marks, strict=True):
        if mark:
            texts.setdefault(name, []).append(f"{one.value:.2f} ({level})")
    parts = [f"`{name}` {', '.join(values)}" for name, values in texts.items()]
    return f": {'; '.join(parts)}" if parts else ""


def early(atlas: Atlas) -> str:
    """Write what foretells collapse."""
    risk = collapse.at_risk(atlas)
    areas = [shown(collapse.warned(risk, scores)) for scores in base_scores(atlas)]
    gains = early_gains(atlas)
    sure = questions.significant(list(gains.values()))
    farther = [one.value > 0 for one in gains.values()]
    surely = sum(mark and better for mark, better in zip(sure, farther, strict=True))
    return (
        f"After a quarter of the training {len(risk.rows)} runs had learned and not collapsed; by "
        f"the end {risk.collapsed.sum()} of them had lost half of what they earned at their peak, "
        f"or diverged. Areas under the curve of what foretells it: the return now {areas[0]}, the "
        f"feature norm {areas[1]}, srank {areas[2]}, effective rank {areas[3]}. {sum(farther)} of "
        f"{len(gains)} probes lie farther from 1/2 than the return now, {surely} of them after "
        f"Holm's correction."
    )


def base_scores(atlas: Atlas) -> list[np.ndarray]:
    """Return what early warnings are compared by: return, norm, srank and effective rank."""
    now = atlas.returns[:, EARLY]
    return [now, *(atlas.probe(name, NOW) for name in (NORM, *RANKS))]


def cells(atlas: Atlas) -> list[tuple[str, str]]:
    """Return the pairs of data set and agent, in the order of the settings."""
    present = dict.fromkeys((run.data, run.agent) for run in atlas.runs)
    return sorted(present, key=lambda pair: atlas.data.index(pair[0]))


def in_cell(atlas: Atlas, cell: tuple[str, str]) -> np.ndarray:
    """Say which runs are of a pair of data set and agent, `[n]` bool."""
    return np.array([(run.data, run.agent) == cell for run in atlas.runs])


def cell_signs(atlas: Atlas) -> tuple[int, int, int]:
    """Count pairs of data and agent where srank and return go together, or against each other."""
    ones = []
    for cell in cells(atlas):
        ones.append(
            questions.in_one(atlas, atlas.probe(RANKS[0]), atlas.final, in_cell(atlas, cell))
        )
    return sum(one.low > 0 for one in ones), sum(one.high < 0 for one in ones), len(ones)


def early_gains(atlas: Atlas) -> dict[str, Association]:
    """Return how much better than the return now each probe warns of collapse."""
    risk, now = collapse.at_risk(atlas), atlas.returns[:, EARLY]
    gains = {}
    for name in atlas.names:
        gains[name] = collapse.warned_better(risk, atlas.probe(name, NOW), now)
    return gains


# --- tables


def tables(atlas: Atlas) -> str:
    """Write every table of the page."""
    parts: list[str] = []
    parts += ["## Every probe at the end, and the final return", "", *end_table(atlas), ""]
    parts += ["## With the feature norm held", "", *held_table(atlas), ""]
    parts += ["## Each data set and agent", "", *cell_table(atlas), ""]
    parts += ["## The best of the other data sets", "", *transfer_table(atlas), ""]
    parts += ["## Early probes", "", *early_table(atlas), ""]
    parts += ["## Fall from the peak, and fitted Q evaluation", "", *other_table(atlas), ""]
    parts += ["## What was trained", "", *cost_table(atlas)]
    return "\n".join(parts)


def end_table(atlas: Atlas) -> list[str]:
    """Write question 1: each probe at four levels."""
    ends = questions.ends(atlas)
    texts = dict(zip(ends, starred(list(ends.values())), strict=True))
    lines = header(["probe", *LEVELS, "runs"])
    for name in atlas.names:
        cells_ = [texts[name, level] for level in LEVELS]
        lines.append(line([name, *cells_, str(ends[name, "agents"].runs)]))
    return lines


def held_table(atlas: Atlas) -> list[str]:
    """Write question 2: partial correlations; at the last level alpha is held as well."""
    levels = ("strengths", "regularizers", "agents")
    ones = []
    names = [name for name in atlas.names if name != NORM]
    for name in names:
        ones += [questions.beyond_norm(atlas, name, level) for level in levels]
    texts = starred(ones)

    lines = header(["probe", *levels[:2], "agents, alpha held, too"])
    for number, name in enumerate(names):
        start = number * len(levels)
        lines.append(line([name, *texts[start : start + len(levels)]]))
    return lines


def cell_table(atlas: Atlas) -> list[str]:
    """Write question 3: a few probes in each pair of data set and agent, intervals over runs."""
    lines = header(["data", "agent", "runs", *SHOWN])
    for cell in cells(atlas):
        among = in_cell(atlas, cell)
        texts = []
        for name in SHOWN:
            texts.append(shown(questions.in_one(atlas, atlas.probe(name), atlas.final, among)))
        lines.append(line([*cell, str(among.sum()), *texts]))
    return lines


def transfer_table(atlas: Atlas) -> list[str]:
    """Write question 3: what is best elsewhere, judged in the data set left out."""
    ends = questions.transferred(atlas, atlas.names)
    ranks = questions.transferred(atlas, RANKS)
    early = collapse.transferred_warnings(atlas, atlas.names)
    names = ["left out", "probe at the end", "elsewhere", "here"]
    names += ["rank at the end", "elsewhere", "here"]
    names += ["early warning", "area elsewhere", "area here"]
    lines = header(names)
    for triple in zip(ends, ranks, early, strict=True):
        texts = []
        for one in triple:
            texts += [one.probe, number(one.there), number(one.here)]
        lines.append(line([triple[0].data, *texts]))
    return lines


def number(value: float) -> str:
    """Write a number, or a dash for none."""
    return "-" if np.isnan(value) else f"{value:.2f}"


def early_table(atlas: Atlas) -> list[str]:
    """Write questions 4 and 5: what a probe says at a quarter of the training."""
    risk = collapse.at_risk(atlas)
    gains = early_gains(atlas)
    pairs = [questions.foretold(atlas, name) for name in atlas.names]
    beyond = starred([pair[1] for pair in pairs])
    gained = starred([gains[name] for name in atlas.names])

    lines = header(
        ["probe", "final return", "beyond the return now", "area, collapse", "less the return's"]
    )
    now = collapse.warned(risk, atlas.returns[:, EARLY])
    later = questions.related(atlas, atlas.returns[:, EARLY], atlas.final, "regularizers")
    lines.append(line(["return now", shown(later), "-", shown(now), "-"]))
    for number_, name in enumerate(atlas.names):
        area = collapse.warned(risk, atlas.probe(name, NOW))
        texts = [shown(pairs[number_][0]), beyond[number_], shown(area), gained[number_]]
        lines.append(line([name, *texts]))
    return lines


def other_table(atlas: Atlas) -> list[str]:
    """Write question 6: probes at the end with the fall, and with the value by FQE."""
    fall, value = atlas.peak - atlas.final, questions.fqe(atlas)
    lines = header(["probe", "fall from the peak", "FQE"])
    lines.append(
        line(["final return", "-", shown(questions.related(atlas, atlas.final, value, LEVELS[2]))])
    )
    ones = []
    for name in atlas.names:
        for outcome in (fall, value):
            ones.append(questions.related(atlas, atlas.probe(name), outcome, LEVELS[2]))
    texts = starred(ones)
    for number_, name in enumerate(atlas.names):
        lines.append(line([name, *texts[2 * number_ : 2 * number_ + 2]]))
    return lines


def cost_table(atlas: Atlas) -> list[str]:
    """Write the trainings: runs, returns, collapses and cost."""
    collapsed, learned = collapse.collapses(atlas), collapse.has_learned(atlas)
    columns = ["training", "runs", "steps", "final return, quartiles", "learned"]
    lines = header([*columns, "collapsed", "diverged", "seconds"])
    for name in dict.fromkeys(run.training for run in atlas.runs):
        rows = np.array([row for row, run in enumerate(atlas.runs) if run.training == name])
        runs = [atlas.runs[row] for row in rows]
        quartiles = np.quantile(atlas.final[rows], [0.25, 0.5, 0.75])
        texts = [str(len(rows)), f"{runs[0].steps:,}", ", ".join(f"{q:.3g}" for q in quartiles)]
        texts += [str(learned[rows].sum()), str(collapsed[rows].sum())]
        texts += [str(sum(run.diverged for run in runs)), f"{sum(run.seconds for run in runs):.0f}"]
        lines.append(line([name, *texts]))
    total = sum(run.seconds for run in atlas.runs) / 60
    lines += ["", f"Together {len(atlas.runs)} runs in {total:.1f} processor minutes."]

    trained = {run.training for run in atlas.runs}
    missing = [name for name in trainings() if name not in trained]
    if missing:
        lines += ["", f"Planned and not trained yet: {'; '.join(missing)}."]
    return lines


# --- picture


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw srank against the final return, a dot for each run and a panel for each data set.

    Raises:
        InputError: matplotlib is not installed.
    """
    atlas = questions.atlas_of(runs)
    where = np.array([run.data for run in runs])
    agents = np.array([run.agent for run in runs])
    rows_of_panels = -(-(len(atlas.data) + 1) // PANELS)  # one place is for the names of agents
    with canvas(path, 2.6 * PANELS, 2.6 * rows_of_panels, dpi=100) as figure:
        panels = figure.subplots(rows_of_panels, PANELS, squeeze=False)
        for axis in panels.flat[len(atlas.data) :]:
            axis.set_axis_off()
        for axis, data in zip(panels.flat, atlas.data):
            for agent, (color, marker) in LOOKS.items():
                rows = (where == data) & (agents == agent)
                if rows.any():
                    x, y = atlas.probe(RANKS[0])[rows], atlas.final[rows]
                    look = {"marker": marker, "color": color, "linewidths": 0}
                    axis.scatter(x, y, s=14, alpha=0.6, label=agent, **look)
            axis.set_title(data, fontsize=10)
            axis.set_xlabel("srank")

        names: dict[Any, Any] = {}  # agent -> its mark
        for axis in panels.flat:
            dots, labels = axis.get_legend_handles_labels()
            names |= dict(zip(labels, dots, strict=True))
        panels.flat[len(atlas.data)].legend(names.values(), names.keys(), loc="center")
        for row in panels:
            row[0].set_ylabel("final return")
