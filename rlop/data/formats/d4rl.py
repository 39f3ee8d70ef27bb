"""D4RL's data sets by name, read from their HDF5 files; the package d4rl itself is not needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlop.data.changes import with_dropped
from rlop.data.columns import check_lengths
from rlop.data.dataset import Dataset
from rlop.data.formats.download import download as fetch
from rlop.data.formats.download import fault_of
from rlop.data.formats.hdf5 import (
    drop_like_d4rl,
    read_hdf5,
    read_infos,
    read_key,
)
from rlop.data.formats.keys import D4RL, messages_of
from rlop.data.formats.mirrors import addresses
from rlop.data.formats.own_arrays import DamagedFile, open_hdf5
from rlop.data.scores import PREFIX, Source, source_of
from rlop.logs.messages import say
from rlop.types import InputError

FOLDER = "D4RL_DATASET_DIR"  # environment variable
USUAL = Path("~/.d4rl/datasets")
LICENSE = "CC BY 4.0, unless D4RL notes otherwise"

# Family -> today's environment and its arguments, whose observations and actions are D4RL's. For
# the other families no environment is named.
EVALUATE_IN: dict[str, tuple[str, dict[str, str]]] = {
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
    """Read `d4rl:NAME`, one of D4RL's 155 names.

    Files are in `$D4RL_DATASET_DIR`, or else `~/.d4rl/datasets`.

    - "shifted" gives the transitions of D4RL's `qlearning_dataset`, to compare with results in
      papers: next_obs is the next row's observation; time-outs and the very last row are dropped;
      terminal rows keep the first observation of the next episode, which targets mask.
    - "stored" keeps every row with the file's own next_observations, so that backups look through
      time limits: better where the file has them (gym MuJoCo v1 and v2).

    Args:
        source: name, with or without `d4rl:`.
        next_obs: shifted or stored.
        terminate_on_end: of `qlearning_dataset`: keep time-outs too. Contrary to its description
            they are not marked as terminal there, and lead to the first observation of the next
            episode; here they are marked truncated.
        download: fetch the file if it is not on disk.
        n_actions: number of discrete actions; by default the largest action plus one.
        env_id: Gymnasium id for evaluation; by default what `EVALUATE_IN` names.
        infos: also read `infos/*`.

    Raises:
        InputError: an unknown name, no file and no way to get it, or anything wrong with the file.

    Reference: `qlearning_dataset` in d4rl/__init__.py of D4RL 1.1.
    Differs from: there bytes and discrete actions become float32.
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
                path,
                next_obs="stored",
                time_limit=about.limit,
                ends="none",
                n_actions=n_actions,
                infos=infos,
            )
        else:
            data = _qlearning(path, about, terminate_on_end, n_actions, infos)
    except DamagedFile as error:
        raise InputError(f"{error}; delete it to fetch it again") from None

    own_id, own_kwargs = EVALUATE_IN.get(about.family, (None, {}))
    spec = replace(
        data.spec,
        env_id=env_id or own_id,
        env_kwargs={} if env_id else dict(own_kwargs),
    )
    return replace(data, name=PREFIX + name, spec=spec)


def find(name: str, download: bool = True) -> Path:
    """Return the file of a data set, fetched if need be.

    A download is compared with the published size and SHA-256; of 51 of the 155 files these are
    not known, and a message says so.

    Raises:
        InputError: it is not on disk, with the place and the address; or the download failed.
    """
    about = source_of(name)
    path = folder() / Path(about.url).name
    for candidate in (path, USUAL.expanduser() / path.name):
        if candidate.is_file():
            return candidate

    if not download:
        raise InputError(f"{PREFIX}{name}: no file {path}; put there what is at {about.url}")
    if about.published is None:
        say(
            f"{PREFIX}{name}: size and sha256 of its file are not known; the download is only "
            f"checked to be whole",
            logging.WARNING,
        )
    try:
        fetch(addresses(about.url, about.path), path, about.published)
    except (InputError, OSError) as error:  # OSError: a folder that cannot be written
        raise InputError(f"{PREFIX}{name}: no file {path}, and no download: {error}") from None
    return path


