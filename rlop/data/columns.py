"""Check a user's arrays and turn them into columns.

Every message starts with the array's key. An array of the right dtype and shape is never copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlop.data.mapped import advancing, converted, empty, take
from rlop.types import InputError

CHUNK = 16_384  # rows that are moved at once
MOST_ACTIONS = 100_000  # discrete; a larger id is a sentinel or a hash
DROPPED = "rows dropped"  # what the record of dropped rows says
NO_SUCCESSOR = "their next observation is not there"


def check_finite(key: str, array: np.ndarray) -> None:
    """Refuse NaN and infinity.

    Raises:
        InputError: with the number of rows that hold NaN or infinity, and the first of them.
    """
    if array.size == 0 or array.dtype.kind != "f":
        return

    # NaN and infinity survive min and max, which need no temporary of the array's size.
    with np.errstate(invalid="ignore"):
        if np.isfinite(array.min()) and np.isfinite(array.max()):
            return

    finite = np.isfinite(array.reshape(len(array), -1)).all(1)
    bad = np.flatnonzero(~finite)
    raise InputError(
        f"{key}: {len(bad)} of {len(array)} rows hold NaN or infinity (first: row {bad[0]})"
    )


def obs_column(key: str, array: ArrayLike) -> np.ndarray:
    """Return observations `[N, *S]`: uint8 and bool stay, every other dtype becomes float32."""
    rows = _numbers(key, array)
    if rows.ndim < 2:
        raise InputError(
            f"{key}: shape {rows.shape}, expected [N, *obs_shape]; "
            "add an axis to scalar observations"
        )

    _check_entries(key, rows)
    if rows.dtype in (np.uint8, np.bool_):
        return rows
    return _float32(key, rows)


def float_column(key: str, array: ArrayLike) -> np.ndarray:
    """Return one float32 per row, from `[N]` or `[N, 1]`."""
    return _float32(key, _flat(key, array))


def flag_column(key: str, array: ArrayLike) -> np.ndarray:
    """Return one bool per row, from booleans or numbers that are all 0 or 1; a new array."""
    flags = _flat(key, array)
    is_flag = (flags == 0) | (flags == 1)
    bad = np.flatnonzero(~is_flag)
    if len(bad):
        raise InputError(f"{key}: {flags[bad[0]]} at row {bad[0]}, expected only 0 and 1")
    return flags.astype(bool)


def action_column(
    key: str,
    array: ArrayLike,
    n_actions: int | None,
) -> tuple[np.ndarray, int | None]:
    """Return discrete actions `[N]` int64 with their number, or continuous ones with None.

    Args:
        key: what messages call the array.
        array: integers `[N]` or `[N, 1]` for discrete actions, floats `[N, *A]` for continuous
            ones.
        n_actions: number of discrete actions; by default the largest action plus one.

    Returns:
        The actions, `[N]` int64 or `[N, *A]` float32, and the number of discrete actions.

    Raises:
        InputError: wrong dtype or shape, NaN or infinity, or an action outside [0, n_actions).
    """
    action = _numbers(key, array)
    if action.dtype.kind == "f" and n_actions is None:
        vectors = action[:, None] if action.ndim == 1 else action
        _check_entries(key, vectors)
        return _float32(key, vectors), None

    action = _whole(key, _flat(key, action), n_actions)
    if n_actions is None:
        n_actions = int(action.max(initial=-1)) + 1
    if n_actions > MOST_ACTIONS:
        raise InputError(
            f"{key}: {n_actions} discrete actions, expected at most {MOST_ACTIONS}; the largest "
            f"in the data is {action.max(initial=-1)}"
        )

    in_range = (action >= 0) & (action < n_actions)
    bad = np.flatnonzero(~in_range)
    if len(bad):
        raise InputError(
            f"{key}: {action[bad[0]]} at row {bad[0]}, "
            f"expected 0 <= action < {n_actions} (n_actions)"
        )
    return action, n_actions


def _whole(key: str, action: np.ndarray, n_actions: int | None) -> np.ndarray:
    """Return discrete actions as int64; whole floats and booleans are read as such."""
    if action.dtype.kind == "u" and action.max(initial=0) > np.iinfo(np.int64).max:
        raise InputError(f"{key}: {action.max()}, expected discrete actions below 2^63")
    if action.dtype.kind != "f":
        return converted(action, np.int64)

    check_finite(key, action)
    wrong = np.flatnonzero(action != np.round(action))
    if len(wrong):
        raise InputError(
            f"{key}: {action[wrong[0]]} at row {wrong[0]} with n_actions = {n_actions}, expected "
            "whole numbers"
        )
    return action.clip(-(2.0**62), 2.0**62).astype(np.int64)


def check_lengths(columns: Mapping[str, np.ndarray | None]) -> None:
    """Raise InputError unless all columns have as many rows as the first, and at least one."""
    lengths = {key: len(column) for key, column in columns.items() if column is not None}
    first, rows = next(iter(lengths.items()))

    for key, length in lengths.items():
        if length != rows:
            raise InputError(f"{key}: {length} rows, expected {rows}")
    if rows == 0:
        raise InputError(f"{first}: 0 rows, expected at least one transition")


@dataclass(frozen=True)
class Columns:
    """Checked columns of N rows.

    Args:
        arrays: obs, action, reward, terminated, truncated and next_obs, by name.
        infos: further arrays `[N, ...]`.
        n_actions: number of discrete actions; None for continuous ones.
        dropped: number of rows that were given and are not among the N.
    """

    arrays: dict[str, np.ndarray]
    infos: dict[str, np.ndarray]
    n_actions: int | None
    dropped: int


def make_columns(
    obs: ArrayLike,
    action: ArrayLike,
    reward: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    next_obs: ArrayLike | None,
    n_actions: int | None,
    infos: Mapping[str, ArrayLike],
    reuse: bool = False,
) -> Columns:
    """Check all arrays of a data set; arguments and errors as in `Dataset.from_arrays`."""
    actions, n_actions = action_column("action", action, n_actions)
    arrays = {
        "obs": obs_column("obs", obs),
        "action": actions,
        "reward": float_column("reward", reward),
        "terminated": flag_column("terminated", terminated),
        "truncated": flag_column("truncated", truncated),
    }
    if next_obs is not None:
        arrays["next_obs"] = obs_column("next_obs", next_obs)
    further = {key: np.asarray(value) for key, value in infos.items()}
    check_lengths({**arrays, **further})
    rows = len(actions)

    # The data stop after the last row, and where both flags are set the row terminated.
    arrays["truncated"][-1] = True
    arrays["truncated"] &= ~arrays["terminated"]

    if next_obs is None:
        arrays, further = shift(arrays, further, reuse)
    _check_alike(arrays["obs"], arrays["next_obs"])
    return Columns(arrays, further, n_actions, rows - len(arrays["obs"]))


def record_of_dropped(dropped: int, rows: int, why: str = NO_SUCCESSOR) -> tuple[str, ...]:
    """Return what `Spec.changes` says of rows that a source has and its data set has not.

    Args:
        dropped: number of these rows.
        rows: number of all rows of the source.
        why: in words.

    Returns:
        One text; none where no row was dropped.
    """
    return (f"{dropped:,} of {rows:,} {DROPPED}: {why}",) if dropped else ()


def shift(
    columns: dict[str, np.ndarray], infos: dict[str, np.ndarray], reuse: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Take the next row's observation as next_obs, and drop the truncated rows, which have none.

    Args:
        columns: obs, terminated, truncated and others of N rows; no row has both flags.
        infos: further arrays of N rows.
        reuse: whether the columns may be overwritten.

    Returns:
        The columns and infos of the rows that are left. A row before a dropped one is truncated,
        unless it terminated.

    Raises:
        InputError: no row is left.
    """
    obs, dropped = columns["obs"], columns["truncated"]
    rows = len(obs)
    kept = np.flatnonzero(~dropped)
    if len(kept) == 0:
        raise InputError(
            "next_obs: absent, and no row has a known successor: every row is truncated"
        )

    is_cut = np.append(dropped[1:], dropped[-1:])[kept]  # the row after it is dropped
    if len(kept) == rows - 1 and dropped[-1]:
        # The usual single episode or stream: two views of one array instead of two copies.
        shifted = {key: column[:-1] for key, column in columns.items()}
        shifted["next_obs"] = obs[1:]
        shifted_infos = {key: value[:-1] for key, value in infos.items()}
    else:
        next_obs, advance = empty((len(kept), *obs.shape[1:]), obs.dtype, obs), advancing()
        for some in _chunks(kept):
            next_obs[some] = obs[np.minimum(kept[some] + 1, rows - 1)]
            advance(next_obs[some].nbytes)
        shifted = {key: _kept(column, kept, reuse) for key, column in columns.items()}
        shifted["next_obs"] = next_obs
        shifted_infos = {key: value[kept] for key, value in infos.items()}

    shifted["truncated"] = is_cut & ~shifted["terminated"]
    return shifted, shifted_infos


