"""Environments that files name, which may come from strangers."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from rlop.envs.make import stored_env_id
from rlop.logs.messages import say

# What a path, an address or an import path has: a separator, or an ending after a name.
NAMES_A_PLACE = re.compile(r"[/\\:~]|^\.|\.[A-Za-z]\w*$")
DEEPEST = 8  # nesting of lists and mappings; mazes have 2


def stored_env(
    where: object, env_id: str | None, kwargs: Mapping[str, Any]
) -> tuple[str | None, dict[str, Any]]:
    """Return the environment that a file names, unless making it could reach code or other files.

    Its keyword arguments must be numbers, texts that name no place, and lists and mappings of
    these. They are said, once for each reading. Otherwise no environment is returned, with a
    warning.

    Args:
        where: the file, for messages.
        env_id: as the file has it, see `stored_env_id`.
        kwargs: as the file has them.
    """
    known_id = stored_env_id(where, env_id)
    if known_id is None or not kwargs:
        return known_id, {}

    for key, value in kwargs.items():
        if not (isinstance(key, str) and key.isidentifier() and is_harmless(value)):
            say(
                f"{where}: names the environment {env_id!r} with {key} = {str(value)[:60]!r}, and "
                "only plain values that name no file or code are taken from a file; if you trust "
                "it, name the environment yourself (env, env_kwargs)",
                logging.WARNING,
            )
            return None, {}

    listed = ", ".join(f"{key} = {str(value)[:60]}" for key, value in kwargs.items())
    say(f"{where}: its environment {env_id} is made with {listed}")
    return known_id, dict(kwargs)


def is_harmless(value: object, depth: int = 0) -> bool:
    """Return whether a value is plain and names neither a file nor code.

    Args:
        value: from a file.
        depth: of lists and mappings around it.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return True
    if isinstance(value, str):
        return NAMES_A_PLACE.search(value) is None
    if depth == DEEPEST:
        return False
    if isinstance(value, (list, tuple)):
        return all(is_harmless(item, depth + 1) for item in value)
    if isinstance(value, Mapping):
        return all(is_harmless(part, depth + 1) for part in (*value.keys(), *value.values()))
    return False
