"""Arithmetic along episodes, vectorised over all of them; N transitions in episode order, `end` marks each last one."""

from __future__ import annotations

import numpy as np


def _check_same_length(**columns: np.ndarray) -> None:
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or any(
        len(shape) != 1 or shape == (0,) for shape in shapes.values()
    ):
        raise ValueError(f"expected one-dimensional arrays of one length N >= 1, got {shapes}")


def end_index(end: np.ndarray) -> np.ndarray:
    """For every row the index of its episode's last row.

    Args:
        end: `[N]` bool, True on the last row of every episode, the very last row included.

    Returns:
        `[N]` int64.

    Raises:
        ValueError: `end` is not one-dimensional or its last entry is False.
    """
    _check_same_length(end=end)
    if not end[-1]:
        raise ValueError("end: expected the last row to end an episode, got False")
    ends = np.flatnonzero(end)
    return np.repeat(ends, np.diff(ends, prepend=-1))


def returns_to_go(reward: np.ndarray, end: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted sum of the rewards from each row to the end of its episode: G_t = r_t + gamma G_{t+1}.

    Doubles the span of every partial sum in each pass, so that N rows cost N log2(longest episode) and no Python loop
    over rows: G^(2k)_t = G^(k)_t + gamma^k G^(k)_{t+k}.

    Args:
        reward: `[N]`.
        end: `[N]` bool, True on the last row of every episode.
        gamma: discount, 0 <= gamma <= 1.

    Returns:
        `[N]` float64.

    Raises:
        ValueError: shapes differ, the last row ends no episode, or gamma is out of range.
    """
    _check_same_length(reward=reward, end=end)
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma: expected 0 <= gamma <= 1, got {gamma}")
    left = end_index(end) - np.arange(len(end))
    total = reward.astype(np.float64)
    span = 1
    while span <= left.max():
        # The right-hand side is complete before the addition starts: it reads the sums of the previous pass.
        total[:-span] += np.where(left[:-span] >= span, gamma**span * total[span:], 0.0)
        span *= 2
    return total


def n_step_rows(
    reward: np.ndarray, end: np.ndarray, n: int, gamma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of up to n discounted rewards, cut at the end of the episode.

    R_t = sum_{k < m} gamma^k r_{t+k} with m = min(n, rows left in the episode, row t included).

    Args:
        reward: `[N]`.
        end: `[N]` bool, True on the last row of every episode.
        n: number of steps, at least 1.
        gamma: discount.

    Returns:
        R `[N]` float64, and the row t + m - 1 of the last reward `[N]` int64.

    Raises:
        ValueError: shapes differ, the last row ends no episode, or n < 1.
    """
    _check_same_length(reward=reward, end=end)
    if n < 1:
        raise ValueError(f"n: expected at least 1, got {n}")
    row, stop = np.arange(len(end)), end_index(end)
    total = reward.astype(np.float64)
    for k in range(1, min(n, int((stop - row).max()) + 1)):
        total[:-k] += np.where(row[k:] <= stop[:-k], gamma**k * reward[k:].astype(np.float64), 0.0)
    return total, np.minimum(row + n - 1, stop)


def _as_items(rows: np.ndarray) -> np.ndarray:
    """Each row's bytes as one item that sorts and compares."""
    flat = np.ascontiguousarray(rows.reshape(len(rows), -1))
    return flat.view(np.dtype((np.void, flat.itemsize * flat.shape[1])))[:, 0]


def behaviour_policy(
    obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, n_actions: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """How often the data took each action where a transition leads: pi(a | s') = n(s', a) / n(s').

    Two observations are the same when their bytes are.

    Args:
        obs: `[N, *S]`.
        action: `[N]` integers in [0, n_actions).
        next_obs: `[N, *S]`, of the same dtype as `obs`.
        n_actions: A.

    Returns:
        pi `[N, A]` float32, zero where next_obs never occurs among obs; n(s') `[N]` int64; and the mean of n(s) over
        the distinct observations.

    Raises:
        ValueError: shapes or dtypes of obs and next_obs differ, or action is not `[N]`.
    """
    if obs.shape != next_obs.shape or obs.dtype != next_obs.dtype or action.shape != obs.shape[:1]:
        raise ValueError(
            f"expected obs and next_obs alike, got {obs.dtype}{obs.shape}, {next_obs.dtype}{next_obs.shape}"
        )
    known, which = np.unique(_as_items(obs), return_inverse=True)
    counts = np.bincount(which * n_actions + action, minlength=len(known) * n_actions).reshape(
        -1, n_actions
    )
    wanted = _as_items(next_obs)
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found = counts[place] * (known[place] == wanted)[:, None]
    visits = found.sum(1)
    return (
        (found / np.maximum(visits, 1)[:, None]).astype(np.float32),
        visits,
        len(obs) / len(known),
    )
