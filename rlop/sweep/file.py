"""The file of a sweep: which keys of a configuration it varies, and the configurations it means.

config: ../gridworld/demo.yaml        # what all start from; `set` changes it, or stands alone
set: {steps: 5000, seeds: 4}
grid: {agent.backup: [max, sarsa], agent.lr: [1e-3, 3e-4]}
zip: {data: [a.hdf5, b.hdf5], env: [Hopper-v4, Walker2d-v4]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeAlias

import numpy as np

from rlop.config.checks import show
from rlop.config.files import read_yaml
from rlop.config.overrides import apply_overrides, assign, flatten
from rlop.config.schema import Index, Positive, build, flags_of, option, options
from rlop.config.shipped import shipped
from rlop.training.options import Experiment
from rlop.types import InputError

Values: TypeAlias = dict[str, object]  # of a configuration, nested as in its file
Changes: TypeAlias = dict[str, object]  # dotted key -> value

SUITES = "configs/sweeps"
DIGITS = 4  # of numbers that are drawn
MOST = 100_000  # configurations of a sweep
TRIES = 1000  # draws for each combination, some of which were drawn before


@options
class SweepFile:
    """A sweep over configurations of `rlop train`."""

    config: str | None = option(None, "configuration that all start from, beside this file")
    set: dict[str, object] = option({}, "keys that hold for all")
    grid: dict[str, object] = option({}, "dotted key -> values; all combinations")
    zip: dict[str, object] = option({}, "dotted key -> values that change together")
    random: Index = option(0, "combinations that are drawn; 0 takes all")
    seed: Index = option(0, "of the draw")


@options
class Interval:
    """Numbers between two ends, in the grid of a sweep that draws."""

    low: Positive = option(description="lower end")
    high: Positive = option(description="upper end")
    log: bool = option(True, "uniform in the logarithm")

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise InputError(f"low = {self.low}: expected less than high = {self.high}")


@dataclass(frozen=True)
class Configuration:
    """One configuration of a sweep.

    Args:
        values: all of it, as of a file for `rlop train`.
        changes: what the sweep varies, dotted key -> value.
        named: those of the changes that name it.
    """

    values: Values
    changes: Changes
    named: Changes


@dataclass(frozen=True)
class Source:
    """What a sweep is made from.

    Args:
        path: file that messages name.
        base: values that all configurations start from.
        sweep: what varies.
    """

    path: Path
    base: Values
    sweep: SweepFile


def read_sweep(name: str, arguments: Sequence[str]) -> Source:
    """Read the file of a sweep.

    Args:
        name: a file, or one of `configs/sweeps` without its ending.
        arguments: `--key value ...` that hold for all configurations.
    Raises:
        InputError: no such file, or one that says something else.
    """
    path = find_suite(name)
    values = read_yaml(path)
    if not {"grid", "zip"} & set(values):
        raise InputError(
            f"{path}: expected grid or zip, what the sweep varies; of a configuration: "
            f"rlop sweep {path} --over KEY VALUE ..."
        )
    sweep = build(SweepFile, values, where=str(path))

    base: Values = {}
    if sweep.config is not None:
        base = read_yaml(path.parent / Path(sweep.config).expanduser())
    return Source(path, _overridden(changed(base, sweep.set), sweep, arguments), sweep)


def over(config: str, lists: Sequence[Sequence[str]], arguments: Sequence[str]) -> Source:
    """Return the sweep of `rlop sweep CONFIG.yaml --over KEY VALUE ...`.

    Args:
        config: configuration of `rlop train`.
        lists: each a key and its values, as on the command line.
        arguments: `--key value ...` that hold for all configurations.
    Raises:
        InputError: no such file, or a key without values.
    """
    grid: dict[str, object] = {}
    for key, *texts in lists:
        key = key.removeprefix("--")
        if not texts:
            raise InputError(f"--over {key}: expected at least one value")
        if key in grid:
            raise InputError(f"--over {key}: given twice, expected all its values after one")
        grid[key] = [_value_of(key, text) for text in texts]

    path = Path(config).expanduser()
    sweep = SweepFile(grid=grid)
    return Source(path, _overridden(read_yaml(path), sweep, arguments), sweep)


def configurations(source: Source) -> list[Configuration]:
    """List the configurations of a sweep, in the order of its file.

    Raises:
        InputError: values that are no list, or too many combinations.
    """
    where = str(source.path)
    rows = _rows(where, source.sweep)
    both = sorted(set(source.sweep.grid) & set(source.sweep.zip))
    if both:
        raise InputError(f"{where}: {both[0]}: found in grid and zip, expected it in one of them")
    all_changes = (_drawn if source.sweep.random else _all)(where, rows, source.sweep)

    hidden = _implied(rows)
    found = []
    for changes in all_changes:
        named = {key: value for key, value in changes.items() if key not in hidden}
        found.append(Configuration(changed(source.base, changes), changes, named))
    return found


def changed(base: Values, changes: Changes) -> Values:
    """Return a copy of values with some keys changed; a mapping is merged into its section."""
    values = merged(base, {})
    for key, value in changes.items():
        nested: Values = {}
        if isinstance(value, Mapping):
            assign(nested, key, dict(value))
            values = merged(values, nested)
        else:
            assign(values, key, value)
    return values


def merged(base: Mapping[str, object], changes: Mapping[str, object]) -> Values:
    """Return a copy of nested values with changes: mappings are merged, all else is replaced."""
    result: Values = {}
    for name, value in base.items():
        result[name] = merged(value, {}) if isinstance(value, Mapping) else value
    for name, value in changes.items():
        present = result.get(name)
        if isinstance(value, Mapping) and isinstance(present, Mapping):
            result[name] = merged(present, value)
        else:
            result[name] = merged(value, {}) if isinstance(value, Mapping) else value
    return result


def find_suite(name: str) -> Path:
    """Return the path of a sweep's file, which may be the name of a shipped one."""
    path = Path(name).expanduser()
    if path.suffix or path.exists():
        return path
    try:
        return shipped(f"{SUITES}/{name}.yaml")
    except FileNotFoundError:
        names = sorted(file.stem for file in shipped(SUITES).glob("*.yaml"))
        raise InputError(
            f"{name}: no such sweep, expected a file or one of {', '.join(names)}"
        ) from None


