"""Read NumPy archives: our own columns, or the expert files of Stable Baselines."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from rlop.config.checks import check_range, nearest
from rlop.data.dataset import Dataset
from rlop.data.formats import keys
from rlop.envs.make import time_limit as time_limit_of
from rlop.types import InputError

COLUMNS = ("obs", "action", "reward", "terminated", "truncated")
OPTIONAL = ("next_obs", "n_actions", "env_id")
STARTS = "episode_starts"  # only the second layout has it
EXPERT_COLUMNS = ("obs", "actions", "rewards", STARTS)


def read_npz(
    path: str | Path,
    *,
    n_actions: int | None = None,
    time_limit: int | None = None,
    env_id: str | None = None,
) -> Dataset:
    """Read an archive written by `numpy.savez`, in one of two layouts.

    Pickled (object) arrays are never read.

    Ours: obs, action, reward, terminated, truncated; next_obs, n_actions and env_id if present. See
    `Dataset.from_arrays`.

    Stable Baselines' `generate_expert_traj`: obs, actions, rewards, episode_starts. This format
    does not say why an episode ended and leaves out its last observation. With a time limit,
    episodes that long are truncated, so that their last row, whose successor is unknown, is
    dropped; all shorter ones terminated. Without one, every episode is truncated and no row is
    terminal: then CartPole, say, holds no trace of failing. Give `time_limit`, or an `env_id` from
    which Gymnasium knows it.

    Args:
        path: the file.
        n_actions: number of discrete actions; by default what the file says, or the largest action
            plus one.
        time_limit: of the environment in steps, for the second layout.
        env_id: Gymnasium id; by default what the file says.

    Raises:
        InputError: no such file, not an archive, a missing key, an object array, lengths that
            differ, NaN.
    """
    path = Path(path)
    if time_limit is not None:
        check_range("time_limit", time_limit, low=1)

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not an archive of numpy.savez")

    with np.load(path, allow_pickle=False) as file:
        is_expert = STARTS in file.files
        if is_expert:
            arrays = _read(file, path, EXPERT_COLUMNS)
        else:
            arrays = _read(file, path, COLUMNS, OPTIONAL)

    stored_actions = arrays.pop("n_actions", None)
    if n_actions is None and stored_actions is not None:
        n_actions = int(stored_actions)

    stored_id = arrays.pop("env_id", None)
    if env_id is None and stored_id is not None:
        env_id = str(stored_id)

    if is_expert:
        if time_limit is None and env_id is not None:
            time_limit = time_limit_of(env_id)
        arrays = _expert(arrays, time_limit)

    with keys.messages_of(path, keys.EXPERT if is_expert else {}):
        return Dataset.from_arrays(
            arrays["obs"],
            arrays["action"],
            arrays["reward"],
            arrays["terminated"],
            arrays["truncated"],
            arrays.get("next_obs"),
            n_actions=n_actions,
            env_id=env_id,
            name=path.name,
        )


def _read(
    file: NpzFile,
    path: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Read the required arrays, and the optional ones where the archive has them."""
    for key in required:
        if key not in file.files:
            raise InputError(
                f"{path}: no {key!r}, expected {', '.join(required)}{nearest(key, file.files)}"
            )

    arrays: dict[str, np.ndarray] = {}
    for key in (*required, *optional):
        if key not in file.files:
            continue
        try:
            arrays[key] = file[key]
        except ValueError as error:
            raise InputError(
                f"{path}: {key}: an object array, which would need unpickling; save numbers"
            ) from error

    return arrays


def _expert(arrays: dict[str, np.ndarray], time_limit: int | None) -> dict[str, np.ndarray]:
    """Derive flags from the starts of episodes; see `read_npz`."""
    starts = arrays[STARTS].reshape(-1).astype(bool)
    end = np.append(starts[1:], True)[: len(starts)]

    truncated = end.copy()
    if time_limit is not None:
        ends = np.flatnonzero(end)
        lengths = np.diff(ends, prepend=-1)
        truncated[ends[lengths < time_limit]] = False

    return {
        "obs": arrays["obs"],
        "action": arrays["actions"],
        "reward": arrays["rewards"],
        "terminated": end & ~truncated,
        "truncated": truncated,
    }
