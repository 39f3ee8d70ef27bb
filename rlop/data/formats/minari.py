"""Minari's data sets by id, read from their files.

The package minari is needed to download only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlop.config.checks import nearest
from rlop.data.columns import flag_column
from rlop.data.dataset import Dataset
from rlop.data.formats.arrow import arrow_episodes
from rlop.data.formats.episodes import (
    OBSERVATIONS,
    Episode,
    Episodes,
    SpaceJSON,
    check_parts,
    choose,
    join,
    leaf_spaces,
    vector,
)
from rlop.data.formats.minari_about import (
    METADATA,
    Metadata,
    all_of,
    environment,
    own_path,
    read_about,
    space_of,
)
from rlop.data.formats.minari_actions import count_described, described, numbered
from rlop.data.formats.minari_hdf5 import MAIN_FILE, hdf5_episodes
from rlop.data.formats.trajectories import Trajectory, join_trajectories, to_dataset
from rlop.data.native import Counts
from rlop.envs.stored import stored_env
from rlop.types import InputError

PREFIX = "minari:"
FOLDER = "MINARI_DATASETS_PATH"  # environment variable


def read_minari(
    source: str,
    *,
    keys: Sequence[str] | None = None,
    download: bool = False,
    n_actions: Counts | None = None,
    env_id: str | None = None,
) -> Dataset:
    """Read `minari:ID`, of format hdf5, arrow or parquet.

    Data sets are in `$MINARI_DATASETS_PATH` or `~/.minari/datasets`. Episodes hold one
    observation more than they have steps, so that every row has its true next_obs, time-outs too.
    An episode that ends without a flag is marked truncated.

    Dict observations become one vector: the parts in the order of their sorted names (so
    achieved_goal, desired_goal, observation), nested ones as `a/b`, each flattened, one after
    another; a Discrete part as one-hot. This is what `gymnasium.wrappers.FlattenObservation` makes
    of a Dict space. An observation of one part keeps its shape. JPEG images, Minari's default, are
    decoded with Pillow. Actions of a bounded Box are brought to [-1, 1]; discrete ones are numbered
    from 0, those of a MultiDiscrete row-major as one of up to 4,096.

    Args:
        source: id, with or without `minari:`.
        keys: parts of a Dict observation to take, in this order; a name stands for all below it
            too.
        download: fetch the data set if it is not on disk, for which minari must be installed.
        n_actions: number of discrete actions; by default what the action space says.
        env_id: Gymnasium id for evaluation; by default the evaluation environment of the data set,
            or its own.

    Raises:
        InputError: no such data set on disk, links out of its folder, damaged metadata or arrays, a
            space that does not fit, missing or mis-sized parts.
    """
    name = str(source).removeprefix(PREFIX)
    check_id(name)
    folder = find(name, download) / "data"
    try:
        return _read(folder, PREFIX + name, keys, n_actions, env_id)
    except InputError as error:
        message = _first_line(error)
        where = "" if message.startswith(str(folder)) else f"{folder}: "
        raise InputError(f"{where}{message}") from None
    except OSError as error:
        raise InputError(
            f"{folder}: {MAIN_FILE}: damaged or cut short: {_first_line(error)}"
        ) from None
    except Exception as error:  # whatever wrong metadata or wrong bytes lead to
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise InputError(f"{folder}: damaged, or not as minari writes it ({reason})") from None


def _read(
    folder: Path,
    name: str,
    keys: Sequence[str] | None,
    n_actions: Counts | None,
    env_id: str | None,
) -> Dataset:
    """Read the data set in a folder; arguments as in `read_minari`."""
    about = read_about(folder)
    obs_space = space_of(about, "observation_space")
    action_space = space_of(about, "action_space")
    counted = count_described(action_space)

    env_kwargs: Mapping[str, object] = {}
    own_id, own_kwargs = environment(about)  # checked, even where the user names another
    if env_id is None:
        env_id, env_kwargs = stored_env(name, own_id, own_kwargs)

    spaces = leaf_spaces(obs_space)
    # Whatever is refused on the way, the file is closed.
    with closing(_episodes(folder, about.get("data_format", "hdf5"), spaces)) as episodes:
        trajectories = _trajectories(all_of(about, episodes), spaces, keys)
        columns, dropped = join_trajectories(trajectories, _rows(folder, about))

    columns["action"] = numbered(columns["action"], action_space)
    data = to_dataset(
        columns,
        name,
        counted if n_actions is None else n_actions,
        env_id,
        env_kwargs,
        dropped,
    )
    del columns  # so that actions in other units need not be held twice
    return _record_keys(described(data, action_space), obs_space, spaces, keys)


def check_id(name: str) -> None:
    """Raise InputError unless a name is an id of a data set, and no path to somewhere else."""
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", name):
        raise InputError(f"{PREFIX}{name}: expected an id such as D4RL/door/human-v2")


def root() -> Path:
    """Return the folder of all data sets, as minari finds it."""
    return Path(os.environ.get(FOLDER) or "~/.minari/datasets").expanduser()


def find(name: str, download: bool = False) -> Path:
    """Return the folder of a data set, fetched if need be and asked for.

    Raises:
        InputError: it is not on disk, with the place and the nearest id that is; the download
            failed; or a link leads out of the folder of all data sets.
    """
    folder = own_path(root(), root() / name)
    if (folder / "data" / METADATA).is_file():
        return folder
    if not download:
        raise InputError(
            f"{PREFIX}{name}: no data set in {folder}{nearest(name, _ids_on_disk())}; "
            f"download = true, or `minari download {name}`, fetches it"
        )

    failed = f"{PREFIX}{name}: no data set in {folder}, and no download"
    try:
        import minari

        minari.download_dataset(name)
    except ImportError as error:
        raise InputError(f"{failed}: {error}; pip install 'rlop[minari]' 'minari[hf]'") from None
    except Exception as error:  # its backends raise many types without a network
        raise InputError(f"{failed}: {_first_line(error)}") from None
    return folder


def _ids_on_disk() -> list[str]:
    """List the ids of the data sets in `root`."""
    files = sorted(root().rglob(f"data/{METADATA}"))
    return [path.parents[1].relative_to(root()).as_posix() for path in files]


def _trajectories(
    episodes: Iterable[Episode],
    spaces: Mapping[str, SpaceJSON],
    keys: Sequence[str] | None,
) -> Iterator[Trajectory]:
    """Yield each episode with its observations as one array."""
    for episode in episodes:
        _check_lengths(episode)
        check_parts(episode, spaces)
        chosen = {path: episode.leaves[path] for path in choose(episode.leaves, keys)}
        columns = episode.columns
        yield Trajectory(
            episode.label,
            vector(chosen, spaces),
            columns["actions"],
            columns["rewards"],
            flag_column(f"{episode.label}/terminations", columns["terminations"]),
            truncated=flag_column(f"{episode.label}/truncations", columns["truncations"]),
        )


def _rows(folder: Path, about: Metadata) -> int:
    """Return the number of steps that the metadata claim, at most the bytes of all files.

    It is only the room that is made at first.
    """
    claimed = about.get("total_steps")
    if not isinstance(claimed, int):
        return 0
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return max(0, min(claimed, size))


def _check_lengths(episode: Episode) -> None:
    """Raise InputError unless columns have T rows and parts of observations T + 1."""
    steps = len(episode.columns["rewards"])
    for key, column in episode.columns.items():
        _check_length(f"{episode.label}/{key}", column, steps, steps)
    for path, leaf in episode.leaves.items():
        _check_length(f"{episode.label}/{join(OBSERVATIONS, path)}", leaf, steps + 1, steps)


def _check_length(where: str, column: np.ndarray, expected: int, steps: int) -> None:
    if len(column) != expected:
        raise InputError(f"{where}: {len(column)} rows, expected {expected} with {steps} rewards")


def _record_keys(
    data: Dataset,
    obs_space: SpaceJSON,
    spaces: Mapping[str, SpaceJSON],
    keys: Sequence[str] | None,
) -> Dataset:
    """Record the parts of dictionary observations in the order in which they are joined."""
    if obs_space.get("type") != "Dict":
        return data
    return replace(data, spec=replace(data.spec, obs_keys=tuple(choose(spaces, keys))))


def _episodes(folder: Path, kind: object, spaces: Mapping[str, SpaceJSON]) -> Episodes:
    """Yield the episodes in the order of their numbers."""
    if kind == "hdf5":
        return hdf5_episodes(folder)
    if kind in ("arrow", "parquet"):
        return arrow_episodes(folder, str(kind), spaces)
    raise InputError(f"data_format {kind!r}: expected hdf5, arrow or parquet")


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
