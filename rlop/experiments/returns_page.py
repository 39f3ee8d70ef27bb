"""The tables of `docs/returns.md`, from the records of `returns_study` alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlop.data.scores import normalized_score
from rlop.experiments.returns_settings import LONGER, SETTINGS, SOURCES
from rlop.experiments.returns_study import Behavior, Records, Training
from rlop.report.statistics import mean_ci

# What is between these comments of the page is written here.
PARTS = ("study", "longer")

# tinkoff-ai/CORL 6afec90, README.md, "Last Scores", mean and spread over its seeds.
CORL = {
    "hopper": {
        "BC": (53.51, 1.76),
        "TD3+BC": (60.37, 3.49),
        "ReBRAC": (102.29, 0.17),
        "IQL": (67.53, 3.78),
        "CQL": (59.08, 3.77),
        "EDAC": (101.70, 0.28),
    },
    "halfcheetah": {
        "BC": (42.40, 0.19),
        "TD3+BC": (48.10, 0.18),
        "ReBRAC": (64.04, 0.68),
        "IQL": (48.31, 0.22),
        "CQL": (47.04, 0.22),
        "EDAC": (67.70, 1.04),
    },
}
# Gradient steps of these, from its configurations.
CORL_UPDATES = {"EDAC": 3_000_000}
USUAL_UPDATES = 1_000_000


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ({self.low:.1f} to {self.high:.1f})"


def policy_score(behavior: Behavior) -> Interval:
    """Return the normalized score of the policy that made the data, over its episodes."""
    level = SOURCES[behavior.source].level
    return Interval(*mean_ci(normalized_score(behavior.returns, level)))


def final_score(training: Training) -> Interval:
    """Return the normalized score at the end, over the seeds."""
    return Interval(*mean_ci(training.scores[-1]))


def beside(training: Training | None) -> str:
    """Return the score of CORL's class, if it was trained."""
    return "-" if training is None else str(final_score(training))


def verdict(agent: Interval, policy: Interval) -> str:
    """Compare two intervals: below, level or above; they are level where they overlap."""
    if math.isnan(agent.mean):
        return "diverged"
    if agent.high < policy.low:
        return "below"
    return "above" if agent.low > policy.high else "level"


def tables(records: Records, corl: Records) -> str:
    """Return one table for each data set as Markdown.

    Args:
        records: of this package.
        corl: of CORL's own classes.
    """
    parts = [table(records, corl, source) for source in SOURCES if source in records.behaviors]
    return "\n\n".join(parts)


def table(records: Records, corl: Records, source: str) -> str:
    """Return the table of one data set: its policy, then the agents."""
    policy = policy_score(records.behaviors[source])
    episodes = len(records.behaviors[source].returns)
    lines = [
        f"| {SOURCES[source].level} | score, 95 % interval | the data's policy | at half time | "
        "CORL's code, same data and updates | CORL, a million rows | updates | those there | "
        "CPU minutes | Q / return |",
        f"|{'---|' * 10}",
        f"| the data's policy, {episodes} episodes | {policy} |{' |' * 8}",
    ]
    for setting in SETTINGS:
        key = (source, setting.title)
        if setting.source == source and key in records.trainings:
            lines.append(row(records.trainings[key], corl.trainings.get(key), policy))
    return "\n".join(lines)


def row(training: Training, corl: Training | None, policy: Interval) -> str:
    """Return the row of one training, beside that of CORL's class if it was trained."""
    score = final_score(training)
    published, spread = CORL[training.source][training.title]
    cells = [
        training.title,
        str(score),
        verdict(score, policy),
        f"{np.mean(training.scores[-2]):.1f}",
        beside(corl),
        f"{published:.1f} ± {spread:.1f}",
        f"{training.updates:,}",
        f"{CORL_UPDATES.get(training.title, USUAL_UPDATES):,}",
        f"{training.cpu_seconds / 60:.1f}",
        value_learned(training.q, training.value),
    ]
    return f"| {' | '.join(cells)} |"


def value_learned(q: Sequence[float] | None, value: float) -> str:
    """Return the mean Q of the data's actions as a share of the data's discounted return."""
    return "-" if q is None else f"{np.mean(q) / value:.2f}"


def longer_table(records: Records, longer: Records, corl: Records) -> str:
    """Return the table of trainings with more updates, each below the one that decided.

    Args:
        records: of the trainings that decided.
        longer: of those with more updates.
        corl: of CORL's own classes, with more updates.
    """
    lines = [
        "| | minibatch | updates | score, 95 % interval | the data's policy | at half time | "
        "CORL's code, same data and updates | CPU minutes | Q / return |",
        f"|{'---|' * 9}",
    ]
    for setting in LONGER:
        key = (setting.source, setting.title)
        if key in longer.trainings:
            policy = policy_score(records.behaviors[setting.source])
            lines += [
                longer_row(records.trainings[key], None, policy),
                longer_row(longer.trainings[key], corl.trainings.get(key), policy),
            ]
    return "\n".join(lines)


def longer_row(training: Training, corl: Training | None, policy: Interval) -> str:
    """Return the row of one training, whatever its updates."""
    score = final_score(training)
    cells = [
        f"{training.title}, {SOURCES[training.source].level}",
        str(training.config["batch_size"]),
        f"{training.updates:,}",
        str(score),
        verdict(score, policy),
        f"{np.mean(training.scores[-2]):.1f}",
        beside(corl),
        f"{training.cpu_seconds / 60:.1f}",
        value_learned(training.q, training.value),
    ]
    return f"| {' | '.join(cells)} |"


def filled(
    page: str, records: Records, longer: Records, corl: Records, corl_longer: Records
) -> str:
    """Put the tables into the page, between their marks."""
    written = (tables(records, corl), longer_table(records, longer, corl_longer))
    for part, text in zip(PARTS, written, strict=True):
        begin, end = f"<!-- {part} -->", f"<!-- /{part} -->"
        head, _, rest = page.partition(begin)
        _, _, tail = rest.partition(end)
        page = f"{head}{begin}\n\n{text}\n\n{end}{tail}"
    return page
