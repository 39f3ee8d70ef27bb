"""Minari's data sets by id, read from their files.

The package minari is needed to download only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium
import h5py
import numpy as np

from rlop.config.checks import nearest
from rlop.data.dataset import Dataset
from rlop.data.formats.arrow import arrow_episodes
from rlop.data.formats.episodes import (
    COLUMNS,
    OBSERVATIONS,
    Episode,
    SpaceJSON,
    choose,
    join,
    leaf_spaces,
    vector,
)
from rlop.data.formats.own_arrays import check_stored, own_array, own_group, own_item
from rlop.data.native import Counts
from rlop.data.units import scale_actions
from rlop.envs.make import stored_env_id
from rlop.types import InputError

PREFIX = "minari:"
FOLDER = "MINARI_DATASETS_PATH"  # environment variable
MAIN_FILE = "main_data.hdf5"
METADATA = "metadata.json"

Metadata: TypeAlias = dict[str, Any]  # of a data set, as its JSON file has it


def read_minari(
    source: str,
    *,
    keys: Sequence[str] | None = None,
    download: bool = False,
    n_actions: int | None = None,
    env_id: str | None = None,
) -> Dataset:
    """Read `minari:ID`, of format hdf5, arrow or parquet.

    Data sets stand in `$MINARI_DATASETS_PATH` or `~/.minari/datasets`. Episodes hold one
    observation more than they have steps, so that every row has its true next_obs, time-outs too.
    An episode that ends without a flag is marked truncated.

    Dict observations become one vector: the parts in the order of their sorted names (so
    achieved_goal, desired_goal, observation), nested ones as `a/b`, each flattened, one after
    another; a Discrete part as one-hot. This is what `gymnasium.wrappers.FlattenObservation` makes
    of a Dict space. An observation of one part keeps its shape. Actions of a bounded Box are
    brought to [-1, 1].

    Args:
        source: id, with or without `minari:`.
        keys: parts of a Dict observation to take, in this order; a name stands for all below it
            too.
        download: fetch the data set if it is not on disk, for which minari must be installed.
        n_actions: number of discrete actions; by default what the action space says.
        env_id: Gymnasium id for evaluation; by default the evaluation environment of the data set,
            or its own.

    Raises:
        InputError: no such data set on disk, a space that does not fit, missing or mis-sized parts.
    """
    name = str(source).removeprefix(PREFIX)
    check_id(name)
    folder = find(name, download) / "data"
    try:
        return _read(folder, PREFIX + name, keys, n_actions, env_id)
    except InputError as error:
        message = _first_line(error)
        where = "" if message.startswith(str(folder)) else f"{folder}: "
        raise InputError(f"{where}{message}") from None
    except OSError as error:
        raise InputError(
            f"{folder}: {MAIN_FILE}: damaged or cut short: {_first_line(error)}"
        ) from None
    except Exception as error:  # whatever wrong metadata or wrong bytes lead to
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise InputError(f"{folder}: damaged, or not as minari writes it ({reason})") from None


def _read(
    folder: Path,
    name: str,
    keys: Sequence[str] | None,
    n_actions: Counts | None,
    env_id: str | None,
) -> Dataset:
    """Read the data set in a folder; arguments as in `read_minari`."""
    about = _metadata(folder)
    obs_space = _space(about, "observation_space")
    action_space = _space(about, "action_space")
    if n_actions is None:
        n_actions = _n_actions(folder, action_space)

    own_id, own_kwargs = _environment(about)
    if env_id is None:
        own_id = stored_env_id(name, own_id)

    spaces = leaf_spaces(obs_space)
    episodes = _episodes(folder, about.get("data_format", "hdf5"), spaces)
    columns = _columns(episodes, spaces, keys)
    columns["action"] = _from_zero(columns["action"], action_space)

    data = Dataset.from_arrays(
        columns["obs"],
        columns["action"],
        columns["reward"],
        columns["terminated"],
        columns["truncated"],
        columns["next_obs"],
        n_actions=n_actions,
        env_id=env_id or own_id,
        env_kwargs=own_kwargs if env_id is None else None,
        name=name,
    )
    return _described(data, obs_space, spaces, keys, action_space)


def check_id(name: str) -> None:
    """Raise InputError unless a name is an id of a data set, and no path to somewhere else."""
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", name):
        raise InputError(f"{PREFIX}{name}: expected an id such as D4RL/door/human-v2")


def root() -> Path:
    """Return the folder of all data sets, as minari finds it."""
    return Path(os.environ.get(FOLDER) or Path.home() / ".minari" / "datasets")


def find(name: str, download: bool = False) -> Path:
    """Return the folder of a data set, fetched if need be and asked for.

    Raises:
        InputError: it is not on disk, with the place and the nearest id that is; or the download
            failed.
    """
    folder = root() / name
    if (folder / "data" / METADATA).is_file():
        return folder
    if not download:
        raise InputError(
            f"{PREFIX}{name}: no data set in {folder}{nearest(name, _ids_on_disk())}; "
            f"download = true, or `minari download {name}`, fetches it"
        )

    failed = f"{PREFIX}{name}: no data set in {folder}, and no download"
    try:
        import minari

        minari.download_dataset(name)
    except ImportError as error:
        raise InputError(f"{failed}: {error}; pip install 'rlop[minari]' 'minari[hf]'") from None
    except Exception as error:  # its backends raise many types without a network
        raise InputError(f"{failed}: {_first_line(error)}") from None
    return folder


def _ids_on_disk() -> list[str]:
    """List the ids of the data sets in `root`."""
    files = sorted(root().rglob(f"data/{METADATA}"))
    return [path.parents[1].relative_to(root()).as_posix() for path in files]


def _metadata(folder: Path) -> Metadata:
    try:
        return json.loads((folder / METADATA).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / METADATA}: {_first_line(error)}") from None


def _space(about: Metadata, key: str) -> SpaceJSON:
    """Return a space's description; {} where the data set has none."""
    if key not in about:
        return {}
    return json.loads(about[key])