def _kept(column: np.ndarray, rows: np.ndarray, reuse: bool) -> np.ndarray:
    """Return rows in ascending order, moved to the front of the array if that may be reused."""
    if not (reuse and column.flags.writeable):
        return take(column, rows)
    for some in _chunks(rows):
        column[some] = column[rows[some]]
    return column[: len(rows)]


def _chunks(rows: np.ndarray) -> Iterator[slice]:
    """Yield the places of all rows in turn, some at a time."""
    for first in range(0, len(rows), CHUNK):
        yield slice(first, min(first + CHUNK, len(rows)))


def row_index(rows: ArrayLike, n: int) -> np.ndarray:
    """Return the indices of rows, given as indices or as a mask `[n]`.

    Raises:
        InputError: a mask of another length, indices out of range, or no rows.
    """
    index = np.asarray(rows)
    if index.dtype == bool:
        if index.shape != (n,):
            raise InputError(f"rows: mask of shape {index.shape}, expected ({n},)")
        index = np.flatnonzero(index)

    if index.ndim != 1 or index.size == 0 or index.dtype.kind not in "iu":
        raise InputError(
            f"rows: {index.dtype} of shape {index.shape}, expected at least one row's index"
        )

    if index.min() < 0 or index.max() >= n:
        raise InputError(f"rows: {index.min()}..{index.max()}, expected 0..{n - 1}")
    return index


