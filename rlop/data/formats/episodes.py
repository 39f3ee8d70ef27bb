"""Episodes as Minari stores them, and the rule that makes one array of an observation's parts."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from rlop.config.checks import nearest
from rlop.data.formats.jpeg import decode, is_encoded
from rlop.data.native import by_name
from rlop.types import InputError

COLUMNS = ("actions", "rewards", "terminations", "truncations")
OBSERVATIONS = "observations"

Leaves: TypeAlias = dict[str, np.ndarray]  # path of a part, "" for the whole -> [T + 1, ...]
MOST_STATES = 4_096  # of a Discrete observation, which becomes as many numbers

SpaceJSON: TypeAlias = Mapping[str, Any]  # a space as minari describes it in JSON


class Episode(NamedTuple):
    """One episode of T steps.

    Args:
        label: what messages call it.
        leaves: parts of the T + 1 observations by path, such as `achieved_goal/x`.
        columns: `COLUMNS`, each `[T, ...]`.
    """

    label: str
    leaves: Leaves
    columns: dict[str, np.ndarray]


Episodes: TypeAlias = Generator[Episode, None, None]


def join(path: str, key: str) -> str:
    """Join two parts of a path, either of which may be empty."""
    if path and key:
        return f"{path}/{key}"
    return path or key


def leaf_spaces(space: SpaceJSON, path: str = "") -> dict[str, SpaceJSON]:
    """Return the spaces of the parts of an observation by path; {} where none is described."""
    if not space:
        return {}
    if space.get("type") == "Tuple":
        raise InputError(f"{join(OBSERVATIONS, path)}: Tuple space, expected Box, Discrete or Dict")
    if space.get("type") != "Dict":
        return {path: space}

    leaves: dict[str, SpaceJSON] = {}
    for key, inner in space["subspaces"].items():
        leaves |= leaf_spaces(inner, join(path, key))
    return leaves


def check_parts(episode: Episode, spaces: Mapping[str, SpaceJSON]) -> None:
    """Raise InputError unless an episode's observations have the parts that are described.

    Args:
        episode: as read.
        spaces: of the parts by path; {} where none is described.
    """
    for path in sorted(spaces.keys() ^ episode.leaves.keys()) if spaces else ():
        where = f"{episode.label}/{join(OBSERVATIONS, path)}"
        if path in spaces:
            raise InputError(f"{where}: missing, but its space is described")
        raise InputError(f"{where}: its space is not described, expected one of {sorted(spaces)}")


def choose(leaves: Collection[str], keys: Sequence[str] | None) -> list[str]:
    """Return the paths of the parts to take, in order.

    Args:
        leaves: paths of all parts.
        keys: paths, or names that stand for everything below them; None takes all, sorted name by
            name as Gymnasium sorts a Dict space.

    Raises:
        InputError: no such part, with the nearest.
    """
    if keys is None:
        return by_name(leaves)

    if not keys or not all(isinstance(key, str) for key in keys):
        raise InputError(f"keys = {keys!r}: expected at least one name of a part")
    chosen: list[str] = []
    for key in [keys] if isinstance(keys, str) else keys:
        below = [path for path in sorted(leaves) if path == key or path.startswith(f"{key}/")]
        if not below:
            raise InputError(f"{OBSERVATIONS}: no part {key!r}{nearest(key, leaves)}")
        chosen += below
    return chosen


def vector(leaves: Leaves, spaces: Mapping[str, SpaceJSON]) -> np.ndarray:
    """Make one array of the parts of an observation.

    This is what `gymnasium.wrappers.FlattenObservation` makes of a Dict space.

    Args:
        leaves: in the order wanted.
        spaces: of the parts by path, as far as they are described.

    Returns:
        `[T + 1, ...]`: a single part in its own shape; several flattened, one after another, as
        float32.

    Raises:
        InputError: a part that is not numbers, or does not fit its space.
    """
    parts: list[np.ndarray] = []
    for path, leaf in leaves.items():
        parts.append(_numbers(path, leaf, spaces.get(path, {})))
    if len(parts) == 1:
        return parts[0]

    flat = [part.reshape(len(part), -1).astype(np.float32) for part in parts]
    return np.concatenate(flat, axis=1)


def _numbers(path: str, leaf: np.ndarray, space: SpaceJSON) -> np.ndarray:
    """Return a part: bytes and booleans as they are, discrete values one-hot, else float32."""
    where = join(OBSERVATIONS, path)
    kind = space.get("type", "Box")

    if kind == "Discrete":
        return _one_hot(where, leaf, space)

    if kind == "Box" and is_encoded(leaf, space.get("shape")):
        return decode(where, leaf, tuple(space.get("shape", ())))
    if kind not in ("Box", "MultiBinary") or leaf.dtype.kind not in "fiub":
        raise InputError(
            f"{where}: {kind} of {leaf.dtype}, expected numbers; leave it out with keys=[...]"
        )
    if "shape" in space and leaf.shape[1:] != tuple(space["shape"]):
        raise InputError(f"{where}: rows {leaf.shape[1:]}, expected {tuple(space['shape'])}")

    if leaf.dtype in (np.uint8, np.bool_):
        return leaf
    return leaf.astype(np.float32, copy=False)


def _one_hot(where: str, leaf: np.ndarray, space: SpaceJSON) -> np.ndarray:
    """Return `[T + 1, n]` float32 for the values of a Discrete space."""
    n = space["n"]
    if n > MOST_STATES:
        raise InputError(f"{where}: Discrete of {n} values, expected at most {MOST_STATES}")
    if leaf[0].size != 1:
        raise InputError(f"{where}: rows {leaf.shape[1:]}, expected one value of a Discrete space")

    value = whole_numbers(where, leaf).reshape(-1) - space.get("start", 0)
    if value.min() < 0 or value.max() >= n:
        raise InputError(
            f"{where}: {leaf.min()} to {leaf.max()}, expected {n} values of a Discrete space"
        )
    return np.eye(n, dtype=np.float32)[value]


def whole_numbers(where: str, array: np.ndarray) -> np.ndarray:
    """Return whole numbers as int64, which may be stored as floats.

    Raises:
        InputError: text and the like, fractions, NaN, or numbers beyond 2^53.
    """
    if array.dtype.kind in "ib":
        return array.astype(np.int64)
    if array.dtype.kind not in "fu":
        raise InputError(f"{where}: dtype {array.dtype}, expected whole numbers")
    with np.errstate(invalid="ignore"):
        is_whole = (np.abs(array) < 2**53) & (array == np.round(array))
    if not is_whole.all():
        first = array[~is_whole].flat[0]
        raise InputError(f"{where}: {first}, expected whole numbers")
    return array.astype(np.int64)
