"""What a Minari data set says about itself, checked before any of its arrays is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium

from rlop.config.files import read_whole
from rlop.data.formats.episodes import Episode, SpaceJSON
from rlop.types import InputError

METADATA = "metadata.json"
DEEPEST = 32  # nesting of Dict spaces
MOST_AXES = 32  # of a Box, as of NumPy 1's arrays

Metadata: TypeAlias = dict[str, Any]  # of a data set, as its JSON file has it


def own_path(folder: Path, path: Path) -> Path:
    """Return a path, unless links lead it out of the folder that it stands in.

    Raises:
        InputError: naming the path and the folder.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path}: a link out of {folder}, which is never followed")
    return path


def read_about(folder: Path) -> Metadata:
    """Read the metadata of a data set.

    Raises:
        InputError: no such file, a link, too large, or no mapping in JSON.
    """
    path = own_path(folder, folder / METADATA)
    try:
        # The bounds of an image are written out there, 20 bytes for each entry.
        text = read_whole(path).decode()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    return _mapping(str(path), text)


def space_of(about: Metadata, key: str) -> SpaceJSON:
    """Return a space's description; {} where the data set has none.

    Raises:
        InputError: a description that is no space, with the value and what was expected.
    """
    if key not in about:
        return {}
    where = f"{METADATA}: {key}"
    space = _mapping(where, about[key])
    check_space(where, space)
    return space


def environment(about: Metadata) -> tuple[str | None, dict[str, object]]:
    """Return id and arguments of the environment to evaluate in; None where there is none.

    It is the data set's own unless the metadata name another for evaluation.

    Raises:
        InputError: a description without an id, or with other types.
    """
    key = "eval_env_spec" if about.get("eval_env_spec") else "env_spec"
    if not about.get(key):
        return None, {}

    where = f"{METADATA}: {key}"
    spec = _mapping(where, about[key])
    env_id, kwargs = spec.get("id"), spec.get("kwargs") or {}
    if not isinstance(env_id, str):
        raise InputError(f"{where}: id = {_short(env_id)}: expected text")
    if not isinstance(kwargs, dict):
        raise InputError(f"{where}: kwargs = {_short(kwargs)}: expected a mapping")

    limit = spec.get("max_episode_steps")
    registered = gymnasium.registry.get(env_id)
    is_usual = registered is not None and registered.max_episode_steps == limit
    if limit is None or is_usual:
        return env_id, dict(kwargs)
    _whole(where, "max_episode_steps", limit, low=1)
    return env_id, {**kwargs, "max_episode_steps": limit}


def all_of(about: Metadata, episodes: Iterable[Episode]) -> Iterator[Episode]:
    """Yield episodes, and raise InputError if there are fewer than the data set says."""
    expected = about.get("total_episodes", 0)
    _whole(METADATA, "total_episodes", expected, low=0)
    found = 0
    for episode in episodes:
        yield episode
        found += 1
    if found < expected:
        raise InputError(f"{found} episodes, but {METADATA} says {expected}: parts are missing")


def check_space(where: str, space: object, depth: int = 0) -> None:
    """Raise InputError unless a description of a space has what its type needs.

    Other types than Box, Discrete, MultiDiscrete and Dict are for the caller to take or refuse.

    Args:
        where: for messages.
        space: from JSON.
        depth: of Dict spaces around it.
    """
    if not isinstance(space, dict) or not isinstance(space.get("type"), str):
        raise InputError(f"{where} = {_short(space)}: expected a mapping with the type of a space")
    if depth > DEEPEST:
        raise InputError(f"{where}: nested more than {DEEPEST} times, expected fewer")

    kind = space["type"]
    if kind == "Box":
        _check_box(where, space)
    elif kind == "Discrete":
        _whole(where, "n", space.get("n"), low=1)
        _whole(where, "start", space.get("start", 0))
    elif kind == "MultiDiscrete":
        _check_multi_discrete(where, space)
    elif kind == "Dict":
        parts = space.get("subspaces")
        if not isinstance(parts, dict) or not parts:
            raise InputError(f"{where}: subspaces = {_short(parts)}: expected a mapping of spaces")
        for key, inner in parts.items():
            check_space(f"{where}/{key}", inner, depth + 1)


def _check_box(where: str, space: Mapping[str, Any]) -> None:
    """Check the shape of a Box, if it has one; its bounds matter for actions alone."""
    if "shape" not in space:
        return
    shape = _list(where, "shape", space["shape"])
    if len(shape) > MOST_AXES:
        raise InputError(f"{where}: {len(shape)} axes, expected at most {MOST_AXES}")
    for length in shape:
        _whole(where, "shape", length, low=0)


def _check_multi_discrete(where: str, space: Mapping[str, Any]) -> None:
    """Check the choices of a MultiDiscrete, and the first of each."""
    counts = _list(where, "nvec", space.get("nvec"))
    starts = _list(where, "start", space.get("start", [0] * len(counts)))
    if not counts or len(starts) != len(counts):
        raise InputError(
            f"{where}: nvec = {_short(counts)}, start = {_short(starts)}: expected as many of each"
        )
    for count, start in zip(counts, starts):
        _whole(where, "nvec", count, low=1)
        _whole(where, "start", start)


def _list(where: str, key: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where}: {key} = {_short(value)}: expected a list of whole numbers")
    return value


def _whole(where: str, key: str, value: object, low: int | None = None) -> None:
    """Check that a value is a whole number that int64 holds, and at least `low`."""
    lowest = -(2**62) if low is None else low
    if isinstance(value, int) and not isinstance(value, bool) and lowest <= value < 2**62:
        return
    at_least = "" if low is None else f" >= {low}"
    raise InputError(f"{where}: {key} = {_short(value)}: expected a whole number{at_least}")


def _mapping(where: str, text: object) -> dict[str, Any]:
    """Return the mapping that a text in JSON holds."""
    if not isinstance(text, str):
        raise InputError(f"{where} = {_short(text)}: expected a mapping in JSON")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {error}; expected a mapping in JSON") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} = {_short(value)}: expected a mapping in JSON")
    return value


def _short(value: object) -> str:
    """Return the beginning of a value, for messages."""
    try:
        shown = repr(value)
    except (RecursionError, ValueError):  # too deep, or a whole number of too many digits
        shown = f"a {type(value).__name__}"
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
