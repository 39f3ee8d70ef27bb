"""Data sets that need no file: rolled out on a small environment whose exact solution is known."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from rlop.config.checks import nearest
from rlop.data.dataset import Dataset
from rlop.data.formats.hdf5 import write_hdf5
from rlop.types import InputError

IDS = {"gridworld": "rlop/GridWorld-v0", "chain": "rlop/Chain-v0"}


def read_embedded(source: str, **options: Any) -> Dataset:
    """`gridworld` or `chain`, with options as keywords or in a query: `gridworld?size=8&steps=20000&epsilon=0.5`.

    The options are those of the environment (`rlop.envs.gridworld`, `rlop.envs.chain`) and of
    `rlop.data.formats.generate.generate`: steps (20,000 unless given), epsilon, gamma, max_episode_steps, start.
    `seed` draws both the environment and the data, unless `data_seed` is given for the latter. `spec.env_id` and `spec.env_kwargs`
    rebuild the very same environment; `infos` holds the states.

    Raises:
        InputError: an unknown name or option (with the nearest one), or an impossible value.
    """
    mdp, data, env_kwargs = _roll_out(source, options)
    return Dataset.from_arrays(
        data["observations"],
        data["actions"],
        data["rewards"],
        data["terminals"],
        data["timeouts"],
        data["next_observations"],
        n_actions=mdp.n_actions,
        env_id=IDS[source.partition("?")[0]],
        env_kwargs=env_kwargs,
        name=source,
        infos={
            key.removeprefix("infos/"): value
            for key, value in data.items()
            if key.startswith("infos/")
        },
    )


def write_embedded(source: str, path: str | Path, overwrite: bool = False) -> dict[str, Any]:
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
    from rlop.data.formats.generate import coverage

    name = source.partition("?")[0]
    if name not in IDS:
        raise InputError(f"{name}: not an embedded data set{nearest(name, IDS)}")
    mdp, data, env_kwargs = _roll_out(source, {})
    metadata = {
        "env_id": IDS[name],
        "env_kwargs": env_kwargs,
        "n_actions": mdp.n_actions,
        "policy": source,
    }
    write_hdf5(path, data, metadata, overwrite=overwrite)
    return coverage(data, mdp)


def _roll_out(source: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The environment, its transitions in D4RL's layout, and the keywords that make the environment."""
    import rlop.envs
    from rlop.data.formats.generate import generate
    from rlop.envs.make import time_limit

    name, _, query = source.partition("?")
    make = getattr(rlop.envs, name)
    build = {key: item.default for key, item in signature(make).parameters.items()}
    roll = {
        key: item.default
        for key, item in signature(generate).parameters.items()
        if key not in ("mdp", "seed")
    }
    roll |= {"steps": 20_000, "max_episode_steps": time_limit(IDS[name])}
    known = {**build, **roll, "data_seed": 0}
    options = {**dict(parse_qsl(query, keep_blank_values=True)), **options}
    values = {key: _value(name, key, value, known) for key, value in options.items()}
    env_kwargs = {
        key: value for key, value in values.items() if key in build or key == "max_episode_steps"
    }
    roll |= {key: value for key, value in values.items() if key in roll}
    seed = values.get("data_seed", values.get("seed", 0))
    mdp = make(**{key: value for key, value in env_kwargs.items() if key in build})
    return mdp, generate(mdp, **roll, seed=seed), env_kwargs


def _value(name: str, key: str, value: Any, known: dict[str, Any]) -> Any:
    """An option's value, from text to the type of its default; `0.1,0.5` is several numbers."""
    if key not in known:
        raise InputError(f"{name}: no option {key!r}{nearest(key, known)}")
    kind = type(known[key])
    if not isinstance(value, str) or kind is str:
        return value
    try:
        return (
            tuple(map(float, value.split(","))) if kind is float and "," in value else kind(value)
        )
    except ValueError as error:
        raise InputError(f"{name}: {key} = {value!r}: expected {kind.__name__}") from error
