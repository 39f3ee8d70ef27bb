"""Read the runs of one or several trainings, and group them by their settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from rlop.config.checks import nearest
from rlop.config.overrides import flatten
from rlop.logs.history import RECORD, History, read_metrics
from rlop.types import InputError

Curve: TypeAlias = tuple[np.ndarray, np.ndarray]  # steps [T], values [T] of one run
Curves: TypeAlias = Sequence[Curve | None]  # one per run; None where a metric was not logged
Groups: TypeAlias = Mapping[str, Sequence[int]]  # label -> runs
Histories: TypeAlias = History | Sequence[History]  # of one training, or of several
Setting: TypeAlias = tuple[tuple[str, str], ...]  # names and values that a group of runs shares

# Keys that do not change what a run learns.
BOOKKEEPING = {"seed", "seeds", "logdir", "resume", "device", "threads", "compile", "probe_size"}


def load(source: str | Path) -> list[History]:
    """Read the history of a logdir, or of every logdir below a folder.

    Keys in which the configurations of several logdirs differ are added to the `hparams` of their
    runs, so that runs of different configurations are never averaged.

    Raises:
        InputError: there is no record.
    """
    histories = [read_metrics(folder) for folder in record_folders(source)]
    tell_apart(histories)
    return histories


def record_folders(source: str | Path) -> list[Path]:
    """Find every logdir in a folder or below.

    Raises:
        InputError: there is none.
    """
    source = Path(source).expanduser()
    files = sorted(source.rglob(RECORD))
    if not files:
        raise InputError(
            f"{source}: found no {RECORD} in it or below, expected a logdir or a folder of logdirs"
        )
    return [file.parent for file in files]


def tell_apart(histories: Sequence[History]) -> None:
    """Add the keys in which configurations differ to the `hparams` of their runs, in place."""
    configs = [flatten(history.config) for history in histories]
    varying = _varying_keys(configs)

    for history, config in zip(histories, configs):
        for hparams in history.hparams:
            _add_missing(hparams, config, varying)


def group_runs(hparams: Sequence[Mapping[str, object]]) -> dict[str, list[int]]:
    """Group the runs that differ in nothing but `seed`.

    Args:
        hparams: one dict per run.

    Returns:
        label -> indices of runs, in order of appearance. A label is the `variant`, if every group
        has a different one; else the values that differ, e.g. "dr3=0.03, lr=0.001", and "default"
        where none of those is set.
    """
    names = all_keys(hparams)
    groups: dict[Setting, list[int]] = {}
    for run, values in enumerate(hparams):
        setting = []
        for name in names:
            if name in values and name != "seed":
                setting.append((name, text_of(values[name])))
        groups.setdefault(tuple(setting), []).append(run)

    labels = _labels(list(groups))
    return dict(zip(labels, groups.values()))


def curves(histories: Sequence[History], name: str) -> Curves:
    """Return one curve per run of all histories; None where a history never logged the metric.

    From the step at which `run/active` shows that a run was frozen, its values count as diverged
    (NaN): the score of a frozen network is not a result of its method.

    Raises:
        InputError: no history logged the metric.
    """
    logged = logged_metrics(histories)
    if name not in logged:
        raise InputError(f"metric '{name}' was never logged{nearest(name, logged)}")

    all_curves: list[Curve | None] = []
    for history in histories:
        if name not in history.metrics:
            all_curves += [None] * len(history.labels)
            continue

        steps, values = history.get(name)
        if name != "run/active":
            is_frozen = steps[:, None] >= frozen_at(history)
            values = np.where(is_frozen, np.nan, values)
        for column in values.T:
            all_curves.append((steps, column))
    return all_curves


def logged_metrics(histories: Iterable[History]) -> list[str]:
    """Return the names of all metrics, in the order in which they appeared."""
    return all_keys([history.metrics for history in histories])


def as_list(histories: Histories) -> list[History]:
    """Return one history, or several, as a list."""
    if isinstance(histories, History):
        return [histories]
    return list(histories)


def all_hparams(histories: Iterable[History]) -> list[dict[str, object]]:
    """Return the hyper-parameters of the runs of all histories, in order."""
    hparams = []
    for history in histories:
        hparams += history.hparams
    return hparams


def frozen_at(history: History) -> np.ndarray:
    """Return the first step at which each run was not active, `[R]`; infinity if it always was."""
    if "run/active" not in history.metrics:
        return np.full(len(history.labels), np.inf)

    steps, active = history.get("run/active")
    frozen_steps = np.where(active == 0, steps[:, None], np.inf)
    return frozen_steps.min(axis=0)


# ---- keys of configurations


def _add_missing(
    hparams: dict[str, object],
    config: Mapping[str, object],
    keys: Sequence[str],
) -> None:
    """Copy the values of these keys, unless the run has its own under the last part of the name."""
    keys_before = list(hparams)
    for key in keys:
        has_value = any(is_same_key(key, short) for short in keys_before)
        if key in config and not has_value:
            hparams[key] = config[key]


def _labels(groups: Sequence[Setting]) -> list[str]:
    """Name every group by its variant, or by the values that not all groups share."""
    variants = {dict(setting).get("variant", "") for setting in groups}
    if len(variants) == len(groups) and "" not in variants:
        return [dict(setting)["variant"] for setting in groups]
    if len(groups) == 1:
        return ["all runs"]

    shared = set.intersection(*map(set, groups))
    names: set[str] = set()
    for setting in groups:
        names |= dict(set(setting) - shared).keys()
    shown = short_names(names)

    labels = []
    for setting in groups:
        parts = []
        for name, value in setting:
            if (name, value) not in shared:
                # A variant needs no name in front.
                parts.append(value if name == "variant" else f"{shown[name]}={value}")
        labels.append(", ".join(parts) or "default")
    return labels


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Drop the prefixes of dotted names, if the names stay unique."""
    names = list(names)
    short = [name.rsplit(".", 1)[-1] for name in names]
    if len(set(short)) < len(names):
        return dict(zip(names, names))
    return dict(zip(names, short))


def text_of(value: object) -> str:
    """Return the text of a setting: numbers as short as they are exact."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def all_keys(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    """Return the keys of all mappings, each once, in the order in which they appeared."""
    keys: dict[str, None] = {}
    for mapping in mappings:
        keys |= dict.fromkeys(mapping)
    return list(keys)


def _varying_keys(configs: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the keys in which configurations differ, except bookkeeping keys."""
    varying = []
    for key in all_keys(configs):
        values = {text_of(config.get(key)) for config in configs}
        if len(values) > 1 and not is_bookkeeping(key):
            varying.append(key)
    return varying


def is_bookkeeping(key: str) -> bool:
    """Whether a key does not change what a run learns."""
    leaf = key.rsplit(".", 1)[-1]
    return leaf.endswith("_every") or leaf in BOOKKEEPING


def is_same_key(long: str, short: str) -> bool:
    """Whether a dotted key is another one, or ends in it."""
    return long == short or long.endswith(f".{short}")
