"""Summarize a data set for a person, and point out what looks wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.stacks import Stacks
from rlop.data.joined import Mixture
from rlop.data.scores import PREFIX, find_scores, normalized_score
from rlop.data.transforms import REWARD

BINS = 8  # of the histogram
WIDTH = 30  # of its longest bar, in characters
SHOWN = 12  # dimensions, or values of the reward, listed one by one
ROWS = 100_000  # most rows that are compared at once
BYTES = 1 << 27  # most bytes that are compared at once
BOUND = 0.999  # an action beyond it counts as being at the end of [-1, 1]

# Thresholds of what is worth a word: share of repeated rows; share of action entries on the bound.
MANY_REPEATED = 0.01
MANY_ON_BOUND = 0.5
# Below this share of distinct observations states are few, and rows repeat naturally.
FEW_STATES = 0.1

# Names without `d4rl:` -> what its users have reported.
FAULTS = {
    r"maze2d-.*-v1": (
        "rewards are one row late: they tell whether obs, not next_obs, is at the goal "
        "(D4RL issue 194)"
    ),
    r"maze2d-.*": "time-outs mark changes of the goal, not a time limit (D4RL issue 85)",
    r"antmaze-.*-v0": "time-outs are not where the trajectories end; use v2 (D4RL issue 77)",
    r"antmaze-umaze-diverse-.*": (
        "one row of a trajectory is a success, not all those at the goal (D4RL issue 199)"
    ),
}


def summary(data: Dataset) -> str:
    """Describe a data set line by line.

    Returns:
        Sizes, spaces, how episodes end, which array of a file was taken for what, what was
        changed or dropped, returns, rewards,
        coverage, actions, and what looks suspicious.
    """
    terminated = data.terminated[data.end].sum()
    truncated = data.truncated[data.end].sum()
    lines = [
        _size(data),
        f"{data.spec.shapes}, environment {data.spec.env_id}",
        f"ends: {terminated} terminated, {truncated} truncated",
    ]
    if data.mixture is not None:
        lines.append(_sources(data.mixture))
    if data.keys:
        read = [f"{role} from {key}" for role, key in data.keys.items()]
        lines.append(f"read: {', '.join(read)}")

    if data.spec.changes:
        lines.append("changes of the data:")
        lines += [f"  {change}" for change in data.spec.changes]

    if isinstance(data.obs, Stacks):
        lines += _frames(data, data.obs)
    if data.discount is None:
        lines += _returns(data)

    lines += [_rewards(data), _coverage(data), _actions(data)]

    doubts = suspicions(data)
    if doubts:
        lines.append("suspicious:")
        lines += [f"  - {text}" for text in doubts]
    return "\n".join(lines)


def suspicions(data: Dataset) -> list[str]:
    """List what is probably wrong, or worth knowing before training: one sentence each."""
    doubts: list[str] = []
    if len(data) > 1 and data.reward.min() == data.reward.max():
        doubts.append(f"every reward is {data.reward[0]:.4g}")

    repeated = repeated_rows(data)
    if repeated > MANY_REPEATED:
        doubts.append(f"{repeated:.1%} of the rows repeat another row")

    gap, rows = chain_gap(data)
    if rows:
        doubts.append(
            f"next_obs is not the next row's obs in {rows} rows inside episodes, "
            f"by {gap:.3g} at most"
        )

    if data.spec.n_actions is None:
        doubts += _doubts_about_actions(np.abs(data.action))
    if not data.terminated.any():
        doubts.append("no row terminates: right only where the task has no end of its own")
    return doubts + _reported_faults(data.name)


def distinct(columns: Sequence[np.ndarray]) -> tuple[float, int]:
    """Return the share of rows that differ from every earlier one, byte by byte.

    Args:
        columns: arrays `[N, ...]`; at most `ROWS` rows or `BYTES` bytes of them are compared.

    Returns:
        The share, and the number of rows that were compared, the first ones.
    """
    row_bytes = sum(column[0].nbytes for column in columns)
    rows = min(len(columns[0]), ROWS, BYTES // max(row_bytes, 1))
    rows = max(rows, 1)

    parts: list[np.ndarray] = []
    for column in columns:
        first = np.ascontiguousarray(column[:rows])
        parts.append(first.reshape(rows, -1).view(np.uint8))
    joined = np.ascontiguousarray(np.concatenate(parts, axis=1))

    item = np.dtype((np.void, joined.shape[1]))
    n_distinct = len(np.unique(joined.view(item)))
    return n_distinct / rows, rows


def repeated_rows(data: Dataset) -> float:
    """Return the share of rows that repeat an earlier one in all columns.

    It is 0 where states are few and repetition is natural.
    """
    distinct_obs, _ = distinct([data.obs])
    if distinct_obs < FEW_STATES:
        return 0.0

    columns = [data.obs, data.action, data.reward, data.next_obs, data.terminated]
    distinct_rows, _ = distinct(columns)
    return 1 - distinct_rows


def chain_gap(data: Dataset) -> tuple[float, int]:
    """Compare next_obs with the next row's obs inside episodes of one-step rows.

    Returns:
        The largest |next_obs[i] - obs[i + 1]|, and the number of rows where they differ.
    """
    gap = 0.0
    rows = 0
    # Stacks are cut from one run of frames and cannot differ.
    if data.discount is not None or isinstance(data.obs, Stacks):
        return gap, rows

    for part in _chunks(data.obs[:-1]):
        inside = ~data.end[part]
        following = np.asarray(data.next_obs[part])[inside]
        next_row = np.asarray(data.obs[part.start + 1 : part.stop + 1])[inside]

        differ = (following != next_row).any(axis=tuple(range(1, following.ndim)))
        if differ.any():
            # In float64, so that differences of bytes do not wrap.
            distance = np.abs(following[differ].astype(np.float64) - next_row[differ])
            gap = max(gap, float(distance.max()))
            rows += int(differ.sum())
    return gap, rows


def histogram(values: np.ndarray) -> list[str]:
    """Draw eight lines: from, to, a bar of blocks, the count.

    Args:
        values: `[n]`, not all alike.
    """
    counts, edges = np.histogram(values, BINS)
    labels = [f"{edge:.4g}" for edge in edges]
    left = max(map(len, labels[:-1]))
    right = max(map(len, labels[1:]))

    lines: list[str] = []
    for low, high, count in zip(labels, labels[1:], counts):
        # Rounded up: a bin that is not empty shows at least one block.
        length = int(np.ceil(WIDTH * count / counts.max()))
        bar = "█" * length
        lines.append(f"  {low:>{left}} to {high:>{right}} {bar:{WIDTH}} {count}")
    return lines


def _size(data: Dataset) -> str:
    lengths = data.episode_lengths()
    quartiles = [f"{quartile:.0f}" for quartile in np.quantile(lengths, (0.25, 0.5, 0.75))]
    return (
        f"{data.name}: {len(data)} transitions in {data.n_episodes} episodes of "
        f"{lengths.mean():.1f} on average ({lengths.min()} to {lengths.max()}), "
        f"quartiles {', '.join(quartiles)}"
    )


def _sources(mixture: Mixture) -> str:
    """Describe the sources of a mixture, and their shares of a batch."""
    rows = np.bincount(mixture.source, minlength=len(mixture.names))
    shares = np.array(mixture.weights) / sum(mixture.weights)
    parts = [
        f"{share:.1%} from {name} ({count} rows)"
        for name, share, count in zip(mixture.names, shares, rows)
    ]
    return f"batches: {', '.join(parts)}; all below is of the rows, not of batches"


def _rewards(data: Dataset) -> str:
    reward = data.reward
    mean = reward.mean(dtype=np.float64)
    not_zero = (reward != 0).mean()
    return (
        f"reward: mean {mean:.4g}, {reward.min():.4g} to {reward.max():.4g}, "
        f"{not_zero:.1%} not zero"
    )


def _returns(data: Dataset) -> list[str]:
    returns = data.episode_returns()
    line = f"return: mean {returns.mean():.4g}, {returns.min():.4g} to {returns.max():.4g}"

    # Reference scores are of the original rewards only.
    scored_name = _scored_name(data)
    if scored_name is not None and REWARD not in data.name:
        score = normalized_score(returns, scored_name)
        line += (
            f"; D4RL-normalized: mean {score.mean():.1f}, {score.min():.1f} to {score.max():.1f}"
        )

    if returns.min() == returns.max():
        return [line]
    return [line, *histogram(returns)]


def _scored_name(data: Dataset) -> str | None:
    """Return the data set's name, or else its environment's id, where D4RL has scores of it."""
    for name in (_plain_name(data.name), data.spec.env_id):
        if name and find_scores(name):
            return name
    return None


def _plain_name(name: str) -> str:
    """Drop the notes that transforms have appended to a name."""
    return name.partition("+")[0]


def _frames(data: Dataset, stacks: Stacks) -> list[str]:
    """Describe what only a replay log has: memory, the values of rewards, and whole episodes."""
    frames = stacks.frames
    checkpoints = np.unique(data.infos["file"])
    lines = [
        f"frames: {len(frames)} of {frames.shape[1:]}, {frames.nbytes / 1e9:.3g} GB, "
        f"from {len(checkpoints)} checkpoints ({checkpoints[0]} to {checkpoints[-1]})",
        f"reward counts: {_reward_counts(data.reward)}",
    ]

    if data.discount is None:
        lines.append(_whole_episodes(data))
    return lines


def _reward_counts(reward: np.ndarray) -> str:
    values, counts = np.unique(reward, return_counts=True)
    pairs = [f"{value:g}: {count}" for value, count in zip(values[:SHOWN], counts)]
    text = ", ".join(pairs)

    hidden = len(values) - SHOWN
    if hidden > 0:
        text += f" and {hidden} more values"
    return text


def _whole_episodes(data: Dataset) -> str:
    """Count the parts that hold an episode from its first row to its terminal one."""
    ends = data.episode_ends
    starts = np.append(0, ends[:-1] + 1)
    whole = data.infos["first"][starts] & data.terminated[ends]

    text = f"whole episodes: {whole.sum()} of {len(whole)} parts"
    if whole.any():
        returns = data.episode_returns()[whole]
        text += f", return mean {returns.mean():.4g}, {returns.min():.4g} to {returns.max():.4g}"
    return text


def _coverage(data: Dataset) -> str:
    obs = data.obs
    share, rows = distinct([obs])
    compared = f" of the first {rows}" if rows < len(data) else ""
    text = f"coverage: {share:.1%}{compared} observations distinct; ranges"

    low = obs.min(0).reshape(-1).astype(float)
    high = obs.max(0).reshape(-1).astype(float)
    if obs.ndim > 2:
        return f"{text} {low.min():.4g} to {high.max():.4g}"

    for a, b in zip(low[:SHOWN], high[:SHOWN]):
        text += f" [{a:.3g}, {b:.3g}]"
    if len(low) > SHOWN:
        text += f" ... of {len(low)} entries, all within [{low.min():.3g}, {high.max():.3g}]"

    constant = int((low == high).sum())
    if constant:
        text += f", {constant} constant"
    return text


def _actions(data: Dataset) -> str:
    action = data.action
    if data.spec.n_actions is not None:
        shares = np.bincount(action, minlength=data.spec.n_actions) / len(data)
        listed = [f"{number}: {share:.1%}" for number, share in enumerate(shares)]
        return f"action shares: {', '.join(listed)}"

    on_bound = (np.abs(action) >= BOUND).mean()
    text = (
        f"actions: {action.min():.4g} to {action.max():.4g}, "
        f"{on_bound:.1%} of the entries at |a| >= {BOUND}"
    )
    low, high = data.spec.action_low, data.spec.action_high
    if low is None or high is None:
        return text
    return f"{text}; -1 and 1 are {list(low)} and {list(high)} of the environment"


def _doubts_about_actions(size: np.ndarray) -> list[str]:
    """List doubts about continuous actions, from their absolute values."""
    doubts: list[str] = []
    outside = (size > 1).mean()
    if outside > 0:
        doubts.append(
            f"{outside:.1%} of the action entries lie outside [-1, 1], "
            f"up to {size.max():.4g}: agents act within [-1, 1]"
        )

    on_bound = (size >= BOUND).mean()
    if on_bound > MANY_ON_BOUND:
        doubts.append(f"{on_bound:.1%} of the action entries are on the bound")
    return doubts


def _reported_faults(name: str) -> list[str]:
    """List what D4RL's users have reported of a data set."""
    plain = _plain_name(name)
    if not plain.startswith(PREFIX):
        return []
    d4rl_name = plain.removeprefix(PREFIX)
    return [text for pattern, text in FAULTS.items() if re.fullmatch(pattern, d4rl_name)]


def _chunks(array: np.ndarray) -> Iterator[slice]:
    """Yield slices of at most `BYTES` bytes each."""
    step = max(1, BYTES // max(array[:1].nbytes, 1))
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))
