"""Curves with bands in one PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlop.config.files import write_atomic
from rlop.report.groups import Curve, Curves, Groups
from rlop.report.statistics import student_t
from rlop.report.titles import SCORES, metric
from rlop.types import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow: distinguishable with any color vision, also in print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
COLOURS = COLORS
DASHES = ("-", "--", ":", "-.")
UNITS = {"G": 1e9, "M": 1e6, "k": 1e3}
STYLE: dict[str, object] = {
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
# Names of runs are a stranger's: a dollar sign in one is a dollar sign.
PLAIN_TEXT: dict[str, object] = {"text.parse_math": False}

# Sizes in inches. A line of the legend takes six letters more than its label.
PANEL_WIDTH, PANEL_HEIGHT = 3.7, 2.6
LETTER, LEGEND_LINE, LEGEND_TITLE = 0.1, 0.25, 0.3


def band(
    curves: Sequence[Curve], confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average runs, with the half width of their Student-t interval, at every step of any run.

    Args:
        curves: curves of the runs of one group; a value that is not finite is omitted from its
            step.
        confidence: coverage of the interval.

    Returns:
        steps, mean and half width, `[T]` each; NaN where no run, or for the half width only one,
        has a value.
    """
    steps, values = side_by_side(curves)
    finite = np.isfinite(values)
    count = finite.sum(axis=0)

    t = np.full(len(steps), np.nan)
    for step, n in enumerate(count.tolist()):
        if n > 1:
            t[step] = student_t(confidence, n - 1)

    # Steps with no value, or with one, divide by zero and become NaN.
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.where(finite, values, 0).sum(axis=0)
        mean = total / count
        deviations = np.where(finite, values - mean, 0)
        squares = (deviations**2).sum(axis=0)
        standard_error = np.sqrt(squares / (count - 1) / count)
    return steps, mean, standard_error * t


