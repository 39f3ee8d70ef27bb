"""Names of our columns in other people's files: one table for every container."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np

from rlop.config.checks import check_known, nearest
from rlop.data.columns import flag_column
from rlop.types import InputError

# Ours -> D4RL's.
D4RL = {
    "obs": "observations",
    "action": "actions",
    "reward": "rewards",
    "terminated": "terminals",
    "truncated": "timeouts",
    "next_obs": "next_observations",
}

# Role of an array -> its names. `end` marks the last row of an episode, `start` the first, whatever
# the reason for which it ended.
NAMES: dict[str, tuple[str, ...]] = {
    "obs": ("observations", "obs", "observation"),
    "action": ("actions", "action"),
    "reward": ("rewards", "reward"),
    "next_obs": ("next_observations", "next_obs", "next_observation"),
    "terminated": ("terminals", "terminated", "terminations", "terminal", "is_terminal"),
    "truncated": ("timeouts", "truncated", "truncations", "timeout"),
    "end": ("episode_terminals", "episode_ends", "is_last"),
    "start": ("episode_starts", "is_first"),
}
KNOWN = frozenset(chain.from_iterable(NAMES.values()))
REQUIRED = ("obs", "action", "reward")
IGNORED = "ignore"  # role, in the option `keys`, of arrays that are not read
# Done for good, or the last row of an episode: codes differ.
AMBIGUOUS = ("dones", "done")


def assign(
    path: Path, names: Iterable[str], keys: Mapping[str, object] | None = None
) -> dict[str, str]:
    """Decide which array of a file has which role.

    `dones` marks the ends of episodes in a file that also has an array for terminations. In one
    that has none, it is asked about.

    Args:
        path: of the file, for messages.
        names: of its arrays.
        keys: role -> name, from the user; wins over the table. `ignore` names one or several arrays
            that are not read.
    Returns:
        role -> name, for the roles that the file has.
    Raises:
        InputError: an unknown role, an array that is not there, two arrays of one role, or a
            required one that is missing.
    """
    present = list(names)
    chosen = dict(keys or {})
    ignored = _ignored(path, chosen.pop(IGNORED, ()), present)
    roles: dict[str, str] = {}
    for role, name in chosen.items():
        check_known(f"{path}: keys: role", role, [*NAMES, IGNORED])
        if name not in present:
            raise InputError(f"{path}: keys: {role}: no array {name!r}{nearest(name, present)}")
        roles[role] = str(name)

    free = [name for name in present if name not in ignored and name not in roles.values()]
    for role, known in NAMES.items():
        found = [name for name in known if name in free]
        if role in roles or not found:
            continue
        if len(found) > 1:
            raise InputError(
                f"{path}: {found[0]!r} and {found[1]!r} both mean {role}; "
                f"expected keys: {{{role}: NAME}}, which says which one"
            )
        roles[role] = found[0]

    for name in AMBIGUOUS:
        if name in free and not {"end", "start"} & roles.keys():
            if "terminated" not in roles:
                raise InputError(
                    f"{path}: {name!r}: terminations only, or every end of an episode? expected "
                    f"keys: {{terminated: {name}}} or keys: {{end: {name}}}"
                )
            roles["end"] = name

    for role in REQUIRED:
        if role not in roles:
            wanted = NAMES[role][0]
            raise InputError(f"{path}: no {wanted!r}, for {role}{nearest(wanted, present)}")
    return roles


def _ignored(path: Path, value: object, present: list[str]) -> list[str]:
    """Return the names of the arrays that the user leaves out."""
    names = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]  # checked by the loop
    for name in names:
        if name not in present:
            raise InputError(f"{path}: keys: {IGNORED}: no array {name!r}{nearest(name, present)}")
    return names


def without_role(
    names: Iterable[str], roles: Mapping[str, str], keys: Mapping[str, object] | None
) -> list[str]:
    """Return the names of arrays that have no role and are not ignored.

    Args:
        names: of the arrays of a file.
        roles: from `assign`, which has checked the option.
        keys: the option.
    """
    ignored = (keys or {}).get(IGNORED, ())
    left_out = {ignored} if isinstance(ignored, str) else set(ignored)  # type: ignore[call-overload]  # checked by `assign`
    return [name for name in names if name not in roles.values() and name not in left_out]


def check_unknown_flags(path: Path, unknown: Mapping[str, np.ndarray], rows: int) -> None:
    """Raise InputError for an array of one flag per row, whose name says nothing.

    It may mark the ends of episodes.

    Args:
        path: of the file.
        unknown: arrays that have no role, by name.
        rows: N.
    """
    for name, array in unknown.items():
        is_column = array.shape in ((rows,), (rows, 1)) and name not in KNOWN
        if is_column and array.dtype.kind in "biuf" and np.isin(array, (0, 1)).all():
            raise InputError(
                f"{path}: {name!r} holds one flag per row, and its name is not known; expected "
                f"keys: {{truncated: {name}}}, or terminated, end, start, or ignore"
            )


def flags(
    path: Path,
    rows: int,
    arrays: Mapping[str, np.ndarray],
    names: Mapping[str, str],
    time_limit: int | None = None,
    ends: str = "flagged",
) -> tuple[np.ndarray, np.ndarray]:
    """Combine the flags of a file.

    A row that ends an episode and did not terminate is truncated. With `start` or `end` alone and a
    time limit, episodes that long are truncated and all shorter ones terminated; without one, every
    episode is truncated.

    Args:
        path: of the file.
        rows: N.
        arrays: by role; of `terminated`, `truncated`, `end` and `start` any.
        names: role -> the file's name, for messages.
        time_limit: in steps; for a file that marks no truncation, the last of every `time_limit`
            steps without an end is truncated.
        ends: `flagged`, or `none` for a file that is one episode without an end.
    Returns:
        terminated and truncated, `[N]` bool; where both flags are set the row terminated.
    Raises:
        InputError: an array of another length or with other values, or a file without any end.
    """
    columns = {}
    for role in FLAGS:
        if role in arrays:
            columns[role] = _flag(f"{path}: {names[role]}", arrays[role], rows)
    over = columns.get("end", np.zeros(rows, bool))
    if "start" in columns:
        over = over | np.append(columns["start"][1:], True)

    if "terminated" in columns:
        terminated = columns["terminated"]
    elif {"end", "start"} & columns.keys() and time_limit is not None:
        last = np.flatnonzero(over)
        lengths = np.diff(last, prepend=-1)
        terminated = np.zeros(rows, bool)
        terminated[last[lengths < time_limit]] = True
    else:
        terminated = np.zeros(rows, bool)

    truncated = (columns.get("truncated", np.zeros(rows, bool)) | over) & ~terminated
    marks_truncation = bool({"truncated", "end", "start"} & columns.keys())
    if not marks_truncation and time_limit is not None:
        truncated = every_limit(terminated, time_limit)

    has_end = marks_truncation or terminated.any() or time_limit is not None
    if not has_end and ends != "none":
        raise InputError(
            f"{path}: no row ends an episode; expected one of {', '.join(NAMES['truncated'])}, "
            f"{', '.join(NAMES['end'])}, or the option time_limit: N, or ends: none for one "
            "episode without an end"
        )
    return terminated, truncated


FLAGS = ("terminated", "truncated", "end", "start")


def _flag(where: str, array: np.ndarray, rows: int) -> np.ndarray:
    """Return a column of flags as `[N]` bool."""
    column = flag_column(where, array)
    if len(column) != rows:
        raise InputError(f"{where}: {len(column)} rows, expected {rows}")
    return column


def every_limit(terminated: np.ndarray, time_limit: int) -> np.ndarray:
    """Mark every `time_limit`-th row since the last terminated one, `[N]` bool."""
    rows = np.arange(len(terminated))
    starts = np.append(True, terminated[:-1])
    begin = np.maximum.accumulate(np.where(starts, rows, 0))
    return ((rows - begin) % time_limit == time_limit - 1) & ~terminated


@contextmanager
def messages_of(path: Path, keys: Mapping[str, str]) -> Iterator[None]:
    """Let messages about a column name the file, and the column as the file does.

    Args:
        path: the file.
        keys: our name of a column -> the file's, where they differ.
    """
    try:
        yield
    except InputError as error:
        column, colon, rest = str(error).partition(":")
        named = f"{keys.get(column, column)}:{rest}" if colon else str(error)
        raise InputError(f"{path}: {named}") from None