def _overridden(base: Values, sweep: SweepFile, arguments: Sequence[str]) -> Values:
    """Return the base with what the command line says; raise InputError for a key that varies."""
    given = flatten(apply_overrides({}, arguments, flags_of(Experiment)))
    for key in [*sweep.grid, *sweep.zip]:
        if key in given:
            raise InputError(f"--{key}: the sweep varies it, expected a key that it does not")

    values = apply_overrides(base, arguments, flags_of(Experiment))
    values.pop("logdir", None)  # each training has a folder of its own
    for key in ("resume", "fork"):
        if key in values:
            raise InputError(f"{key}: of one training; a sweep goes on when it is started again")
    return values


def _value_of(key: str, text: str) -> object:
    """Return a value of the command line."""
    values: object = apply_overrides({}, [f"--{key}", text], ())
    while isinstance(values, Mapping):
        values = next(iter(values.values()))
    return values


def _rows(where: str, sweep: SweepFile) -> list[Changes]:
    """Return the changes that `zip` makes, one row after the other; a single empty one without."""
    columns: dict[str, list[object]] = {}
    for key, value in sweep.zip.items():
        if not isinstance(value, list) or not value:
            raise InputError(f"{where}: zip.{key} = {show(value)}: expected a list of values")
        columns[key] = value
    if len({len(column) for column in columns.values()}) > 1:
        shown = ", ".join(f"{key} has {len(column)}" for key, column in columns.items())
        raise InputError(f"{where}: zip: {shown}: expected lists of one length")

    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    return rows or [{}]


def _implied(rows: Sequence[Changes]) -> list[str]:
    """Return the keys of `zip` that the first one tells: a name needs only that."""
    first, *others = list(rows[0]) or [""]
    values = {repr(row.get(first)) for row in rows}
    return others if len(values) == len(rows) else []


def _all(where: str, rows: Sequence[Changes], sweep: SweepFile) -> list[Changes]:
    """Return all combinations; of the grid, the last key varies fastest."""
    choices = {key: _listed(where, key, value) for key, value in sweep.grid.items()}
    count = math.prod(len(values) for values in choices.values()) * len(rows)
    if count > MOST:
        raise InputError(f"{where}: {count:,} combinations, expected at most {MOST:,}, or random")

    combinations = []
    for row in rows:
        for values in product(*choices.values()):
            combinations.append({**row, **dict(zip(choices, values))})
    return combinations


def _drawn(where: str, rows: Sequence[Changes], sweep: SweepFile) -> list[Changes]:
    """Draw different combinations, in which every key is drawn alone."""
    choices: dict[str, list[object]] = {}
    intervals: dict[str, Interval] = {}
    for key, value in sweep.grid.items():
        if isinstance(value, Mapping):
            intervals[key] = build(Interval, value, where=where, key=f"grid.{key}")
        else:
            choices[key] = _listed(where, key, value, " or {low: a, high: b}")

    generator = np.random.default_rng(sweep.seed)
    drawn: dict[str, Changes] = {}
    for _ in range(TRIES * sweep.random):
        if len(drawn) == sweep.random:
            break
        changes = dict(rows[int(generator.integers(len(rows)))])
        for key in sweep.grid:
            if key in intervals:
                changes[key] = _between(intervals[key], generator)
            else:
                changes[key] = choices[key][int(generator.integers(len(choices[key])))]
        drawn[repr(changes)] = changes
    if len(drawn) < sweep.random:
        raise InputError(f"{where}: random = {sweep.random}: only {len(drawn)} combinations differ")
    return list(drawn.values())


def _listed(where: str, key: str, value: object, also: str = "") -> list[object]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: grid.{key} = {show(value)}: expected a list of values{also}")
    return value


def _between(interval: Interval, generator: np.random.Generator) -> float:
    """Draw a number of a few digits, which a folder's name can hold."""
    low, high = interval.low, interval.high
    if interval.log:
        number = math.exp(generator.uniform(math.log(low), math.log(high)))
    else:
        number = generator.uniform(low, high)
    return float(f"{number:.{DIGITS}g}")
