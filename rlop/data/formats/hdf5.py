"""Read and write HDF5 files in D4RL's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rlop.config.checks import check_range, nearest
from rlop.config.files import atomic
from rlop.data.dataset import Dataset
from rlop.types import InputError

KEYS = {
    "obs": "observations",
    "action": "actions",
    "reward": "rewards",
    "terminated": "terminals",
    "truncated": "timeouts",
    "next_obs": "next_observations",
}


def read_hdf5(
    path: str | Path,
    *,
    next_obs: str = "auto",
    n_actions: int | None = None,
    time_limit: int | None = None,
    env_id: str | None = None,
    infos: bool = False,
) -> Dataset:
    """A file in D4RL's layout: observations, actions, rewards, terminals; timeouts and next_observations if present.

    "shifted" gives the transitions of D4RL's `qlearning_dataset`: next_obs is the next row's observation, rows marked
    in `timeouts` and the last row are dropped, and terminal rows keep the first observation of the next episode.
    "stored" keeps every row with the file's own next_observations, so that backups look through time limits. "auto" is
    "stored" when the file has them.

    Args:
        path: the file.
        next_obs: auto, stored or shifted.
        n_actions: number of discrete actions; by default what the file says, or the largest action plus one.
        time_limit: for files without `timeouts`: every so many steps without a terminal is a time-out.
        env_id: Gymnasium id; by default what the file says.
        infos: also read `infos/*`.

    Raises:
        InputError: no such file, not HDF5, a missing key, lengths that differ, NaN, an action out of range.

    Reference: `qlearning_dataset` in d4rl/__init__.py of D4RL 1.1. Differs from: there, a file without `timeouts` is
    cut by the environment's own step limit, which is not known here.
    """
    path = Path(path)
    check_range("time_limit", 1 if time_limit is None else time_limit, low=1)
    if next_obs not in ("auto", "stored", "shifted"):
        raise InputError(f"next_obs = {next_obs!r}: expected auto, stored or shifted")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not h5py.is_hdf5(path):
        raise InputError(f"{path}: not an HDF5 file")
    with h5py.File(path, "r") as file:
        stored = next_obs == "stored" or (next_obs == "auto" and KEYS["next_obs"] in file)
        names = ["obs", "action", "reward", "terminated", *(["next_obs"] if stored else [])]
        arrays = {name: read_key(file, path, KEYS[name]) for name in names}
        timeouts = read_key(file, path, KEYS["truncated"]) if KEYS["truncated"] in file else None
        extra = (
            {key: value[()] for key, value in file["infos"].items()}
            if infos and "infos" in file
            else None
        )
        attributes = dict(file.attrs)
    n_actions = (
        int(attributes["n_actions"])
        if n_actions is None and "n_actions" in attributes
        else n_actions
    )
    try:
        arrays["truncated"] = (
            _timeouts(arrays["terminated"], time_limit) if timeouts is None else timeouts
        )
        if not stored:
            drop_like_d4rl(arrays)
        return Dataset.from_arrays(
            **arrays,
            n_actions=n_actions,
            env_id=env_id or attributes.get("env_id"),
            env_kwargs=json.loads(attributes.get("env_kwargs", "{}")) if env_id is None else None,
            name=path.name,
            infos=extra,
        )
    except InputError as error:
        key, _, rest = str(error).partition(":")
        raise InputError(f"{path}: {KEYS.get(key, key)}:{rest}") from None


def read_key(file: h5py.File, path: Path, key: str) -> np.ndarray:
    """One array, with float64 converted to float32 while it is read."""
    if key not in file or not isinstance(file[key], h5py.Dataset):
        raise InputError(f"{path}: no {key!r}, which D4RL's layout has{nearest(key, file)}")
    source = file[key]
    if source.dtype != np.float64 or source.ndim == 0:
        return np.asarray(source[()])
    array = np.empty(source.shape, np.float32)
    source.read_direct(array)
    return array


def _timeouts(terminals: np.ndarray, time_limit: int | None) -> np.ndarray:
    """Every `time_limit`-th row since the last terminal one, for files without `timeouts`."""
    rows = np.arange(len(terminals))
    if time_limit is None:
        return np.zeros(len(rows), bool)
    over = np.asarray(terminals).reshape(-1).astype(bool)
    begins = np.maximum.accumulate(np.where(np.append(True, over[:-1]), rows, 0))
    return (rows - begins) % time_limit == time_limit - 1


def drop_like_d4rl(arrays: dict[str, np.ndarray]) -> None:
    """Mark exactly the rows that D4RL drops as truncated: every time-out and the last row, terminal or not."""
    over, dropped = (np.array(arrays[key]).reshape(-1) for key in ("terminated", "truncated"))
    if (
        len(over) and over.shape == dropped.shape
    ):  # if not, it is for the checks of `Dataset.from_arrays` to say
        dropped[-1] = 1
        over[dropped != 0] = 0
        arrays["terminated"], arrays["truncated"] = over, dropped


def write_hdf5(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write arrays under their keys and metadata as attributes of the file; all of it or nothing.

    Bytes and booleans are compressed (gzip level 1: a tenth of the size for sparse images). Floats are not: it saves
    a tenth of them at fifty times the time to write.

    Args:
        path: the file; its folder is made when missing.
        arrays: key, possibly with `/`, -> array.
        metadata: strings, numbers, and whatever else JSON can hold, which is stored as JSON text.
        overwrite: replace an existing file.

    Raises:
        InputError: the file exists already.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name, or overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        for key, array in arrays.items():
            small = array.dtype in (np.uint8, np.bool_) and array.ndim > 0
            file.create_dataset(
                key, data=array, **({"compression": "gzip", "compression_opts": 1} if small else {})
            )
        for key, value in metadata.items():
            file.attrs[key] = value if isinstance(value, str | int | float) else json.dumps(value)
