"""Records of other programs: d3rlpy, Weights & Biases as CORL uses it, Stable-Baselines3.

Each becomes a `History` under our names of metrics. Files are a stranger's: they are read as text
and numbers, and a damaged one is refused with one line.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from rlop.config.files import read_whole
from rlop.logs.history import MALFORMED, History, Row, history_of
from rlop.types import InputError

Found: TypeAlias = tuple[Path, History, str]  # place, record, what a reader must know of it

LARGEST = 256 << 20  # bytes of a table
EPISODES = 100  # that a point of a monitor file averages, as Stable-Baselines3 does
POINTS = 200  # of a monitor file, at most
MONITOR, PROGRESS, PARAMS = "monitor.csv", "progress.csv", "params.json"
TIMESTEPS = "time/total_timesteps"  # a column of every table of Stable-Baselines3's logger
STEP_COLUMNS = ("step", "_step", "global_step", "trainer/global_step")
SEED = re.compile(r"(?:^|[\s_,;-])(?:seed|s)[\s_=:-]?(\d+)(?=$|[\s_,;-])", re.IGNORECASE)
STAMP = re.compile(r"[_-](?:\d{14}|\d{8}[_-]\d{6}|[0-9a-f]{8})$")
# Their names -> ours.
METRICS = {
    "environment": "eval/return",
    "evaluation": "eval/return",
    "eval_score": "eval/return",
    "eval/score": "eval/return",
    "d4rl_normalized_score": "eval/d4rl_score",
    "eval/d4rl_normalized_score": "eval/d4rl_score",
    "eval/normalized_score": "eval/d4rl_score",
    "normalized_score": "eval/d4rl_score",
    "td_error": "loss/td",
    "td_loss": "loss/td",
    "loss": "loss/total",
    "critic_loss": "loss/total",
    "conservative_loss": "loss/conservative",
    "actor_loss": "loss/policy",
    "eval/mean_reward": "eval/return",
    "rollout/ep_rew_mean": "rollout/return",
    "train/loss": "loss/total",
    "train/critic_loss": "loss/total",
    "train/actor_loss": "loss/policy",
    "time/fps": "time/steps_per_s",
}


def read_foreign(path: Path) -> list[Found]:
    """Read every record of another program in a folder or below, or in one CSV file.

    Args:
        path: a CSV export of Weights & Biases, a monitor file or a `progress.csv` of
            Stable-Baselines3, or a folder that holds such files, or folders of d3rlpy.

    Returns:
        The records; none where the path holds none.

    Raises:
        InputError: a file that is damaged, or that is none of these.
    """
    if path.suffix == ".csv":
        if path.name.endswith(MONITOR) or _is_progress(path):
            return [_stable_baselines3(path, [path])]
        return _export(path)
    if not path.is_dir():
        return []

    found = [_d3rlpy(params.parent) for params in sorted(path.rglob(PARAMS))]
    folders: dict[Path, list[Path]] = {}
    for file in sorted(path.rglob("*.csv")):
        if file.name.endswith(MONITOR) or _is_progress(file):
            folders.setdefault(file.parent, []).append(file)
    found += [_stable_baselines3(folder, files) for folder, files in folders.items()]
    return found


# ---- d3rlpy: a folder with params.json, and a file `metric.csv` of epoch, step, value for each


def _d3rlpy(folder: Path) -> Found:
    try:
        params = json.loads(read_whole(folder / PARAMS))
        if not isinstance(params, dict):
            raise TypeError
    except (OSError, *MALFORMED):
        raise InputError(f"{folder / PARAMS}: damaged, expected d3rlpy's mapping") from None

    rows: list[Row] = []
    for file in sorted(folder.glob("*.csv")):
        name = METRICS.get(file.stem, f"d3rlpy/{file.stem}")
        for number, cells in enumerate(_table(file), start=1):
            if len(cells) != 3:
                raise InputError(f"{file}: line {number} is damaged, expected epoch, step, value")
            step = _step(file, number, cells[1])
            rows.append((step, {name: [_number(file, number, cells[2])]}))
    if not rows:
        raise InputError(f"{folder}: found {PARAMS} without a metric, expected d3rlpy's CSV files")
    return folder, _history(folder.name, rows, {}), "logged by d3rlpy"


# ---- Stable-Baselines3: `monitor.csv`, one line of JSON and one row per episode, and
# `progress.csv`, the table of its logger


def _is_progress(file: Path) -> bool:
    """Whether a file is the logger's table; other programs call theirs `progress.csv`, too."""
    return file.name == PROGRESS and TIMESTEPS in (_table(file) or [[]])[0]


