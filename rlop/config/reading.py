"""Strict conversion of plain values to the types that an option class declares.

Values that do not fit are rejected, never guessed. Three conversions exist: a whole number or a
numeric string (`1e-4` in YAML 1.1) where a number is expected, a list where a tuple is expected,
and text where a path is expected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_type_hints

from rlop.config.annotations import (
    SCALARS,
    bare,
    is_mapping,
    is_sequence,
    kind_of,
    marker,
    members_of,
    words,
)
from rlop.config.checks import check_known, closest, nearest, show
from rlop.config.ranges import Choice, Formerly, NonEmpty, Range
from rlop.types import InputError

C = TypeVar("C")

# Key of a plain value to which a command line adds options: `--dr3.form abs` over `dr3: 0.03` gives
# `dr3: {"": 0.03, form: abs}`. Only options with a short and a long form accept it.
PLAIN = ""

LARGEST = 2**63  # beyond which neither NumPy nor PyTorch have whole numbers

_NUMERIC_TEXT = re.compile(r"[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][-+]?\d+)?")


@cache
def hints_of(cls: type) -> dict[str, object]:
    """Return field -> annotation, with the ranges."""
    return get_type_hints(cls, include_extras=True)


def options_of(cls: type) -> dict[str, Field[object]]:
    """Return the fields that a configuration may set, by name."""
    return {item.name: item for item in fields(cls) if item.init}


def is_required(item: Field[object]) -> bool:
    """Return whether a field has no default."""
    return item.default is MISSING and item.default_factory is MISSING


def build_choice(table: Mapping[str, type[C]], value: object, key: str) -> C:
    """Build one named option class from `name` or `{name: {option: value}}`.

    Args:
        table: name -> option class.
        value: the name, or the mapping of one name to options.
        key: dotted name that messages begin with.
    Raises:
        InputError: an unknown name or option, an impossible value, or several names.
    """
    named = {value: {}} if isinstance(value, str) else value
    if not isinstance(named, Mapping) or len(named) != 1:
        first = next(iter(table))
        raise InputError(
            f"{key} = {show(value)}: expected one of them: {', '.join(table)}, "
            f"as in {first} or {{{first}: {{option: value}}}}"
        )

    ((name, given),) = named.items()
    check_known(key, name, table)
    return build_section(table[name], given or {}, f"{key}.{name}")


def build_section(cls: type[C], values: object, key: str) -> C:
    """Build a class from the plain values of its section.

    Args:
        cls: an option class, or any dataclass.
        values: field -> value.
        key: dotted name of the section; "" for the top level.
    Raises:
        InputError: see `rlop.config.schema.build`.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{key or 'top level'} = {show(values)}: expected a mapping of settings")

    arguments = read_fields(cls, values, key)
    try:
        return cls(**arguments)
    except InputError as error:
        # Raised by `__post_init__`, which knows the field but not the section.
        field_in_message = re.match(r"(\w+)(?: = |[.\[:])", str(error))
        names_a_field = field_in_message is not None and field_in_message[1] in options_of(cls)
        if names_a_field or not key:
            raise InputError(_join(key, error)) from None
        raise InputError(f"{key}: {error}") from None


def read_fields(cls: type, values: Mapping[str, object], key: str) -> dict[str, object]:
    """Return the values of a section, converted to the types that the class declares.

    Raises:
        InputError: an unknown or missing key, or a value that does not fit.
    """
    declared = options_of(cls)
    hints = hints_of(cls)
    for name in values:
        if name not in declared:
            raise InputError(f"unknown key '{_join(key, name)}'{nearest(name, declared)}")

    for name, item in declared.items():
        if name not in values and is_required(item):
            raise InputError(f"{_join(key, name)}: missing, expected {words(hints[name])}")

    arguments = {}
    for name, value in values.items():
        arguments[name] = _read(value, hints[name], _join(key, name))
    return arguments


def _read(value: object, hint: object, key: str) -> object:
    choice = marker(hint, Choice)
    if choice is not None:
        named = _read(_with_name(value), bare(hint), key)
        build_choice(choice.table, named, key)
        return named

    if isinstance(value, Mapping) and PLAIN in value:
        _refuse_plain(value, hint, key)

    kind = kind_of(hint)
    if isinstance(kind, type) and is_dataclass(kind):
        return value if isinstance(value, kind) else build_section(kind, value, key)

    if kind is Union:
        return _read_union(value, hint, key)
    if kind is Literal:
        return _read_choice(value, hint, key)

    if is_sequence(hint):
        return _read_items(value, hint, key)
    if is_mapping(hint):
        return _read_mapping(value, hint, key)
    return _read_scalar(value, hint, key)


def _with_name(value: object) -> object:
    """Turn a name with options, `{"": name, option: value}`, into `{name: {option: value}}`."""
    if not isinstance(value, Mapping) or PLAIN not in value:
        return value
    added = {name: item for name, item in value.items() if name != PLAIN}
    return {value[PLAIN]: added}


