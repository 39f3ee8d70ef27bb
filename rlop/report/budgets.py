"""The table of `rlop report --bandit`: expected score against the number of online evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rlop.report.study import Study, chosen_metrics
from rlop.report.summaries import number
from rlop.report.tables import aligned
from rlop.report.titles import HIGHER, metric, titled
from rlop.report.tuning import budget
from rlop.types import InputError

SHOWN = (1, 2, 4, 8, 16, 32, 64, 128)  # evaluations
ALL = "all configurations"


def budgets(
    study: Study,
    metrics: Sequence[str] | None = None,
    at: str = "final",
    by: Sequence[str] = (),
    subset: int = 0,
    pulls: int = 64,
) -> str:
    """Format the expected score of the configuration that so many evaluations would choose.

    A row is a method: the runs that share the values of `by`. Its configurations are its settings,
    and their scores are those of the seeds. A diverged run has the lowest score of the task.

    Args:
        study: the runs; gathered with the same `by`.
        metrics: the score, as logged; None takes the study's.
        at: final, average, peak or unlearning, see `statistics.stability`.
        by: keys that tell methods apart; none takes all configurations as one method.
        subset: configurations drawn for a trial; 0 for all.
        pulls: largest number of evaluations.
    Raises:
        InputError: no score, or one of which more is not better.
    """
    name = _score(study, metrics)
    numbers = study.numbers(name, at)
    methods = study.groups if by else {ALL: study.counted}
    shown = [count for count in SHOWN if count <= pulls]

    header = ["method", "configurations", "runs", *(str(count) for count in shown)]
    parts = [f"{titled(name)}: expected, after so many online evaluations"]
    lost = 0
    for task in study.tasks:
        of_task = {run: value for run, value in numbers.items() if study.runs[run].task == task}
        finite = [value for value in of_task.values() if math.isfinite(value)]
        if not finite:
            continue
        lost += len(of_task) - len(finite)
        rows = []
        for method, runs in methods.items():
            scores = configurations(study, runs, of_task, min(finite))
            if scores:
                rows.append(_row(method, scores, shown, subset))
        columns = [list(column) for column in zip(header, *rows)]
        title = f"{task}\n" if len(study.tasks) > 1 else ""
        parts.append(title + aligned(columns))
    return "\n\n".join([*parts, "\n".join(_words(lost, subset))])


def configurations(
    study: Study, runs: Sequence[int], numbers: Mapping[int, float], worst: float
) -> list[list[float]]:
    """Return the scores of every configuration of some runs.

    Args:
        study: all runs.
        runs: of one method.
        numbers: run -> score; a run without one is left out.
        worst: score of a run that diverged.
    """
    scores: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for run in runs:
        if run in numbers:
            setting = tuple(sorted(study.runs[run].settings.items()))
            value = numbers[run] if math.isfinite(numbers[run]) else worst
            scores.setdefault(setting, []).append(value)
    return list(scores.values())


def _score(study: Study, metrics: Sequence[str] | None) -> str:
    name = chosen_metrics(study, metrics)[0] if metrics else study.score
    if name is None:
        raise InputError("--bandit: no run logged a score, expected trainings with evaluations")
    if metric(name).better != HIGHER:
        raise InputError(f"--bandit --metrics {name}: expected a score of which more is better")
    return name


def _row(
    method: str, scores: Sequence[Sequence[float]], shown: Sequence[int], subset: int
) -> list[str]:
    found = budget(scores, max(shown), min(subset, len(scores)))
    cells = [method, str(len(scores)), str(sum(map(len, scores)))]
    for count in shown:
        cell = number(found.score[count - 1])
        low, high = found.low[count - 1], found.high[count - 1]
        cells.append(cell if math.isnan(low) else f"{cell} [{number(low)}, {number(high)}]")
    return cells


def _words(lost: int, subset: int) -> list[str]:
    drawn = f"{subset} configurations, drawn for each trial" if subset else "all configurations"
    lines = [
        f"UCB1 over {drawn}; an evaluation draws the score of one seed, and the configuration with "
        "the best mean",
        "so far is chosen. [95 % bootstrap interval over seeds]; none where configurations have "
        "one seed.",
        "Choice and score come from the same seeds, so that the score is optimistic with few.",
    ]
    if lost:
        lines.append(f"{lost} diverged runs count as the lowest score of their task")
    return lines