def side_by_side(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Put n curves on the same steps.

    Returns:
        All steps `[T]`, and values `[n, T]`; NaN where a curve has no value.
    """
    all_steps = np.concatenate([run_steps for run_steps, _ in curves])
    steps = np.unique(all_steps)

    values = np.full((len(curves), len(steps)), np.nan)
    for row, (run_steps, run_values) in zip(values, curves):
        places = np.searchsorted(steps, run_steps)
        row[places] = run_values
    return steps, values


@contextmanager
def styled(
    width: float,
    height: float,
    dpi: int = 150,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Figure]:
    """Yield a figure in the library's style, which also holds while it is written.

    Args:
        width, height: in inches.
        dpi: dots per inch.
        settings: of matplotlib, in addition to the style.

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

    # The defaults, since a user's matplotlibrc must not change the picture.
    all_settings: Any = dict(matplotlib.rcParamsDefault)
    all_settings.update(STYLE)
    all_settings.update(settings or {})

    with matplotlib.rc_context(all_settings):
        yield Figure(figsize=(width, height), dpi=dpi, layout="constrained")


@contextmanager
def canvas(
    path: str | Path,
    width: float,
    height: float,
    dpi: int = 150,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Figure]:
    """Yield a figure in the library's style, then write it as a PNG, whole or not at all.

    Args:
        path: path of the file. The same drawing gives the same bytes.
        width, height: in inches.
        dpi: dots per inch.
        settings: of matplotlib, in addition to the style.

    Raises:
        InputError: matplotlib is not installed.
    """
    buffer = io.BytesIO()
    with styled(width, height, dpi, settings) as figure:
        yield figure
        figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


def draw(
    panels: Mapping[str, Curves],
    groups: Groups,
    path: str | Path,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> Path:
    """Draw a panel per metric with a color per group. The same input gives the same bytes.

    Args:
        panels: metric -> one curve per run, or None.
        groups: label -> runs.
        path: PNG file, written whole or not at all.
        limits: metric -> what it can be, where that is narrower than for every task.

    Raises:
        InputError: matplotlib is not installed, or there is nothing to draw.
    """
    if not panels:
        raise InputError("picture: found no metrics, expected at least one name")

    n_panels = len(panels)
    columns = 2 if n_panels == 4 else min(n_panels, 3)
    rows = math.ceil(n_panels / columns)
    labels = [_legend(label, runs, panels) for label, runs in groups.items()]
    longest = max(map(len, labels))
    width = max(PANEL_WIDTH * columns, LETTER * longest + 1)

    # As many labels on a line of the legend as fit, at least one.
    fitting = int(width / LETTER / (longest + 6))
    labels_per_line = max(1, min(len(labels), fitting))
    legend_lines = math.ceil(len(labels) / labels_per_line)
    height = PANEL_HEIGHT * rows + LEGEND_TITLE + LEGEND_LINE * legend_lines

    with canvas(path, width, height, settings=PLAIN_TEXT) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, (name, curves) in zip(axes, panels.items()):
            known = metric(name)
            ends = (limits or {}).get(name, (known.low, known.high))
            _panel(axis, name, curves, groups, ends)

        # Only the lowest panel of each column names the steps.
        for axis in axes[max(0, n_panels - columns) : n_panels]:
            axis.set_xlabel("gradient steps")
        for axis in axes[n_panels:]:
            axis.remove()

        figure.legend(
            axes[0].get_lines(),
            labels,
            loc="outside lower center",
            ncols=labels_per_line,
            title="mean and 95 % interval over runs",
        )
    return Path(path)


def _panel(
    axis: Axes, name: str, curves: Curves, groups: Groups, limits: tuple[float, float]
) -> None:
    """Draw one metric: a line with its band, within the limits, for every group."""
    means = []
    for number, runs in enumerate(groups.values()):
        # A dash pattern with each color: for print, and so that a line under another one shows.
        color = COLORS[number % len(COLORS)]
        dashes = DASHES[number % len(DASHES)]

        group_curves = _logged(curves, runs)
        steps = mean = half = np.zeros(0)
        if group_curves:
            steps, mean, half = band(group_curves)

        marker = "o" if len(steps) == 1 else None
        axis.plot(steps, mean, dashes, color=color, marker=marker)
        band_ends = np.clip([mean - half, mean + half], *limits)
        axis.fill_between(steps, *band_ends, color=color, alpha=0.18, linewidth=0)
        means.append(mean)

    # Scores near zero count as equal, so they are never on a logarithmic axis.
    if name not in SCORES:
        set_scale(axis, np.concatenate(means))
    axis.set_title(metric(name).title)
    axis.xaxis.set_major_formatter(lambda step, _: short_number(step))


def set_scale(axis: Axes, means: np.ndarray) -> None:
    """Make the axis logarithmic where positive values span more than three decades.

    It is symmetric if other values are not positive.
    """
    positive = means[means > 0]
    if not positive.size:
        return

    low, high = positive.min(), positive.max()
    if high <= 1e3 * low:
        return

    if (means <= 0).any():
        axis.set_yscale("symlog", linthresh=high / 1e4)
    else:
        axis.set_yscale("log", nonpositive="clip")
        # A band may reach below zero; it must not stretch the axis over empty decades.
        axis.set_ylim(bottom=low / 3)
    # The formatters of these scales write formulas, which no text of ours is.
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(lambda value, _: "")


def short_number(step: float) -> str:
    """Return a number of steps with k, M or G for thousands, millions or billions."""
    for unit, size in UNITS.items():
        if abs(step) >= size:
            return f"{step / size:g}{unit}"
    return f"{step:g}"


def _legend(label: str, runs: Sequence[int], panels: Mapping[str, Curves]) -> str:
    """Add to a label the number of its diverged runs, which have a metric that ends in NaN."""
    diverged = set()
    for curves in panels.values():
        for run in runs:
            curve = curves[run]
            if curve is not None and not np.isfinite(curve[1][-1]):
                diverged.add(run)

    if not diverged:
        return label
    return f"{label} ({len(diverged)} of {len(runs)} diverged)"


def _logged(curves: Curves, runs: Sequence[int]) -> list[Curve]:
    """Return the curves of these runs, without the runs that never logged the metric."""
    logged = []
    for run in runs:
        curve = curves[run]
        if curve is not None:
            logged.append(curve)
    return logged