def _n_actions(folder: Path, space: SpaceJSON) -> Counts | None:
    """Return the number of discrete actions, or the choices of each part; None for a Box."""
    kind = space.get("type", "Box")
    if kind == "Discrete":
        return space["n"]
    if kind == "MultiDiscrete":
        return space["nvec"]
    if kind != "Box":
        raise InputError(f"{folder}: actions: {kind} space, expected Box, Discrete, MultiDiscrete")
    return None


def _environment(about: Metadata) -> tuple[str | None, dict[str, object]]:
    """Return id and arguments of the environment to evaluate in.

    It is the data set's own unless the metadata name another for evaluation.
    """
    text = about.get("eval_env_spec") or about.get("env_spec")
    if not text:
        return None, {}

    spec = json.loads(text)
    kwargs = dict(spec.get("kwargs", {}))

    limit = spec.get("max_episode_steps")
    registered = gymnasium.registry.get(spec["id"])
    is_usual = registered is not None and registered.max_episode_steps == limit
    if limit is not None and not is_usual:
        kwargs["max_episode_steps"] = limit

    return spec["id"], kwargs


def _columns(
    episodes: Iterable[Episode],
    spaces: Mapping[str, SpaceJSON],
    keys: Sequence[str] | None,
) -> dict[str, np.ndarray]:
    """Join episodes into the arrays of `Dataset.from_arrays`."""
    parts: dict[str, list[np.ndarray]] = {}
    for episode in episodes:
        _check_lengths(episode)
        chosen = {path: episode.leaves[path] for path in choose(episode.leaves, keys)}
        obs = vector(chosen, spaces)

        terminated = episode.columns["terminations"]
        truncated = episode.columns["truncations"].astype(bool)
        # An episode that ends without a flag was cut.
        truncated[-1:] |= ~terminated[-1:].astype(bool)

        rows = {
            "obs": obs[:-1],
            "next_obs": obs[1:],
            "action": episode.columns["actions"],
            "reward": episode.columns["rewards"],
            "terminated": terminated,
            "truncated": truncated,
        }
        for key, column in rows.items():
            parts.setdefault(key, []).append(column)

    if not parts:
        raise InputError("no episodes")
    return {key: np.concatenate(columns) for key, columns in parts.items()}


