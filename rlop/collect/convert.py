"""Write a data set of any source as a file of another format, once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rlop.collect.dqn_replay import write_dqn_replay
from rlop.config.checks import check_known, check_range
from rlop.config.files import atomic
from rlop.config.writing import unwritable_named
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.stacks import DEPTH, Stacks
from rlop.data.dqn_replay.storage import available_bytes
from rlop.data.formats.hdf5 import write_hdf5
from rlop.data.formats.keys import D4RL
from rlop.data.formats.spec_attributes import attributes
from rlop.data.load import load_dataset
from rlop.envs.atari import atari_game
from rlop.logs.messages import say
from rlop.types import InputError

MILLION = 1_000_000  # rows of a published file of the DQN Replay Dataset
SUFFIXES = {".hdf5": "hdf5", ".h5": "hdf5", ".npz": "npz", "": "dqn-replay"}
IN_NPZ = ("n_actions", "env_id")  # what `read_npz` reads besides the columns


def convert(
    source: str | Path | Dataset,
    out: str | Path,
    form: str | None = None,
    *,
    rows_per_file: int = MILLION,
    **options: object,
) -> Path:
    """Read a source and write it as `hdf5` (D4RL's layout), `npz` or `dqn-replay`; all or nothing.

    Reading the file gives the same rows, flags and spec, but for the spec's record of changes, with
    two exceptions of `dqn-replay`: it has no next_obs of terminal rows, which targets mask, and no
    number of actions. Its files hold whole episodes. Only hdf5 holds bounds of actions, parts of
    dictionary observations, arguments of the environment, and `infos`.

    Args:
        source: see `rlop.load_dataset`.
        out: `*.hdf5`, `*.h5` or `*.npz`, or a folder `.../GAME/RUN` for dqn-replay.
        form: hdf5, npz or dqn-replay; by default what `out` says.
        rows_per_file: of dqn-replay, at most, unless one episode is longer.
        options: of the source's reader.

    Returns:
        The file, or the folder of the checkpoints.

    Raises:
        InputError: something exists under this name, the format cannot hold the data, or as
            `rlop.load_dataset`.
    """
    path = Path(out).expanduser()
    if form is None:
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path}: expected *.hdf5, *.h5, *.npz, or a folder GAME/RUN")
        form = SUFFIXES[path.suffix]
    check_known("format", form, FORMS)
    if form != SUFFIXES.get(path.suffix):
        endings = [suffix for suffix, known in SUFFIXES.items() if known == form]
        expected = "a folder GAME/RUN" if form == "dqn-replay" else f"a name *{endings[0]}"
        raise InputError(f"{path}: expected {expected} for the format {form}")
    check_range("rows_per_file", rows_per_file, low=1)
    if path.exists() and form != "dqn-replay":
        raise InputError(f"{path}: exists already; choose another name")

    data = load_dataset(source, **options)
    if data.discount is not None or data.extra:
        raise InputError(f"{data.name}: rows span several steps or have columns of a backup")
    if data.spec.obs_normalizer is not None or data.spec.obs_axes:
        raise InputError(
            f"{data.name}: no format holds how its observations were normalized or transposed: "
            "expected the data as they were read"
        )

    with unwritable_named(path):
        written = FORMS[form](data, path, rows_per_file)
    say(f"{written}: {len(data):,} transitions in {data.n_episodes:,} episodes of {data.name}")
    return written


def _columns(data: Dataset) -> dict[str, np.ndarray]:
    """Return the columns of a data set by our names."""
    return {
        "obs": data.obs,
        "action": data.action,
        "reward": data.reward,
        "terminated": data.terminated,
        "truncated": data.end & ~data.terminated,
        "next_obs": data.next_obs,
    }


# ---- one file


def _to_hdf5(data: Dataset, path: Path, rows_per_file: int) -> Path:
    arrays = {D4RL[key]: column for key, column in _columns(data).items()}
    arrays |= {f"infos/{key}": column for key, column in data.infos.items()}
    write_hdf5(path, arrays, attributes(data.spec))
    return path


def _to_npz(data: Dataset, path: Path, rows_per_file: int) -> Path:
    """Write an archive, if nothing that matters is lost."""
    about = attributes(data.spec)
    lost = [name for name in about if name not in IN_NPZ]
    if lost:
        raise InputError(f"{path}: npz cannot hold {', '.join(lost)} of {data.name}; use *.hdf5")
    if data.infos:
        say(f"{path}: npz holds no infos, which *.hdf5 does: {', '.join(data.infos)}")

    free = available_bytes()
    needed = 2 * data.obs.dtype.itemsize * int(np.prod(data.obs.shape))
    if isinstance(data.obs, Stacks) and free is not None and needed > free:
        raise InputError(
            f"{path}: every stack of frames written out takes {needed / 1e9:.3g} GB of memory, "
            f"{free / 1e9:.3g} GB are free: expected *.hdf5, or a folder GAME/RUN"
        )

    arrays: dict[str, Any] = {name: np.asarray(column) for name, column in _columns(data).items()}
    arrays |= {name: np.array(value) for name, value in about.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    return path


# ---- a replay log


@dataclass(frozen=True, eq=False)
class FrameRows:
    """Rows of frames that look like an array `[T, H, W]`, and are gathered piece by piece.

    Args:
        frames: `[M, H, W]` uint8.
        rows: `[T]` of them.
    """

    frames: np.ndarray
    rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """T, height, width."""
        return (len(self.rows), *self.frames.shape[1:])

    @property
    def ndim(self) -> int:
        """Always 3."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The frames' dtype."""
        return self.frames.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: np.ndarray | int) -> np.ndarray:
        return np.asarray(self.frames[self.rows[index]])


