"""Read and write HDF5 files in D4RL's layout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from rlop.config.checks import check_range, nearest
from rlop.config.files import atomic
from rlop.data.dataset import Dataset
from rlop.data.formats.keys import D4RL, messages_of
from rlop.types import InputError


def read_hdf5(
    path: str | Path,
    *,
    next_obs: str = "auto",
    n_actions: int | None = None,
    time_limit: int | None = None,
    env_id: str | None = None,
    infos: bool = False,
) -> Dataset:
    """Read a file in D4RL's layout.

    It holds observations, actions, rewards and terminals; timeouts and next_observations if
    present. `next_obs` says which transitions they give:

    - "shifted": D4RL's `qlearning_dataset`. next_obs is the next row's observation, rows marked in
      `timeouts` and the last row are dropped, and terminal rows keep the first observation of the
      next episode.
    - "stored": every row with the file's own next_observations, so that backups look through time
      limits.
    - "auto": "stored" when the file has them.

    Args:
        path: the file.
        next_obs: auto, stored or shifted.
        n_actions: number of discrete actions; by default what the file says, or the largest action
            plus one.
        time_limit: in steps, for files without `timeouts`: the last of every `time_limit` steps
            without a terminal is a time-out.
        env_id: Gymnasium id; by default what the file says.
        infos: also read `infos/*`.

    Raises:
        InputError: no such file, not HDF5, damaged, a missing key, lengths that differ, NaN, an
            action out of range.

    Reference: `qlearning_dataset` in d4rl/__init__.py of D4RL 1.1.
    Differs from: there, a file without `timeouts` is cut by the environment's own step limit, which
        is not known here.
    """
    path = Path(path)
    if time_limit is not None:
        check_range("time_limit", time_limit, low=1)
    if next_obs not in ("auto", "stored", "shifted"):
        raise InputError(f"next_obs = {next_obs!r}: expected auto, stored or shifted")

    with open_hdf5(path) as file:
        has_next = D4RL["next_obs"] in file
        stored = next_obs == "stored" or (next_obs == "auto" and has_next)

        names = ["obs", "action", "reward", "terminated"]
        if stored:
            names.append("next_obs")
        if D4RL["truncated"] in file:
            names.append("truncated")

        arrays = {name: read_key(file, path, D4RL[name]) for name in names}
        further = read_infos(file) if infos else {}
        metadata = dict(file.attrs)

    if "truncated" not in arrays:
        arrays["truncated"] = _timeouts(arrays["terminated"], time_limit)

    if not stored:
        drop_like_d4rl(arrays)

    if n_actions is None and "n_actions" in metadata:
        n_actions = int(metadata["n_actions"])

    env_kwargs = {} if env_id else json.loads(metadata.get("env_kwargs", "{}"))

    with messages_of(path, D4RL):
        return Dataset.from_arrays(
            arrays["obs"],
            arrays["action"],
            arrays["reward"],
            arrays["terminated"],
            arrays["truncated"],
            arrays.get("next_obs"),
            n_actions=n_actions,
            env_id=env_id or metadata.get("env_id"),
            env_kwargs=env_kwargs,
            name=path.name,
            infos=further,
        )


class DamagedFile(InputError):
    """An HDF5 file that cannot be read to its end."""


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises:
        InputError: no such file, or not HDF5; `DamagedFile` where reading it fails.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not h5py.is_hdf5(path):
        raise InputError(f"{path}: not an HDF5 file")

    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise DamagedFile(f"{path}: damaged or cut short ({error})") from None


def read_key(file: h5py.File, path: Path, key: str) -> np.ndarray:
    """Read one array, with float64 converted to float32 while it is read; a scalar as one row."""
    source = file.get(key)
    if not isinstance(source, h5py.Dataset):
        raise InputError(f"{path}: no {key!r}, which D4RL's layout has{nearest(key, file)}")

    if source.dtype != np.float64 or source.ndim == 0:
        return np.atleast_1d(source[()])
    array = np.empty(source.shape, np.float32)
    if array.size > 0:  # h5py before 3.14 divides by zero for an empty array
        source.read_direct(array)
    return array


def read_infos(file: h5py.File) -> dict[str, np.ndarray]:
    """Read the arrays directly below `infos`; {} for a file without them."""
    group = file.get("infos", {})
    return {
        key: np.atleast_1d(item[()])
        for key, item in group.items()
        if isinstance(item, h5py.Dataset)
    }


def drop_like_d4rl(arrays: dict[str, np.ndarray]) -> None:
    """Mark exactly the rows that D4RL drops as truncated, in place.

    These are every time-out and the last row, terminal or not.
    """
    terminated = np.array(arrays["terminated"]).reshape(-1)
    dropped = np.array(arrays["truncated"]).reshape(-1)
    # Other lengths, or none, are for the checks of `Dataset.from_arrays` to refuse.
    if len(terminated) == 0 or terminated.shape != dropped.shape:
        return

    dropped[-1] = 1
    terminated[dropped != 0] = 0
    arrays["terminated"] = terminated
    arrays["truncated"] = dropped


def write_hdf5(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, object],
    overwrite: bool = False,
) -> None:
    """Write arrays under their keys and metadata as attributes of the file; all of it or nothing.

    Bytes and booleans are compressed (gzip level 1: a tenth of the size for sparse images). Floats
    are not: compression saves a tenth of them at fifty times the time to write.

    Args:
        path: the file; its folder is made when missing.
        arrays: key, possibly with `/`, -> array.
        metadata: strings, numbers, and anything else that JSON can hold, stored as JSON text.
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
            if array.ndim > 0 and array.dtype in (np.uint8, np.bool_):
                file.create_dataset(key, data=array, compression="gzip", compression_opts=1)
            else:
                file.create_dataset(key, data=array)

        for key, value in metadata.items():
            is_plain = isinstance(value, str | int | float)
            file.attrs[key] = value if is_plain else json.dumps(value)


def _timeouts(terminals: np.ndarray, time_limit: int | None) -> np.ndarray:
    """Mark every `time_limit`-th row since the last terminal one, for files without `timeouts`."""
    rows = np.arange(len(terminals))
    if time_limit is None:
        return np.zeros(len(rows), bool)

    over = terminals.reshape(-1).astype(bool)
    starts = np.append(True, over[:-1])
    begin = np.maximum.accumulate(np.where(starts, rows, 0))
    return (rows - begin) % time_limit == time_limit - 1
