"""Names of our columns in other people's files, and messages in the words of those files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

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
# Ours -> Stable Baselines' in its expert files, where they differ.
EXPERT = {"action": "actions", "reward": "rewards"}


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
        column, _, rest = str(error).partition(":")
        raise InputError(f"{path}: {keys.get(column, column)}:{rest}") from None
