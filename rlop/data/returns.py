"""Arithmetic along episodes, vectorized over all of them.

N transitions are in episode order, and `end` `[N]` marks the last row of every episode.
"""

from __future__ import annotations

import numpy as np


def end_index(end: np.ndarray) -> np.ndarray:
    """Return for every row the index of its episode's last row.

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
    """Sum the discounted rewards from each row to the end of its episode.

        G_t = r_t + gamma G_{t+1}

    Each pass doubles the span of every partial sum, so that N rows cost N log2(longest episode)
    operations and no Python loop over rows:

        G^(2k)_t = G^(k)_t + gamma^k G^(k)_{t+k}

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

    rows_left = end_index(end) - np.arange(len(end))
    total = reward.astype(np.float64)
    span = 1
    while span <= rows_left.max():
        # The right-hand side is complete before the addition: it reads the previous pass's sums.
        later = gamma**span * total[span:]
        inside = rows_left[:-span] >= span
        total[:-span] += np.where(inside, later, 0.0)
        span *= 2

    return total


def n_step_rows(
    reward: np.ndarray,
    end: np.ndarray,
    n: int,
    gamma: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum up to n discounted rewards from each row, cut at the end of its episode.

        R_t = sum_{k < m} gamma^k r_{t+k},  m = min(n, rows left in the episode, row t included)

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

    row = np.arange(len(end))
    stop = end_index(end)
    longest = int((stop - row).max()) + 1

    total = reward.astype(np.float64)
    for k in range(1, min(n, longest)):
        later = gamma**k * reward[k:].astype(np.float64)
        inside = row[k:] <= stop[:-k]
        total[:-k] += np.where(inside, later, 0.0)

    last = np.minimum(row + n - 1, stop)
    return total, last


def behavior_policy(
    obs: np.ndarray,
    action: np.ndarray,
    next_obs: np.ndarray,
    n_actions: int,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Count how often the data took each action in the state that a transition leads to.

        pi(a | s') = n(s', a) / n(s')

    Two observations are the same when their bytes are.

    Args:
        obs: `[N, *S]`.
        action: `[N]` integers in [0, n_actions).
        next_obs: `[N, *S]`, of the same dtype as `obs`.
        n_actions: A.

    Returns:
        pi `[N, A]` float32, zero where next_obs never occurs among obs; n(s') `[N]` int64; and the
        mean of n(s) over the distinct observations.

    Raises:
        ValueError: shapes or dtypes of obs and next_obs differ, or action is not `[N]`.
    """
    alike = obs.shape == next_obs.shape and obs.dtype == next_obs.dtype
    if not alike or action.shape != obs.shape[:1]:
        raise ValueError(
            f"expected obs and next_obs alike, got {obs.dtype}{obs.shape}, "
            f"{next_obs.dtype}{next_obs.shape}"
        )

    states, state_of_row = np.unique(_as_items(obs), return_inverse=True)
    pairs = state_of_row * n_actions + action
    counts = np.bincount(pairs, minlength=len(states) * n_actions)
    counts = counts.reshape(-1, n_actions)

    # Look each successor up among the sorted states; an absent one has counts of zero.
    successors = _as_items(next_obs)
    place = np.searchsorted(states, successors)
    place = np.minimum(place, len(states) - 1)
    seen = states[place] == successors
    taken = counts[place] * seen[:, None]
    visits = taken.sum(1)

    at_least_one = np.maximum(visits, 1)
    policy = (taken / at_least_one[:, None]).astype(np.float32)
    mean_count = len(obs) / len(states)
    return policy, visits, mean_count


def _as_items(rows: np.ndarray) -> np.ndarray:
    """View each row's bytes as one item that sorts and compares."""
    flat = np.ascontiguousarray(rows.reshape(len(rows), -1))
    item = np.dtype((np.void, flat.itemsize * flat.shape[1]))
    return flat.view(item)[:, 0]


def _check_same_length(**columns: np.ndarray) -> None:
    """Raise ValueError unless all columns are one-dimensional, of one length N >= 1."""
    shapes = {name: column.shape for name, column in columns.items()}
    first = next(iter(shapes.values()))
    same = all(shape == first for shape in shapes.values())
    if not same or len(first) != 1 or first == (0,):
        raise ValueError(f"expected one-dimensional arrays of one length N >= 1, got {shapes}")
