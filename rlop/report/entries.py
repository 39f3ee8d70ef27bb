"""The runs of records: where each is from, its seed, its task and its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlop.config.checks import nearest
from rlop.config.overrides import flatten
from rlop.logs.history import History
from rlop.report.groups import all_keys, frozen_at, is_same_key, text_of
from rlop.report.html import one_line
from rlop.report.titles import SCORES
from rlop.types import InputError

TASK_KEYS = ("data", "env")
D4RL = "d4rl:"  # before a name that other programs have alone


@dataclass(frozen=True)
class Run:
    """One run of a report.

    Args:
        folder: where it was logged.
        seed: None where the record has none.
        task: what it was trained on, as the report names it.
        source: its environment or data, as the configuration names it.
        settings: everything that tells its group from others, seed and task excluded.
        diverged: whether it was frozen, or its score ended in a value that is not finite.
    """

    folder: str
    seed: str | None
    task: str
    source: str
    settings: Mapping[str, str]
    diverged: bool


def runs_of(folders: Sequence[str], histories: Sequence[History], by: Sequence[str]) -> list[Run]:
    """Describe every run of all histories.

    Args:
        folders: where each history is from.
        histories: the records.
        by: keys that make the groups, see `study.gather`.

    Raises:
        InputError: no run has one of these keys.
    """
    everything = []
    for history in histories:
        config = flatten(history.config)
        everything += [{**config, **hparams} for hparams in history.hparams]
    _check_keys(by, everything)

    varying = _task_keys(everything, by)
    runs: list[Run] = []
    for folder, history in zip(folders, histories):
        frozen = np.isfinite(frozen_at(history))
        for number, hparams in enumerate(history.hparams):
            values = everything[len(runs)]
            source = source_of(values)
            present = [text_of(values[key]) for key in varying if values.get(key) is not None]
            named = ", ".join(present) or (source if not set(by) & set(TASK_KEYS) else "all data")
            runs.append(
                Run(
                    folder=one_line(folder),
                    seed=None if hparams.get("seed") is None else one_line(str(hparams["seed"])),
                    task=one_line(named) or "one task",
                    source=one_line(source),
                    settings=_settings(hparams, values, varying, by),
                    diverged=bool(frozen[number]) or _ends_in_nothing(history, number),
                )
            )
    return runs


def source_of(values: Mapping[str, object]) -> str:
    """Return the environment of a run, or its data where no environment is named."""
    source = values.get("env") or values.get("collect.env") or values.get("data") or ""
    return text_of(source).removeprefix(D4RL)


def _task_keys(everything: Sequence[Mapping[str, object]], by: Sequence[str]) -> list[str]:
    """Return the keys that tell tasks apart; a key that makes the groups is none of them.

    Records of other programs name an environment, but no data: then environments are the tasks.
    """
    if any(values.get("data") is None for values in everything):
        return []
    telling = []
    for key in TASK_KEYS:
        texts = {text_of(values.get(key)) for values in everything}
        if key not in by and len(texts) > 1:
            telling.append(key)
    return telling


def _settings(
    hparams: Mapping[str, object],
    values: Mapping[str, object],
    task_keys: Sequence[str],
    by: Sequence[str],
) -> dict[str, str]:
    """Return the settings of a run, as text, without seed and task."""
    source = source_of(values)
    hidden = task_keys or [
        key for key in TASK_KEYS if text_of(values.get(key)).removeprefix(D4RL) == source
    ]
    kept = {key: value for key, value in hparams.items() if key not in ("seed", *hidden)}
    for key in by:
        name = full_key(key, values)
        if name is not None:
            kept[name] = values[name]
    return {one_line(key): one_line(text_of(value)) for key, value in kept.items()}


def _ends_in_nothing(history: History, run: int) -> bool:
    """Whether a score of the run ends in a value that is not finite."""
    for name in SCORES:
        if name in history.metrics and not np.isfinite(history.metrics[name][1][-1, run]):
            return True
    return False


def _check_keys(by: Sequence[str], everything: Sequence[Mapping[str, object]]) -> None:
    known = all_keys(everything)
    for key in by:
        if not any(is_same_key(name, key) for name in known):
            raise InputError(f"--by {key}: no run has this setting{nearest(key, known)}")


def full_key(key: str, values: Mapping[str, object]) -> str | None:
    """Return the full name of a key among settings: itself, or the one that ends in it."""
    if key in values:
        return key
    return next((name for name in values if is_same_key(name, key)), None)
