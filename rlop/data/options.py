"""Options by keyword and in a query, as in `gridworld?size=8&steps=20000`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from rlop.config.checks import nearest
from rlop.types import InputError


def split_query(source: str) -> tuple[str, dict[str, str]]:
    """Split `NAME?key=value&...` into the name and the texts of its options."""
    name, _, query = source.partition("?")
    return name, dict(parse_qsl(query, keep_blank_values=True))


def check_options(where: str, options: Mapping[str, object], choices: Iterable[str]) -> None:
    """Raise InputError for the first option that is not among the choices, with the nearest."""
    choices = list(choices)
    for key in options:
        if key not in choices:
            raise InputError(f"{where}: no option {key!r}{nearest(key, choices)}")