def _stable_baselines3(place: Path, files: Sequence[Path]) -> Found:
    """Read the files of one training; the logger's table comes before the monitors' returns."""
    monitors = [file for file in files if file.name != PROGRESS]
    rows: list[Row] = []
    for file in files:
        if file.name == PROGRESS:
            rows = _progress(file)
    returns, env_id = _monitors(place, monitors) if monitors else ([], "")

    note = "logged by Stable-Baselines3"
    if not any("eval/return" in values for _, values in rows):
        rows += _renamed(rows, "rollout/return", "eval/return") or returns
        note += (
            ": the return is that of training, with exploration, averaged over the last "
            f"{EPISODES} episodes"
        )
    if not rows:
        raise InputError(f"{place}: found no values, expected a row for each time it was logged")

    name = place.name
    if not place.is_dir():
        name = name.removesuffix(MONITOR).removesuffix(PROGRESS).rstrip(".")
    config = {"env": env_id} if env_id else {}
    return place, _history(name or place.parent.name, rows, config), note


def _renamed(rows: Sequence[Row], old: str, new: str) -> list[Row]:
    """Return the values of one metric under another name."""
    return [(step, {new: values[old]}) for step, values in rows if old in values]


def _progress(file: Path) -> list[Row]:
    """Read the table of Stable-Baselines3's logger, whose cells may be empty."""
    header, *lines = _table(file)
    step_column = header.index(TIMESTEPS)
    rows: list[Row] = []
    for number, cells in enumerate(lines, start=2):
        _check_width(file, number, cells, header)
        step = _step(file, number, cells[step_column])
        for name, cell in zip(header, cells, strict=True):
            # What a user logged may be text; the clock is no metric.
            is_other = not name.startswith("time/") and _is_number(cell)
            if cell and (name in METRICS or is_other):
                rows.append((step, {METRICS.get(name, name): [_number(file, number, cell)]}))
    return rows


def _monitors(place: Path, files: Sequence[Path]) -> tuple[list[Row], str]:
    """Read the monitor files of one training, whose environments ran side by side.

    Returns:
        Mean returns of the last episodes, and the environment's id.
    """
    episodes: list[tuple[float, int, float]] = []  # when it ended, its length and its return
    env_id = ""
    for file in files:
        first, *lines = _text(file).splitlines() or [""]
        table = _cells(file, lines)
        try:
            header = json.loads(first.removeprefix("#"))
            began = float(header["t_start"])
            env_id = str(header.get("env_id") or env_id)
            columns = [table[0].index(name) for name in ("r", "l", "t")]
        except (IndexError, *MALFORMED):
            raise InputError(
                f"{file}: expected a monitor file of Stable-Baselines3, a line of JSON and one of "
                "r,l,t"
            ) from None
        for number, cells in enumerate(table[1:], start=3):
            if len(cells) != len(table[0]):
                raise InputError(f"{file}: line {number} is damaged, expected r, l, t")
            reward, _, after = (_number(file, number, cells[column]) for column in columns)
            length = _step(file, number, cells[columns[1]])
            episodes.append((began + after, length, reward))

    if not episodes:
        raise InputError(f"{place}: found a monitor file without an episode")
    episodes.sort()
    _, lengths, returns = zip(*episodes)
    steps = np.cumsum(lengths)
    ends = np.unique(np.linspace(0, len(steps) - 1, min(POINTS, len(steps))).astype(int))
    rows: list[Row] = []
    for end in ends.tolist():
        recent = returns[max(0, end + 1 - EPISODES) : end + 1]
        rows.append((int(steps[end]), {"eval/return": [float(np.mean(recent))]}))
    return rows, env_id


