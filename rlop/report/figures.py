"""Curves with bands in one PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from rlop.config.files import write_atomic
from rlop.report.statistics import student_t
from rlop.types import InputError

Curve = tuple[np.ndarray, np.ndarray]  # steps [T], values [T] of one run; NaN once it has diverged
# Okabe and Ito's palette without its yellow: told apart with any colour vision, also on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SCORES = (
    "eval/return",
    "eval/normalized_score",
)  # near zero they are all the same: never on a logarithmic axis
DASHES = ("-", "--", ":", "-.")
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.edgecolor": "#808080",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def band(
    curves: Sequence[Curve], confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over runs and half width of its Student-t interval, at every step that any run has.

    Args:
        curves: of the runs of one group; a value that is not finite is left out of its step.
        confidence: coverage of the interval.
    Returns:
        steps, mean and half width, `[T]` each; NaN where no run, or for the half width only one, has a value.
    """
    steps = np.unique(np.concatenate([steps for steps, _ in curves]))
    values = np.full((len(curves), len(steps)), np.nan)
    for row, (own, numbers) in zip(values, curves):
        row[np.searchsorted(steps, own)] = numbers
    there = np.isfinite(values)
    count = there.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0).sum(axis=0) / count
        spread = np.sqrt((np.where(there, values - mean, 0) ** 2).sum(axis=0) / (count - 1) / count)
    t = np.array([student_t(confidence, int(n) - 1) if n > 1 else np.nan for n in count])
    return steps, mean, spread * t


@contextmanager
def canvas(path: str | Path, width: float, height: float, dpi: int = 150) -> Iterator[Any]:
    """A figure in the house's style to draw on, which then becomes a PNG, whole or not at all.

    Args:
        path: of the file. The same drawing gives the same bytes.
        width, height: in inches.
        dpi: dots per inch.
    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "pictures need matplotlib, which is not there: pip install 'rlop[report]'"
        ) from None
    settings: Any = dict(matplotlib.rcParamsDefault)  # whatever a user's matplotlibrc says
    settings.update(STYLE)
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
        yield figure
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


def draw(
    panels: Mapping[str, Sequence[Curve | None]],
    groups: Mapping[str, Sequence[int]],
    path: str | Path,
) -> Path:
    """Write the picture: a panel per metric, a colour per group. The same input gives the same bytes.

    Args:
        panels: metric -> one curve per run, or None.
        groups: label -> runs.
        path: PNG file, written whole or not at all.
    Raises:
        InputError: matplotlib is not installed, or nothing to draw.
    """
    if not panels:
        raise InputError("picture: found no metrics, expected at least one name")
    labels = [_legend(label, runs, panels) for label, runs in groups.items()]
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    longest = max(map(len, labels))
    width = max(
        3.7 * columns, 0.1 * longest + 1
    )  # inches; 0.1 holds a letter, a legend's line takes six more
    across = max(1, min(len(labels), int(width / 0.1 / (longest + 6))))
    height = 2.6 * rows + 0.3 + 0.25 * math.ceil(len(labels) / across)
    with canvas(path, width, height) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, (name, curves) in zip(axes, panels.items()):
            _panel(axis, name, curves, groups)
        for axis in axes[max(0, len(panels) - columns) : len(panels)]:
            axis.set_xlabel("gradient steps")
        for axis in axes[len(panels) :]:
            axis.remove()
        title, lines = "mean and 95 % interval over runs", axes[0].get_lines()
        figure.legend(lines, labels, loc="outside lower center", ncols=across, title=title)
    return Path(path)


def _panel(
    axis: Any, name: str, curves: Sequence[Curve | None], groups: Mapping[str, Sequence[int]]
) -> None:
    centres = []
    for i, (colour, runs) in enumerate(zip(cycle(COLOURS), groups.values())):
        dashes = DASHES[i // len(COLOURS) % len(DASHES)]
        found = [curve for run in runs if (curve := curves[run]) is not None]
        steps, mean, half = band(found) if found else (np.zeros(0),) * 3
        axis.plot(steps, mean, dashes, color=colour, marker="o" if len(steps) == 1 else None)
        axis.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.18, linewidth=0)
        centres.append(mean)
    if not name.startswith(SCORES):
        _scale(axis, np.concatenate(centres))
    axis.set_title(name)
    axis.xaxis.set_major_formatter(lambda step, _: _short(step))


def _scale(axis: Any, means: np.ndarray) -> None:
    """A logarithmic axis where positive values span more than three decades; symmetric if others are not positive."""
    positive = means[means > 0]
    if not positive.size or positive.max() <= 1e3 * positive.min():
        return
    if (means <= 0).any():
        axis.set_yscale("symlog", linthresh=positive.max() / 1e4)
    else:
        axis.set_yscale("log", nonpositive="clip")
        # A band may reach below zero; it must not stretch the axis over empty decades.
        axis.set_ylim(bottom=positive.min() / 3)


def _short(step: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(step) >= size:
            return f"{step / size:g}{unit}"
    return f"{step:g}"


def _legend(label: str, runs: Sequence[int], panels: Mapping[str, Sequence[Curve | None]]) -> str:
    ends = [
        [curve[1][-1] for curves in panels.values() if (curve := curves[run]) is not None]
        for run in runs
    ]
    diverged = sum(not np.isfinite(values).all() for values in ends)
    return f"{label} ({diverged} of {len(runs)} diverged)" if diverged else label
