"""Read NumPy archives with one array per column."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlop.config.checks import check_known, check_range
from rlop.data.dataset import Dataset
from rlop.data.formats.keys import IGNORED, assign, check_unknown_flags, flags, messages_of
from rlop.data.formats.npz_members import arrays_of, open_npz, read_array, read_header
from rlop.envs.make import time_limit as time_limit_of
from rlop.types import InputError

SCALARS = ("n_actions", "env_id")  # arrays of one value that are no columns


def read_npz(
    path: str | Path,
    *,
    keys: Mapping[str, object] | None = None,
    ends: str = "flagged",
    n_actions: int | None = None,
    time_limit: int | None = None,
    env_id: str | None = None,
) -> Dataset:
    """Read an archive written by `numpy.savez`, with one array per column.

    `rlop.data.formats.keys.NAMES` lists the names that a column may have: obs, action, reward,
    terminated, truncated, next_obs, D4RL's, and others'. `Dataset.keys` says which array was taken
    for what. Scalars n_actions and env_id are read where present. Pickled (object) arrays are never
    read.

    Stable Baselines' `generate_expert_traj` writes obs, actions, rewards, episode_starts. This
    format does not say why an episode ended and leaves out its last observation. With a time limit,
    episodes that long are truncated, so that their last row, whose successor is unknown, is
    dropped; all shorter ones terminated. Without one, every episode is truncated and no row is
    terminal: then CartPole, say, holds no trace of failing. Give `time_limit`, or an `env_id` from
    which Gymnasium knows it.

    Args:
        path: the file.
        keys: role -> name of an array, where the names are others, such as
            `{truncated: my_flags}`; `ignore` names arrays that are not read.
        ends: `flagged`; `none` for a file without any end of an episode.
        n_actions: number of discrete actions; by default what the file says, or the largest action
            plus one.
        time_limit: of the environment in steps, for files that mark no truncation.
        env_id: Gymnasium id; by default what the file says.

    Raises:
        InputError: no such file, not an archive, damaged, a missing or unknown array, an object
            array, lengths that differ, NaN.
    """
    path = Path(path).expanduser()
    if time_limit is not None:
        check_range("time_limit", time_limit, low=1)
    check_known("ends:", ends, ("flagged", "none"))

    with open_npz(path) as file:
        names = [name for name in arrays_of(file) if name not in SCALARS]
        roles = assign(path, names, keys)
        arrays = {role: read_array(file, path, name) for role, name in roles.items()}
        rows = len(np.atleast_1d(arrays["obs"]))
        check_unknown_flags(path, _unknown(file, path, roles, keys, rows), rows)
        scalars = {
            name: _scalar(file, path, name) for name in SCALARS if f"{name}.npy" in file.namelist()
        }

    if env_id is None and "env_id" in scalars:
        env_id = str(scalars["env_id"])
    if n_actions is None and "n_actions" in scalars:
        n_actions = _whole(path, scalars["n_actions"])
    if time_limit is None and env_id is not None and "start" in roles:
        time_limit = time_limit_of(env_id)

    terminated, truncated = flags(path, rows, arrays, roles, time_limit, ends)
    with messages_of(path, roles):
        data = Dataset.from_arrays(
            arrays["obs"],
            arrays["action"],
            arrays["reward"],
            terminated,
            truncated,
            arrays.get("next_obs"),
            n_actions=n_actions,
            env_id=env_id,
            name=path.name,
        )
    return replace(data, keys=roles)


def _unknown(
    file: zipfile.ZipFile,
    path: Path,
    roles: Mapping[str, str],
    keys: Mapping[str, object] | None,
    rows: int,
) -> dict[str, np.ndarray]:
    """Read the arrays of one number per row that have no role and are not ignored."""
    ignored = (keys or {}).get(IGNORED, ())
    unknown = {}
    for name in arrays_of(file):
        if name in roles.values() or name == ignored or name in tuple(ignored):  # type: ignore[arg-type]  # checked by `assign`
            continue
        try:
            shape = read_header(file, path, name).shape
        except InputError:
            continue  # pickled extras, such as infos, are left alone
        if shape in ((rows,), (rows, 1)):
            unknown[name] = read_array(file, path, name)
    return unknown


def _scalar(file: zipfile.ZipFile, path: Path, name: str) -> object:
    """Return the one value of an array."""
    array = read_array(file, path, name)
    if array.size != 1:
        raise InputError(f"{path}: {name}: shape {array.shape}, expected a single value")
    return array.reshape(())[()]


def _whole(path: Path, value: object) -> int:
    """Return a whole number."""
    number = np.asarray(value)
    if number.dtype.kind not in "iuf" or number % 1:
        raise InputError(f"{path}: n_actions = {value}: expected a whole number")
    return int(number)
