"""The launches of a sweep: configurations that differ only along the run axis share a process."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from rlop.agent_runs import run_axis
from rlop.config.checks import show, within
from rlop.config.files import to_dict
from rlop.config.overrides import flatten
from rlop.config.schema import PLAIN, build, with_preset
from rlop.config.terms import PROJECTIONS, REGULARIZERS
from rlop.data.load import SUFFIXES, find_reader
from rlop.envs.make import check_env_id
from rlop.envs.original import PREFIX as ORIGINAL
from rlop.runs import label
from rlop.sweep.file import Configuration, Values, merged
from rlop.training.names import agent_class
from rlop.training.options import Experiment
from rlop.training.run import agent_name, experiment_of, is_to_be_collected
from rlop.types import InputError

Numbers: TypeAlias = dict[str, float]  # hyper-parameter -> its one value

LONGEST = 80  # characters of a folder's name
SCALES = {kind.section: kind.scale for kind in (REGULARIZERS, PROJECTIONS)}


@dataclass(frozen=True)
class Checked:
    """A configuration whose values were checked.

    Args:
        configuration: what was checked.
        experiment: the same, typed.
        runs: how many it trains.
        numbers: those of its hyper-parameters that may differ between the runs of a process.
        rest: all its other values.
    """

    configuration: Configuration
    experiment: Experiment
    runs: int
    numbers: Numbers
    rest: Values


@dataclass(frozen=True)
class Launch:
    """One process of a sweep, `rlop train` with these values.

    Args:
        name: of its folder.
        values: of its configuration.
        settings: labels of the configurations that it holds, none for a single one.
        runs: how many it trains, seeds included.
    """

    name: str
    values: Values
    settings: tuple[str, ...]
    runs: int


@dataclass(frozen=True)
class Group:
    """Configurations that can share a process.

    Args:
        members: the configurations.
        varying: names of the hyper-parameters in which they differ.
    """

    members: tuple[Checked, ...]
    varying: tuple[str, ...]


def check(configuration: Configuration, where: Path) -> Checked:
    """Check all values of a configuration that can be checked without its data.

    Args:
        configuration: of the sweep.
        where: file of the sweep, for messages.
    Raises:
        InputError: what `rlop train` would refuse, with the values that the sweep gave.
    """
    place = f"{where}: {name_of(configuration.named)}"
    values = configuration.values
    experiment = experiment_of(values, place)
    options = dict(experiment.agent)
    cls = agent_class(agent_name(experiment))
    options.pop("name", None)

    with within(place):
        if experiment.devices is not None:
            raise InputError(
                f"devices = {show(experiment.devices)}: expected none in a sweep, whose launches "
                "use one device each; device: NAME chooses it"
            )
        _check_places(experiment)
        config = build(cls.Config, with_preset(options, cls.presets), where="", key="agent")
        runs = run_axis(config, experiment.seeds, experiment.variants).runs

    numbers: Numbers = {}
    if not experiment.variants:
        for name, column in runs.values.items():
            if len(set(column)) == 1 and name not in cls.shared(config):
                numbers[name] = column[0]
    rest, movable = _without(values, numbers)
    numbers = {name: numbers[name] for name in movable}
    return Checked(configuration, experiment, len(runs), numbers, rest)


def _check_places(experiment: Experiment) -> None:
    """Check that a data file is there or can be made, and that there is such an environment."""
    reader = find_reader(experiment.data)
    is_missing = reader in SUFFIXES.values() and not Path(experiment.data).expanduser().exists()
    if is_missing and not is_to_be_collected(experiment):
        raise InputError(f"data = {show(experiment.data)}: no such file")

    env = experiment.env if experiment.eval_episodes else None
    if env is not None and not env.startswith(ORIGINAL):
        check_env_id(env)


def _without(values: Values, numbers: Numbers) -> tuple[Values, list[str]]:
    """Return values without some hyper-parameters, and the names of those that were taken out."""
    rest = merged(values, {})
    agent = rest.get("agent", {})
    assert isinstance(agent, dict)  # checked

    movable = []
    for name in numbers:
        section, _, last = name.rpartition(".")
        home = agent.get(section, {}) if section else agent
        if section == "optimizer":
            continue  # stands below the optimizer's name
        if not isinstance(home, dict):
            continue

        value = home.get(last)
        if section in SCALES and isinstance(value, dict):
            scale = PLAIN if PLAIN in value else SCALES[section]
            value[scale] = None
        elif section in SCALES:
            home[last] = None
        else:
            home.pop(last, None)
        movable.append(name)
    return rest, movable


def groups(checked: Sequence[Checked]) -> list[Group]:
    """Put those configurations together that differ only in numbers of their runs."""
    alike: dict[str, list[Checked]] = {}
    for item in checked:
        key = json.dumps([to_dict(item.rest), sorted(item.numbers)], sort_keys=True, default=str)
        alike.setdefault(key, []).append(item)

    found = []
    for members in alike.values():
        varying = []
        for name in members[0].numbers:
            values = {item.numbers[name] for item in members}
            if len(values) > 1:
                varying.append(name)
        found.append(Group(tuple(members), tuple(varying)))
    return found


def launches(found: Sequence[Group], sizes: Callable[[int], int]) -> list[Launch]:
    """Make the launches of groups.

    Args:
        found: the groups.
        sizes: index of a group -> number of launches for it.
    Raises:
        InputError: two configurations are the same.
    """
    made: list[Launch] = []
    for index, group in enumerate(found):
        parts = balanced(group.members, sizes(index))
        base = _name_of_group(group)
        for number, part in enumerate(parts, start=1):
            name = base or "all"
            if len(part) == 1:
                name = name_of(part[0].configuration.named)
            elif len(parts) > 1:
                name = f"{base},pack{number}" if base else f"pack{number}"
            made.append(_launch(_free(name, made), group, part))
    return made


def balanced(members: Sequence[Checked], count: int) -> list[Sequence[Checked]]:
    """Split configurations into parts whose sizes differ by at most one."""
    count = min(count, len(members))
    ends = [round(len(members) * part / count) for part in range(count + 1)]
    return [members[start:end] for start, end in pairwise(ends)]


def _launch(name: str, group: Group, members: Sequence[Checked]) -> Launch:
    first = members[0]
    values = first.configuration.values
    runs = sum(item.runs for item in members)
    if len(members) == 1:
        return Launch(name, values, (), runs)

    variants: dict[str, Numbers] = {}
    for item in members:
        numbers = {key: item.numbers[key] for key in group.varying}
        setting = label(numbers)
        if setting in variants:
            raise InputError(
                f"sweep: two configurations of {name!r} are the same, or have the same name "
                f"{setting!r}: expected values that differ in their first six digits"
            )
        variants[setting] = numbers
    return Launch(name, merged(values, {"variants": variants}), tuple(variants), runs)


def _name_of_group(group: Group) -> str:
    """Name a group by the changes that its members share."""
    changes = [item.configuration.named for item in group.members]
    shared = {}
    for key, value in changes[0].items():
        if all(other[key] == value for other in changes):
            shared[key] = value
    return name_of(shared)


def _free(name: str, made: Sequence[Launch]) -> str:
    """Return the name, with a number if it is taken."""
    taken = {launch.name.casefold() for launch in made}  # as on file systems that ignore case
    free, number = name, 1
    while free.casefold() in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def name_of(changes: Mapping[str, object]) -> str:
    """Name changes by the last parts of their keys, in characters valid in folder names."""
    parts = []
    for key, value in changes.items():
        last = re.split(r"[.:/]", key)[-1]
        parts.append(f"{last}={_short(value)}" if last != "agent" else _short(value))
    text = re.sub(r"[\[\]{}'\" ]", "", ",".join(parts))
    text = re.sub(r"[^\w.=+,-]+", "_", text)
    return text[:LONGEST].strip("._-,") if len(text) > LONGEST else text.lstrip(".-")


def _short(value: object) -> str:
    """Return a value as a name holds it: an address without its prefix, a file without folders."""
    if isinstance(value, Mapping):
        words = [str(value["name"])] if "name" in value else []
        for key, item in flatten(value).items():
            if key != "name":
                words.append(f"{key.rsplit('.', 1)[-1]}={item}")
        return ",".join(words)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, bool):
        return text.lower()
    if isinstance(value, str):
        text = text.rpartition(":")[2] if ":" in text else Path(text).name
    return text
