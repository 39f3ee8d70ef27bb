"""A dataclass from plain values, strictly: what is not understood is refused, never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rlop.config.checks import closest, nearest, show
from rlop.types import InputError

C = TypeVar("C")
_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][-+]?\d+)?")
_WORDS = {  # type -> (one of it, several of it)
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false values"),
    str: ("text", "texts"),
    Path: ("a path", "paths"),
    NoneType: ("null", "nulls"),
    Any: ("anything", "values"),
}


def build(cls: type[C], values: Mapping[str, Any], where: str = "config") -> C:
    """An instance of a dataclass from plain values, strictly: what is not understood is refused, never guessed.

    Three conversions only: a whole number or a numeric string (`1e-4` in YAML 1.1) where a number is expected, a
    list where a tuple is expected, and text where a path is expected. In a union, a member of exactly the type found
    wins; otherwise the first that takes the value.

    Args:
        cls: a dataclass whose annotations are int, float, bool, str, Path, None, Literal, list, tuple, dict, other
            such dataclasses, unions of these, or Any. It checks ranges itself in `__post_init__`.
        values: field -> value, nested mappings for nested dataclasses; fields left out keep their default.
        where: what the messages call the source, usually the file.
    Raises:
        InputError: an unknown or missing key, a value of another type, or a range error, with the dotted key.
    """
    try:
        return _build(cls, values, "")
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def change(instance: Any, values: Mapping[str, Any], where: str) -> Any:
    """Return a dataclass instance with some fields changed, checked like the first.

    Raises:
        InputError: for an impossible value, with `where` and its key.
    """
    try:
        return replace(instance, **values)
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _build(cls: type[C], values: Any, key: str) -> C:
    if not isinstance(values, Mapping):
        raise InputError(f"{key or 'top level'} = {show(values)}: expected a mapping of settings")
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls) if f.init}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise InputError(f"unknown key '{_join(key, name)}'{nearest(name, known)}")
    for name, f in known.items():
        if name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise InputError(f"{_join(key, name)}: missing, expected {_expected(hints[name])}")
    arguments = {
        name: _convert(value, hints[name], _join(key, name)) for name, value in values.items()
    }
    try:
        return cls(**arguments)
    except InputError as error:
        named = re.match(r"(\w+)(?: = |[.\[:])", str(error))
        about_field = named is not None and named[1] in known
        raise InputError(
            _join(key, error) if about_field or not key else f"{key}: {error}"
        ) from None


def _convert(value: Any, hint: Any, key: str) -> Any:
    if hint is Any:
        return value
    if is_dataclass(hint):
        return value if isinstance(value, hint) else _build(hint, value, key)  # type: ignore[arg-type]
    origin = get_origin(hint) or hint
    if origin in (Union, UnionType):
        return _convert_union(value, hint, key)
    if origin is Literal:
        return _convert_choice(value, hint, key)
    if origin in (list, tuple, Sequence):
        return _convert_items(value, hint, key)
    if origin in (dict, Mapping):
        return _convert_mapping(value, hint, key)
    return _convert_scalar(value, hint, key)


def _convert_union(value: Any, hint: Any, key: str) -> Any:
    members = get_args(hint)
    if type(value) in members:
        return value
    errors = {}
    for member in members:
        try:
            return _convert(value, member, key)
        except InputError as error:
            errors[member] = error
    # A list or mapping that one member alone could have taken: that member knows which item is wrong.
    alike = [member for member in members if _kind(member) and _kind(member) == _kind(type(value))]
    raise errors[alike[0]] if len(alike) == 1 else _mismatch(value, hint, key)


def _convert_choice(value: Any, hint: Any, key: str) -> Any:
    for choice in get_args(hint):
        if choice == value and type(choice) is type(value):
            return choice
    raise InputError(f"{_mismatch(value, hint, key)}{closest(value, map(str, get_args(hint)))}")


def _convert_items(value: Any, hint: Any, key: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _mismatch(value, hint, key)
    kind, args = get_origin(hint) or hint, get_args(hint) or (Any,)
    if kind is tuple and args[-1] is not Ellipsis and get_args(hint):
        if len(value) != len(args):
            raise _mismatch(value, hint, key)
    else:
        args = (args[0],) * len(value)
    items = [_convert(item, arg, f"{key}[{i}]") for i, (item, arg) in enumerate(zip(value, args))]
    return tuple(items) if kind is tuple else items


def _convert_mapping(value: Any, hint: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(value, hint, key)
    name_hint, item_hint = get_args(hint) or (str, Any)
    for name in value:
        if not isinstance(name, name_hint):
            raise InputError(
                f"{key}: found the key {show(name)}, expected keys to be {_expected(name_hint)}"
            )
    return {name: _convert(item, item_hint, _join(key, name)) for name, item in value.items()}


def _convert_scalar(value: Any, hint: Any, key: str) -> Any:
    if hint not in _WORDS:
        raise TypeError(f"{key}: the annotation {hint} is not supported in a configuration")
    if isinstance(value, bool):  # Python counts it among the whole numbers
        if hint is bool:
            return value
    elif hint is float and isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value.replace("_", ""))
    elif hint is float and isinstance(value, Real):  # NumPy's numbers become Python's
        return float(value)
    elif hint is int and isinstance(value, Integral):
        return int(value)
    elif isinstance(value, hint):
        return value
    elif hint is Path and isinstance(value, str):
        return Path(value)
    raise _mismatch(value, hint, key)


def _kind(hint: Any) -> str:
    origin = get_origin(hint) or hint
    if is_dataclass(origin) or origin in (dict, Mapping):
        return "mapping"
    return "list" if origin in (list, tuple, Sequence) else ""


def _mismatch(value: Any, hint: Any, key: str) -> InputError:
    return InputError(f"{key} = {show(value)}: expected {_expected(hint)}{_whole(value, hint)}")


def _whole(value: Any, hint: Any) -> str:
    """How to write 1e6 where only 1000000 is taken."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if int not in members or isinstance(value, bool) or not _NUMBER.fullmatch(str(value)):
        return ""
    number = float(str(value).replace("_", ""))
    return f" (write {int(number)})" if number.is_integer() and abs(number) < 1e15 else ""


def _expected(hint: Any, several: bool = False) -> str:
    if hint in _WORDS:
        return _WORDS[hint][several]
    origin, args = get_origin(hint) or hint, [arg for arg in get_args(hint) if arg is not Ellipsis]
    if origin in (Union, UnionType):
        return " or ".join(_expected(arg, several) for arg in args)
    if origin is Literal:
        return f"one of {', '.join(map(repr, args))}"
    if _kind(hint) == "mapping":
        return (
            "mappings" if several else "a mapping" + (" of settings" if is_dataclass(hint) else "")
        )
    item = f" of {_expected(args[0], True)}" if args and args[0] is not Any else ""
    count = (
        f"{len(args)} values"
        if origin is tuple and Ellipsis not in get_args(hint) and len(args) > 1
        else ""
    )
    return f"{'lists' if several else 'a list'}{f' of {count}' if count else item}"


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
