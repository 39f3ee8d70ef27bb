"""One picture for each abstract: the curves of its experiments, with their range over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlop.experiments.outcome import Outcome
from rlop.report.figures import COLORS, DASHES, canvas, short_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

WIDTH, HEIGHT, LEGEND = 3.6, 2.7, 2.0  # inches, of a panel and of the room for the labels
MOST_PANELS = 3


def draw(panels: Sequence[tuple[str, Sequence[Outcome]]], path: str | Path) -> Path:
    """Write the curves of some experiments as a PNG, one panel for each of the first three.

    A line is the mean over the seeds, and its shade their range; if the seeds do not share the
    horizontal positions of a curve, the first alone is shown.

    Args:
        panels: name of an experiment, and its outcomes by seed.
        path: PNG file, written whole or not at all.
    Raises:
        InputError: matplotlib is not installed.
    """
    shown = [panel for panel in panels if panel[1]][:MOST_PANELS]
    with canvas(path, (WIDTH + LEGEND) * max(len(shown), 1), HEIGHT, dpi=80) as figure:
        for axis, (name, outcomes) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown):
            _panel(axis, outcomes)
            axis.set_title(name.replace("_", " "))
    return Path(path)


def _panel(axis: Axes, outcomes: Sequence[Outcome]) -> None:
    first = outcomes[0]
    for i, (label, (x, _)) in enumerate(first.curves.items()):
        # Through the gaps of dashes a line shows that lies exactly below.
        color, dash = COLORS[i % len(COLORS)], DASHES[i % len(DASHES)]
        marker = "o" if len(x) <= 12 else None
        stack = _over_seeds(outcomes, label)

        low, high, mean = stack.min(0), stack.max(0), stack.mean(0)
        words = label.replace("_", " ")
        axis.plot(x, mean, dash, color=color, marker=marker, markersize=3, label=words)
        if len(stack) > 1:
            axis.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)

    axis.set(xlabel=first.x.replace("_", " "), ylabel=first.y.replace("_", " "))
    if "x" in first.log:
        axis.set_xscale("log")
        _label_few(axis.xaxis)
    if "y" in first.log:
        axis.set_yscale("log")
        _label_few(axis.yaxis)
    if first.curves:
        axis.legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8)


def _label_few(axis: Axis) -> None:
    """Label a logarithmic axis by plain numbers, which do not touch each other."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = np.log10(high / low) if low > 0 else np.inf
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axis.set_minor_formatter(NullFormatter())


def _over_seeds(outcomes: Sequence[Outcome], label: str) -> np.ndarray:
    """Return the heights of a curve, `[seeds, T]`; infinite ones become NaN."""
    x, y = (np.asarray(numbers, float) for numbers in outcomes[0].curves[label])
    rows = [y]
    for outcome in outcomes[1:]:
        if label not in outcome.curves:
            continue
        other_x, other_y = (np.asarray(numbers, float) for numbers in outcome.curves[label])
        if np.array_equal(x, other_x, equal_nan=True):
            rows.append(other_y)

    stack = np.stack(rows)
    return np.where(np.isfinite(stack), stack, np.nan)