# ---- Weights & Biases: a chart's CSV (`RUN - METRIC` per column), or one run's history


def _export(file: Path) -> list[Found]:
    table = _table(file)
    header = table[0] if table else []
    step_column = next(
        (number for number, name in enumerate(header) if name.lower() in STEP_COLUMNS), None
    )
    if step_column is None:
        raise InputError(
            f"{file}: found no column {', '.join(STEP_COLUMNS[:3])}, expected a CSV export of "
            "Weights & Biases, a monitor file, or d3rlpy's folder"
        )

    columns: dict[int, tuple[str, str]] = {}  # column -> run, metric
    for number, name in enumerate(header):
        run, _, key = name.rpartition(" - ")
        is_bound = name.endswith(("__MIN", "__MAX"))
        if number != step_column and not is_bound and key and not key.startswith("_"):
            columns[number] = (run or file.stem, METRICS.get(key, key))

    rows: dict[str, list[Row]] = {}
    for number, cells in enumerate(table[1:], start=2):
        _check_width(file, number, cells, header)
        step = _step(file, number, cells[step_column])
        for column, (run, key) in columns.items():
            cell = cells[column]
            # A run's history may have columns of text; a chart has numbers alone.
            if cell and (_is_number(cell) or " - " in header[column]):
                value = _number(file, number, cell)
                rows.setdefault(run, []).append((step, {key: [value]}))
    if not rows:
        raise InputError(f"{file}: found no values, expected a column for each run and metric")
    return [
        (file, _history(run, of_run, {}), "exported from Weights & Biases")
        for run, of_run in rows.items()
    ]


# ---- what all of them share


def _history(name: str, rows: Sequence[Row], config: Mapping[str, object]) -> History:
    """Make the record of one run, whose name may hold its seed and a time stamp."""
    seed = SEED.search(name)
    group = STAMP.sub("", name)
    hparams: dict[str, object] = {}
    if seed is not None:
        hparams["seed"] = int(seed[1])
        group = SEED.sub("", group)
    hparams["variant"] = group.strip(" _,;-") or name

    ordered = sorted(rows, key=lambda row: row[0])
    return history_of(ordered, {"labels": [name], "hparams": [hparams], "config": dict(config)})


def _text(file: Path) -> str:
    try:
        return read_whole(file, LARGEST).decode()
    except OSError as error:
        raise InputError(f"{file}: cannot be read, {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: is no text, expected a CSV file") from None


def _table(file: Path) -> list[list[str]]:
    return _cells(file, _text(file).splitlines())


def _cells(file: Path, lines: Sequence[str]) -> list[list[str]]:
    try:
        return [row for row in csv.reader(lines) if row]
    except csv.Error as error:
        raise InputError(f"{file}: is no CSV file ({error})") from None


def _check_width(file: Path, line: int, cells: Sequence[str], header: Sequence[str]) -> None:
    if len(cells) != len(header):
        raise InputError(f"{file}: line {line} has {len(cells)} cells, expected {len(header)}")


def _step(file: Path, line: int, cell: str) -> int:
    try:
        value = float(cell)
        if value.is_integer() and 0 <= value < 2**63:
            return int(value)
    except ValueError:
        pass
    raise InputError(f"{file}: line {line} has the step {cell[:40]!r}, expected a whole number")


def _number(file: Path, line: int, cell: str) -> float:
    if not _is_number(cell):
        raise InputError(f"{file}: line {line} has {cell[:40]!r}, expected a number")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
