"""Minari's data sets by id, read from their files; the package minari is needed to download only."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np

from rlop.config.checks import nearest
from rlop.data.dataset import Dataset
from rlop.envs.layouts import to_unit
from rlop.types import InputError

PREFIX = "minari:"
MAIN_FILE, METADATA = "main_data.hdf5", "metadata.json"
Leaves = dict[str, np.ndarray]  # path of a part of an observation, "" for the whole -> [T + 1, ...]


def read_minari(
    source: str,
    *,
    keys: Sequence[str] | None = None,
    download: bool = False,
    n_actions: int | None = None,
    env_id: str | None = None,
) -> Dataset:
    """`minari:ID` from `$MINARI_DATASETS_PATH` or `~/.minari/datasets`, of format hdf5, arrow or parquet.

    Episodes hold one observation more than they have steps, so that every row has its true next_obs, time-outs too. An
    episode that ends without a flag is marked truncated.

    Dict observations become one vector: the parts in the order of their sorted names (so achieved_goal, desired_goal,
    observation), nested ones as `a/b`, each flattened, and put behind each other; a Discrete part as one-hot. This is
    what `gymnasium.wrappers.FlattenObservation` makes of a Dict space. An observation of one part keeps its shape.
    Actions of a bounded Box are brought to [-1, 1].

    Args:
        source: id, with or without `minari:`.
        keys: parts of a Dict observation to take, in this order; a name stands for all below it too.
        download: fetch the data set if it is not there, for which minari must be installed.
        n_actions: number of discrete actions; by default what the action space says.
        env_id: Gymnasium id for evaluation; by default the evaluation environment of the data set, or its own.

    Raises:
        InputError: no such data set here, a space that does not fit, missing or mis-sized parts.
    """
    name = str(source).removeprefix(PREFIX)
    folder = find(name, download) / "data"
    about = _metadata(folder)
    spaces = {
        key: json.loads(about[key]) if key in about else {}
        for key in ("observation_space", "action_space")
    }
    n_actions = _n_actions(folder, spaces["action_space"]) if n_actions is None else n_actions
    known_id, env_kwargs = _environment(about)
    try:
        columns = _columns(folder, about.get("data_format", "hdf5"), spaces, keys)
        return Dataset.from_arrays(
            **columns,
            n_actions=n_actions,
            env_id=env_id or known_id,
            env_kwargs=env_kwargs if env_id is None else None,
            name=PREFIX + name,
        )
    except (InputError, OSError) as error:
        fault = "" if isinstance(error, InputError) else f"{MAIN_FILE}: damaged or cut short: "
        raise InputError(f"{folder}: {fault}{str(error).splitlines()[0]}") from None


def root() -> Path:
    """The folder of all data sets, as minari finds it."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def find(name: str, download: bool = False) -> Path:
    """The folder of a data set, fetched if need be and asked for.

    Raises:
        InputError: it is not there, with the place and the nearest id that is; or the download failed.
    """
    folder = root() / name
    if (folder / "data" / METADATA).is_file():
        return folder
    if not download:
        local = [
            path.parents[1].relative_to(root()).as_posix()
            for path in sorted(root().rglob(f"data/{METADATA}"))
        ]
        fix = f"; download = true, or `minari download {name}`, fetches it"
        raise InputError(f"{PREFIX}{name}: no data set in {folder}{nearest(name, local)}{fix}")
    try:
        import minari

        minari.download_dataset(name)
    except ImportError as error:
        fix = "pip install 'rlop[minari]' 'minari[hf]'"
        raise InputError(
            f"{PREFIX}{name}: no data set in {folder}, and no download: {error}; {fix}"
        ) from None
    except Exception as error:  # whatever its backends raise without a network
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{PREFIX}{name}: no data set in {folder}, and no download: {reason}"
        ) from None
    return folder


def _metadata(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / METADATA).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / METADATA}: {str(error).splitlines()[0]}") from None


def _n_actions(folder: Path, space: dict[str, Any]) -> int | None:
    kind = space.get("type", "Box")
    if kind not in ("Box", "Discrete") or space.get("start", 0) != 0:
        raise InputError(f"{folder}: actions: {kind} space, expected Box, or Discrete from 0")
    return space["n"] if kind == "Discrete" else None


