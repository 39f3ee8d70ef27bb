"""Options of logs of frames: in a query, and for a subset."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypedDict, cast

from rlop.config.checks import nearest
from rlop.types import InputError


class Subset(NamedTuple):
    """Which transitions are read.

    Args:
        kind: each: the first rows of every checkpoint; first: the first rows of all checkpoints
            together; iid: transitions drawn from every checkpoint.
        share: of the rows or transitions, in (0, 1].
        seed: of the draws.
    """

    kind: str
    share: float
    seed: int


class Query(TypedDict, total=False):
    """Options that a query may hold."""

    subset: str
    files: list[int]
    seed: int
    memory_gb: float
    reward: str


Converters = Mapping[str, Callable[[str], object]]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


# Option of a query -> what reads its text.
QUERY: Converters = {
    "subset": str,
    "files": _numbers,
    "seed": int,
    "memory_gb": float,
}


def parse_query(name: str, query: Mapping[str, str], known: Converters = QUERY) -> Query:
    """Convert the texts of a query.

    Raises:
        InputError: an unknown option, or a text that is no number where one belongs.
    """
    parsed: dict[str, object] = {}
    for key, text in query.items():
        if key not in known:
            raise InputError(f"{name}: no option {key!r} in a query{nearest(key, known)}")
        try:
            parsed[key] = known[key](text)
        except ValueError:
            raise InputError(
                f"{name}: {key} = {text!r}: expected a number, or numbers with commas"
            ) from None
    return cast(Query, parsed)


def parse_subset(name: str, subset: str, seed: int) -> Subset:
    """Read `all`, `1%`, `first-10%` or `iid-1%`.

    Raises:
        InputError: anything else.
    """
    if subset == "all":
        return Subset("each", 1.0, seed)

    match = re.fullmatch(r"(?:(first|iid)-)?(\d+(?:\.\d+)?)%", subset)
    if match is None or not 0 < float(match[2]) <= 100:
        raise InputError(
            f"{name}: subset = {subset!r}: expected all, or 1%, first-10% or iid-1% "
            "with some percentage"
        )
    return Subset(match[1] or "each", float(match[2]) / 100, seed)
