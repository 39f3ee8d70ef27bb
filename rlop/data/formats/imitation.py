"""Trajectories of the package imitation: its old `.npz` files and its folders of Arrow files."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from rlop.config.checks import check_range, within
from rlop.data.columns import flag_column
from rlop.data.dataset import Dataset
from rlop.data.formats.imitation_arrow import arrow_trajectories
from rlop.data.formats.keys import messages_of
from rlop.data.formats.members import Archive, open_archive
from rlop.data.formats.trajectories import join_trajectories, split_successors, to_dataset
from rlop.envs.make import time_limit as time_limit_of
from rlop.logs.messages import say
from rlop.types import InputError

PREFIX = "imitation:"
COLUMNS = {"action": "acts", "reward": "rews", "next_obs": "obs"}
KEYS = frozenset({"obs", "acts", "terminal", "indices"})


def read_imitation(
    source: str | Path,
    *,
    n_actions: int | None = None,
    time_limit: int | None = None,
    env_id: str | None = None,
) -> Dataset:
    """Read what `imitation.data.serialize.save` wrote: an `.npz` file, or a folder.

    Trajectories hold one observation more than they have steps, so that every row has its true
    next_obs. imitation calls a trajectory terminal when its episode ended, by a time limit too:
    with `time_limit`, those of that many steps are truncated. Without rewards all are 0, with a
    message. `infos` are pickled, or hold classes by name, and are never read.

    Args:
        source: path, with or without `imitation:`.
        n_actions: number of discrete actions; by default the largest action plus one.
        time_limit: of the environment in steps; by default what `env_id` says.
        env_id: Gymnasium id for evaluation, which the file does not name.

    Raises:
        InputError: no such file or folder, not imitation's, a missing array, lengths that differ,
            NaN; for a folder also if pyarrow is not installed.

    Reference: `load` in imitation/data/serialize.py of imitation 1.0.
    """
    path = Path(str(source).removeprefix(PREFIX)).expanduser()
    if time_limit is not None:
        check_range("time_limit", time_limit, low=1)
    if time_limit is None and env_id is not None:
        time_limit = time_limit_of(env_id)

    with within(str(path)):
        if path.is_dir():
            rows, trajectories = arrow_trajectories(path)
            columns, dropped = join_trajectories(trajectories, rows)
        else:
            with open_archive(path) as archive:
                columns, dropped = _archive_columns(archive), 0

    _say_what_is_missing(path, columns, time_limit)
    _cut_at_the_limit(columns, time_limit)
    with messages_of(path, COLUMNS):
        return to_dataset(columns, path.name, n_actions, env_id, dropped=dropped)


def is_imitation(keys: frozenset[str] | set[str]) -> bool:
    """Return whether an archive has imitation's arrays."""
    return keys >= KEYS


def _archive_columns(archive: Archive) -> dict[str, np.ndarray]:
    """Return the columns of an archive."""
    if not is_imitation(set(archive.keys)):
        raise InputError(f"not imitation's: expected {', '.join(sorted(KEYS))}, rews if present")

    actions = archive.read("acts")
    stops = _stops(archive.read("indices"), len(actions))
    terminal = flag_column("terminal", archive.read("terminal"))
    if len(terminal) != len(stops):
        raise InputError(
            f"terminal: {len(terminal)} rows, expected {len(stops)}, one more than in indices"
        )

    header = archive.header("obs")
    is_last = np.zeros(len(actions) + len(stops), bool)
    is_last[stops + np.arange(len(stops))] = True
    if header.shape[:1] != is_last.shape:
        raise InputError(
            f"obs: shape {header.shape}, expected {len(is_last)} rows: one per action, and a last "
            "one per trajectory"
        )
    obs, next_obs = split_successors(archive.chunks("obs"), header.dtype, is_last)

    ends = np.zeros(len(actions), bool)
    ends[stops - 1] = True
    terminated = np.zeros(len(actions), bool)
    terminated[stops - 1] = terminal

    columns = {"obs": obs, "action": actions, "next_obs": next_obs, "terminated": terminated}
    columns["truncated"] = ends & ~terminated
    columns["reward"] = _rewards(archive, len(actions))
    return columns


def _stops(starts: np.ndarray, rows: int) -> np.ndarray:
    """Return the row after each trajectory, from the first rows of all trajectories but the first.

    Args:
        starts: `[E - 1]`, as in the file.
        rows: number of actions.
    """
    if starts.ndim != 1 or (starts.size and starts.dtype.kind not in "iu"):
        raise InputError(f"indices: {starts.dtype} of shape {starts.shape}, expected integers [E]")

    stops = np.append(starts.astype(np.int64), rows)
    if (np.diff(stops, prepend=0) < 1).any():
        raise InputError(f"indices: expected increasing rows between 1 and {rows - 1}")
    return stops


def _rewards(archive: Archive, rows: int) -> np.ndarray:
    """Return the rewards, or zeros where the archive has none."""
    if "rews" not in archive.keys:
        return np.zeros(rows, np.float32)
    return archive.read("rews")


def _say_what_is_missing(
    path: Path, columns: dict[str, np.ndarray], time_limit: int | None
) -> None:
    """Say what the file leaves open."""
    if not columns["reward"].any():
        say(f"{path}: no rewards in the file: all are 0", logging.WARNING)

    count = int(columns["terminated"].sum())
    if time_limit is None and count:
        say(
            f"{path}: {count} trajectories count as terminated, as imitation marks time-outs, too; "
            "time_limit, or an env_id that has one, tells them apart",
            logging.WARNING,
        )


def _cut_at_the_limit(columns: dict[str, np.ndarray], time_limit: int | None) -> None:
    """Let trajectories as long as the time limit be truncated, in place."""
    if time_limit is None:
        return
    stops = np.flatnonzero(columns["terminated"] | columns["truncated"])
    lengths = np.diff(stops, prepend=-1)
    cut = stops[lengths >= time_limit]
    columns["terminated"][cut] = False
    columns["truncated"][cut] = True
