"""robomimic's demonstrations in HDF5: `data/demo_0` has actions, rewards, dones, obs, next_obs."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from rlop.config.checks import check_known, nearest, within
from rlop.data.columns import flag_column
from rlop.data.dataset import Dataset
from rlop.data.formats.keys import messages_of
from rlop.data.formats.own_arrays import has, open_hdf5, own_array, own_group, own_rows
from rlop.data.formats.trajectories import Trajectory, join_trajectories, to_dataset
from rlop.logs.messages import say
from rlop.types import InputError

PREFIX = "robomimic:"
DEMO = re.compile(r"demo_\d+")
COLUMNS = {"action": "actions", "reward": "rewards"}


class Demo(NamedTuple):
    """One demonstration, unread.

    Args:
        label: its name in the file.
        group: its arrays.
        steps: their number of rows.
    """

    label: str
    group: h5py.Group
    steps: int


def read_robomimic(
    source: str | Path,
    *,
    keys: Sequence[str] | None = None,
    mask: str | None = None,
    env_id: str | None = None,
) -> Dataset:
    """Read a file of demonstrations in robomimic's layout.

    The parts of an observation become one vector, in the order of their sorted names, each
    flattened; a single part keeps its shape. Many files hold images and vectors: then `keys`
    must say what to take. `dones` are terminations, as in robomimic: a demonstration with several
    ends at each. With `next_obs` every step is kept; without it, the last step of a demonstration
    that is not done is dropped.

    A file without rewards gets zeros, with a message. The environment that the file names is
    reported and never made.

    Args:
        source: path, with or without `robomimic:`.
        keys: parts of the observation to take, in this order; by default all.
        mask: filter key: read only the demonstrations that `mask/NAME` lists.
        env_id: Gymnasium id for evaluation.

    Raises:
        InputError: no such file, no demonstrations, a missing part, images and vectors, lengths
            that differ, NaN.

    Reference: `SequenceDataset` in robomimic/utils/dataset.py of robomimic 0.5.
    """
    path = Path(str(source).removeprefix(PREFIX)).expanduser()
    with open_hdf5(path) as file, within(str(path)):
        data = own_group(file, "data", "")
        demos = _demos(file, data, mask)
        parts = _parts(demos[0], keys)
        _report(path, data, demos)

        trajectories = (_trajectory(demo, parts) for demo in demos)
        columns, dropped = join_trajectories(trajectories, sum(demo.steps for demo in demos))

    with messages_of(path, COLUMNS):
        dataset = to_dataset(columns, path.name, env_id=env_id, dropped=dropped)
    return replace(dataset, spec=replace(dataset.spec, obs_keys=tuple(parts)))


def is_robomimic(file: h5py.File) -> bool:
    """Return whether an HDF5 file has robomimic's layout, by its names alone."""
    if not isinstance(file.get("data", getlink=True), h5py.HardLink):
        return False
    data = file["data"]
    return isinstance(data, h5py.Group) and any(DEMO.fullmatch(name) for name in data)


def _demos(file: h5py.File, data: h5py.Group, mask: str | None) -> list[Demo]:
    """Return the demonstrations in the order of their numbers."""
    labels = [name for name in data if DEMO.fullmatch(name)]
    if mask is not None:
        chosen = _masked(file, mask)
        for label in chosen:
            if label not in labels:
                raise InputError(f"mask/{mask}: no demonstration {label!r} in data")
        labels = chosen
    if not labels:
        raise InputError("data: no demonstrations, expected demo_0, demo_1, ...")

    demos: list[Demo] = []
    for label in sorted(labels, key=lambda name: int(name.removeprefix("demo_"))):
        group = own_group(data, label, "data")
        actions = own_array(group, "actions", f"data/{label}")
        if actions.ndim == 0:
            raise InputError(f"data/{label}/actions: a single number, expected an array")
        demos.append(Demo(label, group, len(actions)))
    return demos


def _masked(file: h5py.File, mask: str) -> list[str]:
    """Return the names that a filter key lists."""
    masks = own_group(file, "mask", "") if has(file, "mask") else {}
    check_known("mask", mask, masks)
    link = file["mask"].get(mask, getlink=True)
    item = file["mask"][mask] if isinstance(link, h5py.HardLink) else None

    plain = isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external
    if item is None or not plain or item.ndim != 1 or h5py.check_string_dtype(item.dtype) is None:
        raise InputError(f"mask/{mask}: expected a list of names of demonstrations")
    return [bytes(name).decode(errors="replace") for name in item[()]]


def _parts(demo: Demo, keys: Sequence[str] | None) -> list[str]:
    """Return the names of the parts of an observation, in order."""
    obs = own_group(demo.group, "obs", f"data/{demo.label}")
    if keys is not None:
        chosen = [keys] if isinstance(keys, str) else list(keys)
        for key in chosen:
            if not has(obs, key):
                raise InputError(f"data/{demo.label}/obs: no part {key!r}{nearest(key, obs)}")
        return chosen

    names = sorted(obs)
    if not names:
        raise InputError(f"data/{demo.label}/obs: no parts, expected at least one array")
    axes = {name: own_array(obs, name, f"data/{demo.label}/obs").ndim for name in names}
    images = [name for name in names if axes[name] > 2]
    if images and len(names) > 1:
        others = [name for name in names if name not in images]
        raise InputError(
            f"data/{demo.label}/obs: images ({', '.join(images)}) beside other parts; choose with "
            f"keys, such as keys={others or images[:1]}"
        )
    return names


def _report(path: Path, data: h5py.Group, demos: Sequence[Demo]) -> None:
    """Say which environment the file names, and what is missing."""
    name = _env_name(data.attrs.get("env_args"))
    if name:
        say(f"{path}: recorded in {name!r}, which is not made; env_id names one for evaluation")
    if not has(demos[0].group, "rewards"):
        say(f"{path}: no rewards in the file: all are 0", logging.WARNING)


def _env_name(text: object) -> str:
    """Return the environment's name in the file's JSON text; "" for none."""
    try:
        about = json.loads(text) if isinstance(text, str | bytes) else {}
        name = about.get("env_name", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return name if isinstance(name, str) and name.isprintable() else ""


def _trajectory(demo: Demo, parts: Sequence[str]) -> Trajectory:
    """Read one demonstration."""
    group, steps, label = demo.group, demo.steps, f"data/{demo.label}"
    reward = np.zeros(steps, np.float32)
    if has(group, "rewards"):
        reward = own_rows(group, "rewards", label, steps)

    next_obs = None
    if has(group, "next_obs"):
        next_obs = _joined(own_group(group, "next_obs", label), parts, f"{label}/next_obs", steps)

    return Trajectory(
        label=label,
        obs=_joined(own_group(group, "obs", label), parts, f"{label}/obs", steps),
        action=own_rows(group, "actions", label, steps),
        reward=reward,
        terminated=flag_column(f"{label}/dones", own_rows(group, "dones", label, steps)),
        next_obs=next_obs,
    )


def _joined(group: h5py.Group, parts: Sequence[str], where: str, rows: int) -> np.ndarray:
    """Return one array of the parts of an observation, `[rows, ...]`."""
    arrays = [own_rows(group, part, where, rows) for part in parts]
    if len(arrays) == 1:
        only = arrays[0]
        return only[:, None] if only.ndim == 1 else only

    with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused later, by name
        flat = [array.reshape(rows, -1).astype(np.float32) for array in arrays]
    return np.concatenate(flat, axis=1)