def _environment(about: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Id and arguments of the environment to evaluate in, the data set's own unless it names another."""
    text = about.get("eval_env_spec") or about.get("env_spec")
    if not text:
        return None, {}
    spec = json.loads(text)
    known, limit = gymnasium.registry.get(spec["id"]), spec.get("max_episode_steps")
    usual = limit is None or (known is not None and known.max_episode_steps == limit)
    return spec["id"], {**spec.get("kwargs", {}), **({} if usual else {"max_episode_steps": limit})}


def _columns(
    folder: Path, kind: str, spaces: dict[str, Any], keys: Sequence[str] | None
) -> dict[str, Any]:
    """Arguments of `Dataset.from_arrays`."""
    obs_spaces = _leaf_spaces(spaces["observation_space"])
    parts: dict[str, list[np.ndarray]] = {}
    for label, episode in _episodes(folder, kind, obs_spaces):
        leaves: Leaves = episode.pop("observations")
        steps = len(episode["rewards"])
        for key, column in {
            **episode,
            **{_join("observations", path): leaf for path, leaf in leaves.items()},
        }.items():
            expected = steps + key.startswith("observations")
            if len(column) != expected:
                raise InputError(
                    f"{label}/{key}: {len(column)} rows, expected {expected} with {steps} rewards"
                )
        obs = _vector({path: leaves[path] for path in _chosen(leaves, keys)}, obs_spaces)
        cut = episode["truncations"].astype(bool)
        cut[-1:] |= ~episode["terminations"][-1:].astype(bool)
        row = {
            "obs": obs[:-1],
            "next_obs": obs[1:],
            "action": episode["actions"],
            "reward": episode["rewards"],
        }
        for key, column in {**row, "terminated": episode["terminations"], "truncated": cut}.items():
            parts.setdefault(key, []).append(column)
    if not parts:
        raise InputError("no episodes")
    arrays = {key: np.concatenate(columns) for key, columns in parts.items()}
    return {**arrays, "action": _unit(arrays["action"], spaces["action_space"])}


def _unit(actions: np.ndarray, space: dict[str, Any]) -> np.ndarray:
    """Continuous actions in [-1, 1], as agents act."""
    if space.get("type") != "Box" or actions.shape[1:] != tuple(space["shape"]):
        return actions
    low, high = (
        np.array(space[end], np.float32).reshape(space["shape"]) for end in ("low", "high")
    )
    is_unit = (low == -1).all() and (high == 1).all()
    return actions if is_unit else to_unit(actions, gymnasium.spaces.Box(low, high))


def _episodes(
    folder: Path, kind: str, spaces: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each episode in the order of its number: `observations`, a dict of parts, and the other columns."""
    if kind == "hdf5":
        if not h5py.is_hdf5(folder / MAIN_FILE):
            raise InputError(f"{MAIN_FILE}: missing, or not an HDF5 file")
        with h5py.File(folder / MAIN_FILE, "r") as file:
            labels = [name for name in file if re.fullmatch(r"episode_\d+", name)]
            for label in sorted(labels, key=lambda name: int(name.rpartition("_")[2])):
                group = file[label]
                for key in ("observations", "actions", "rewards", "terminations", "truncations"):
                    if key not in group:
                        raise InputError(f"{label}: no {key!r}{nearest(key, group)}")
                flat = {
                    key: group[key] for key in ("actions", "rewards", "terminations", "truncations")
                }
                for key, item in flat.items():
                    if not isinstance(item, h5py.Dataset):
                        raise InputError(f"{label}/{key}: a group, expected one array")
                columns: dict[str, Any] = {
                    key: np.atleast_1d(item[()]) for key, item in flat.items()
                }
                yield (
                    label,
                    {**columns, "observations": dict(_hdf5_leaves(group["observations"], ""))},
                )
    elif kind in ("arrow", "parquet"):
        from rlop.data.formats.arrow import episodes

        yield from episodes(folder, kind, spaces)
    else:
        raise InputError(f"data_format {kind!r}: expected hdf5, arrow or parquet")


def _hdf5_leaves(item: h5py.Group | h5py.Dataset, path: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(item, h5py.Dataset):
        yield path, np.atleast_1d(item[()])
    else:
        for key in item:
            yield from _hdf5_leaves(item[key], _join(path, key))


def _join(path: str, key: str) -> str:
    return f"{path}/{key}" if path and key else path or key


def _leaf_spaces(space: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    """The spaces of the parts of a Dict space by path, from minari's description of it."""
    if space.get("type") != "Dict":
        return {path: space} if space else {}
    found = [_leaf_spaces(inner, _join(path, key)) for key, inner in space["subspaces"].items()]
    return {path: inner for spaces in found for path, inner in spaces.items()}


def _chosen(leaves: Leaves, keys: Sequence[str] | None) -> list[str]:
    """Paths of the parts to take, in order."""
    if keys is None:
        return sorted(leaves, key=lambda path: path.split("/"))
    if isinstance(keys, str):
        keys = [keys]
    chosen: list[str] = []
    for key in keys:
        below = [path for path in sorted(leaves) if path == key or path.startswith(f"{key}/")]
        if not below:
            raise InputError(f"observations: no part {key!r}{nearest(key, leaves)}")
        chosen += below
    return chosen


def _vector(leaves: Leaves, spaces: dict[str, Any]) -> np.ndarray:
    """The parts as one array `[T + 1, ...]`; see `read_minari`."""
    columns = [_numbers(path, leaf, spaces.get(path, {})) for path, leaf in leaves.items()]
    if len(columns) == 1:
        return columns[0]
    return np.concatenate(
        [column.reshape(len(column), -1).astype(np.float32) for column in columns], axis=1
    )


def _numbers(path: str, leaf: np.ndarray, space: dict[str, Any]) -> np.ndarray:
    """One part: bytes and booleans as they are, discrete values as one-hot, all else as float32."""
    where, kind = _join("observations", path), space.get("type", "Box")
    if kind == "Discrete":
        value = leaf.reshape(-1).astype(int) - space.get("start", 0)
        if value.min() < 0 or value.max() >= space["n"]:
            raise InputError(
                f"{where}: {leaf.min()} to {leaf.max()}, expected {space['n']} values of a Discrete space"
            )
        return np.eye(space["n"], dtype=np.float32)[value]
    if kind not in ("Box", "MultiBinary") or leaf.dtype.kind not in "fiub":
        raise InputError(
            f"{where}: {kind} of {leaf.dtype}, expected numbers; leave it out with keys=[...]"
        )
    if "shape" in space and leaf.shape[1:] != tuple(space["shape"]):
        raise InputError(
            f"{where}: rows {leaf.shape[1:]}, expected {tuple(space['shape'])}; JPEG images are not read"
        )
    return leaf if leaf.dtype in (np.uint8, np.bool_) else leaf.astype(np.float32, copy=False)
