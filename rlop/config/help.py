"""Help pages: every option of a class or a function with its default, meaning and type."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, is_dataclass

from rlop.config.annotations import kind_of, marker, members_of, words
from rlop.config.checks import show
from rlop.config.files import to_dict
from rlop.config.parts import load_part
from rlop.config.ranges import Choice, Terms
from rlop.config.schema import describe, hints_of, is_required, options_of
from rlop.types import InputError

_KEY_WIDTH = 34  # columns of the key and the default
_WIDEST = 110  # columns of a page on a wide terminal


def options_page(cls: type, key: str) -> list[str]:
    """Return the lines that list the options of a class, and those of the classes in them.

    Args:
        cls: an option class.
        key: dotted name of the section, such as `agent.layers`; "" for the top level.
    """
    lines: list[str] = []
    for owner, names in _by_class(cls):
        lines += ["", f"{key}: {summary(owner)}" if key else summary(owner)]
        for name in names:
            lines += _option_lines(cls, name, key)
    for name in options_of(cls):
        lines += _nested_lines(hints_of(cls)[name], _join(key, name))
    return lines


def function_page(function: Callable[..., object], key: str, given: int = 1) -> list[str]:
    """Return the lines that list the keyword options of a function.

    Args:
        function: meanings are read from the `Args:` of its docstring.
        key: dotted name of the section.
        given: number of leading parameters that are not options.
    """
    parameters = list(inspect.signature(function).parameters.values())
    meanings = _documented_arguments(inspect.getdoc(function) or "")

    lines = ["", f"{key}: {summary(function)}"]
    for item in parameters[given:]:
        if item.kind is inspect.Parameter.VAR_KEYWORD:
            continue

        is_given = item.default is not inspect.Parameter.empty
        default = show(to_dict(item.default)) if is_given else "required"
        hint = str(item.annotation) if item.annotation is not inspect.Parameter.empty else ""
        meaning = meanings.get(item.name, "").rstrip(".")
        lines += _row(_join(key, item.name), default, meaning, hint)
    return lines


def summary(part: object) -> str:
    """Return the first paragraph of a docstring as one line."""
    text = inspect.getdoc(part) or ""
    return " ".join(text.split("\n\n")[0].split())


def _by_class(cls: type) -> Iterator[tuple[type, list[str]]]:
    """Yield each class of the ancestry with the fields that it declares, own fields first."""
    remaining = dict(options_of(cls))
    for owner in cls.__mro__:
        declared = inspect.get_annotations(owner)
        names = [name for name in declared if name in remaining]
        if not names or not is_dataclass(owner):
            continue

        for name in names:
            del remaining[name]
        yield owner, names


def _option_lines(cls: type, name: str, key: str) -> list[str]:
    item, hint = options_of(cls)[name], hints_of(cls)[name]
    return _row(_join(key, name), _default_words(item), describe(item), words(hint))


def _default_words(item: Field[object]) -> str:
    """Return the default as in a configuration; `required` if there is none."""
    if is_required(item):
        return "required"
    default = item.default if item.default_factory is MISSING else item.default_factory()
    if is_dataclass(default):
        return "below"
    if isinstance(default, str):
        return default
    return show(to_dict(default))


def _row(key: str, default: str, meaning: str, kind: str) -> list[str]:
    """Lay out one option: key and default on the left, meaning and type on the right."""
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    left = f"  --{key} {default}"
    text = f"{meaning} ({kind})" if meaning and kind else meaning or kind

    indent = " " * _KEY_WIDTH
    right = textwrap.wrap(text, max(30, width - _KEY_WIDTH)) or [""]
    if len(left) >= _KEY_WIDTH:
        return [left, *(indent + line for line in right)]
    return [f"{left:{_KEY_WIDTH}}{right[0]}", *(indent + line for line in right[1:])]


def _nested_lines(hint: object, key: str) -> list[str]:
    """Return the help on the parts of an option: classes, named choices, terms."""
    choice, terms = marker(hint, Choice), marker(hint, Terms)
    if choice is not None:
        return _choice_lines(choice.table, key)
    if terms is not None:
        return _terms_lines(terms, key)

    lines: list[str] = []
    for member in members_of(hint):
        nested = kind_of(member)
        if isinstance(nested, type) and is_dataclass(nested):
            lines += options_page(nested, key)
    return lines


def _choice_lines(table: Mapping[str, type], key: str) -> list[str]:
    lines: list[str] = []
    for name, cls in table.items():
        lines += ["", f"--{key} {name}: {summary(cls)}"]
        for option_name in options_of(cls):
            lines += _option_lines(cls, option_name, _join(key, name))
    return lines


def _terms_lines(terms: Terms, key: str) -> list[str]:
    lines: list[str] = []
    for name, part in term_table(terms).items():
        lines += ["", f"--{key}.{name} {terms.scale.upper()}: {summary(part)}"]
        section = _join(key, name)
        if isinstance(part, type) and is_dataclass(part):
            for option_name in options_of(part):
                lines += _option_lines(part, option_name, section)
    return lines


def term_table(terms: Terms) -> dict[str, object]:
    """Return the terms of a mapping by name; {} if the table cannot be loaded."""
    try:
        table = load_part(terms.table, "a table of terms")
    except InputError:
        return {}
    return dict(table) if isinstance(table, Mapping) else {}


def _documented_arguments(docstring: str) -> dict[str, str]:
    """Read `name: meaning` from the section `Args:` of a docstring."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, re.MULTILINE | re.DOTALL)
    if section is None:
        return {}

    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in textwrap.dedent(section[1]).splitlines():
        entry = re.match(r"(\w+(?:, \w+)*): (.*)", line)
        if entry is not None:
            names = entry[1].split(", ")
            meanings.update(dict.fromkeys(names, entry[2].strip()))
        else:
            for name in names:
                meanings[name] += f" {line.strip()}"
    return meanings


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
