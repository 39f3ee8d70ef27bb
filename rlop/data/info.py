"""What is in a data set, for a person, and what looks wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.stacks import Stacks
from rlop.data.scores import PREFIX, find_scores, normalized_score
from rlop.data.transforms import REWARD

BINS, WIDTH = 8, 30  # of the histogram
ROWS, BYTES = 100_000, 1 << 27  # most that is compared at once
BOUND = 0.999  # an action beyond it is at the end of [-1, 1]
SHOWN = 12  # dimensions listed one by one

# Names without `d4rl:` -> what its users have reported.
FAULTS = {
    r"maze2d-.*-v1": "rewards are one row late: they tell whether obs, not next_obs, is at the goal (D4RL issue 194)",
    r"maze2d-.*": "time-outs mark changes of the goal, not a time limit (D4RL issue 85)",
    r"antmaze-.*-v0": "time-outs are not where the trajectories end; use v2 (D4RL issue 77)",
    r"antmaze-umaze-diverse-.*": "one row of a trajectory is a success, not all those at the goal (D4RL issue 199)",
}


def summary(data: Dataset) -> str:
    """Lines for a person: sizes, spaces, returns, how episodes end, coverage, actions, and what looks suspicious."""
    spec, lengths = data.spec, data.episode_lengths()
    quarters = ", ".join(f"{q:.0f}" for q in np.quantile(lengths, (0.25, 0.5, 0.75)))
    lines = [
        f"{data.name}: {len(data)} transitions in {data.n_episodes} episodes of {lengths.mean():.1f} on average "
        f"({lengths.min()} to {lengths.max()}), quartiles {quarters}",
        f"{spec.shapes}, environment {spec.env_id}",
        f"ends: {data.terminated[data.end].sum()} terminated, {data.truncated[data.end].sum()} truncated",
        *(_frames(data) if isinstance(data.obs, Stacks) else []),
        *(_returns(data) if data.discount is None else []),
        f"reward: mean {data.reward.mean(dtype=np.float64):.4g}, {data.reward.min():.4g} to {data.reward.max():.4g}, "
        f"{(data.reward != 0).mean():.1%} not zero",
        _coverage(data),
        _actions(data),
    ]
    found = suspicions(data)
    return "\n".join(
        [*lines, *(["suspicious:"] if found else []), *(f"  - {text}" for text in found)]
    )


def suspicions(data: Dataset) -> list[str]:
    """What is probably wrong, or at least worth knowing before training: one sentence each."""
    found = []
    if len(data) > 1 and data.reward.min() == data.reward.max():
        found.append(f"every reward is {data.reward[0]:.4g}")
    repeated = repeated_rows(data)
    if repeated > 0.01:
        found.append(f"{repeated:.1%} of the rows repeat another row")
    gap, rows = chain_gap(data)
    if rows:
        found.append(
            f"next_obs is not the next row's obs in {rows} rows inside episodes, by {gap:.3g} at most"
        )
    if data.spec.n_actions is None:
        size = np.abs(data.action)
        if size.max() > 1:
            outside = f"{(size > 1).mean():.1%} of the action entries lie outside [-1, 1], up to {size.max():.4g}"
            found.append(f"{outside}: agents act within [-1, 1]")
        if (size >= BOUND).mean() > 0.5:
            found.append(f"{(size >= BOUND).mean():.1%} of the action entries are on the bound")
    if not data.terminated.any():
        found.append("no row terminates: right only where the task has no end of its own")
    plain = data.name.partition("+")[0]
    if plain.startswith(PREFIX):
        named = plain.removeprefix(PREFIX)
        found += [text for pattern, text in FAULTS.items() if re.fullmatch(pattern, named)]
    return found


def distinct(columns: list[np.ndarray]) -> tuple[float, int]:
    """Share of rows that differ from every earlier one, byte by byte, among the first rows; and how many those are.

    Args:
        columns: arrays `[N, ...]`; at most `ROWS` rows or `BYTES` bytes of them are compared.
    """
    width = sum(column[0].nbytes for column in columns)
    rows = max(1, min(len(columns[0]), ROWS, BYTES // max(width, 1)))
    parts = [
        np.ascontiguousarray(column[:rows]).reshape(rows, -1).view(np.uint8) for column in columns
    ]
    joined = np.ascontiguousarray(np.concatenate(parts, axis=1))
    return len(np.unique(joined.view(np.dtype((np.void, joined.shape[1]))))) / rows, rows


def repeated_rows(data: Dataset) -> float:
    """Share of rows that repeat an earlier one in all columns; 0 where states are few and repetition is natural."""
    if distinct([data.obs])[0] < 0.1:
        return 0.0
    return 1 - distinct([data.obs, data.action, data.reward, data.next_obs, data.terminated])[0]


def chain_gap(data: Dataset) -> tuple[float, int]:
    """Largest |next_obs[i] - obs[i + 1]| inside episodes, and the number of rows where they differ; one-step rows."""
    gap, rows = 0.0, 0
    if data.discount is not None or isinstance(
        data.obs, Stacks
    ):  # stacks are cut from one run of frames
        return gap, rows
    for part in _chunks(data.obs[:-1]):
        after = slice(part.start + 1, part.stop + 1)
        inside = ~data.end[part]
        here, there = data.next_obs[part][inside], data.obs[after][inside]
        differ = (here != there).reshape(len(here), -1).any(1)
        if differ.any():
            rows += int(differ.sum())
            gap = max(gap, float(np.abs(here[differ].astype(np.float64) - there[differ]).max()))
    return gap, rows


def _chunks(array: np.ndarray) -> Iterator[slice]:
    step = max(1, BYTES // max(array[:1].nbytes, 1))
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))


def _returns(data: Dataset) -> list[str]:
    returns = data.episode_returns()
    lines = [f"return: mean {returns.mean():.4g}, {returns.min():.4g} to {returns.max():.4g}"]
    known = [
        name
        for name in (data.name.partition("+")[0], data.spec.env_id)
        if name and find_scores(name)
    ]
    if known and REWARD not in data.name:
        score = normalized_score(returns, known[0])
        lines[0] += (
            f"; D4RL-normalized: mean {score.mean():.1f}, {score.min():.1f} to {score.max():.1f}"
        )
    return lines + (histogram(returns) if returns.min() < returns.max() else [])


def _frames(data: Dataset) -> list[str]:
    """What only a replay log has: how much memory, which values rewards take, and whole episodes."""
    obs: Any = data.obs
    frames, files = obs.frames, np.unique(data.infos["file"])
    values, counts = np.unique(data.reward, return_counts=True)
    seen = ", ".join(f"{value:g}: {count}" for value, count in zip(values[:SHOWN], counts)) + (
        f" and {len(values) - SHOWN} more values" if len(values) > SHOWN else ""
    )
    ends = data.episode_ends
    whole = data.infos["first"][np.append(0, ends[:-1] + 1)] & data.terminated[ends]
    lines = [
        f"frames: {len(frames)} of {frames.shape[1:]}, {frames.nbytes / 1e9:.3g} GB, "
        f"from {len(files)} checkpoints ({files[0]} to {files[-1]})",
        f"reward counts: {seen}",
    ]
    if data.discount is None:
        returns = data.episode_returns()[whole]
        mean = (
            f", return mean {returns.mean():.4g}, {returns.min():.4g} to {returns.max():.4g}"
            if whole.any()
            else ""
        )
        lines.append(f"whole episodes: {whole.sum()} of {len(whole)} parts{mean}")
    return lines


def histogram(values: np.ndarray) -> list[str]:
    """Eight lines: from, to, a bar of blocks, how many.

    Args:
        values: `[n]`, not all alike.
    """
    counts, edges = np.histogram(values, BINS)
    low, high = ([f"{edge:.4g}" for edge in side] for side in (edges[:-1], edges[1:]))
    left, right = (max(map(len, side)) for side in (low, high))
    # A bin that is not empty shows at least one block.
    bars = ["█" * int(np.ceil(WIDTH * count / counts.max())) for count in counts]
    return [
        f"  {a:>{left}} to {b:>{right}} {bar:{WIDTH}} {n}"
        for a, b, bar, n in zip(low, high, bars, counts)
    ]


def _coverage(data: Dataset) -> str:
    obs = data.obs
    share, rows = distinct([obs])
    first = f" of the first {rows}" if rows < len(data) else ""
    low, high = (edge.reshape(-1).astype(float) for edge in (obs.min(0), obs.max(0)))
    text = f"coverage: {share:.1%}{first} observations distinct; ranges"
    if obs.ndim > 2:
        return f"{text} {low.min():.4g} to {high.max():.4g}"
    text += "".join(f" [{a:.3g}, {b:.3g}]" for a, b in zip(low[:SHOWN], high[:SHOWN]))
    if len(low) > SHOWN:
        text += f" ... of {len(low)} entries, all within [{low.min():.3g}, {high.max():.3g}]"
    constant = int((low == high).sum())
    return text + (f", {constant} constant" if constant else "")


def _actions(data: Dataset) -> str:
    action = data.action
    if data.spec.n_actions is not None:
        shares = np.bincount(action, minlength=data.spec.n_actions) / len(data)
        return "action shares: " + ", ".join(f"{a}: {share:.1%}" for a, share in enumerate(shares))
    saturated = (np.abs(action) >= BOUND).mean()
    return f"actions: {action.min():.4g} to {action.max():.4g}, {saturated:.1%} of the entries at |a| >= {BOUND}"
