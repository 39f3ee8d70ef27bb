"""Write docs/dr3.md, and its picture, from the records of DR3's study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlop.experiments.baselines_table import header, line
from rlop.experiments.dr3_claims import (
    AGENTS,
    BACKUP_SOURCES,
    CLAIMS,
    CONTRADICTED,
    HOLDS,
    LARGE,
    UNDECIDED,
    Answer,
    Claim,
    scores,
    series,
)
from rlop.experiments.dr3_settings import BACKUPS
from rlop.experiments.dr3_study import Record, Records
from rlop.report.figures import COLORS, canvas
from rlop.report.statistics import mean_ci

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

BEGIN, END = "<!-- tables -->", "<!-- /tables -->"
SEEN = ("feature/dot", "feature/cosine", "feature/norm", "rank/srank", "q/data", "eval/return")


def tables(records: Records) -> str:
    """Write every table of the page."""
    parts: list[str] = []
    for number, claim in enumerate(CLAIMS, 1):
        parts += claim_table(number, claim, records)
    parts += ["## Where the features go, by target", "", *backup_table(records), ""]
    parts += ["## Every arm", "", *arm_table(records), ""]
    parts += ["## What was trained", "", *cost_table(records), ""]
    return "\n".join(parts)


def filled(text: str, content: str) -> str:
    """Replace what stands between the two marks of a page."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{content}\n{END}{after}"


def claim_table(number: int, claim: Claim, records: Records) -> list[str]:
    """Write a claim, its verdicts counted, and its answers."""
    answers = claim.answers(records)
    counts = []
    for verdict in (HOLDS, CONTRADICTED, UNDECIDED):
        count = sum(one.verdict == verdict for one in answers)
        counts.append(f"{verdict} {count}")

    lines = [f"## {number}. {claim.title}", "", f"{claim.source}. {', '.join(counts)}.", ""]
    lines += header(["setting", "measure", "mean", "95 % interval", "band", "verdict"])
    for one in answers:
        lines.append(line(cells(one)))
    return [*lines, ""]


def cells(one: Answer) -> list[str]:
    """Write one answer; ratios as such, and not as logarithms."""
    mean, low, high = one.interval
    numbers = [mean, low, high, one.low, one.high]
    if one.is_ratio:
        numbers = [math.exp(number) for number in numbers]
    shown = [f"{number:.3g}" for number in numbers]
    return [
        one.setting,
        one.measure,
        shown[0],
        f"{shown[1]} to {shown[2]}",
        band_text(numbers[3], numbers[4], one.is_ratio),
        one.verdict,
    ]


def band_text(low: float, high: float, is_ratio: bool) -> str:
    """Write a band in words."""
    has_low = low > 0 if is_ratio else math.isfinite(low)
    if not math.isfinite(high):
        return f"above {low:.3g}" if has_low else ""
    return f"{low:.3g} to {high:.3g}" if has_low else f"below {high:.3g}"


def backup_table(records: Records) -> list[str]:
    """Write dot product, cosine and Q of every target at a quarter, half and end of training."""
    lines = header(["data", "target", "measure", "quarter", "half", "end"])
    for source in BACKUP_SOURCES:
        for backup in BACKUPS:
            record = records.settings.get(f"{source} {backup}")
            if record is None:
                continue
            for metric in SEEN:
                values = series(record, metric)
                places = [len(values) // 4, len(values) // 2, len(values) - 1]
                lines.append(line([source, backup, metric, *(interval(values[i]) for i in places)]))
    return lines


def interval(values: np.ndarray) -> str:
    """Write `mean ± half a 95 % interval`."""
    mean, low, _ = mean_ci(values)
    return f"{mean:.3g} ± {mean - low:.2g}"


def arm_table(records: Records) -> list[str]:
    """Write returns, ranks and dot products of every arm: the whole range of coefficients."""
    columns = ["average return", "final", "peak", "loss from peak", "srank", "effective rank"]
    lines = header(["setting", "arm", *columns, "dot", "cosine"])
    for name in named(records):
        record = records.settings[name]
        for arm in record.arms:
            returns = scores(record, arm)
            texts = [interval(returns[key]) for key in ("average", "final", "peak", "unlearning")]
            for metric in ("rank/srank", "rank/effective_rank", "feature/dot", "feature/cosine"):
                texts.append(interval(series(record, metric, arm)[-1]))
            lines.append(line([name, arm, *texts]))
    return lines


def named(records: Records) -> list[str]:
    """Return the settings with arms, those with the srank penalty last."""
    first = [name for name in [*AGENTS, *LARGE] if name in records.settings]
    return first + sorted(name for name in records.settings if " srank " in name)


def cost_table(records: Records) -> list[str]:
    """Write steps, runs and seconds of every setting, and the command that trains it."""
    lines = header(["setting", "runs", "steps", "rows", "seconds", "where", "command"])
    for name, record in records.settings.items():
        steps = record.steps[-1]
        command = f'`python scripts/dr3.py "{name}" --steps {steps}`'
        cost = [str(len(record.runs)), f"{steps:,}", f"{record.rows:,}", f"{record.seconds:.0f}"]
        lines.append(line([name, *cost, record.machine, command]))
    return lines


SHOWN = (*LARGE, "CartPole CQL", "grid CQL")
COLOR_OF = dict(zip(("plain", *(f"dr3 {c:g}" for c in (0.001, 0.01, 0.03, 0.1, 1.0))), COLORS))


def draw(records: Records, path: Path) -> None:
    """Draw returns above dot products over the training, plain and with DR3.

    Raises:
        InputError: matplotlib is not installed.
    """
    names = [name for name in SHOWN if name in records.settings]
    with canvas(path, 2.4 * len(names), 4.8, dpi=100) as figure:
        axes = figure.subplots(2, len(names), squeeze=False)
        for column, name in enumerate(names):
            record = records.settings[name]
            for axis, metric in zip(axes[:, column], ("eval/return", "feature/dot")):
                panel(axis, record, metric)
            axes[0, column].set_title(name, fontsize=10)
            axes[1, column].set(xlabel="gradient steps", yscale="log")

        axes[0, 0].set_ylabel("return")
        axes[1, 0].set_ylabel("phi(s) . phi(s')")
        labels: dict[str, Artist] = {}
        for axis in axes[0]:
            lines, texts = axis.get_legend_handles_labels()
            labels |= dict(zip(texts, lines))
        shown = [arm for arm in COLOR_OF if arm in labels]
        handles = [labels[arm] for arm in shown]
        figure.legend(handles, shown, ncols=6, loc="outside lower center", fontsize=9)


def panel(axis: Axes, record: Record, metric: str) -> None:
    """Draw mean and interval of the plain agent and of each coefficient of DR3."""
    for arm in record.arms:
        if arm not in COLOR_OF:
            continue
        values = series(record, metric, arm)
        low, high = bootstrap(values)
        color = COLOR_OF[arm]
        axis.plot(record.steps, values.mean(1), color=color, label=arm, linewidth=1.2)
        axis.fill_between(record.steps, low, high, color=color, alpha=0.15, linewidth=0)


def bootstrap(values: np.ndarray, samples: int = 500) -> np.ndarray:
    """Return 95 % bootstrap intervals of means, which stay in the range of the data.

    Args:
        values: `[T, n]`.
        samples: resampled means.
    Returns:
        Lower and upper ends, `[2, T]`.
    """
    count = values.shape[1]
    drawn = np.random.default_rng(0).integers(count, size=(samples, count))
    return np.quantile(values[:, drawn].mean(-1), [0.025, 0.975], axis=1)
