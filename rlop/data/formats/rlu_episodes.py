"""Episodes of RL Unplugged's Atari files: what is in them, which are read, and their frames."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rlop.config.checks import show
from rlop.data.columns import check_finite
from rlop.data.dqn_replay.queries import Subset
from rlop.data.dqn_replay.stacks import DEPTH
from rlop.data.dqn_replay.storage import identity
from rlop.data.formats.tf_example import Feature, WireError, read_example
from rlop.data.formats.tfrecord import read_records
from rlop.data.mapped import advancing
from rlop.types import InputError

THREADS = 4  # files read at once, on as many cores at most
FRAME = (84, 84)
LARGEST_ACTION = 17  # Atari has 18
SHOWN = 12  # names of features in a message
LARGEST_NUMBER = 2**31 - 1  # of a checkpoint or an episode
PADDING = DEPTH - 1  # zero frames before an episode

# How a PNG of 84 x 84 gray pixels of 8 bits begins; nothing else is decoded.
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00T\x00\x00\x00T\x08\x00"

OBSERVATIONS = "observations"
ACTIONS = "actions"
DISCOUNTS = "discounts"
REWARDS = {"clipped": "clipped_rewards", "unclipped": "unclipped_rewards"}


@dataclass(frozen=True, eq=False)
class Episode:
    """Everything of an episode but its frames.

    It has T frames. The last one has no successor, so that T - 1 transitions are known.

    Args:
        path: of the file.
        record: its number in the file.
        checkpoint: number of the checkpoint, in order of time.
        number: of the episode in the checkpoint.
        action: `[T]` uint8.
        reward: `[T]` float32.
        terminated: whether the last frame is the terminal one.
    """

    path: Path
    record: int
    checkpoint: int
    number: int
    action: np.ndarray
    reward: np.ndarray
    terminated: bool

    @property
    def n_frames(self) -> int:
        """T."""
        return len(self.action)


@dataclass(frozen=True, eq=False)
class Selection:
    """What is read of an episode.

    Positions count frames, the three zeros before the episode included.

    Args:
        episode: the episode.
        rows: of its transitions, ascending.
        kept: positions of the frames that they need, ascending.
    """

    episode: Episode
    rows: np.ndarray
    kept: np.ndarray

    @property
    def is_cut(self) -> bool:
        """Whether an action follows the last transition, whose successor is not known."""
        return not self.episode.terminated and self.rows[-1] == self.episode.n_frames - 2


# ---- what is in the files


def scan(paths: Sequence[Path], reward: str) -> list[Episode]:
    """Read everything but the frames, several files at once.

    Args:
        paths: in order.
        reward: name of the feature, one of `REWARDS`.

    Returns:
        The episodes in the order of the files and of their records.

    Raises:
        InputError: naming the file, the record and the feature that is missing or wrong.
    """
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        found = list(pool.map(partial(_scan_file, reward=reward), paths))

    episodes: list[Episode] = []
    for of_file in found:
        episodes += of_file
    return episodes


def _scan_file(path: Path, reward: str) -> list[Episode]:
    records = enumerate(read_records(path))
    return [_episode(path, number, content, reward) for number, content in records]


def _episode(path: Path, record: int, content: bytes, reward: str) -> Episode:
    """Check an episode, and leave its frames."""
    where = f"{path}: record {record}"
    features = _features(where, content)
    if "o_t" in features:
        raise InputError(
            f"{where}: a single transition; expected episodes, which are in "
            "gs://rl_unplugged/atari_episodes_ordered"
        )

    frames = _images(where, features)
    action = _column(where, features, ACTIONS, "iu", len(frames))
    if action.min() < 0 or action.max() > LARGEST_ACTION:
        wrong = action.min() if action.min() < 0 else action.max()
        raise InputError(f"{where}: {ACTIONS}: {wrong}, expected 0 to {LARGEST_ACTION}")

    discount = _column(where, features, DISCOUNTS, "f", len(frames))
    ends = np.flatnonzero(discount == 0)
    if len(ends) and ends[0] != len(discount) - 1:
        raise InputError(
            f"{where}: {DISCOUNTS}: 0 in row {ends[0]} of {len(discount)}, "
            "expected it in the last one alone"
        )

    return Episode(
        path,
        record,
        checkpoint=_number(where, features, "checkpoint_idx"),
        number=_number(where, features, "episode_idx"),
        action=action.astype(np.uint8),
        reward=_column(where, features, reward, "f", len(frames)),
        terminated=bool(len(ends)),
    )


def _features(where: str, content: bytes) -> dict[str, Feature]:
    try:
        return read_example(content)
    except WireError as error:
        raise InputError(f"{where}: {error}, expected a tf.train.Example") from None


def _images(where: str, features: Mapping[str, Feature]) -> list[memoryview]:
    """Return the images of an episode, still encoded."""
    images = features.get(OBSERVATIONS)
    if not isinstance(images, list) or not images:
        raise InputError(f"{where}: {OBSERVATIONS}: expected at least one PNG image")
    return images


def _column(
    where: str, features: Mapping[str, Feature], key: str, kinds: str, rows: int
) -> np.ndarray:
    """Return a feature of numbers, `[rows]`."""
    values = features.get(key)
    if values is None:
        # As literals: a stranger's name may hold line breaks.
        there = ", ".join(show(name) for name in sorted(features)[:SHOWN])
        raise InputError(f"{where}: no {key!r}; has {there or 'nothing'}")
    if isinstance(values, list) or values.dtype.kind not in kinds:
        expected = "floats" if kinds == "f" else "integers"
        raise InputError(f"{where}: {key}: expected {expected}")
    if len(values) != rows:
        raise InputError(f"{where}: {key}: {len(values)} values, expected {rows}")
    check_finite(f"{where}: {key}", values)
    return values


def _number(where: str, features: Mapping[str, Feature], key: str) -> int:
    """Return a feature of one number from 0."""
    number = int(_column(where, features, key, "iu", 1)[0])
    if not 0 <= number <= LARGEST_NUMBER:
        raise InputError(f"{where}: {key}: {number}, expected 0 to {LARGEST_NUMBER}")
    return number


# ---- which are read


def select(episodes: Sequence[Episode], subset: Subset) -> list[Selection]:
    """Select transitions; those before another count by checkpoint, then by number of the episode.

    Args:
        episodes: in any order, which is kept.
        subset: `each` and `iid` select from each checkpoint, `first` from all together.

    Returns:
        A selection for each episode of which a transition is read.
    """
    order = sorted(
        range(len(episodes)), key=lambda i: (episodes[i].checkpoint, episodes[i].number, i)
    )
    counts = np.array([episodes[i].n_frames - 1 for i in order], np.int64)
    checkpoints = np.array([episodes[i].checkpoint for i in order], np.int64)
    of_row = np.repeat(checkpoints, counts)

    chosen = np.zeros(len(of_row), bool)
    if subset.kind == "first":
        chosen[: round(subset.share * len(of_row))] = True
    else:
        for checkpoint in np.unique(checkpoints):
            rows = np.flatnonzero(of_row == checkpoint)
            count = round(subset.share * len(rows))
            if subset.kind == "iid":
                # Seeded by the checkpoint's number too: equal sizes get different draws.
                rng = np.random.default_rng([subset.seed, checkpoint])
                rows = rng.choice(rows, count, replace=False)
            chosen[rows[:count]] = True

    pieces = dict(zip(order, np.split(chosen, np.cumsum(counts)[:-1])))
    selected: list[Selection] = []
    for i, episode in enumerate(episodes):
        rows = np.flatnonzero(pieces[i])
        if len(rows):
            selected.append(Selection(episode, rows, _kept(rows, episode.n_frames)))
    return selected


def _kept(rows: np.ndarray, n_frames: int) -> np.ndarray:
    """Return the positions of the frames in the stacks of transitions and of their successors."""
    needed = np.zeros(PADDING + n_frames, bool)
    for offset in range(DEPTH + 1):
        needed[rows + offset] = True
    return np.flatnonzero(needed)


def offsets(selected: Sequence[Selection]) -> list[int]:
    """Return for each selection the row of its first frame among the frames of all."""
    counts = [len(selection.kept) for selection in selected]
    return [0, *np.cumsum(counts)[:-1].tolist()]


def columns(selection: Selection, offset: int) -> dict[str, np.ndarray]:
    """Return the columns of a selection, for `rlop.data.dqn_replay.parts.join`.

    Args:
        selection: of an episode.
        offset: row of its first frame.
    """
    episode, rows = selection.episode, selection.rows
    terminated = np.full(len(rows), episode.terminated) & (rows == episode.n_frames - 2)
    follows = np.append(np.diff(rows) == 1, False)
    return {
        "action": episode.action[rows],
        "reward": episode.reward[rows],
        "terminated": terminated,
        "end": terminated | ~follows,
        "last": offset + np.searchsorted(selection.kept, rows + PADDING),
        "file": np.full(len(rows), episode.checkpoint, np.int32),
        "episode": np.full(len(rows), episode.number, np.int32),
        "row": rows.astype(np.int32),
        "first": rows == 0,
    }


# ---- their frames


def fill(selected: Sequence[Selection], out: np.ndarray) -> None:
    """Decode the frames of all selections to their places, several files at once.

    Args:
        selected: in order.
        out: `[M, 84, 84]` uint8, M the sum of the frames kept.

    Raises:
        InputError: Pillow is not installed, or an image that is damaged or none of 84 x 84 gray
            pixels.
    """
    by_file: dict[Path, dict[int, tuple[Selection, np.ndarray]]] = {}
    for selection, offset in zip(selected, offsets(selected)):
        episode = selection.episode
        place = out[offset : offset + len(selection.kept)]
        by_file.setdefault(episode.path, {})[episode.record] = selection, place

    opener, advance = _opener(next(iter(by_file))), advancing()
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        # A list, because exceptions appear only where results are taken.
        list(pool.map(partial(_fill_file, opener, advance), by_file, by_file.values()))


def _fill_file(
    opener: Callable[..., Any],
    advance: Callable[[int], None],
    path: Path,
    wanted: Mapping[int, tuple[Selection, np.ndarray]],
) -> None:
    """Decode the selected images of a file, up to the last record that has any."""
    left = len(wanted)
    for record, content in enumerate(read_records(path, verify=False)):
        if record not in wanted:
            continue
        where = f"{path}: record {record}"
        selection, place = wanted[record]
        images = _images(where, _features(where, content))
        if len(images) != selection.episode.n_frames:
            raise InputError(f"{where}: has changed while it was read")

        decode(opener, where, images, selection.kept - PADDING, place)
        advance(place.nbytes)
        left -= 1
        if not left:
            return
    raise InputError(f"{path}: has changed while it was read")


def decode(
    opener: Callable[..., Any],
    where: str,
    images: Sequence[memoryview],
    frames: np.ndarray,
    out: np.ndarray,
) -> None:
    """Decode some images of an episode.

    Args:
        opener: Pillow's `Image.open`.
        where: file and record, for messages.
        images: PNGs.
        frames: numbers of the images, one for each row of `out`; below 0 for a frame of zeros.
        out: `[n, 84, 84]` uint8.
    """
    out[frames < 0] = 0
    for row in np.flatnonzero(frames >= 0).tolist():
        number = int(frames[row])
        content = images[number]
        if content[: len(PNG)] != PNG:
            raise InputError(f"{where}: frame {number}: expected a PNG of 84 x 84 gray pixels")
        try:
            with opener(io.BytesIO(content), formats=["PNG"]) as image:
                out[row] = np.asarray(image)
        except Exception as error:  # whatever Pillow raises for wrong bytes
            raise InputError(f"{where}: frame {number}: damaged ({error})") from None


def _opener(path: Path) -> Callable[..., Any]:
    """Return Pillow's `Image.open`."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError(f"{path}: its frames are PNG images: pip install pillow") from None
    return Image.open


def cache_file(selected: Sequence[Selection], label: str, folder: Path) -> Path:
    """Name the file of these frames in a folder.

    Another selection of frames, or a file that has changed, gives another name.
    """
    digest = hashlib.sha256()
    for path in dict.fromkeys(selection.episode.path for selection in selected):
        digest.update(" ".join(map(str, identity(path))).encode())
    for selection in selected:
        digest.update(f"{selection.episode.path.name} {selection.episode.record}".encode())
        digest.update(selection.kept.tobytes())
    return folder / f"{label}-{digest.hexdigest()[:16]}.frames"
