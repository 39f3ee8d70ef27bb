"""Inspection of type annotations, and their wording in messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from datetime import date
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from rlop.config.ranges import Range

M = TypeVar("M")

_WORDS: dict[object, tuple[str, str]] = {  # type -> (singular, plural)
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false values"),
    str: ("text", "texts"),
    Path: ("a path", "paths"),
    NoneType: ("null", "nulls"),
    Any: ("anything", "values"),
    date: ("a date", "dates"),
    object: ("anything", "values"),
}
SCALARS = frozenset(_WORDS)


def bare(hint: object) -> object:
    """Return the type inside `Annotated`, or the annotation itself."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def marker(hint: object, kind: type[M]) -> M | None:
    """Return the first mark of a class in `Annotated`, such as its `Range`."""
    if get_origin(hint) is not Annotated:
        return None
    for mark in get_args(hint)[1:]:
        if isinstance(mark, kind):
            return mark
    return None


def kind_of(hint: object) -> object:
    """Return the kind of value that is expected: `float`, `list`, `Union`, `Literal`, a class."""
    hint = bare(hint)
    origin = get_origin(hint) or hint
    return Union if origin is UnionType else origin


def members_of(hint: object) -> tuple[object, ...]:
    """Return the members of a union, or the annotation itself if it is none."""
    return get_args(bare(hint)) if kind_of(hint) is Union else (hint,)


def is_mapping(hint: object) -> bool:
    """Return whether an annotation takes a mapping: a dictionary, or a dataclass of options."""
    kind = kind_of(hint)
    return kind in (dict, Mapping) or is_dataclass(kind)


def is_sequence(hint: object) -> bool:
    """Return whether an annotation takes a list."""
    return kind_of(hint) in (list, tuple, Sequence)


def words(hint: object, plural: bool = False) -> str:
    """Put an annotation into words: "a number in [0, 1) or a list of them".

    Args:
        hint: the annotation.
        plural: True for the words after "a list of".
    """
    if kind_of(hint) is Union:
        return _union_words(members_of(hint), plural)

    if kind_of(hint) is Literal:
        choices = ", ".join(map(repr, get_args(bare(hint))))
        return f"one of {choices}"

    if is_mapping(hint):
        return _mapping_words(hint, plural)
    if is_sequence(hint):
        return _sequence_words(hint, plural)
    return _scalar_words(hint, plural)


def _scalar_words(hint: object, plural: bool) -> str:
    singular_and_plural = _WORDS.get(bare(hint))
    if singular_and_plural is None:
        return str(bare(hint))

    noun = singular_and_plural[plural]
    limits = marker(hint, Range)
    return f"{noun} {limits.words}".rstrip() if limits else noun


def _union_words(members: Sequence[object], plural: bool) -> str:
    texts: list[str] = []
    for member in members:
        items = get_args(bare(member))
        repeats_an_earlier_member = is_sequence(member) and items and items[0] in members
        if repeats_an_earlier_member and not plural:
            texts.append("a list of them")
        else:
            texts.append(words(member, plural))
    return " or ".join(texts)


def _mapping_words(hint: object, plural: bool) -> str:
    if plural:
        return "mappings"
    return "a mapping of settings" if is_dataclass(kind_of(hint)) else "a mapping"


def _sequence_words(hint: object, plural: bool) -> str:
    items = [item for item in get_args(bare(hint)) if item is not Ellipsis]
    start = "lists" if plural else "a list"

    has_fixed_length = kind_of(hint) is tuple and Ellipsis not in get_args(bare(hint))
    if has_fixed_length and len(items) > 1:
        return f"{start} of {len(items)} values"
    if items and items[0] is not Any:
        return f"{start} of {words(items[0], plural=True)}"
    return start