def _refuse_plain(value: Mapping[object, object], hint: object, key: str) -> None:
    """Reject options for a plain value, and a plain value for a section."""
    if bare(hint) in (Any, object):
        return

    names = [str(name) for name in value if name != PLAIN]
    if any(is_mapping(member) for member in members_of(hint)):
        listed = ", ".join(names)
        raise InputError(
            f"--{key}: {key} is a section ({listed}), expected a key in it, as in --{key}.KEY"
        )
    if not names:
        raise _mismatch(value, hint, key)
    raise InputError(
        f"--{key}.{names[0]}: {key} = {show(value[PLAIN])} is a plain value, "
        "expected a section to hold it"
    )


def _read_union(value: object, hint: object, key: str) -> object:
    members = members_of(hint)

    # A member of exactly the type found wins; otherwise the first that takes the value.
    exact = [member for member in members if bare(member) is type(value)]
    errors: dict[object, InputError] = {}
    for member in [*exact, *members]:
        try:
            return _read(value, member, key)
        except InputError as error:
            errors[member] = error

    # If only one member takes lists (or mappings), its error names the item that is wrong.
    alike: list[object] = []
    if isinstance(value, (list, tuple)):
        alike = [member for member in members if is_sequence(member)]
    elif isinstance(value, Mapping):
        alike = [member for member in members if is_mapping(member)]

    if len(alike) == 1:
        raise errors[alike[0]]
    raise _mismatch(value, hint, key)


def _read_choice(value: object, hint: object, key: str) -> object:
    former = marker(hint, Formerly)
    if former is not None and isinstance(value, str):
        value = former.names.get(value, value)

    choices = get_args(bare(hint))
    for choice in choices:
        if choice == value and type(choice) is type(value):
            return choice
    raise InputError(f"{_mismatch(value, hint, key)}{closest(value, map(str, choices))}")


def _read_items(value: object, hint: object, key: str) -> object:
    if not isinstance(value, (list, tuple)):
        raise _mismatch(value, hint, key)
    if not value and marker(hint, NonEmpty) is not None:
        raise InputError(f"{key} = []: expected at least one value")

    kind = kind_of(hint)
    item_hints = get_args(bare(hint)) or (object,)
    has_fixed_length = kind is tuple and Ellipsis not in item_hints and item_hints != (object,)
    if has_fixed_length:
        if len(value) != len(item_hints):
            raise _mismatch(value, hint, key)
    else:
        item_hints = (item_hints[0],) * len(value)

    items = []
    for position, (item, item_hint) in enumerate(zip(value, item_hints)):
        items.append(_read(item, item_hint, f"{key}[{position}]"))
    return tuple(items) if kind is tuple else items


def _read_mapping(value: object, hint: object, key: str) -> dict[object, object]:
    if not isinstance(value, Mapping):
        raise _mismatch(value, hint, key)

    name_hint, item_hint = get_args(bare(hint)) or (str, object)
    items: dict[object, object] = {}
    for name, item in value.items():
        if not isinstance(name, name_hint):
            expected = words(name_hint)
            raise InputError(f"{key}: found the key {show(name)}, expected keys to be {expected}")
        items[name] = _read(item, item_hint, _join(key, name))
    return items


def _read_scalar(value: object, hint: object, key: str) -> object:
    if bare(hint) not in SCALARS:
        raise TypeError(f"{key}: the annotation {hint} is not supported in a configuration")

    converted = _convert(value, bare(hint))
    if converted is MISSING:
        raise _mismatch(value, hint, key)

    limits = marker(hint, Range)
    if limits is not None and isinstance(converted, (int, float)) and converted not in limits:
        raise _mismatch(value, hint, key)
    return converted


def _convert(value: object, kind: object) -> object:
    """Return the value as `kind`, or `MISSING` if it is of another kind."""
    if kind in (Any, object):
        return value
    if isinstance(value, bool):  # Python counts it among the whole numbers
        return value if kind is bool else MISSING

    if kind is float and isinstance(value, str) and _NUMERIC_TEXT.fullmatch(value):
        return float(value.replace("_", ""))
    if kind is float and isinstance(value, Real):  # NumPy's numbers become Python's
        return float(value)
    if kind is int and isinstance(value, Integral):
        return int(value) if abs(int(value)) < LARGEST else MISSING
    if kind in (str, Path) and not _can_be_a_name(str(value)):
        return MISSING
    if kind is Path and isinstance(value, str):
        return Path(value)

    is_of_kind = isinstance(kind, type) and isinstance(value, kind)
    return value if is_of_kind else MISSING


def _can_be_a_name(text: str) -> bool:
    """Return whether the system could have a file of this name."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _mismatch(value: object, hint: object, key: str) -> InputError:
    takes_whole_numbers = any(bare(member) is int for member in members_of(hint))
    advice = _whole_number(value) if takes_whole_numbers else ""
    return InputError(f"{key} = {show(value)}: expected {words(hint)}{advice}")


def _whole_number(value: object) -> str:
    """Return advice on writing 1e6 where only 1000000 is accepted, or on the limit."""
    if isinstance(value, Integral) and abs(int(value)) >= LARGEST:
        return " below 2^63"
    if isinstance(value, (bool, Integral)) or not _NUMERIC_TEXT.fullmatch(str(value)):
        return ""

    number = float(str(value).replace("_", ""))
    return f" (write {int(number)})" if number.is_integer() and abs(number) < 1e15 else ""


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
