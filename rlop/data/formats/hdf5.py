"""Read and write HDF5 files in D4RL's layout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path

import h5py
import numpy as np

from rlop.config.checks import check_known, check_range, within
from rlop.config.files import atomic
from rlop.config.writing import unwritable_named
from rlop.data.dataset import Dataset
from rlop.data.formats.hdf5_new import new_hdf5
from rlop.data.formats.keys import (
    assign,
    check_unknown_flags,
    flags,
    messages_of,
    without_role,
)
from rlop.data.formats.own_arrays import has, is_group, open_hdf5, own_array, own_group
from rlop.data.formats.recognized import hdf5_neighbor, read_neighbor
from rlop.data.formats.spec_attributes import with_attributes
from rlop.data.mapped import PIECE, advancing, empty
from rlop.data.native import Bound, Counts, whole_number
from rlop.data.units import in_units, with_bounds
from rlop.envs.stored import stored_env
from rlop.types import InputError

ROWS = 1024  # that are stored at once, of what only looks like an array


def read_hdf5(
    path: str | Path,
    *,
    keys: Mapping[str, object] | None = None,
    ends: str = "flagged",
    next_obs: str = "auto",
    n_actions: Counts | None = None,
    time_limit: int | None = None,
    env_id: str | None = None,
    action_low: Bound | None = None,
    action_high: Bound | None = None,
    action_start: int = 0,
    action_units: str = "native",
    infos: bool = False,
) -> Dataset:
    """Read an HDF5 file with one array per column, such as those in D4RL's layout.

    Files of d3rlpy 2 and of robomimic are recognized and read as `d3rlpy:FILE` and
    `robomimic:FILE`, which have options of their own.

    `rlop.data.formats.keys.NAMES` lists the names that a column may have: observations, actions,
    rewards, terminals, timeouts, next_observations, and others'. `Dataset.keys` says which array
    was taken for what. `next_obs` says which transitions the file gives:

    - "shifted": next_obs is the next row's observation. Truncated rows and a last row that did not
      terminate have none, and are dropped; terminated rows keep the observation that follows, which
      targets mask.
    - "stored": every row with the file's own next_observations, so that backups look through time
      limits.
    - "auto": "stored" when the file has them.

    Where both flags are set, the row terminated, as in `Dataset.from_arrays`.

    Args:
        path: the file.
        keys: role -> name of an array, where the names are others, such as
            `{truncated: my_flags}`; `ignore` names arrays that are not read.
        ends: `flagged`; `none` for a file without any end of an episode.
        next_obs: auto, stored or shifted.
        n_actions: number of discrete actions, or the choices of each part of one; by default what
            the file says, or the largest action plus one.
        time_limit: in steps, for files that mark no truncation: the last of every `time_limit`
            steps without an end is a time-out.
        env_id: Gymnasium id; by default what the file says.
        action_low: lowest continuous action of the environment, a number or one per dimension; by
            default what the file says.
        action_high: the highest.
        action_start: first discrete action of the environment.
        action_units: of the file's actions: `native`, which are brought to [-1, 1] or numbered from
            0, or `unit`.
        infos: also read `infos/*`.

    Raises:
        InputError: no such file, not HDF5, damaged, a missing or unknown array, lengths that
            differ, NaN, an action out of range, or arrays stored outside the file.

    Differs from: `qlearning_dataset` of D4RL, which `d4rl:NAME` follows, drops every time-out and
        the last row, terminal or not.
    """
    path = Path(path).expanduser()
    if time_limit is not None:
        check_range("time_limit", time_limit, low=1)
    if next_obs not in ("auto", "stored", "shifted"):
        raise InputError(f"next_obs = {next_obs!r}: expected auto, stored or shifted")
    check_known("ends:", ends, ("flagged", "none"))

    with open_hdf5(path) as file:
        neighbor = hdf5_neighbor(file)
        if neighbor is not None and keys is None:
            options = {
                "ends": ends,
                "next_obs": next_obs,
                "n_actions": n_actions,
                "time_limit": time_limit,
                "env_id": env_id,
                "action_low": action_low,
                "action_high": action_high,
                "action_start": action_start,
                "action_units": action_units,
                "infos": infos,
            }
            return read_neighbor(neighbor, path, read_hdf5, options)

        roles = assign(path, arrays_of(file), keys)
        if next_obs == "shifted":
            roles.pop("next_obs", None)
        if next_obs == "stored" and "next_obs" not in roles:
            raise InputError(f"{path}: no 'next_observations', expected them for next_obs = stored")

        arrays = {role: read_key(file, path, name) for role, name in roles.items()}
        rows = len(arrays["obs"])
        check_unknown_flags(path, _unknown(file, path, roles, keys, rows), rows)
        further = read_infos(file, path) if infos else {}
        metadata = dict(file.attrs)

    terminated, truncated = flags(path, rows, arrays, roles, time_limit, ends)
    if n_actions is None and "n_actions" in metadata:
        n_actions = whole_number(f"{path}: attribute n_actions", metadata["n_actions"])
    env_kwargs: Mapping[str, object] = {}
    if env_id is None:
        stored_id = _text(path, metadata, "env_id")
        env_id, env_kwargs = stored_env(path, stored_id, _mapping(path, metadata, "env_kwargs"))

    with messages_of(path, roles):
        data = Dataset.from_arrays(
            arrays["obs"],
            arrays["action"],
            arrays["reward"],
            terminated,
            truncated,
            arrays.get("next_obs"),
            n_actions=n_actions,
            action_start=action_start,
            action_units=action_units,
            env_id=env_id,
            env_kwargs=env_kwargs,
            name=path.name,
            infos=further,
            reuse=True,
        )
    data = with_attributes(path, replace(data, keys=roles), metadata)
    if action_low is None and "action_low" in metadata and data.spec.n_actions is None:
        # `rlop collect` stores actions in [-1, 1], and says which actions of the environment -1 and
        # 1 are.
        return with_bounds(
            data,
            _list(path, metadata, "action_low"),
            _list(path, metadata, "action_high"),
        )
    return in_units(data, action_low, action_high, action_units)


def arrays_of(file: h5py.File) -> list[str]:
    """Return the names directly below the root that are not groups, links included."""
    return [name for name in file if not is_group(file, name)]


def _unknown(
    file: h5py.File,
    path: Path,
    roles: Mapping[str, str],
    keys: Mapping[str, object] | None,
    rows: int,
) -> dict[str, np.ndarray]:
    """Read the arrays of one number per row that have no role and are not ignored."""
    unknown = {}
    for name in without_role(arrays_of(file), roles, keys):
        with suppress(InputError):  # text and links are nobody's flags, and are not read
            item = own_array(file, name, "")
            if item.shape in ((rows,), (rows, 1)):
                unknown[name] = item[()]
    return unknown


def _text(path: Path, metadata: Mapping[str, object], key: str) -> str | None:
    """Return an attribute of text, which may be stored as bytes; None where there is none."""
    value = metadata.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    raise InputError(f"{path}: attribute {key} = {value!r}: expected text")


def _list(path: Path, metadata: Mapping[str, object], key: str) -> np.ndarray:
    """Return an attribute that holds a list of numbers in JSON."""
    try:
        return np.array(json.loads(_text(path, metadata, key) or ""), np.float64).reshape(-1)
    except (TypeError, ValueError, RecursionError):
        raise InputError(f"{path}: attribute {key}: expected a list of numbers in JSON") from None


def _mapping(path: Path, metadata: Mapping[str, object], key: str) -> dict[str, object]:
    """Return an attribute that holds a mapping in JSON; {} where there is none."""
    try:
        value = json.loads(_text(path, metadata, key) or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{path}: attribute {key}: expected a mapping in JSON")
    return value


def read_key(file: h5py.File, path: Path, key: str) -> np.ndarray:
    """Read one array, with float64 converted to float32 while it is read; a scalar as one row.

    Raises:
        InputError: no such array, or one that is not numbers or not stored in the file.
    """
    with within(str(path)):
        source = own_array(file, key, "")

    if source.ndim == 0:
        return np.atleast_1d(source[()])
    array = empty(source.shape, np.float32 if source.dtype == np.float64 else source.dtype)
    if array.size == 0:  # h5py before 3.14 divides by zero for an empty array
        return array
    advance = advancing()
    for rows in _stored_pieces(source):
        source.read_direct(array, rows, rows)
        advance(array[rows].nbytes)
    return array


def _stored_pieces(source: h5py.Dataset) -> Iterator[slice]:
    """Yield the rows of an array in turn, so that none of its chunks is unpacked twice."""
    stored = source.chunks[0] if source.chunks else 1
    row_bytes = max(1, source.dtype.itemsize * prod(source.shape[1:]))
    step = max(1, PIECE // (row_bytes * stored)) * stored
    for start in range(0, len(source), step):
        yield slice(start, min(start + step, len(source)))


def read_infos(file: h5py.File, path: Path) -> dict[str, np.ndarray]:
    """Read the arrays directly below `infos`; {} for a file without them."""
    if not has(file, "infos"):
        return {}
    arrays = {}
    with within(str(path)):
        group = own_group(file, "infos", "")
        for key in group:
            if not is_group(group, key):
                arrays[key] = np.atleast_1d(own_array(group, key, "infos")[()])
    return arrays


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
        InputError: the file exists already, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name, or overwrite")
    with unwritable_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)

    with atomic(path) as temporary, new_hdf5(temporary) as file:
        for key, array in arrays.items():
            _store(file, key, array)

        for key, value in metadata.items():
            is_plain = isinstance(value, str | int | float)
            file.attrs[key] = value if is_plain else json.dumps(value)


def _store(file: h5py.File, key: str, array: np.ndarray) -> None:
    """Store an array; what only looks like one, such as stacked frames, piece by piece."""
    packed = array.ndim > 0 and array.dtype in (np.uint8, np.bool_)
    options = {"compression": "gzip", "compression_opts": 1} if packed else {}
    if isinstance(array, np.ndarray):
        file.create_dataset(key, data=array, **options)
        return

    item = file.create_dataset(key, array.shape, array.dtype, **options)
    for start in range(0, len(array), ROWS):
        item[start : start + ROWS] = np.asarray(array[start : start + ROWS])
