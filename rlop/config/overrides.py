"""Overrides from the command line, `--agent.lr 1e-3 --seeds 8`, of the values in a YAML file."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

import yaml

from rlop.config.files import parse_yaml
from rlop.config.schema import PLAIN
from rlop.types import InputError


def apply_overrides(
    values: Mapping[str, object],
    arguments: Collection[str],
    flags: Collection[str] = (),
) -> dict[str, object]:
    """Return a copy of nested values, overridden by the arguments of a command line.

        --agent.lr 1e-3    --agent.lr=1e-3    --agent.hidden [64,64]
        --agent.lr 1e-3,3e-4    --agent.lr 1e-3 3e-4    --resume

    Keys are dotted. A value is a YAML number, true, false, null, list or {mapping}; anything else
    is text. Numbers with commas and without brackets, or several values after one key, make a
    list. The last of equal keys wins. A key without a value means true, if it is dotted or a flag.
    Options given to a plain value, and a plain value given to options, are kept together: see
    `rlop.config.schema.PLAIN`.

    Args:
        values: nested mappings, as from `read_yaml`.
        arguments: as the shell split them.
        flags: keys without a dot that take true or false.
    Raises:
        InputError: a value without a key, a key without a value, or an open bracket.
    """
    merged = copy.deepcopy(dict(values))
    for key, texts in _split(arguments):
        is_well_formed = all(key.split("."))
        is_flag = not texts and ("." in key or key in flags)
        if not is_well_formed or not (texts or is_flag):
            raise InputError(f"--{key}: expected a key and a value, as in --seeds 8")

        items = [True] if is_flag else [_parse(text, key) for text in texts]
        assign(merged, key, items if len(items) > 1 else items[0])
    return merged


def _split(arguments: Collection[str]) -> list[tuple[str, list[str]]]:
    """Group the arguments: each key with the texts that follow it."""
    groups: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--"):
            key, equals, text = argument[2:].partition("=")
            groups.append((key, [text] if equals else []))
        elif groups:
            groups[-1][1].append(argument)
        else:
            raise InputError(f"command line: found {argument!r}, expected --key value")
    return groups


def _parse(text: str, key: str) -> object:
    if not text.strip():
        raise InputError(f"--{key}: found an empty value, expected a value, as in --{key} 1")

    is_bracketed = text[0] in "[{'\""
    if "," in text and not is_bracketed:
        return _parse_list(text, key)

    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        if is_bracketed:
            raise InputError(
                f"--{key} {text}: expected a YAML value with its brackets and quotes closed"
            ) from None
        return text

    # Words such as null or true mean what they mean in YAML; comments and dates are text.
    is_null = value is None and not text.startswith("#")
    is_plain = isinstance(value, (bool, int, float))
    return value if is_bracketed or is_null or is_plain else text


def _parse_list(text: str, key: str) -> object:
    """Return a list if all parts between the commas are numbers, else the text itself."""
    items = []
    for part in text.split(","):
        item = _parse(part.strip(), key) if part.strip() else ""
        if not isinstance(item, (int, float)):
            return text
        items.append(item)
    return items


def flatten(config: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Turn nested mappings into one with dotted keys."""
    flat: dict[str, object] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def assign(section: dict[str, object], key: str, value: object) -> None:
    """Set a dotted key in nested sections, creating those that are missing."""
    name, rest = _first_name(section, key)
    present = section.get(name)

    if rest:
        if not isinstance(present, dict):
            present = {} if present is None else {PLAIN: present}
        section[name] = present
        assign(present, rest, value)
        return

    is_plain = value is not None and not isinstance(value, dict)
    if is_plain and isinstance(present, dict):
        value = {**present, PLAIN: value}
    section[name] = value


def _first_name(section: Mapping[str, object], key: str) -> tuple[str, str]:
    """Split the first name off a dotted key.

    A name may itself hold dots, as the import path of a regularizer does: the longest beginning
    of the key that the section holds is one name.
    """
    parts = key.split(".")
    for count in range(len(parts), 1, -1):
        name = ".".join(parts[:count])
        if name in section:
            return name, ".".join(parts[count:])
    return parts[0], ".".join(parts[1:])
