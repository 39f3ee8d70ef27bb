"""YAML files, lines of JSON, plain values of dataclasses, and atomic writes.

Dataclasses hold the defaults; YAML files and the command line hold overrides only.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, TypeVar

import yaml

from rlop.config.checks import nearest
from rlop.config.writing import sync_file, unwritable_named
from rlop.types import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Made = TypeVar("Made")

LARGEST_YAML = 4 << 20  # bytes of a configuration
LARGEST_RECORD = 64 << 20  # bytes of what is kept beside data and trainings
MOST_VALUES = 1_000_000  # of a configuration, with its aliases written out

Plain: TypeAlias = Any  # values of YAML and JSON: text, numbers, lists and mappings of these


class _Loader(yaml.SafeLoader):
    """The safe loader without two traps of YAML 1.1: `1e-4` as text, silent duplicate keys."""

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,
    ) -> dict[Hashable, object]:
        """Build a mapping; raise ConstructorError for a duplicate key."""
        seen = set()
        for key, _ in node.value:
            is_merge = key.tag == "tag:yaml.org,2002:merge"
            if is_merge or not isinstance(key, yaml.ScalarNode):
                continue

            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key '{key.value}'", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which quotes text that `_Loader` would read as a number."""


_EXPONENT = re.compile(r"[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)[eE][-+]?\d+$")
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def _flow_list(dumper: yaml.SafeDumper, items: list[object]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


_Dumper.add_representer(list, _flow_list)


def parse_yaml(text: str) -> object:
    """Return the value of a YAML text; exceptions are those of PyYAML."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _count(node: yaml.Node, counts: dict[yaml.Node, int | None]) -> int:
    """Count the values of a node, with what its aliases stand for written out each time.

    Ten aliases of ten aliases, nine times over, are a few lines that stand for a billion values.

    Args:
        node: of a document.
        counts: of nodes counted before; None while one is counted.

    Raises:
        ComposerError: too many values, or an alias of what it stands in.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if node in counts:
        known = counts[node]
        if known is None:
            raise yaml.composer.ComposerError(
                None, None, "an alias inside of what it stands for", node.start_mark
            )
        return known

    counts[node] = None
    is_mapping = isinstance(node, yaml.MappingNode)
    inner = chain.from_iterable(node.value) if is_mapping else node.value  # pairs of a mapping
    total = 1 + sum(_count(part, counts) for part in inner)
    if total > MOST_VALUES:
        raise yaml.composer.ComposerError(
            None, None, f"more than {MOST_VALUES:,} values", node.start_mark
        )
    counts[node] = total
    return total


def read_whole(path: Path, most: int = LARGEST_RECORD) -> bytes:
    """Return the content of a file that may be a stranger's: a pipe or a device has no end.

    Args:
        path: the file.
        most: bytes that it may have.
    Raises:
        OSError: it cannot be read, is too large, or is no file.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise OSError(errno.EINVAL, "found a folder or a device, expected a file")
    if size > most:
        raise OSError(errno.EFBIG, f"{size:,} bytes, expected at most {most:,}")
    return path.read_bytes()


def read_yaml(path: str | Path) -> dict[str, object]:
    """Read the mapping in a YAML file; return {} for an empty file.

    Raises:
        InputError: no such file, not YAML (with the line), a duplicate key, or a top level that is
            not a mapping.
    """
    path = Path(path).expanduser()
    try:
        text = read_whole(path, LARGEST_YAML).decode()
    except FileNotFoundError:
        similar = nearest(path.name, sorted(file.name for file in path.parent.glob("*.y*ml")))
        raise InputError(f"{path}: no such file{similar}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read, {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: found bytes that are not text, expected a YAML file") from None

    values = _parse_file(path, text)

    if values is None:
        return {}
    if not isinstance(values, dict):
        found = type(values).__name__
        raise InputError(f"{path}: found {found} at the top level, expected a mapping (key: value)")
    return values


def _parse_file(path: Path, text: str) -> object:
    try:
        return parse_yaml(text)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{path}: {line}{error.problem}, expected valid YAML") from None
    except yaml.YAMLError:
        raise InputError(f"{path}: found bytes that are not text, expected a YAML file") from None
    except RecursionError:
        raise InputError(f"{path}: too many nested brackets, expected valid YAML") from None
    except Exception as error:  # PyYAML converts tagged values without checking them
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: {reason}, expected valid YAML") from None


def to_dict(value: object) -> Plain:
    """Turn dataclasses and mappings into dicts, tuples into lists, paths into text.

    `build` reads the result back.
    """
    if _is_instance(value):
        return {
            item.name: to_dict(value.__dict__[item.name]) for item in fields(value) if item.init
        }
    if isinstance(value, Mapping):
        return {str(name): to_dict(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy numbers and arrays
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


def overrides_only(instance: DataclassInstance) -> dict[str, Plain]:
    """Return the values that `build` needs to rebuild an instance: those that are not defaults."""
    changed = {}
    for item in fields(instance):
        value = instance.__dict__[item.name]
        if item.init and value != _default(item):
            changed[item.name] = overrides_only(value) if _is_instance(value) else to_dict(value)
    return changed


def _is_instance(value: object) -> TypeGuard[DataclassInstance]:
    """Return whether a value is an instance of a dataclass, not the class itself."""
    return is_dataclass(value) and not isinstance(value, type)


def _default(item: Field[object]) -> object:
    """Return the default of a field, or `MISSING`."""
    return item.default if item.default_factory is MISSING else item.default_factory()


def dump_yaml(values: object, path: str | Path) -> None:
    """Write a dataclass or a mapping as YAML, whole or not at all."""
    text = yaml.dump(to_dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    write_atomic(path, text.encode())


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`, and move the file onto `path` at the end.

    The file is on disk before it moves, and so is its name when this returns. If the block fails,
    it is removed instead.

    Raises:
        InputError: the system refuses to write, here or in the block.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unwritable_named(path):
            yield temporary
            sync_file(temporary)
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # the folder may be gone, or read-only by now
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk, where the system can open folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old content or the new, never a part."""
    with atomic(Path(path)) as temporary:
        temporary.write_bytes(data)


def read_json_lines(path: Path, make: Callable[[Any], Made], what: str = "a record") -> list[Made]:
    """Return what is made of each line of a file of JSON; nothing where there is no file.

    Args:
        path: of the file.
        make: takes the content of a line.
        what: each line should hold, for the message.
    Raises:
        InputError: a line that is no JSON, or of which nothing can be made.
    """
    if not path.exists():
        return []
    made = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            made.append(make(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: line {number}: expected {what}, {error}") from None
    return made
