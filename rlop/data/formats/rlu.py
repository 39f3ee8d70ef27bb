"""Read the Atari episodes of RL Unplugged as one `Dataset` of stacked frames."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rlop.config.checks import check_known, check_range, nearest
from rlop.data.atari_scores import minimal_actions
from rlop.data.changes import with_dropped
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.parts import join
from rlop.data.dqn_replay.queries import QUERY, parse_query, parse_subset
from rlop.data.dqn_replay.storage import store_frames
from rlop.data.formats.rlu_episodes import (
    FRAME,
    REWARDS,
    cache_file,
    columns,
    fill,
    offsets,
    scan,
    select,
)
from rlop.data.options import split_query
from rlop.envs.atari import atari_id
from rlop.types import InputError

PREFIX = "rlu:"
TASK = "atari/"  # the others of RL Unplugged are not read
VARIABLE = "RLU_DIR"  # environment variable
CACHE = Path(".cache") / "rlop" / "rlu"  # below the user's home


class Run(NamedTuple):
    """The files of a run.

    Args:
        game: as the publisher writes it.
        number: of the run.
        files: number of each file -> its path, ascending.
    """

    game: str
    number: str
    files: dict[int, Path]


def read_rlu(
    source: str,
    *,
    root: str | Path | None = None,
    subset: str = "all",
    files: Sequence[int] | None = None,
    seed: int = 0,
    memory_gb: float | None = None,
    cache: str | Path | None = None,
    reward: str = "clipped",
    n_actions: int | None = None,
    env_id: str | None = None,
) -> Dataset:
    """Read `rlu:atari/GAME/RUN` from gzip TFRecords of whole episodes, with PNG frames.

    The files are `ROOT/GAME/run_RUN-KKKKK-of-00050`, as in gs://rl_unplugged/atari_episodes_ordered
    or atari_episodes; also `ROOT/GAME_run_RUN-KKKKK-of-NNNNN`, in both cases with any text that
    ends in `_` before `run`. Those that are there are read, be it one of fifty.

    Observations are `[4, 84, 84]`, oldest frame first, zeros before the first frame of an episode.
    An episode of T frames has T - 1 transitions, in the order of the file: its last row is only the
    terminal frame, if the last discount is 0; otherwise the episode is truncated, and the
    successor of its last action is unknown. A frame is kept once, 7.06 GB for a million of them.

    `infos` holds `file` (number of the checkpoint), `episode` (in the checkpoint), `row` (in the
    episode) and `first` (begins an episode).

    Args:
        source: `rlu:atari/GAME/RUN` (without RUN: 1), possibly with `subset`, `files`, `seed`,
            `memory_gb` and `reward` in a query, as in `rlu:atari/Pong/1?subset=1%`.
        root: folder of the games; by default `$RLU_DIR`.
        subset: `all`;
            `1%`: the first 1 % of the transitions of each checkpoint;
            `first-10%`: the first 10 % of all, the early part of the training that was logged;
            `iid-1%`: 1 % of the transitions of each checkpoint, drawn without replacement, which
            needs up to five frames for each.
        files: numbers KKKKK of the files to read; by default all in the folder.
        seed: of `iid-`.
        memory_gb: beyond this many 1e9 bytes frames are written to an uncompressed file and mapped
            from there; by default they stay in memory.
        cache: folder of that file, by default `~/.cache/rlop/rlu`.
        reward: `clipped` to [-1, 1], or `unclipped`.
        n_actions: number of actions; by default those that the game uses.
        env_id: Gymnasium id for evaluation, by default `ALE/GAME-v5`.

    Raises:
        InputError: a name or option that is wrong, a file that is missing or damaged, a record that
            is no episode, no transition, or not enough memory; or Pillow is not installed.

    Reference: Gulcehre et al. 2020, arXiv:2006.13888; rl_unplugged/atari_utils.py of
        tensorflow_datasets.
    """
    name, query = split_query(str(source))
    given = parse_query(name, query, {**QUERY, "reward": str})
    subset = given.get("subset", subset)
    files = given.get("files", files)
    seed = given.get("seed", seed)
    memory_gb = given.get("memory_gb", memory_gb)
    reward = given.get("reward", reward)

    chosen = parse_subset(name, subset, seed)
    check_known(f"{name}: reward", reward, REWARDS)
    if memory_gb is not None:
        check_range("memory_gb", memory_gb, low=0, low_open=True)

    run = find_run(name, root)
    paths = _paths(name, run, files)
    selected = select(scan(paths, REWARDS[reward]), chosen)
    if not selected:
        raise InputError(f"{name}: subset {subset}: no transition in {len(paths)} files")

    label = name if subset == "all" else f"{name}?subset={subset}"
    cache_folder = Path(cache).expanduser() if cache else Path.home() / CACHE
    frames = store_frames(
        (sum(len(selection.kept) for selection in selected), *FRAME),
        sum(len(selection.rows) for selection in selected),
        partial(fill, selected),
        label,
        memory_gb,
        partial(cache_file, selected, f"{run.game}-{run.number}", cache_folder),
    )
    pieces = [columns(*placed) for placed in zip(selected, offsets(selected))]
    if n_actions is None:
        n_actions = minimal_actions(run.game)
    data = join(pieces, frames, label, n_actions, env_id or atari_id(run.game))
    cut = sum(selection.is_cut for selection in selected)
    return with_dropped(data, cut, len(data) + cut)


def file_numbers(name: str, root: str | Path | None = None) -> list[int]:
    """List the numbers of a run's files, ascending.

    Raises:
        InputError: as `find_run`.
    """
    return list(find_run(name, root).files)


def find_run(name: str, root: str | Path | None = None) -> Run:
    """Find the files of a game's run.

    Raises:
        InputError: no root, no such game or run, or two files of one number.
    """
    plain = name.removeprefix(PREFIX)
    match = re.fullmatch(rf"{TASK}(\w+?)(?:/(\d+))?", plain)
    if match is None:
        raise InputError(f"{name}: expected {PREFIX}{TASK}GAME/RUN, e.g. {PREFIX}{TASK}Pong/1")

    base = root or os.environ.get(VARIABLE)
    if not base:
        raise InputError(
            f"{name}: expected option root, or ${VARIABLE}, the folder with a folder for each game"
        )
    folder = Path(base).expanduser()
    if not folder.is_dir():
        raise InputError(f"{name}: no folder {folder}")

    game, number = match[1], match[2] or "1"
    found = _files(folder / game, "", number) or _files(folder, f"{game}_", number)
    if not found:
        games = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        expected = folder / game / f"run_{number}-00000-of-00050"
        hint = "" if game in games else nearest(game, games)
        raise InputError(f"{name}: no file {expected} or its like{hint}")
    return Run(game, number, found)


def _files(folder: Path, prefix: str, run: str) -> dict[int, Path]:
    """Return the files of a run in a folder by their number, ascending."""
    pattern = re.compile(rf"{prefix}(?:\w*_)?run_{run}-(\d+)-of-(\d+)")
    found: dict[int, Path] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        match = pattern.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        number = int(match[1])
        if number in found:
            raise InputError(
                f"{path}: has the number of {found[number].name}, expected one file of a number"
            )
        found[number] = path
    return dict(sorted(found.items()))


def _paths(name: str, run: Run, files: Sequence[int] | None) -> list[Path]:
    """Return the paths of the files that are asked for."""
    numbers = list(run.files) if files is None else sorted(set(files))
    for number in numbers:
        if number not in run.files:
            there = ", ".join(map(str, run.files))
            raise InputError(f"{name}: files: no file {number}; there are {there}")
    return [run.files[number] for number in numbers]
