"""Read NumPy archives with one array per column."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlop.config.checks import check_known, check_range
from rlop.data.dataset import Dataset
from rlop.data.formats.keys import (
    assign,
    check_unknown_flags,
    flags,
    messages_of,
    without_role,
)
from rlop.data.formats.members import Archive, open_archive
from rlop.data.formats.recognized import npz_neighbor, read_neighbor
from rlop.data.native import Bound, Counts, whole_number
from rlop.data.units import in_units
from rlop.envs.make import stored_env_id
from rlop.envs.make import time_limit as time_limit_of
from rlop.types import InputError

SCALARS = ("n_actions", "env_id")  # arrays of one value that are no columns


def read_npz(
    path: str | Path,
    *,
    keys: Mapping[str, object] | None = None,
    ends: str = "flagged",
    n_actions: Counts | None = None,
    time_limit: int | None = None,
    env_id: str | None = None,
    action_low: Bound | None = None,
    action_high: Bound | None = None,
    action_start: int = 0,
    action_units: str = "native",
) -> Dataset:
    """Read an archive written by `numpy.savez`, with one array per column.

    Archives of imitation are recognized and read as `imitation:FILE`, which has options of its own.

    `rlop.data.formats.keys.NAMES` lists the names that a column may have: obs, action, reward,
    terminated, truncated, next_obs, D4RL's, and others'. `Dataset.keys` says which array was taken
    for what. Scalars n_actions and env_id are read where present. Pickled (object) arrays are never
    read.

    Stable Baselines' `generate_expert_traj` writes obs, actions, rewards, episode_starts. This
    format does not say why an episode ended and leaves out its last observation. With a time limit,
    episodes that long are truncated, so that their last row, whose successor is unknown, is
    dropped; all shorter ones terminated. Without one, every episode is truncated and no row is
    terminal, so that nothing in CartPole's data says that a pole fell. Give `time_limit`, or an
    `env_id` from which Gymnasium knows it.

    Args:
        path: the file.
        keys: role -> name of an array, where the names are others, such as
            `{truncated: my_flags}`; `ignore` names arrays that are not read.
        ends: `flagged`; `none` for a file without any end of an episode.
        n_actions: number of discrete actions, or the choices of each part of one; by default what
            the file says, or the largest action plus one.
        time_limit: of the environment in steps, for files that mark no truncation.
        env_id: Gymnasium id; by default what the file says.
        action_low: lowest continuous action of the environment, a number or one per dimension.
        action_high: the highest.
        action_start: first discrete action of the environment.
        action_units: of the file's actions: `native`, which are brought to [-1, 1] or numbered from
            0, or `unit`.

    Raises:
        InputError: no such file, not an archive, damaged, a missing or unknown array, an object
            array, lengths that differ, NaN.
    """
    path = Path(path).expanduser()
    if time_limit is not None:
        check_range("time_limit", time_limit, low=1)
    check_known("ends:", ends, ("flagged", "none"))

    with open_archive(path) as file:
        neighbor = npz_neighbor(file.keys)
        if neighbor is not None and keys is None:
            options = {
                "ends": ends,
                "n_actions": n_actions,
                "time_limit": time_limit,
                "env_id": env_id,
                "action_low": action_low,
                "action_high": action_high,
                "action_start": action_start,
                "action_units": action_units,
            }
            return read_neighbor(neighbor, path, read_npz, options)

        roles = assign(path, [name for name in file.keys if name not in SCALARS], keys)
        arrays = {role: file.read(name) for role, name in roles.items()}
        rows = len(arrays["obs"])
        check_unknown_flags(path, _unknown(file, roles, keys, rows), rows)
        scalars = {name: file.scalar(name) for name in SCALARS if name in file.keys}

    if env_id is None and "env_id" in scalars:
        env_id = stored_env_id(path, str(scalars["env_id"]))
    if n_actions is None and "n_actions" in scalars:
        n_actions = whole_number(f"{path}: n_actions", scalars["n_actions"])
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
            action_start=action_start,
            action_units=action_units,
            env_id=env_id,
            name=path.name,
            reuse=True,
        )
    data = replace(data, keys=roles)
    return in_units(data, action_low, action_high, action_units)


def _unknown(
    file: Archive,
    roles: Mapping[str, str],
    keys: Mapping[str, object] | None,
    rows: int,
) -> dict[str, np.ndarray]:
    """Read the arrays of one number per row that have no role and are not ignored."""
    unknown = {}
    for name in without_role(file.keys, roles, keys):
        with suppress(InputError):  # text and pickled extras, such as infos, are left alone
            if file.header(name).shape in ((rows,), (rows, 1)):
                unknown[name] = file.read(name)
    return unknown
