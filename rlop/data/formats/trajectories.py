"""Columns of a data set, filled trajectory by trajectory: no second copy of all observations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from rlop.data.changes import with_dropped
from rlop.data.dataset import Dataset
from rlop.data.mapped import advancing, empty
from rlop.data.native import Counts
from rlop.types import InputError


class Trajectory(NamedTuple):
    """One trajectory of T steps.

    Args:
        label: what messages call it.
        obs: `[T, *S]`, or `[T + 1, *S]` where the last observation is known.
        action: `[T, *A]`.
        reward: `[T]` or `[T, 1]`.
        terminated: `[T]` bool.
        next_obs: `[T, *S]` where the file has them, else None.
        truncated: `[T]` bool; None for a cut at the end alone.
    """

    label: str
    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    next_obs: np.ndarray | None = None
    truncated: np.ndarray | None = None


def join_trajectories(
    trajectories: Iterable[Trajectory], rows: int
) -> tuple[dict[str, np.ndarray], int]:
    """Return the columns of `Dataset.from_arrays`, and the number of steps that were dropped.

    The last step of a trajectory that neither terminates nor has a last observation is dropped,
    because nothing is known of its successor. Where a trajectory terminates without one, the last
    row's next_obs is its own observation, which targets mask.

    Args:
        trajectories: of one shape and kind.
        rows: the number of their steps; a larger one costs nothing, a smaller one a copy.

    Returns:
        obs, action, reward, next_obs, terminated, truncated; and the number of dropped steps.

    Raises:
        InputError: no steps, or trajectories that differ in shape or kind.
    """
    columns: dict[str, np.ndarray] = {}
    advance = advancing()
    first, used, steps = "", 0, 0
    for trajectory in trajectories:
        part = _steps(trajectory)
        steps += len(trajectory.reward)
        if not columns:
            first = trajectory.label
            columns = {key: empty((rows, *a.shape[1:]), a.dtype) for key, a in part.items()}

        stop = used + len(part["reward"])
        for key, array in part.items():
            column = columns[key] = _with_room(columns[key], used, stop)
            if array.shape[1:] != column.shape[1:] or array.dtype != column.dtype:
                raise InputError(
                    f"{trajectory.label}: {key}: rows {array.shape[1:]} {array.dtype}, expected "
                    f"{column.shape[1:]} {column.dtype} as in {first}"
                )
            column[used:stop] = array
            advance(array.nbytes)
        used = stop

    if used == 0:
        raise InputError("no transitions" if columns else "no episodes")
    return {key: column[:used] for key, column in columns.items()}, steps - used


def _with_room(column: np.ndarray, used: int, needed: int) -> np.ndarray:
    """Return a column with at least this many rows, of which the used ones are kept."""
    if needed <= len(column):
        return column
    larger = empty((max(needed, 2 * len(column)), *column.shape[1:]), column.dtype)
    larger[:used] = column[:used]
    return larger


def to_dataset(
    columns: Mapping[str, np.ndarray],
    name: str,
    n_actions: Counts | None = None,
    env_id: str | None = None,
    env_kwargs: Mapping[str, object] | None = None,
    dropped: int = 0,
) -> Dataset:
    """Build a data set of columns whose every row has its successor.

    Args:
        columns: obs, action, reward, terminated, truncated and next_obs.
        name: what messages call the data set.
        n_actions: number of discrete actions, or choices of each part; by default the largest
            action plus one.
        env_id: Gymnasium id for evaluation.
        env_kwargs: keyword arguments of that environment.
        dropped: number of the source's steps that are not among the columns.

    Raises:
        InputError: as `Dataset.from_arrays`.
    """
    data = Dataset.from_arrays(
        columns["obs"],
        columns["action"],
        columns["reward"],
        columns["terminated"],
        columns["truncated"],
        columns["next_obs"],
        n_actions=n_actions,
        env_id=env_id,
        env_kwargs=env_kwargs,
        name=name,
    )
    return with_dropped(data, dropped, len(data) + dropped)


def split_successors(
    chunks: Iterable[np.ndarray],
    dtype: np.dtype,
    is_last: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Split the observations of trajectories that hold one more than they have steps.

    Args:
        chunks: consecutive rows `[n, *S]` of all observations, one trajectory after another.
        dtype: of the file.
        is_last: `[N]` bool, the last observation of each trajectory.

    Returns:
        obs and next_obs, both `[N - trajectories, *S]`.
    """
    has_next = ~is_last
    has_before = np.append(False, has_next[:-1])
    steps = int(has_next.sum())

    obs = after = np.empty(0)
    advance = advancing()
    row = filled = follow = 0
    for chunk in chunks:
        if row == 0:
            kind = obs_dtype(dtype)
            obs = empty((steps, *chunk.shape[1:]), kind)
            after = empty((steps, *chunk.shape[1:]), kind)
        here = slice(row, row + len(chunk))
        row += len(chunk)

        with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused later, by name
            starts, ends = chunk[has_next[here]], chunk[has_before[here]]
            obs[filled : filled + len(starts)] = starts
            after[follow : follow + len(ends)] = ends
        advance(2 * chunk.nbytes)
        filled += len(starts)
        follow += len(ends)
    return obs, after


