"""OGBench's data sets by name or file, with the rewards of its single tasks."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np

from rlop.config.checks import within
from rlop.data.columns import flag_column
from rlop.data.dataset import Dataset
from rlop.data.formats.keys import messages_of
from rlop.data.formats.members import Archive, open_archive
from rlop.data.formats.ogbench_tasks import Task, find_task, relabel
from rlop.data.formats.trajectories import split_successors, to_dataset
from rlop.logs.messages import say
from rlop.types import InputError

PREFIX = "ogbench:"
FOLDER = "OGBENCH_DATASET_DIR"  # environment variable of ours; OGBench has an argument only
DEFAULT = "~/.ogbench/data"
URL = "https://rail.eecs.berkeley.edu/datasets/ogbench"
COLUMNS = {"obs": "observations", "action": "actions", "next_obs": "observations"}

# antmaze-large-navigate-v0, antmaze-large-navigate-singletask-v0, ...-singletask-task3-v0
NAME = re.compile(
    r"(?P<env>[a-z0-9]+(-[a-z0-9]+)*)-(?P<kind>(?!singletask)[a-z]+)"
    r"(?P<single>-singletask(-task(?P<task>[1-5]))?)?-(?P<version>v\d+)"
)
POWDER_ACTIONS = 8  # of every powderworld: as many as its grid has columns


class Name(NamedTuple):
    """The parts of a data set's name.

    Args:
        file: name of its file, without `.npz`.
        env: the environment, such as `antmaze-large`.
        version: such as `v0`.
        task: number of the single task; 0 for the default one, None without rewards.
    """

    file: str
    env: str
    version: str
    task: int | None


def read_ogbench(
    source: str,
    *,
    root: str | None = None,
    task: int | None = None,
    validation: bool = False,
    env_id: str | None = None,
) -> Dataset:
    """Read `ogbench:NAME`, or `ogbench:PATH.npz` for a file that keeps its original name.

    Files are in `root`, `$OGBENCH_DATASET_DIR` or `~/.ogbench/data`, where the package ogbench
    puts them. Trajectories hold one observation more than they have steps, so that every row has
    its true next_obs; the end of a trajectory is no termination.

    Files have no rewards. Those of a single task (`antmaze-large-navigate-singletask-task3-v0`, or
    `task=3`) are computed from the simulator's states in the file, as `ogbench` does. A row then
    terminates where the task is done, although the trajectory goes on, so that episodes end there.
    Under other names rewards are 0, and a message says so.

    Args:
        source: name or path, with or without `ogbench:`.
        root: folder of the files.
        task: 1 to 5, or 0 for the default task; by default what the name says.
        validation: read the file of validation trajectories, `NAME-val.npz`.
        env_id: Gymnasium id for evaluation; by default the single task's own, if the package
            ogbench has been imported.

    Returns:
        The data; actions lie in [-1, 1], the environments' own bounds, or are one of 8 in
        powderworld.

    Raises:
        InputError: an unknown name, no such file, a missing or damaged array, lengths that differ,
            NaN, or a task whose rewards cannot be computed from the file.

    Reference: `load_dataset` and `make_env_and_datasets` in ogbench/utils.py of OGBench 1.2.1.
    """
    text = str(source).removeprefix(PREFIX)
    path, name = locate(text, root, validation)
    wanted = _task_of(name, text, task)

    with open_archive(path) as archive, within(str(path)):
        is_last = _last_rows(archive)
        arrays = _transitions(archive, is_last)
        if wanted is not None:
            arrays["reward"], arrays["terminated"] = _rewards(archive, wanted, is_last)

    if wanted is None:
        say(
            f"{path.name}: OGBench's files have no rewards: all are 0 and no row terminates; "
            f"task = 1 to 5, or a name with -singletask-, computes those of a task",
            logging.WARNING,
        )

    n_actions = None
    if arrays["action"].dtype.kind in "iu":
        n_actions = POWDER_ACTIONS
    if env_id is None and wanted is not None and name is not None:
        env_id = _own_id(name, wanted)

    with messages_of(path, COLUMNS):
        data = to_dataset(arrays, PREFIX + text, n_actions, env_id, dropped=int(is_last.sum()))
    return _with_bounds(data)


def parse_name(text: str) -> Name:
    """Parse a data set's name.

    Raises:
        InputError: not a name of OGBench.
    """
    if "-oraclerep" in text:
        raise InputError(
            f"{PREFIX}{text}: goal representations (oraclerep) are not read; leave the word out"
        )
    match = NAME.fullmatch(text)
    if match is None:
        raise InputError(
            f"{PREFIX}{text}: expected a name such as antmaze-large-navigate-v0 or "
            "antmaze-large-navigate-singletask-task1-v0, or the path of an .npz file"
        )

    task = None
    if match["single"]:
        task = int(match["task"] or 0)
    file = f"{match['env']}-{match['kind']}-{match['version']}"
    return Name(file, match["env"], match["version"], task)


def folder(root: str | None = None) -> Path:
    """Return the folder of OGBench's files."""
    return Path(root or os.environ.get(FOLDER) or DEFAULT).expanduser()


