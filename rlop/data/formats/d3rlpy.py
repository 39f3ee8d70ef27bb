"""d3rlpy's replay buffers in HDF5: one set of arrays per episode (v2), or flat columns (v1)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from rlop.config.checks import within
from rlop.data.columns import flag_column
from rlop.data.dataset import Dataset
from rlop.data.formats.keys import messages_of
from rlop.data.formats.own_arrays import has, open_hdf5, own_array, own_number, own_rows
from rlop.data.formats.trajectories import (
    Trajectory,
    episode_slices,
    join_trajectories,
    to_dataset,
)
from rlop.types import InputError

PREFIX = "d3rlpy:"
COLUMNS = {"obs": "observations", "action": "actions", "reward": "rewards"}
FLAT = ("observations", "actions", "rewards", "terminals")
ENDS = "episode_terminals"  # of v1: ends of episodes, time-outs and terminations
DISCRETE = "discrete_action"  # of v1


def read_d3rlpy(
    source: str | Path,
    *,
    n_actions: int | None = None,
    env_id: str | None = None,
) -> Dataset:
    """Read a file that d3rlpy's `ReplayBuffer.dump` (v2) or `MDPDataset.dump` (v1) wrote.

    An episode holds as many observations as actions. The last step of one that terminated is kept;
    that of any other is dropped, because its successor is not in the file: these are the
    transitions that d3rlpy draws. Actions stay in the units of the file.

    Args:
        source: path, with or without `d3rlpy:`.
        n_actions: number of discrete actions; by default the largest action plus one.
        env_id: Gymnasium id for evaluation, which the file does not name.

    Raises:
        InputError: no such file, not d3rlpy's, a missing array, observations of several parts,
            lengths that differ, NaN, an action out of range.

    Reference: `load` and `load_v1` in d3rlpy/dataset/io.py of d3rlpy 2.8.1.
    """
    path = Path(str(source).removeprefix(PREFIX)).expanduser()
    with open_hdf5(path) as file, within(str(path)):
        if _is_v2(file):
            n_rows, episodes = _v2(file)
        elif all(has(file, key) for key in FLAT):
            n_rows, episodes = _v1(file)
        else:
            raise InputError(
                "not d3rlpy's: expected observations_0, actions_0, ... or observations, actions, "
                f"rewards, terminals, {ENDS}"
            )
        columns, dropped = join_trajectories(episodes, n_rows)

    with messages_of(path, COLUMNS):
        return to_dataset(columns, path.name, n_actions, env_id, dropped=dropped)


def is_d3rlpy(file: h5py.File) -> bool:
    """Return whether an HDF5 file has d3rlpy's layout, by its names alone.

    The flat columns of v1 are D4RL's but for the ends of episodes; a file with `timeouts` is not
    d3rlpy's.
    """
    flat = all(has(file, key) for key in (*FLAT, ENDS)) and not has(file, "timeouts")
    return _is_v2(file) or flat


def _is_v2(file: h5py.File) -> bool:
    return has(file, "observations_0") or has(file, "observations_0_0")


def _v2(file: h5py.File) -> tuple[int, Iterator[Trajectory]]:
    """Return the number of steps and the episodes of d3rlpy 2."""
    if has(file, "observations_0_0"):
        raise InputError("observations_0_0: observations of several parts, expected one array each")

    names = set(file)
    numbers = range(len(names))
    episodes = next((i for i in numbers if f"observations_{i}" not in names), len(names))
    if has(file, "num_episodes"):
        announced = own_number(file, "num_episodes", "")
        if announced != episodes:
            raise InputError(f"num_episodes: {announced}, but the file has {episodes}")

    steps = [len(_with_rows(file, f"rewards_{i}")) for i in range(episodes)]
    return sum(steps), _v2_episodes(file, steps)


def _v2_episodes(file: h5py.File, steps: list[int]) -> Iterator[Trajectory]:
    """Yield the episodes of d3rlpy 2, by their numbers of steps."""
    for i, length in enumerate(steps):
        terminated = np.zeros(length, bool)
        terminated[-1:] = flag_column(f"terminated_{i}", [own_number(file, f"terminated_{i}", "")])
        yield Trajectory(
            label=f"episode {i}",
            obs=own_rows(file, f"observations_{i}", "", length),
            action=own_rows(file, f"actions_{i}", "", length),
            reward=own_rows(file, f"rewards_{i}", ""),
            terminated=terminated,
        )


def _v1(file: h5py.File) -> tuple[int, Iterator[Trajectory]]:
    """Return the number of steps and the episodes of d3rlpy 1."""
    terminated = flag_column("terminals", own_rows(file, "terminals", ""))
    rows = len(terminated)
    is_end = terminated.copy()
    if has(file, ENDS):
        is_end |= flag_column(ENDS, own_rows(file, ENDS, "", rows))

    columns = {key: _with_rows(file, key, rows) for key in ("observations", "actions", "rewards")}
    is_discrete = has(file, DISCRETE) and bool(own_number(file, DISCRETE, ""))
    return rows, _v1_episodes(columns, terminated, is_end, is_discrete)


def _v1_episodes(
    columns: dict[str, h5py.Dataset],
    terminated: np.ndarray,
    is_end: np.ndarray,
    is_discrete: bool,
) -> Iterator[Trajectory]:
    """Yield the episodes of d3rlpy 1."""
    for number, rows in enumerate(episode_slices(is_end)):
        action = columns["actions"][rows]
        if is_discrete:
            action = _whole_numbers(action, rows.start)
        yield Trajectory(
            label=f"episode {number}",
            obs=columns["observations"][rows],
            action=action,
            reward=columns["rewards"][rows],
            terminated=terminated[rows],
        )


def _whole_numbers(action: np.ndarray, start: int) -> np.ndarray:
    """Return discrete actions as integers, if they are stored as floats; start is their row."""
    if action.dtype.kind != "f":
        return action
    with np.errstate(invalid="ignore"):
        whole = action.astype(np.int64)
    bad = np.flatnonzero((whole != action).reshape(len(action), -1).any(1))
    if len(bad):
        raise InputError(
            f"actions: {action[bad[0]]} at row {start + bad[0]}, expected whole numbers, "
            f"as {DISCRETE} is set"
        )
    return whole


def _with_rows(file: h5py.File, key: str, rows: int | None = None) -> h5py.Dataset:
    """Return an unread array of at least one axis, with a number of rows if one is given."""
    item = own_array(file, key, "")
    if item.ndim == 0 or (rows is not None and len(item) != rows):
        expected = "an array" if rows is None else f"{rows} rows"
        raise InputError(f"{key}: shape {item.shape}, expected {expected}")
    return item