def folder() -> Path:
    """Return the folder of data sets: `$D4RL_DATASET_DIR`, or else `~/.d4rl/datasets`."""
    named = os.environ.get(FOLDER)
    return Path(named).expanduser() if named else USUAL.expanduser()


def state(name: str) -> list[str]:
    """Describe the file of a data set: whether it is on disk and whole, and where it comes from.

    Raises:
        InputError: an unknown name.
    """
    about = source_of(name)
    try:
        path = find(name, download=False)
    except InputError:
        path = None
        lines = [f"not on disk: expected {folder() / Path(about.url).name}"]

    if path is not None:
        size = path.stat().st_size
        fault = fault_of(path, about.published)
        if fault:
            verdict = f"not the published file: {fault}" if about.published else fault
        elif about.published:
            verdict = "whole: size and sha256 are the published ones"
        else:
            verdict = "HDF5 opens it; its published size and sha256 are not known"
        lines = [f"on disk: {path}, {size:,} bytes; {verdict}"]

    if about.published:
        lines.append(f"published: {about.published.size:,} bytes, sha256 {about.published.sha256}")
    lines.append(f"origin: {addresses(about.url, about.path)[-1]}")
    lines.append(f"license: {LICENSE}")
    return lines


def _qlearning(
    path: Path,
    about: Source,
    keep_timeouts: bool,
    n_actions: int | None,
    infos: bool,
) -> Dataset:
    """Read the transitions of `qlearning_dataset`."""
    with open_hdf5(path) as file:
        has_timeouts = D4RL["truncated"] in file
        names = ["obs", "action", "reward", "terminated"]
        if has_timeouts:
            names.append("truncated")

        arrays = {name: read_key(file, path, D4RL[name]) for name in names}
        further = read_infos(file, path) if infos else {}

    with messages_of(path, D4RL):
        check_lengths({**arrays, **further})
        if not has_timeouts:
            arrays["truncated"] = count_timeouts(arrays["terminated"], about.limit, keep_timeouts)

        if keep_timeouts:
            following = arrays["obs"][1:]
            arrays = _without_last_row(arrays)
            arrays["next_obs"] = following
            further = _without_last_row(further)
        else:
            drop_like_d4rl(arrays)

        data = Dataset.from_arrays(
            arrays["obs"],
            arrays["action"],
            arrays["reward"],
            arrays["terminated"],
            arrays["truncated"],
            arrays.get("next_obs"),
            n_actions=n_actions,
            name=path.name,
            infos=further,
            reuse=True,
        )
    return with_dropped(data, 1, len(data) + 1) if keep_timeouts else data  # the last row


def _without_last_row(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: array[:-1] for key, array in arrays.items()}


def count_timeouts(terminals: np.ndarray, limit: int, keep: bool = False) -> np.ndarray:
    """Mark where D4RL supposes a time-out in a file that marks none (gym MuJoCo v0, early maze2d).

    Its counter starts at 0 in the first row and after a row that is dropped, but at 1 after a
    terminal row or a time-out that is kept. After a terminal row it is thus one step early, and the
    true last row of a full episode is paired with the first observation of the next. Papers on
    these files trained on these transitions.

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
    timeouts = np.zeros(len(over), bool)
    # A kept time-out counts as the first step of the next stretch, a dropped one does not.
    period = limit - 1 if keep else limit

    begin = 0
    counter = 0
    for end in [*np.flatnonzero(over), len(over) - 1]:
        first_timeout = begin + limit - 1 - counter
        timeouts[first_timeout : end + 1 : period] = True

        begin = end + 1
        counter = 1 if keep or not timeouts[end] else 0
    return timeouts