def _to_dqn_replay(data: Dataset, folder: Path, rows_per_file: int) -> Path:
    """Write checkpoints of whole episodes."""
    obs = _stacks(data)
    game = atari_game(data.spec.env_id or "") or "GAME"
    if not folder.name.isdigit() or folder.parent.name != game:
        raise InputError(
            f"{folder}: expected a folder that ends in {game}/RUN with a number RUN, "
            f"e.g. data/{game}/1"
        )
    logs = folder / "replay_logs"
    if logs.exists():
        raise InputError(f"{logs}: exists already; choose another number of the run")

    parts = _parts(data)
    temporary = folder / f".{logs.name}.{os.getpid()}.tmp"
    try:
        for suffix, (first, last) in enumerate(_files(parts, rows_per_file)):
            _write_log(temporary, suffix, data, obs, parts[first:last])
        os.replace(temporary, logs)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return logs


def _stacks(data: Dataset) -> Stacks:
    """Return the stacks of a data set that begin with zeros at the start of every part."""
    obs: object = data.obs
    if not isinstance(obs, Stacks):
        raise InputError(
            f"{data.name}: observations {data.spec.obs_shape}, expected stacks of frames for "
            "dqn-replay, as of rlu:atari/GAME/RUN; use *.hdf5"
        )
    for start, _ in _parts(data):
        older = obs.last[start] - np.arange(1, DEPTH)
        if obs.frames[older].any():
            raise InputError(
                f"{data.name}: row {start} continues an episode whose beginning is not read; "
                "dqn-replay holds episodes from their beginning: expected no iid- subset"
            )
    return obs


def _parts(data: Dataset) -> list[tuple[int, int]]:
    """Return the first row of each episode or part of one, and the row after its last."""
    stops = data.episode_ends + 1
    starts = np.append(0, stops[:-1])
    return list(zip(starts.tolist(), stops.tolist()))


def _files(parts: list[tuple[int, int]], rows_per_file: int) -> list[tuple[int, int]]:
    """Distribute parts to files; return the first part of each and the one after its last."""
    # A part takes three rows of zeros, its own, and at most one more.
    sizes = np.array([stop - start + DEPTH for start, stop in parts])
    files: list[tuple[int, int]] = []
    first = total = 0
    for part, size in enumerate(sizes.tolist()):
        if part > first and total + size > rows_per_file:
            files.append((first, part))
            first, total = part, 0
        total += size
    return [*files, (first, len(parts))]


def _write_log(
    folder: Path, suffix: int, data: Dataset, obs: Stacks, parts: list[tuple[int, int]]
) -> None:
    """Write one checkpoint.

    The reader leaves out rows without a successor: those of episodes that were cut, and the last
    one of a file. So the successor's frame follows as a row of its own, marked as truncated.
    """
    rows: list[np.ndarray] = []
    frames: list[np.ndarray] = []
    for part, (start, stop) in enumerate(parts):
        own = np.arange(start, stop)
        newest = obs.last[own]
        is_last = part == len(parts) - 1
        if is_last or not data.terminated[stop - 1]:
            own = np.append(own, -1)
            newest = np.append(newest, newest[-1] + 1)
        rows.append(own)
        frames.append(newest)

    row = np.concatenate(rows)
    is_row = row >= 0
    write_dqn_replay(
        folder,
        cast(np.ndarray, FrameRows(obs.frames, np.concatenate(frames))),
        np.where(is_row, data.action[row], 0),
        np.where(is_row, data.reward[row], 0).astype(np.float32),
        is_row & data.terminated[row],
        ~is_row,
        suffix=suffix,
    )


FORMS: dict[str, Callable[[Dataset, Path, int], Path]] = {
    "hdf5": _to_hdf5,
    "npz": _to_npz,
    "dqn-replay": _to_dqn_replay,
}