def _check_lengths(episode: Episode) -> None:
    """Raise InputError unless columns have T rows and parts of observations T + 1."""
    steps = len(episode.columns["rewards"])
    for key, column in episode.columns.items():
        _check_length(f"{episode.label}/{key}", column, steps, steps)
    for path, leaf in episode.leaves.items():
        _check_length(f"{episode.label}/{join(OBSERVATIONS, path)}", leaf, steps + 1, steps)


def _check_length(where: str, column: np.ndarray, expected: int, steps: int) -> None:
    if len(column) != expected:
        raise InputError(f"{where}: {len(column)} rows, expected {expected} with {steps} rewards")


def _from_zero(actions: np.ndarray, space: SpaceJSON) -> np.ndarray:
    """Number discrete actions from 0, and flatten continuous ones of several axes."""
    if space.get("type") in ("Discrete", "MultiDiscrete"):
        return actions - np.array(space.get("start", 0))
    return actions.reshape(len(actions), -1) if actions.ndim > 2 else actions


def _described(
    data: Dataset,
    obs_space: SpaceJSON,
    spaces: Mapping[str, SpaceJSON],
    keys: Sequence[str] | None,
    action_space: SpaceJSON,
) -> Dataset:
    """Bring actions of a bounded Box to [-1, 1], and record what the environment's own are."""
    spec = data.spec
    if obs_space.get("type") == "Dict":
        no_rows = {path: np.empty((0, 1)) for path in spaces}
        spec = replace(spec, obs_keys=tuple(choose(no_rows, keys)))
    if action_space.get("type") == "Discrete":
        spec = replace(spec, action_start=int(action_space.get("start", 0)))
    data = replace(data, spec=spec)

    shape = tuple(action_space.get("shape", ()))
    if action_space.get("type") != "Box" or int(np.prod(shape)) != data.action.shape[-1]:
        return data
    if len(shape) > 1:
        data = replace(data, spec=replace(data.spec, action_layout=shape))
    low = np.array(action_space["low"], np.float64).reshape(-1)
    high = np.array(action_space["high"], np.float64).reshape(-1)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        return data
    return replace(scale_actions(data, low, high), name=data.name)


def _episodes(folder: Path, kind: str, spaces: Mapping[str, SpaceJSON]) -> Iterator[Episode]:
    """Yield the episodes in the order of their numbers."""
    if kind == "hdf5":
        return _hdf5_episodes(folder)
    if kind in ("arrow", "parquet"):
        return arrow_episodes(folder, kind, spaces)
    raise InputError(f"data_format {kind!r}: expected hdf5, arrow or parquet")


def _hdf5_episodes(folder: Path) -> Iterator[Episode]:
    """Yield the episodes of the main file."""
    path = folder / MAIN_FILE
    if not h5py.is_hdf5(path):
        raise InputError(f"{MAIN_FILE}: missing, or not an HDF5 file")

    with h5py.File(path, "r") as file:
        labels = [name for name in file if re.fullmatch(r"episode_\d+", name)]
        for label in sorted(labels, key=lambda name: int(name.rpartition("_")[2])):
            yield _hdf5_episode(label, own_group(file, label, ""))


def _hdf5_episode(label: str, group: h5py.Group) -> Episode:
    """Read one episode."""
    columns: dict[str, np.ndarray] = {}
    for key in COLUMNS:
        columns[key] = np.atleast_1d(own_array(group, key, label)[()])

    item = own_item(group, OBSERVATIONS, label)
    return Episode(label, dict(_hdf5_leaves(item, "", label)), columns)


def _hdf5_leaves(
    item: h5py.Group | h5py.Dataset, path: str, label: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the parts of an observation with their paths."""
    if isinstance(item, h5py.Dataset):
        if h5py.check_vlen_dtype(item.dtype) is None:  # else images, encoded one by one
            check_stored(item, f"{label}/{join(OBSERVATIONS, path)}")
        yield path, np.atleast_1d(item[()])
        return
    for key in item:
        inner = own_item(item, key, f"{label}/{join(OBSERVATIONS, path)}")
        yield from _hdf5_leaves(inner, join(path, key), label)


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
