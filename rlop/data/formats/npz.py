"""Read NumPy archives: our own columns, or the expert files of Stable Baselines."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rlop.config.checks import check_range, nearest
from rlop.data.dataset import Dataset
from rlop.types import InputError

OURS = ("obs", "action", "reward", "terminated", "truncated")
EXPERT = ("obs", "actions", "rewards", "episode_starts")
NAMES = {"action": "actions", "reward": "rewards"}  # ours -> theirs


def read_npz(
    path: str | Path,
    *,
    n_actions: int | None = None,
    time_limit: int | None = None,
    env_id: str | None = None,
) -> Dataset:
    """An archive written by `numpy.savez`, in one of two layouts; pickled (object) arrays are never read.

    Ours: obs, action, reward, terminated, truncated; next_obs, n_actions and env_id if present. See
    `Dataset.from_arrays`.

    Stable Baselines' `generate_expert_traj`: obs, actions, rewards, episode_starts. This format does not say why an
    episode ended and leaves out its last observation. With a time limit, episodes that long are truncated, so that
    their last row, whose successor is unknown, is dropped; all shorter ones terminated. Without one, every episode is
    truncated and no row is terminal: then CartPole, say, holds no trace of failing. Give `time_limit`, or an `env_id`
    from which Gymnasium knows it.

    Args:
        path: the file.
        n_actions: number of discrete actions; by default what the file says, or the largest action plus one.
        time_limit: of the environment in steps, for the second layout.
        env_id: Gymnasium id; by default what the file says.

    Raises:
        InputError: no such file, not an archive, a missing key, an object array, lengths that differ, NaN.
    """
    path = Path(path)
    check_range("time_limit", 1 if time_limit is None else time_limit, low=1)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not an archive of numpy.savez")
    with np.load(path, allow_pickle=False) as file:
        expert = "episode_starts" in file.files
        optional = () if expert else ("next_obs", "n_actions", "env_id")
        arrays = _read(file, path, EXPERT if expert else OURS, optional)
    stored_actions, stored_id = arrays.pop("n_actions", None), arrays.pop("env_id", None)
    n_actions = (
        int(stored_actions) if n_actions is None and stored_actions is not None else n_actions
    )
    env_id = str(stored_id) if env_id is None and stored_id is not None else env_id
    if expert:
        arrays = _expert(arrays, _limit(time_limit, env_id))
    try:
        return Dataset.from_arrays(**arrays, n_actions=n_actions, env_id=env_id, name=path.name)
    except InputError as error:
        key, _, rest = str(error).partition(":")
        raise InputError(f"{path}: {NAMES.get(key, key) if expert else key}:{rest}") from None


def _read(
    file: Any, path: Path, required: Iterable[str], optional: Iterable[str]
) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for key in (*required, *(key for key in optional if key in file.files)):
        if key not in file.files:
            raise InputError(
                f"{path}: no {key!r}, expected {', '.join(required)}{nearest(key, file.files)}"
            )
        try:
            arrays[key] = file[key]
        except ValueError as error:
            raise InputError(
                f"{path}: {key}: an object array, which would need unpickling; save numbers"
            ) from error
    return arrays


def _limit(time_limit: int | None, env_id: str | None) -> int | None:
    if time_limit is not None or env_id is None:
        return time_limit
    from rlop.envs.make import time_limit as known_limit

    return known_limit(env_id)


def _expert(arrays: dict[str, Any], time_limit: int | None) -> dict[str, Any]:
    """Flags from the starts of episodes; see `read_npz`."""
    starts = arrays["episode_starts"].reshape(-1).astype(bool)
    end = np.append(starts[1:], True)[: len(starts)]
    ends = np.flatnonzero(end)
    truncated = end.copy()
    if time_limit is not None:
        truncated[ends[np.diff(ends, prepend=-1) < time_limit]] = False
    return {
        "obs": arrays["obs"],
        "action": arrays["actions"],
        "reward": arrays["rewards"],
        "terminated": end & ~truncated,
        "truncated": truncated,
    }
