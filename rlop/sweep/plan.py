"""The plan of a sweep, kept in its folder: a sweep that is started again runs the same launches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from rlop.config.checks import show
from rlop.config.files import read_whole, to_dict, write_atomic
from rlop.config.overrides import flatten
from rlop.logs.history import MALFORMED
from rlop.sweep.file import Source, configurations
from rlop.sweep.launches import Checked, Launch, check, groups, launches
from rlop.sweep.sizing import SHARE, Cost, counts, free_mebibytes, measured
from rlop.types import InputError

Pack: TypeAlias = int | Literal["auto"]  # configurations of a launch, at most

FILE = "sweep.json"
FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """All launches of a sweep.

    Args:
        configurations: values of each, in the order of the file.
        pack: configurations of a launch, at most.
        launches: in the order in which they start.
    """

    configurations: tuple[Mapping[str, object], ...]
    pack: Pack
    launches: tuple[Launch, ...]

    @property
    def key(self) -> str:
        """A digest that differs between plans."""
        return hashlib.sha256(_text(self).encode()).hexdigest()[:16]


def checked(source: Source) -> list[Checked]:
    """Check every configuration of a sweep.

    Raises:
        InputError: for the first value that `rlop train` would refuse.
    """
    return [check(configuration, source.path) for configuration in configurations(source)]


def make_plan(
    items: Sequence[Checked],
    pack: Pack,
    jobs: int,
    memory: float | None = None,
    costs: Sequence[Cost | str] | None = None,
    gpus: float | None = None,
) -> Plan:
    """Decide which configurations share a launch.

    Args:
        items: the configurations, checked.
        pack: configurations of a launch, at most; `auto` measures what they cost.
        jobs: launches at a time.
        memory: mebibytes for a launch; by default a share of what is free.
        costs: of each group, if they are known already.
        gpus: for a launch; by default all jobs share one.
    """
    found = groups(items)
    if pack == "auto":
        is_alone = all(len(group.members) == 1 for group in found)
        if costs is None:
            costs = [""] * len(found) if is_alone else measured(found)
        share = None if gpus is None else min(gpus, 1.0)
        sizes = counts(found, costs, jobs, room(jobs, memory), share)
    else:
        sizes = [-(-len(group.members) // pack) for group in found]  # rounded up
    values = tuple(item.configuration.values for item in items)
    return Plan(values, pack, tuple(launches(found, sizes.__getitem__)))


def room(jobs: int, memory: float | None) -> float | None:
    """Return the mebibytes that a launch may take; None for no limit."""
    free = free_mebibytes()
    if memory is not None or free is None:
        return memory
    return SHARE * free / jobs


def write_plan(plan: Plan, folder: Path) -> None:
    """Write a plan into the folder of its sweep.

    Raises:
        InputError: the folder cannot be written.
    """
    write_atomic(folder / FILE, _text(plan).encode())


def read_plan(folder: Path) -> Plan | None:
    """Return the plan in a folder; None if there is none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(read_whole(path))
        if content["format"] != FORMAT:
            raise ValueError
        made = []
        for entry in content["launches"]:
            made.append(Launch(**{**entry, "settings": tuple(entry["settings"])}))
        return Plan(tuple(content["configurations"]), content["pack"], tuple(made))
    except (OSError, *MALFORMED):
        raise InputError(f"{path}: damaged, expected the plan of a sweep") from None


def check_same(recorded: Plan, items: Sequence[Checked], pack: Pack, folder: Path) -> None:
    """Raise InputError unless a folder's plan is of these configurations, in packs of this size.

    Args:
        recorded: the plan in the folder.
        items: the configurations now.
        pack: configurations of a launch; `auto` goes on as before.
        folder: of the sweep, for the message.
    """
    way_out = "a sweep goes on unchanged, expected the same file and options, or another --logdir"
    values = [to_dict(item.configuration.values) for item in items]
    if len(values) != len(recorded.configurations):
        raise InputError(
            f"{folder}: is of {len(recorded.configurations)} configurations, found "
            f"{len(values)}: {way_out}"
        )
    for before, after in zip(recorded.configurations, values):
        if before != after:
            raise InputError(f"{folder}: {_difference(before, after)}: {way_out}")
    if pack not in ("auto", recorded.pack):
        raise InputError(f"{folder}: pack = {recorded.pack} -> {pack}: {way_out}")


def _difference(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    """Return the first difference of two configurations."""
    old, new = flatten(before), flatten(after)
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            return f"{key} = {show(old.get(key))} -> {show(new.get(key))}"
    return "other sections"


def _text(plan: Plan) -> str:
    entries = [to_dict(launch) for launch in plan.launches]
    content = {
        "format": FORMAT,
        "pack": plan.pack,
        "configurations": to_dict(plan.configurations),
        "launches": entries,
    }
    return json.dumps(content, indent=1) + "\n"
