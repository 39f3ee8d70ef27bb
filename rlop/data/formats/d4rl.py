"""D4RL's data sets by name, read from their HDF5 files; the package d4rl itself is not needed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rlop.data.columns import check_lengths
from rlop.data.dataset import Dataset
from rlop.data.formats.download import download as fetch
from rlop.data.formats.hdf5 import KEYS, drop_like_d4rl, read_hdf5, read_key
from rlop.data.scores import PREFIX, source_of
from rlop.types import InputError

# Environments of today, with their arguments, whose observations and actions are D4RL's; for the others none is named.
EVALUATE_IN: dict[str, tuple[str, dict[str, Any]]] = {
    "halfcheetah": ("HalfCheetah-v4", {}),
    "hopper": ("Hopper-v4", {}),
    "walker2d": ("Walker2d-v4", {}),
    "door": ("AdroitHandDoor-v1", {}),
    "hammer": ("AdroitHandHammer-v1", {}),
    "relocate": ("AdroitHandRelocate-v1", {}),
    "pen": ("AdroitHandPen-v1", {"layout": "d4rl"}),
    "antmaze-umaze": ("AntMaze_UMaze-v4", {"layout": "d4rl"}),
    "antmaze-medium": ("AntMaze_Medium-v4", {"layout": "d4rl"}),
    "antmaze-large": ("AntMaze_Large-v4", {"layout": "d4rl"}),
}


def read_d4rl(
    source: str,
    *,
    next_obs: str = "shifted",
    terminate_on_end: bool = False,
    download: bool = True,
    n_actions: int | None = None,
    env_id: str | None = None,
    infos: bool = False,
) -> Dataset:
    """`d4rl:NAME` for each of D4RL's 155 names, from `$D4RL_DATASET_DIR` or else `~/.d4rl/datasets`.

    "shifted" gives the transitions of D4RL's `qlearning_dataset`, to compare with results in papers: next_obs is the
    next row's observation; time-outs and the very last row are dropped; terminal rows keep the first observation of
    the next episode, which targets mask. "stored" keeps every row with the file's own next_observations, so that
    backups look through time limits: better where the file has them (gym MuJoCo v1 and v2).

    Args:
        source: name, with or without `d4rl:`.
        next_obs: shifted or stored.
        terminate_on_end: of `qlearning_dataset`: keep time-outs too. Contrary to its description they are not marked
            as terminal there, and lead to the first observation of the next episode; here they are marked truncated.
        download: fetch the file if it is not there.
        n_actions: number of discrete actions; by default the largest action plus one.
        env_id: Gymnasium id for evaluation; by default what `EVALUATE_IN` names.
        infos: also read `infos/*`.

    Raises:
        InputError: an unknown name, no file and no way to get it, or anything wrong with the file.

    Reference: `qlearning_dataset` in d4rl/__init__.py of D4RL 1.1. Differs from: there bytes and discrete actions
    become float32.
    """
    name = str(source).removeprefix(PREFIX)
    about = source_of(name)
    if next_obs not in ("shifted", "stored"):
        raise InputError(f"{PREFIX}{name}: next_obs = {next_obs!r}: expected shifted or stored")
    if terminate_on_end and next_obs == "stored":
        raise InputError(
            f"{PREFIX}{name}: terminate_on_end = true: expected next_obs = 'shifted' with it"
        )
    path = find(name, download)
    try:
        if next_obs == "stored":
            data = read_hdf5(
                path, next_obs="stored", time_limit=about.limit, n_actions=n_actions, infos=infos
            )
        else:
            data = _qlearning(path, about.limit, terminate_on_end, n_actions, infos)
    except OSError as error:
        raise InputError(
            f"{path}: damaged or cut short ({error}); delete it to fetch it again"
        ) from None
    known_id, env_kwargs = EVALUATE_IN.get(about.family, (None, {}))
    env_kwargs = {} if env_id else env_kwargs
    return replace(
        data,
        name=PREFIX + name,
        spec=replace(data.spec, env_id=env_id or known_id, env_kwargs=dict(env_kwargs)),
    )


def find(name: str, download: bool = True) -> Path:
    """The file of a data set, fetched if need be.

    Raises:
        InputError: it is not there, with the place and the address; or the download failed.
    """
    url = source_of(name).url
    usual = Path.home() / ".d4rl" / "datasets"
    folders = [Path(os.environ.get("D4RL_DATASET_DIR") or usual), usual]
    path, *_ = paths = [folder / url.rpartition("/")[2] for folder in folders]
    for known in paths:
        if known.is_file():
            return known
    if not download:
        raise InputError(f"{PREFIX}{name}: no file {path}; put there what is at {url}")
    try:
        fetch(url, path)
    except (InputError, OSError) as error:  # OSError: a folder that cannot be written
        raise InputError(f"{PREFIX}{name}: no file {path}, and no download: {error}") from None
    return path


def _qlearning(
    path: Path, limit: int, keep_timeouts: bool, n_actions: int | None, infos: bool
) -> Dataset:
    """The transitions of `qlearning_dataset`."""
    if not h5py.is_hdf5(path):
        raise InputError(f"{path}: not an HDF5 file")
    with h5py.File(path, "r") as file:
        marked = ["truncated"] if KEYS["truncated"] in file else []
        names = ["obs", "action", "reward", "terminated", *marked]
        arrays: dict[str, Any] = {
            name: np.atleast_1d(read_key(file, path, KEYS[name])) for name in names
        }
        group = file["infos"] if infos and "infos" in file else {}
        more = {
            key: np.atleast_1d(value[()])
            for key, value in group.items()
            if isinstance(value, h5py.Dataset)
        }
    try:
        check_lengths({**arrays, **more})
        if not marked:
            arrays["truncated"] = count_timeouts(arrays["terminated"], limit, keep_timeouts)
        if keep_timeouts:
            following = arrays["obs"][1:]
            arrays, more = (
                {key: value[:-1] for key, value in part.items()} for part in (arrays, more)
            )
            arrays["next_obs"] = following
        else:
            drop_like_d4rl(arrays)
        return Dataset.from_arrays(**arrays, n_actions=n_actions, name=path.name, infos=more)
    except InputError as error:
        key, _, rest = str(error).partition(":")
        raise InputError(f"{path}: {KEYS.get(key, key)}:{rest}") from None


def count_timeouts(terminals: np.ndarray, limit: int, keep: bool = False) -> np.ndarray:
    """Where D4RL supposes a time-out in a file that marks none (gym MuJoCo v0, early maze2d).

    Its counter starts at 0 in the first row and after a row that is dropped, but at 1 after a terminal row or a
    time-out that is kept. After a terminal row it is thus one step early, and the true last row of a full episode is
    paired with the first observation of the next. Papers on these files trained on that.

    Args:
        terminals: `[N]` or `[N, 1]`.
        limit: of the environment, in steps, at least 2.
        keep: whether time-outs are kept, as with `terminate_on_end`.

    Returns:
        `[N]` bool.

    Raises:
        ValueError: limit < 2.
    """
    if limit < 2:
        raise ValueError(f"limit: expected at least 2, got {limit}")
    over = np.asarray(terminals).reshape(-1) != 0
    found = np.zeros(len(over), bool)
    begin, count = 0, 0
    for end in [*np.flatnonzero(over), len(over) - 1]:
        found[begin + limit - 1 - count : end + 1 : limit - 1 if keep else limit] = True
        begin, count = end + 1, int(keep or not found[end])
    return found
