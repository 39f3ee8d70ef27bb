"""Records of experiments: one for each experiment, seed and part, as JSON.

A record keeps a hash of the source that made it, and the versions of the packages, so that what is
finished is not run again, and what changed is.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rlop.config.files import write_atomic
from rlop.types import InputError

RUN, CONTROL = "run", "control"
PARTS = (RUN, CONTROL)
HERE = Path(__file__).parent
PACKAGES = ("torch", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Record:
    """The numbers of one experiment for one seed.

    Args:
        experiment: module of `rlop.experiments`.
        seed: its seed.
        part: `run`, or `control`.
        values: name -> number.
        seconds: processor time.
        day: date on which it ran, as in 2026-11-26.
        commit: commit that was checked out, "" without git; ends in "+" if files differed from it.
        source: hash of the source, see `source_hash`.
        versions: package -> version.
    """

    experiment: str
    seed: int
    part: str
    values: Mapping[str, float] = field(hash=False)
    seconds: float
    day: str
    commit: str
    source: str
    versions: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True)
class Records:
    """Records of one run of `scripts/reproduce.py`.

    Args:
        records: at most one for each experiment, seed and part.
        command: the command that made them.
    """

    records: tuple[Record, ...]
    command: str = ""

    def of(self, experiment: str, part: str) -> list[Record]:
        """Return the records of a part of an experiment, in the order of their seeds."""
        found = [r for r in self.records if r.experiment == experiment and r.part == part]
        return sorted(found, key=lambda record: record.seed)


def installed() -> dict[str, str]:
    """Return package -> version, for those that are installed and matter for the numbers."""
    versions = {"python": ".".join(map(str, sys.version_info[:2]))}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


@cache
def source_hash(experiment: str) -> str:
    """Hash the source of an experiment and of the modules of `rlop.experiments` that it imports.

    Comments, docstrings and blank lines do not count.
    """
    waiting = [experiment]
    texts: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name in texts or not (HERE / f"{name}.py").exists():
            continue
        text = (HERE / f"{name}.py").read_text(encoding="utf-8")
        tree = ast.parse(text)
        texts[name] = _bare_source(text, tree)
        waiting.extend(_siblings(tree))

    content = "\n".join(f"# {name}\n{texts[name]}" for name in sorted(texts))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _siblings(tree: ast.Module) -> list[str]:
    """Return the modules of `rlop.experiments` that a module imports."""
    package = "rlop.experiments"
    names: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        if node.module == package:
            names.extend(alias.name for alias in node.names)
        elif node.module.startswith(f"{package}."):
            names.append(node.module.removeprefix(f"{package}."))
    return names


def _bare_source(text: str, tree: ast.Module) -> str:
    """Return the source without docstrings, comment lines and blank lines."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    dropped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            dropped.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))

    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if number not in dropped and bare and not bare.startswith("#"):
            lines.append(line.rstrip())
    return "\n".join(lines)


def to_json(record: Record) -> dict[str, object]:
    """Convert a record to plain values; NaN and infinity become text."""
    values = {name: _number(value) for name, value in record.values.items()}
    return {**asdict(record), "values": values}


def _number(value: float) -> float | str:
    """Return the number, or its text where JSON has no such number."""
    return float(value) if math.isfinite(value) else str(float(value))


def from_json(content: Mapping[str, object], where: str) -> Record:
    """Convert plain values back to a record.

    Raises:
        InputError: the values are none of a record; the message begins with `where`.
    """
    try:
        record = Record(**content)  # type: ignore[arg-type]  # the keys and values are checked next
        values = {str(name): float(value) for name, value in record.values.items()}
        is_record = isinstance(record.seed, int) and record.part in PARTS
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{where}: damaged, expected a record of an experiment") from error
    if not is_record:
        raise InputError(f"{where}: damaged, expected a record with a seed, and run or control")
    return replace(record, values=values)


def write_records(records: Records, path: Path) -> None:
    """Write records as one line of JSON each, under a line with what they have in common."""
    versions = records.records[0].versions if records.records else {}
    lines = [json.dumps({"command": records.command, "versions": versions})]
    for record in records.records:
        content = to_json(record)
        if record.versions == versions:
            del content["versions"]
        lines.append(json.dumps(content, allow_nan=False))

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def read_records(path: Path) -> Records:
    """Read what `write_records` wrote.

    Raises:
        InputError: no such file, or a line that is no record.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: cannot be read, expected records of experiments") from None

    records: list[Record] = []
    common: dict[str, object] = {}
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            content = dict(json.loads(line))
        except (TypeError, ValueError, RecursionError):
            raise InputError(f"{where}: damaged, expected JSON") from None
        if number == 1:
            common = content
            continue
        shared = {"versions": common.get("versions", {})}
        records.append(from_json({**shared, **content}, where))

    return Records(tuple(records), command=str(common.get("command", "")))


def is_finished(record: Record, versions: Mapping[str, str]) -> bool:
    """Return whether the source and the packages that made a record are those of now."""
    return record.source == source_hash(record.experiment) and record.versions == versions


def seconds_per_seed(records: Iterable[Record], experiments: Sequence[str]) -> float:
    """Add up the mean processor time, over the seeds, of run and control of some experiments."""
    total = 0.0
    chosen = [record for record in records if record.experiment in experiments]
    for part in {(record.experiment, record.part) for record in chosen}:
        times = [r.seconds for r in chosen if (r.experiment, r.part) == part]
        total += sum(times) / len(times)
    return total
