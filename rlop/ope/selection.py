"""Rank checkpoints without an environment, and say how each ranking agrees with one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rlop.data.dataset import Dataset
from rlop.logs.messages import say
from rlop.ope.candidates import Trained, score_name, shared_data, trainings
from rlop.ope.estimates import fitted_q
from rlop.ope.policies import stacked
from rlop.ope.rankings import RANKINGS, Judgment, judge
from rlop.probes.model import AgentView
from rlop.report.summaries import number
from rlop.report.tables import aligned
from rlop.report.titles import titled
from rlop.training.probing import measure_agent, probed_transitions
from rlop.types import InputError


@dataclass(frozen=True)
class Selection:
    """Candidates, what ranks them, and their scores.

    Args:
        labels: of the n candidates.
        steps: of their checkpoints.
        values: ranking -> `[n]`; NaN where there is none.
        score: name of the score on record; None without any.
        truth: the score, `[n]`; NaN where there is none.
        gamma: discount of FQE.
        rows: transitions of the data.
        notes: what a reader must know.
    """

    labels: list[str]
    steps: list[int]
    values: dict[str, np.ndarray]
    score: str | None
    truth: np.ndarray
    gamma: float
    rows: int
    notes: list[str]

    def judgments(self) -> dict[str, Judgment]:
        """Return how every ranking agrees with the score."""
        return {
            name: judge(values, self.truth, RANKINGS[name][1])
            for name, values in self.values.items()
        }


def select(
    sources: Sequence[str],
    data: str,
    *,
    gamma: float | None = None,
    allow: Collection[str] = (),
    **options: Any,
) -> Selection:
    """Rank the last checkpoints of trainings by what data alone say of them.

    Args:
        sources: log folders, folders of them, or files of checkpoints.
        data: name or file; best data that no training has seen.
        gamma: discount of FQE; None is the largest of the agents'.
        allow: modules that may be imported, see `rlop.load_agent`.
        options: further fields of `rlop.ope.fqe.FQEOptions`.
    Raises:
        InputError: no checkpoint that acts, or data that do not fit.
    """
    trained, notes = acting(trainings(sources, allow))
    shared = shared_data(data, trained)
    if gamma is None:
        known = [g for one in trained for g in one.agent.runs.values.get("gamma", ())]
        gamma = max(known, default=0.99)

    values = measured(trained, shared)
    say(f"FQE of {len(values['td_error'])} policies on {len(shared):,} transitions")
    policies = stacked([one.policies() for one in trained])
    found = fitted_q(policies, shared, resamples=0, gamma=gamma, **options)
    values = {"fqe": np.array([estimate.value for estimate in found]), **values}

    for one in trained:
        if one.source == data:
            notes.append(f"{one.name}: was trained on these data, so that none are held out")
    score = score_name(trained)
    truth = [one.score(score) if score else np.full(len(one.labels), np.nan) for one in trained]
    return Selection(
        labels=[label for one in trained for label in one.labels],
        steps=[one.step for one in trained for _ in one.labels],
        values={name: column for name, column in values.items() if np.isfinite(column).any()},
        score=score,
        truth=np.concatenate(truth),
        gamma=gamma,
        rows=len(shared),
        notes=notes,
    )


def acting(trained: Sequence[Trained]) -> tuple[list[Trained], list[str]]:
    """Return the trainings whose agents act, and what is said of the others.

    Raises:
        InputError: none acts.
    """
    kept, notes = [], []
    for one in trained:
        spec = one.agent.spec
        zeros = torch.zeros(len(one.agent.runs), 1, *spec.obs_shape)
        try:
            one.agent.act(zeros)
        except InputError as error:
            notes.append(f"{one.name}: left out, {error}")
        else:
            kept.append(one)
    if not kept:
        raise InputError(f"--select: no agent that acts; {'; '.join(notes)}")
    return kept, notes


def measured(trained: Sequence[Trained], data: Dataset) -> dict[str, np.ndarray]:
    """Measure the TD error and the representation of every candidate, `[n]` each."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in RANKINGS if name != "fqe"}
    for one in trained:
        own = one.own(data)
        batch = probed_transitions(one.agent, own)
        found: Mapping[str, np.ndarray] = {
            **measure_agent(one.agent, batch),
            "td_error": td_error(one, own),
            "loss/validation": one.logged("loss/validation"),
        }
        missing = np.full(len(one.labels), np.nan)
        for name, column in columns.items():
            column.append(np.asarray(found.get(name, missing), np.float64))
    return {name: np.concatenate(column) for name, column in columns.items()}


def td_error(one: Trained, data: Dataset) -> np.ndarray:
    """Return the mean squared TD error of the agent's own values and policy, `[R]`.

    NaN for an agent without values of actions.
    """
    batch = probed_transitions(one.agent, data)
    try:
        view = AgentView(one.agent, batch, 1)
    except InputError:
        return np.full(len(one.labels), np.nan)
    with torch.no_grad():
        q = view.q(view.parameters, batch.obs, batch.action).double()
    error = q - view.over_critics(view.target.double())
    return view.per_run(error.square()).cpu().numpy()


def as_text(selection: Selection) -> str:
    """Format a selection: the candidates by FQE, and how each ranking agrees with the score."""
    order = np.argsort(-np.nan_to_num(selection.values["fqe"], nan=-np.inf), kind="stable")
    columns = [
        ["checkpoint", *(selection.labels[i] for i in order)],
        ["step", *(str(selection.steps[i]) for i in order)],
    ]
    for name, values in selection.values.items():
        columns.append([RANKINGS[name][0], *(_cell(values[i]) for i in order)])
    if selection.score is not None:
        columns.append([selection.score, *(_cell(selection.truth[i]) for i in order)])

    heading = (
        f"{len(order)} checkpoints on {selection.rows:,} transitions; "
        f"FQE is the discounted value at gamma {selection.gamma:g}"
    )
    return "\n\n".join(
        [heading, aligned(columns), _agreement(selection), "\n".join(_words(selection))]
    )


def _agreement(selection: Selection) -> str:
    """Format the table of rankings; without scores it holds what each would pick."""
    rows = []
    for name, found in selection.judgments().items():
        title, better = RANKINGS[name]
        others = f" and {len(found.picks) - 1} equal ones" if len(found.picks) > 1 else ""
        row = [title, better.split()[0], f"{selection.labels[found.picks[0]]}{others}"]
        if selection.score is not None:
            correlation = _cell(found.correlation)
            if not math.isnan(found.low):
                correlation += f" [{found.low:.2f}, {found.high:.2f}]"
            row += [_cell(found.regret), correlation, str(found.pairs)]
        rows.append(row)
    header = ["ranking", "better", "picks"]
    if selection.score is not None:
        header += ["regret at 1", "rank correlation", "n"]
    return aligned([list(column) for column in zip(header, *rows)])


def _words(selection: Selection) -> list[str]:
    lines = list(selection.notes)
    if selection.score is None:
        return [*lines, "no evaluation is on record: nothing says which ranking is right"]
    return [
        *lines,
        f"truth: {titled(selection.score)}, at the last evaluation up to the checkpoint; "
        "regret at 1 is what the best",
        "candidate scores above the pick. Spearman's rank correlation, [95 % interval] as of "
        "independent candidates,",
        "which seeds of one setting are not: it is too narrow for them.",
    ]


def _cell(value: float) -> str:
    return number(value) if math.isfinite(value) else "-"
