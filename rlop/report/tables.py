"""Tables and pictures of trainings: means over seeds with intervals, and the diverged counted, never dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlop.config.checks import nearest
from rlop.logs.history import RECORD, History, read_metrics
from rlop.report.figures import Curve, draw
from rlop.report.statistics import iqm, mean_ci, stability, stratified_bootstrap_ci
from rlop.types import InputError

__all__ = [
    "figure",
    "group_runs",
    "iqm",
    "load",
    "mean_ci",
    "report",
    "stratified_bootstrap_ci",
    "table",
]

BOOKKEEPING = {"seed", "seeds", "logdir", "resume", "device", "threads", "compile", "probe_size"}
SCORES = ("eval/normalized_score", "eval/human_normalized", "eval/return")
DEFAULT_METRICS = (*SCORES, "loss/td", "q/data", "rank/srank", "feature/dot")
AT = {  # what is told of a curve: in words, and its name in `stability`
    "final": ("last logged value", "final"),
    "mean": ("average over training", "average"),
    "best": ("maximum over training", "peak"),
    "unlearning": ("maximum over training minus last logged value", "unlearning"),
}
STABILITY = "stability"


def group_runs(hparams: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Runs that differ in nothing but `seed`, by what tells the groups apart.

    Args:
        hparams: one dict per run.
    Returns:
        label -> indices of runs, in order of appearance. A label is the `variant`, if every group has one of its own;
        else the values that differ, e.g. "dr3=0.03, lr=0.001", and "default" where none of those is set.
    """
    names = dict.fromkeys(name for values in hparams for name in values if name != "seed")
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for run, values in enumerate(hparams):
        key = tuple((name, _text(values[name])) for name in names if name in values)
        groups.setdefault(key, []).append(run)
    variants = [dict(key).get("variant") for key in groups]
    labels = (
        variants
        if None not in variants and len(set(variants)) == len(groups)
        else _labels(list(groups))
    )
    return {str(label): runs for label, runs in zip(labels, groups.values())}


def _labels(groups: list[tuple[tuple[str, str], ...]]) -> list[str]:
    """What of each group's values is not shared by all groups, without the prefixes that all names can spare."""
    if len(groups) == 1:
        return ["all runs"]
    shared = set.intersection(*map(set, groups))
    told = [[item for item in key if item not in shared] for key in groups]
    names = {name for items in told for name, _ in items}
    short = {name: name.rsplit(".", 1)[-1] for name in names}
    if len(set(short.values())) < len(names):
        short = {name: name for name in names}
    parts = [
        [value if name == "variant" else f"{short[name]}={value}" for name, value in items]
        for items in told
    ]
    return [", ".join(items) or "default" for items in parts]


