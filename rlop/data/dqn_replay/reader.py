"""Read the DQN Replay Dataset, and other logs of Dopamine's, as one `Dataset` of stacked frames."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rlop.config.checks import check_range, nearest
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.files import check_complete, suffixes
from rlop.data.dqn_replay.parts import Part, assemble, cache_file, fill, read_parts
from rlop.data.dqn_replay.queries import parse_query, parse_subset
from rlop.data.dqn_replay.storage import store_frames
from rlop.data.options import split_query
from rlop.envs.atari import atari_id
from rlop.types import InputError

PREFIX = "dqn-replay:"
VARIABLE = "DQN_REPLAY_DIR"  # environment variable
CACHE = Path(".cache") / "rlop" / "dqn-replay"  # below the user's home


def read_dqn_replay(
    source: str,
    *,
    root: str | Path | None = None,
    subset: str = "all",
    files: Sequence[int] | None = None,
    seed: int = 0,
    memory_gb: float | None = None,
    cache: str | Path | None = None,
    clip_reward: bool = True,
    n_actions: int | None = None,
    env_id: str | None = None,
) -> Dataset:
    """Read `dqn-replay:GAME/RUN`, from the files in `ROOT/GAME/RUN/replay_logs`.

    Observations are `[4, 84, 84]`, oldest frame first. Transitions are those that Dopamine's buffer
    would sample, in the order in which they were played; `next_obs` of a terminal one is the stack
    of the row after it, as there, which targets mask. A frame is kept once, 7.06 GB for a million
    of 84 x 84. Rewards in the published files are clipped already, and time-outs count as terminal
    in them.

    `infos` holds `file` (number of the checkpoint), `row` (in that file) and `first` (begins an
    episode).

    Args:
        source: `dqn-replay:GAME/RUN` (without RUN: 1), possibly with `subset`, `files`, `seed` and
            `memory_gb` in a query, as in `dqn-replay:Pong/1?subset=1%`.
        root: folder of the games; by default `$DQN_REPLAY_DIR`.
        subset: `all`;
            `1%`: the first 1 % of the rows of each file, as authors take it;
            `first-10%`: the first 10 % of all rows, the early part of the training that was logged;
            `iid-1%`: 1 % of the transitions of each file, drawn without replacement, which needs up
            to five frames for each.
        files: numbers of the checkpoints to read; by default all in the folder.
        seed: of `iid-`.
        memory_gb: beyond this many 1e9 bytes frames are written to an uncompressed file and mapped
            from there; by default they stay in memory.
        cache: folder of that file, by default `~/.cache/rlop/dqn-replay`.
        clip_reward: to [-1, 1].
        n_actions: number of actions; by default the largest one in the data plus one.
        env_id: Gymnasium id for evaluation, by default `ALE/GAME-v5`.

    Raises:
        InputError: a name or option that is wrong, a file that is missing, damaged or of another
            length, shape or dtype than expected, no valid transition, or not enough memory.

    Reference: Agarwal et al. 2020, arXiv:1907.04543, and its code, batch_rl;
        circular_replay_buffer.py of Dopamine.
    Differs from: see `ring` and `valid_positions`; there indices are drawn file by file, here from
        all alike.
    """
    name, query = split_query(str(source))
    given = parse_query(name, query)
    subset = given.get("subset", subset)
    files = given.get("files", files)
    seed = given.get("seed", seed)
    memory_gb = given.get("memory_gb", memory_gb)

    selected = parse_subset(name, subset, seed)
    if memory_gb is not None:
        check_range("memory_gb", memory_gb, low=0, low_open=True)
    folder = find(name, root)
    numbers = suffixes(folder) if files is None else sorted(set(files))
    check_complete(folder, numbers)

    parts = read_parts(folder, numbers, selected)
    rows = sum(len(part.position) for part in parts)
    if rows == 0:
        raise InputError(
            f"{folder}: subset {subset}: no transition whose stack and successor are whole"
        )

    label = name if subset == "all" else f"{name}?subset={subset}"
    cache_folder = Path(cache) if cache else Path.home() / CACHE
    frames = store_frames(
        _frames_shape(parts),
        rows,
        partial(fill, parts),
        label,
        memory_gb,
        partial(cache_file, parts, cache_folder),
    )
    env_id = env_id or atari_id(_game(folder))
    return assemble(parts, frames, label, clip_reward, n_actions, env_id)


def find(name: str, root: str | Path | None = None) -> Path:
    """Return the folder of a game's run.

    Raises:
        InputError: no root, no such game or run.
    """
    match = re.fullmatch(r"(\w+)(?:/(\d+))?", name.removeprefix(PREFIX))
    if match is None:
        raise InputError(f"{name}: expected {PREFIX}GAME/RUN, e.g. {PREFIX}Breakout/1")

    base = root or os.environ.get(VARIABLE)
    if not base:
        raise InputError(
            f"{name}: expected option root, or ${VARIABLE}, the folder with a folder for each game"
        )

    game = Path(base) / match[1]
    run = game / (match[2] or "1")
    for path in (game, run):
        if not path.is_dir():
            neighbors = sorted(entry.name for entry in path.parent.glob("*") if entry.is_dir())
            raise InputError(f"{name}: no folder {path}{nearest(path.name, neighbors)}")

    return run / "replay_logs"


def _game(folder: Path) -> str:
    """Return the game's name from `ROOT/GAME/RUN/replay_logs`."""
    return folder.parts[-3]


def _frames_shape(parts: Sequence[Part]) -> tuple[int, ...]:
    """Return `[M, H, W]`, the shape of the frames of all parts."""
    count = sum(len(part.kept) for part in parts)
    return (count, *parts[0].shape[1:])
