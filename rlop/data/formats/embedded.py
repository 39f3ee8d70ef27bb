"""Data sets that need no file: rolled out on a small environment whose exact solution is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, cast

import numpy as np

from rlop.config.checks import nearest
from rlop.data.dataset import Dataset
from rlop.data.formats.generate import Coverage, coverage, generate
from rlop.data.formats.hdf5 import write_hdf5
from rlop.data.options import check_options, split_query
from rlop.envs import TabularMDP, chain, gridworld
from rlop.envs.make import time_limit
from rlop.types import InputError

IDS = {"gridworld": "rlop/GridWorld-v0", "chain": "rlop/Chain-v0"}
BUILDERS: dict[str, Callable[..., TabularMDP]] = {"gridworld": gridworld, "chain": chain}
STEPS = 20_000  # transitions, unless the source says otherwise
INFOS = "infos/"  # prefix of the keys of further arrays


def read_embedded(source: str, **options: object) -> Dataset:
    """Roll out `gridworld` or `chain`.

    Options are keywords, or part of a query: `gridworld?size=8&steps=20000&epsilon=0.5`. They are
    the parameters of the environment (`rlop.envs.gridworld`, `rlop.envs.chain`) and of
    `rlop.data.formats.generate.generate`: steps (20,000 unless given), epsilon, gamma,
    max_episode_steps, start. `seed` draws both the environment and the data, unless `data_seed` is
    given for the latter.

    Args:
        source: name, possibly with a query.
        options: keywords; they win over the query.

    Returns:
        The data. `spec.env_id` and `spec.env_kwargs` rebuild the very same environment; `infos`
        holds the states.

    Raises:
        InputError: an unknown name or option (with the nearest one), or an impossible value.
    """
    name, _ = split_query(source)
    rolled = _roll_out(source, options)

    columns = rolled.columns
    infos = {
        key.removeprefix(INFOS): column for key, column in columns.items() if key.startswith(INFOS)
    }

    return Dataset.from_arrays(
        columns["observations"],
        columns["actions"],
        columns["rewards"],
        columns["terminals"],
        columns["timeouts"],
        columns["next_observations"],
        n_actions=rolled.mdp.n_actions,
        env_id=IDS[name],
        env_kwargs=rolled.env_kwargs,
        name=source,
        infos=infos,
    )


def write_embedded(source: str, path: str | Path, overwrite: bool = False) -> Coverage:
    """Write an embedded data set to HDF5 in D4RL's layout, with what rebuilds its environment.

    Args:
        source: see `read_embedded`.
        path: the file.
        overwrite: replace an existing file.

    Returns:
        Its coverage, see `rlop.data.formats.generate.coverage`.

    Raises:
        InputError: an unknown name or option, or a file that exists.
    """
    name, _ = split_query(source)
    rolled = _roll_out(source, {})

    metadata = {
        "env_id": IDS[name],
        "env_kwargs": rolled.env_kwargs,
        "n_actions": rolled.mdp.n_actions,
        "policy": source,
    }

    write_hdf5(path, rolled.columns, metadata, overwrite=overwrite)
    return coverage(rolled.columns, rolled.mdp)


@dataclass(frozen=True)
class _RollOut:
    """An environment and transitions in it.

    Args:
        mdp: the environment's exact description.
        columns: transitions in D4RL's layout.
        env_kwargs: keywords that make the environment.
    """

    mdp: TabularMDP
    columns: dict[str, np.ndarray]
    env_kwargs: dict[str, object]


def _roll_out(source: str, options: Mapping[str, object]) -> _RollOut:
    """Build the environment that a source names and roll out the data."""
    name, query = split_query(source)
    if name not in BUILDERS:
        raise InputError(f"{name}: not an embedded data set{nearest(name, BUILDERS)}")
    build = BUILDERS[name]

    # The options, with the defaults that decide the types of values in a query.
    of_mdp = _defaults(build)
    of_data = _defaults(generate) | {
        "steps": STEPS,
        "max_episode_steps": time_limit(IDS[name]),
    }
    for given_otherwise in ("mdp", "seed"):
        del of_data[given_otherwise]
    defaults = {**of_mdp, **of_data, "data_seed": 0}

    given = {**query, **options}
    check_options(name, given, defaults)
    values: dict[str, object] = {}
    for key, value in given.items():
        values[key] = _value(name, key, value, defaults[key])

    env_kwargs: dict[str, object] = {}
    build_kwargs: dict[str, object] = {}
    for key, value in values.items():
        if key in of_data:
            of_data[key] = value
        if key in of_mdp:
            build_kwargs[key] = value
        if key in of_mdp or key == "max_episode_steps":
            env_kwargs[key] = value

    mdp = build(**build_kwargs)
    of_data["seed"] = values.get("data_seed", values.get("seed", 0))
    columns = generate(mdp, **of_data)
    return _RollOut(mdp, columns, env_kwargs)


def _defaults(function: Callable[..., object]) -> dict[str, Any]:
    """Return a function's parameters with their defaults."""
    return {name: item.default for name, item in signature(function).parameters.items()}


def _value(name: str, key: str, value: object, default: object) -> object:
    """Convert an option's text to the type of its default; `0.1,0.5` is several numbers."""
    kind = type(default)
    if not isinstance(value, str) or kind is str:
        return value

    try:
        if kind is float and "," in value:
            return tuple(map(float, value.split(",")))
        read = cast(Callable[[str], object], kind)  # a class of numbers
        return read(value)
    except ValueError as error:
        raise InputError(f"{name}: {key} = {value!r}: expected {kind.__name__}") from error