def _check_alike(obs: np.ndarray, next_obs: np.ndarray) -> None:
    """Raise InputError unless both have rows of one shape and dtype."""
    if obs.shape[1:] != next_obs.shape[1:] or obs.dtype != next_obs.dtype:
        raise InputError(
            f"next_obs: rows of {next_obs.shape[1:]} {next_obs.dtype}, "
            f"expected {obs.shape[1:]} {obs.dtype} as in obs"
        )


def _numbers(key: str, array: ArrayLike) -> np.ndarray:
    """Return an array of numbers or booleans with at least one axis."""
    if np.ma.is_masked(array):
        raise InputError(
            f"{key}: a masked array; fill the masked values (array.filled(...)) or drop their rows"
        )
    numbers = np.asarray(array)
    if numbers.dtype.kind not in "fiub":
        raise InputError(f"{key}: dtype {numbers.dtype}, expected numbers")
    if numbers.ndim == 0:
        raise InputError(f"{key}: a single number, expected one row per transition")
    return numbers


def _check_entries(key: str, rows: np.ndarray) -> None:
    """Refuse rows that hold no number."""
    if len(rows) and not rows.size:
        raise InputError(f"{key}: shape {rows.shape}, expected at least one number per row")


def _float32(key: str, array: np.ndarray) -> np.ndarray:
    """Return finite float32; a number too large for float32 counts as infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        array = converted(array, np.float32)
    check_finite(key, array)
    return array


def _flat(key: str, array: ArrayLike) -> np.ndarray:
    """Return `[N]` from `[N]` or `[N, 1]`."""
    numbers = _numbers(key, array)
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        return numbers[:, 0]
    if numbers.ndim != 1:
        raise InputError(f"{key}: shape {numbers.shape}, expected [N] or [N, 1]")
    return numbers