def locate(text: str, root: str | None, validation: bool) -> tuple[Path, Name | None]:
    """Return the file of a source, and its name as far as it has one."""
    if text.endswith(".npz"):
        path = Path(text).expanduser()
        stem = path.stem.removesuffix("-val")
        name = parse_name(stem) if NAME.fullmatch(stem) else None
        if validation:
            path = path.with_name(f"{path.stem.removesuffix('-val')}-val.npz")
        return path, name

    name = parse_name(text)
    path = folder(root) / f"{name.file}{'-val' if validation else ''}.npz"
    if not path.is_file():
        raise InputError(
            f"{PREFIX}{text}: no file {path}; its address is {URL}/{path.name}, "
            f"and root, or ${FOLDER}, names another folder"
        )
    return path, name


def _task_of(name: Name | None, text: str, task: int | None) -> Task | None:
    """Return the task whose rewards are wanted; None for none."""
    if name is None:
        if task is not None:
            raise InputError(
                f"{PREFIX}{text}: task = {task}: the file's name does not say which environment it "
                "is from, expected one such as antmaze-large-navigate-v0.npz"
            )
        return None

    if name.task is not None and task is not None:
        raise InputError(f"{PREFIX}{text}: task = {task}: the name says which task already")
    number = name.task if task is None else task
    if number is None:
        return None
    try:
        return find_task(name.env, number)
    except InputError as error:
        raise InputError(f"{PREFIX}{text}: {error}") from None


def _last_rows(archive: Archive) -> np.ndarray:
    """Return `[N]` bool, the last observation of each trajectory."""
    is_last = flag_column("terminals", archive.read("terminals"))
    if len(is_last) == 0:
        raise InputError("terminals: 0 rows, expected at least one trajectory")
    for key in ("observations", "actions"):
        shape = archive.header(key).shape
        if shape[:1] != is_last.shape:
            raise InputError(f"{key}: shape {shape}, expected {len(is_last)} rows as in terminals")

    is_last[-1] = True
    if is_last.all():
        raise InputError("terminals: every row ends a trajectory, expected at least one step")
    return is_last


def _transitions(archive: Archive, is_last: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of all steps, with rewards 0."""
    dtype = archive.header("observations").dtype
    obs, next_obs = split_successors(archive.chunks("observations"), dtype, is_last)
    steps = ~is_last
    ends = np.append(is_last[1:], True)[steps]

    return {
        "obs": obs,
        "action": archive.read("actions", keep=steps),
        "reward": np.zeros(len(obs), np.float32),
        "terminated": np.zeros(len(obs), bool),
        "truncated": ends,
        "next_obs": next_obs,
    }


def _rewards(archive: Archive, task: Task, is_last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards and terminations of all steps."""
    states: dict[str, np.ndarray] = {}
    for key in task.needs:
        if key not in archive.keys:
            raise InputError(
                f"{key}: missing, and the rewards of {task.env} task {task.number} are computed "
                "from it"
            )
        states[key] = archive.read(key, keep=~is_last)
    return relabel(task, states)


def _own_id(name: Name, task: Task) -> str | None:
    """Return the id of a task's environment, if the package ogbench has registered it."""
    env_id = f"{name.env}-singletask-task{task.number}-{name.version}"
    if env_id in gymnasium.registry:
        return env_id
    return None


def _with_bounds(data: Dataset) -> Dataset:
    """Return the data with the bounds of OGBench's continuous actions, [-1, 1]."""
    if data.spec.n_actions is not None:
        return data
    size = int(np.prod(data.spec.action_shape))
    bounds = replace(data.spec, action_low=(-1.0,) * size, action_high=(1.0,) * size)
    return replace(data, spec=bounds)
