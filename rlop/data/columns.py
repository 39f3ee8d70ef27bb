"""From a user's arrays to columns. Every message starts with the array's key, and what fits is never copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from rlop.types import InputError, Spec


def check_finite(key: str, array: np.ndarray) -> None:
    """Raise InputError with the number of rows that hold NaN or infinity and the first of them."""
    if array.size == 0 or array.dtype.kind != "f":
        return
    # NaN and infinity survive min and max, which need no temporary of the array's size.
    with np.errstate(invalid="ignore"):
        if np.isfinite(array.min()) and np.isfinite(array.max()):
            return
    bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))
    raise InputError(
        f"{key}: {len(bad)} of {len(array)} rows hold NaN or infinity (first: row {bad[0]})"
    )


def _numbers(key: str, array: Any) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{key}: dtype {array.dtype}, expected numbers")
    if array.ndim == 0:
        raise InputError(f"{key}: a single number, expected one row per transition")
    return array


def _float32(key: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        array = array.astype(np.float32, copy=False)
    check_finite(key, array)
    return array


def _flat(key: str, array: Any) -> np.ndarray:
    array = _numbers(key, array)
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim != 1:
        raise InputError(f"{key}: shape {array.shape}, expected [N] or [N, 1]")
    return array


def obs_column(key: str, array: Any) -> np.ndarray:
    """Observations `[N, *S]`: uint8 and bool stay, every other dtype becomes float32."""
    array = _numbers(key, array)
    if array.ndim < 2:
        raise InputError(
            f"{key}: shape {array.shape}, expected [N, *obs_shape]; add an axis to scalar observations"
        )
    return array if array.dtype in (np.uint8, np.bool_) else _float32(key, array)


def float_column(key: str, array: Any) -> np.ndarray:
    """One float32 per row, from `[N]` or `[N, 1]`."""
    return _float32(key, _flat(key, array))


def flag_column(key: str, array: Any) -> np.ndarray:
    """One bool per row, from booleans or numbers that are all 0 or 1; a new array."""
    array = _flat(key, array)
    bad = np.flatnonzero((array != 0) & (array != 1))
    if len(bad):
        raise InputError(f"{key}: {array[bad[0]]} at row {bad[0]}, expected only 0 and 1")
    return array.astype(bool)


def action_column(key: str, array: Any, n_actions: int | None) -> tuple[np.ndarray, int | None]:
    """Discrete actions `[N]` int64 with their number, or continuous actions `[N, *A]` float32 with None.

    Integers of shape `[N]` or `[N, 1]` are discrete; `n_actions` defaults to the largest plus one.
    """
    array = _numbers(key, array)
    if array.dtype.kind == "f" and n_actions is None:
        return _float32(key, array[:, None] if array.ndim == 1 else array), None
    if array.dtype.kind not in "iu":
        raise InputError(
            f"{key}: dtype {array.dtype} with n_actions = {n_actions}, expected integers"
        )
    array = _flat(key, array).astype(np.int64, copy=False)
    n_actions = int(array.max(initial=-1)) + 1 if n_actions is None else n_actions
    bad = np.flatnonzero((array < 0) | (array >= n_actions))
    if len(bad):
        raise InputError(
            f"{key}: {array[bad[0]]} at row {bad[0]}, expected 0 <= action < {n_actions} (n_actions)"
        )
    return array, n_actions


def check_lengths(columns: dict[str, np.ndarray | None]) -> None:
    """Raise InputError unless all columns have as many rows as the first, and at least one."""
    lengths = {key: len(column) for key, column in columns.items() if column is not None}
    first, rows = next(iter(lengths.items()))
    for key, length in lengths.items():
        if length != rows:
            raise InputError(f"{key}: {length} rows, expected {rows}")
    if rows == 0:
        raise InputError(f"{first}: 0 rows, expected at least one transition")


def make_columns(
    obs: Any,
    action: Any,
    reward: Any,
    terminated: Any,
    truncated: Any,
    next_obs: Any,
    n_actions: int | None,
    infos: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, np.ndarray], int | None]:
    """Columns, infos and number of actions of a data set; arguments and errors as in `Dataset.from_arrays`."""
    action, n_actions = action_column("action", action, n_actions)
    columns = {
        "obs": obs_column("obs", obs),
        "action": action,
        "reward": float_column("reward", reward),
        "next_obs": None if next_obs is None else obs_column("next_obs", next_obs),
        "terminated": flag_column("terminated", terminated),
        "truncated": flag_column("truncated", truncated),
    }
    infos = {key: np.asarray(value) for key, value in infos.items()}
    check_lengths({**columns, **infos})
    columns["truncated"][-1] = True
    columns["truncated"] &= ~columns["terminated"]
    if next_obs is None:
        columns, infos = shift(columns, infos)
    here, there = (
        (column.shape[1:], str(column.dtype)) for column in (columns["obs"], columns["next_obs"])
    )
    if here != there:
        raise InputError(
            f"next_obs: rows of {there[0]} {there[1]}, expected {here[0]} {here[1]} as in obs"
        )
    return columns, infos, n_actions


def shift(
    columns: dict[str, Any], infos: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Take the next row's observation as next_obs, and drop the truncated rows, which have none.

    Args:
        columns: of N rows, `next_obs` None; `truncated` and `terminated` never both True in a row.
        infos: further arrays of N rows.

    Returns:
        The columns and infos of the rows that are left; a row before a dropped one is truncated, unless terminated.

    Raises:
        InputError: no row is left.
    """
    obs, dropped = columns["obs"], columns["truncated"]
    rows = len(obs)
    index = np.flatnonzero(~dropped)
    if len(index) == 0:
        raise InputError(
            "next_obs: absent, and no row has a known successor: every row is truncated"
        )
    following = np.minimum(index + 1, rows - 1)
    if (
        len(index) == rows - 1 and dropped[-1]
    ):  # the usual single episode or stream: two views of one array
        take, after = slice(0, rows - 1), slice(1, rows)
    else:
        take, after = index, following  # type: ignore[assignment]
    shifted = {key: column[take] for key, column in columns.items() if column is not None}
    shifted["next_obs"] = obs[after]
    shifted["truncated"] = dropped[following] & ~shifted["terminated"]
    return shifted, {key: value[take] for key, value in infos.items()}


def check_spaces(
    spec: Spec, env: gymnasium.Env[Any, Any] | gymnasium.vector.VectorEnv[Any, Any, Any]
) -> None:
    """Raise InputError when an environment's observations or actions are not those of the data.

    Args:
        spec: of the data set.
        env: a Gymnasium environment, or a vector of them.
    """
    obs = getattr(env, "single_observation_space", env.observation_space)
    action = getattr(env, "single_action_space", env.action_space)
    name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    bytes_here, bytes_there = spec.obs_dtype == "uint8", obs.dtype == np.uint8
    if obs.shape != spec.obs_shape or (bytes_here != bytes_there and obs.dtype != np.bool_):
        data = f"{spec.obs_shape} {spec.obs_dtype}"
        raise InputError(f"{name}: observations {obs.shape} {obs.dtype}, but the data has {data}")
    n_actions = int(action.n) if isinstance(action, gymnasium.spaces.Discrete) else None
    if n_actions != spec.n_actions or (n_actions is None and action.shape != spec.action_shape):
        data = (
            f"{spec.n_actions} discrete"
            if spec.n_actions is not None
            else f"continuous {spec.action_shape}"
        )
        raise InputError(f"{name}: action space {action}, but the data has {data} actions")
