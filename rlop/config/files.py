"""Typed configuration: dataclasses hold the defaults, YAML files and the command line hold overrides only."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from rlop.config.checks import nearest
from rlop.types import InputError


class _Loader(yaml.SafeLoader):
    """The safe loader, without YAML 1.1's two traps: duplicate keys that overwrite silently, and `1e-4` as text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"duplicate key '{key.value}'", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, quoting text that `_Loader` would read as a number."""


_EXPONENT = re.compile(r"[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)[eE][-+]?\d+$")
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, True)
)


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; {} for an empty file.

    Raises:
        InputError: no such file, not YAML (with the line), a duplicate key, or something else than a mapping on top.
    """
    path = Path(path)
    try:
        values = _load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file{nearest(path.name, _yaml_files(path.parent))}"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read, {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{path}: {line}{error.problem}, expected valid YAML") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{path}: found bytes that are not text, expected a YAML file") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: found {type(values).__name__} at the top level, expected a mapping (key: value)"
        )
    return values


def _yaml_files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.y*ml"))


def apply_overrides(values: Mapping[str, Any], pairs: list[str]) -> dict[str, Any]:
    """The tail of a command line laid over the values of a YAML file, which are left as they were.

        --agent.lr 1e-3    --agent.lr=1e-3    --agent.hidden [64,64]    --agent.lr 1e-3,3e-4    --agent.lr 1e-3 3e-4

    Keys are dotted. A value is a YAML number, true, false, null, list or {mapping}; whatever is none of these is text.
    Commas without brackets, or several values after one key, make a list. The last of equal keys wins.

    Args:
        values: nested mappings, as from `read_yaml`.
        pairs: the arguments, as the shell split them.
    Raises:
        InputError: a value without a key, a key without a value, an open bracket, or a key below a plain value.
    """
    merged = copy.deepcopy(dict(values))
    for key, texts in _split(pairs):
        if not texts or not all(key.split(".")):
            raise InputError(f"--{key}: expected a key and a value, as in --seeds 8")
        found = [_parse(text, key) for text in texts]
        _assign(merged, key.split("."), found if len(found) > 1 else found[0])
    return merged


def _split(tokens: list[str]) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for token in tokens:
        if token.startswith("--"):
            key, equals, text = token[2:].partition("=")
            found.append((key, [text] if equals else []))
        elif found:
            found[-1][1].append(token)
        else:
            raise InputError(f"command line: found {token!r}, expected --key value")
    return found


def _parse(text: str, key: str) -> Any:
    if not text.strip():
        raise InputError(f"--{key}: found an empty value, expected a value, as in --{key} 1")
    bracketed = text[0] in "[{'\""
    if (
        "," in text and not bracketed
    ):  # numbers to run side by side; anything else with a comma in it is text
        parts = [_parse(part.strip(), key) if part.strip() else "" for part in text.split(",")]
        return parts if all(isinstance(part, (int, float)) for part in parts) else text
    try:
        value = _load(text)
    except yaml.YAMLError:
        if bracketed:
            raise InputError(
                f"--{key} {text}: expected a YAML value with its brackets and quotes closed"
            ) from None
        return text
    is_null = value is None and not text.startswith("#")
    return value if bracketed or is_null or isinstance(value, (bool, int, float)) else text


def _assign(values: dict[str, Any], parts: list[str], value: Any) -> None:
    key = ".".join(parts)
    for depth, part in enumerate(parts[:-1], start=1):
        found = {} if values.get(part) is None else values[part]
        if not isinstance(found, dict) and not _takes_options(parts[:depth]):
            above = ".".join(parts[:depth])
            raise InputError(
                f"--{key}: {above} = {found!r} is a plain value, expected a section to hold it"
            )
        values[part] = found if isinstance(found, dict) else {"coef": found}
        values = values[part]
    old = values.get(parts[-1])
    if isinstance(old, dict) and value is not None and not isinstance(value, dict):
        if not _takes_options(parts):
            raise InputError(
                f"--{key}: {key} is a section ({', '.join(old)}), expected a key in it, as in --{key}.KEY"
            )
        value = {**old, "coef": value}
    values[parts[-1]] = value


def _takes_options(parts: list[str]) -> bool:
    """A regularizer is a coefficient or a mapping of options: `dr3: 0.03` is short for `dr3: {coef: 0.03}`."""
    return parts[-2:-1] == ["regularizers"]


def to_dict(value: Any) -> Any:
    """Plain values only: dataclasses and mappings become dicts, tuples lists, paths text; `build` reads them back."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(name): to_dict(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy numbers and arrays
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


def overrides_only(instance: Any) -> dict[str, Any]:
    """What a YAML file must say for `build` to give this instance back: the values that are not the defaults."""
    found = {}
    for f in fields(instance):
        value = getattr(instance, f.name)
        if f.init and (_default(f) is MISSING or value != _default(f)):
            found[f.name] = overrides_only(value) if is_dataclass(value) else to_dict(value)
    return found


def _default(f: Field[Any]) -> Any:
    return f.default if f.default_factory is MISSING else f.default_factory()


def dump_yaml(values: Any, path: str | Path) -> None:
    """Write a dataclass or a mapping as YAML, whole or not at all."""
    text = yaml.dump(to_dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    write_atomic(path, text.encode())


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`: fsynced and moved onto it when the block ends well, removed when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new, never a part."""
    with atomic(Path(path)) as temporary:
        temporary.write_bytes(data)