def obs_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype in which a data set keeps observations."""
    return dtype if dtype in (np.uint8, np.bool_) else np.dtype(np.float32)


def episode_slices(is_end: np.ndarray) -> Iterator[slice]:
    """Yield the rows of each episode; rows after the last end are one, too.

    Args:
        is_end: `[N]` bool.
    """
    stops = np.flatnonzero(is_end) + 1
    if len(is_end) and not is_end[-1]:
        stops = np.append(stops, len(is_end))
    start = 0
    for stop in stops:
        yield slice(start, int(stop))
        start = int(stop)


def _steps(trajectory: Trajectory) -> dict[str, np.ndarray]:
    """Return the columns of one trajectory."""
    obs, length = trajectory.obs, len(trajectory.reward)
    _check_lengths(trajectory, length)

    rows = length
    if trajectory.next_obs is not None:
        after = trajectory.next_obs
    elif len(obs) == length + 1:
        after = obs[1:]
    else:
        ends = length > 0 and bool(trajectory.terminated[-1])
        rows = length if ends else max(length - 1, 0)
        after = obs[np.minimum(np.arange(rows) + 1, length - 1)]

    terminated = trajectory.terminated[:rows]
    truncated = np.zeros(rows, bool)
    if trajectory.truncated is not None:
        truncated[:] = trajectory.truncated[:rows]
    truncated[-1:] |= ~terminated[-1:]

    with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused later, by name
        return {
            "obs": obs[:rows].astype(obs_dtype(obs.dtype), copy=False),
            "action": _action(trajectory.action[:rows]),
            "reward": trajectory.reward[:rows].reshape(rows).astype(np.float32, copy=False),
            "next_obs": after.astype(obs_dtype(after.dtype), copy=False),
            "terminated": terminated,
            "truncated": truncated,
        }


def _check_lengths(trajectory: Trajectory, length: int) -> None:
    """Raise InputError unless all arrays have a row per step."""
    label = trajectory.label
    if trajectory.reward.size != length:
        raise InputError(
            f"{label}: reward: shape {trajectory.reward.shape}, expected [T] or [T, 1]"
        )

    arrays = {"obs": trajectory.obs, "action": trajectory.action}
    arrays["terminated"] = trajectory.terminated
    if trajectory.truncated is not None:
        arrays["truncated"] = trajectory.truncated
    if trajectory.next_obs is not None:
        arrays["next_obs"] = trajectory.next_obs
    elif len(trajectory.obs) == length + 1:
        del arrays["obs"]

    for key, array in arrays.items():
        if len(array) != length:
            raise InputError(
                f"{label}: {key}: {len(array)} rows, expected {length} as there are rewards"
            )


def _action(action: np.ndarray) -> np.ndarray:
    """Return integers as int64 and floats as float32."""
    if action.dtype.kind in "iu":
        return action.astype(np.int64, copy=False)
    if action.dtype.kind == "f":
        return action.astype(np.float32, copy=False)
    return action