def _text(value: Any) -> str:
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def load(source: str | Path) -> list[History]:
    """The history of a logdir, or of every logdir below a folder.

    What differs between the configurations of several logdirs is added to the `hparams` of their runs, so that runs of
    different configurations are never averaged.

    Raises:
        InputError: nothing recorded there.
    """
    files = sorted(Path(source).rglob(RECORD))
    if not files:
        raise InputError(
            f"{source}: found no {RECORD} in it or below, expected a logdir or a folder of logdirs"
        )
    histories = [read_metrics(file.parent) for file in files]
    flat = [_flatten(history.config) for history in histories]
    names = dict.fromkeys(name for config in flat for name in config)
    varying = [
        n
        for n in names
        if len({_text(config.get(n)) for config in flat}) > 1 and not _is_bookkeeping(n)
    ]
    for history, config in zip(histories, flat):
        for values in history.hparams:
            found = {
                n: config[n]
                for n in varying
                if n in config and not any(_same_key(n, own) for own in values)
            }
            values.update(found)
    return histories


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= (
            _flatten(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{name}": value}
        )
    return flat


def _is_bookkeeping(name: str) -> bool:
    leaf = name.rsplit(".", 1)[-1]
    return leaf.endswith("_every") or leaf in BOOKKEEPING


def _same_key(long: str, short: str) -> bool:
    return long == short or long.endswith(f".{short}")


def curves(histories: Sequence[History], name: str) -> list[Curve | None]:
    """One curve per run of all histories; None where a history never logged the metric.

    From the step at which `run/active` says that a run was frozen, its values count as diverged (NaN): what a frozen
    network scores is not a result of its method.

    Raises:
        InputError: no history logged the metric.
    """
    known = dict.fromkeys(metric for history in histories for metric in history.metrics)
    if name not in known:
        raise InputError(f"metric '{name}' was never logged{nearest(name, known)}")
    found: list[Curve | None] = []
    for history in histories:
        if name not in history.metrics:
            found += [None] * len(history.labels)
            continue
        steps, values = history.get(name)
        if name != "run/active":
            values = np.where(steps[:, None] >= _frozen_at(history), np.nan, values)
        found += [(steps, column) for column in values.T]
    return found


def _frozen_at(history: History) -> np.ndarray:
    """First step at which each run was not active, `[R]`; infinity for those that went through."""
    if "run/active" not in history.metrics:
        return np.full(len(history.labels), np.inf)
    steps, active = history.get("run/active")
    return np.where(active == 0, steps[:, None], np.inf).min(axis=0)


def table(history: History | Sequence[History], metrics: Sequence[str], at: str = "final") -> str:
    """Text table: a row per group of runs, a column "mean ± half width" per metric, 95 % Student-t over runs.

    Diverged runs are left out of the mean and counted in the cell.

    Args:
        history: one, or several whose runs are put together.
        metrics: names as logged.
        at: final (last logged value), mean (average over training), best (maximum over training, which flatters),
            unlearning (best minus final), or stability for all four beside each other, see `statistics.stability`.
    Raises:
        InputError: an unknown metric or `at`.
    """
    if at not in (*AT, STABILITY):
        raise InputError(f"at = {at!r}: unknown{nearest(at, (*AT, STABILITY))}")
    kinds = list(AT) if at == STABILITY else [at]
    heads = [f"{name} {kind}" if len(kinds) > 1 else name for name in metrics for kind in kinds]
    histories = [history] if isinstance(history, History) else list(history)
    groups = group_runs([values for each in histories for values in each.hparams])
    rows = [["group", "runs", *heads]] + [[label, str(len(runs))] for label, runs in groups.items()]
    for name in metrics:
        found = curves(histories, name)
        for row, runs in zip(rows[1:], groups.values()):
            told = [stability(curve[1]) for run in runs if (curve := found[run]) is not None]
            row += [_cell([float(each[AT[kind][1]]) for each in told]) for kind in kinds]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows
    ]
    said = at if at == STABILITY else AT[at][0]
    return "\n".join([*lines, f"{said}; mean ± 95 % Student-t interval over runs"])


def _cell(values: list[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return f"all {len(values)} diverged" if values else "-"
    mean, _, high = mean_ci(finite)
    interval = f" ± {high - mean:.2g}" if len(finite) > 1 else ""
    diverged = len(values) - len(finite)
    return f"{mean:.3g}{interval}" + (f" ({diverged} diverged)" if diverged else "")


def report(
    logdir: str | Path,
    metrics: Sequence[str] | None = None,
    at: str = "final",
    png: str | Path | None = None,
) -> str:
    """Table of a logdir, or of all logdirs below a folder, and a picture of the curves if `png` is given.

    Args:
        logdir: where trainings were logged.
        metrics: names as logged; None takes the usual ones that are there.
        at: see `table`.
        png: file for the picture.
    Raises:
        InputError: nothing recorded there, or an unknown metric.
    """
    histories = load(logdir)
    known = dict.fromkeys(name for history in histories for name in history.metrics)
    if not known:
        raise InputError(
            f"{logdir}: found a record without a single value, expected a training that has begun"
        )
    usual = SCORES if at == STABILITY else DEFAULT_METRICS
    names = list(
        metrics or [name for name in usual if name in known][: 1 if at == STABILITY else None]
    )
    names = names or list(known)[:4]
    text = table(histories, names, at)
    last = max(int(history.steps.max()) for history in histories if history.steps.size)
    count = sum(len(history.labels) for history in histories)
    head = f"{logdir}: {count} runs" + (
        f" of {len(histories)} trainings" if len(histories) > 1 else ""
    )
    drawn = f"\npicture: {figure(histories, names, png)}" if png else ""
    return f"{head}, up to step {last}\n\n{text}{drawn}"


def figure(
    source: History | Sequence[History] | str | Path, names: Sequence[str], path: str | Path
) -> Path:
    """One PNG, a panel per metric: mean of every group of runs with its 95 % band; see `rlop.report.figures`."""
    histories = load(source) if isinstance(source, (str, Path)) else source
    histories = [histories] if isinstance(histories, History) else list(histories)
    groups = group_runs([values for each in histories for values in each.hparams])
    panels = {name: curves(histories, name) for name in names}
    return draw(panels, groups, path)
