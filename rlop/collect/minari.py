"""Write a data set in Minari's layout."""

from __future__ import annotations

import json
import os
import re
import shutil
from copy import deepcopy
from pathlib import Path

import gymnasium
import numpy as np

from rlop.config.writing import sync_file, unwritable_named
from rlop.data.dataset import Dataset
from rlop.data.formats.hdf5_new import new_hdf5
from rlop.data.formats.minari import MAIN_FILE, METADATA, PREFIX, root
from rlop.types import InputError, Spec


def write_minari(data: Dataset, name: str) -> Path:
    """Write a folder in `$MINARI_DATASETS_PATH` (or `~/.minari/datasets`), whole or not at all.

    Load it with minari, or as `minari:NAME`. An episode's last observation is the next_obs of its
    last row; in D4RL's transitions ("shifted"), that observation is not part of the episode if it
    terminated.

    Args:
        data: one-step rows.
        name: minari's id, `[namespace/]name-vN`.

    Returns:
        The folder.

    Raises:
        InputError: the id is malformed or taken, the rows span several steps, or the folder cannot
            be written.
    """
    folder = root() / name.removeprefix(PREFIX)
    if not re.fullmatch(r"([-\w][-\w/]*[-\w]/)?[-\w]+-v\d+", name.removeprefix(PREFIX)):
        raise InputError(f"{name!r}: expected [namespace/]name-vN of letters, digits, - and _")

    if folder.exists():
        raise InputError(f"{folder}: exists already; choose another name or version")

    if data.discount is not None:
        raise InputError(
            f"{data.name}: write_minari: rows span several steps; write them before n_step"
        )

    about = {**_about(data), "dataset_id": folder.relative_to(root()).as_posix()}

    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        with unwritable_named(folder):
            (temporary / "data").mkdir(parents=True)
            _write_episodes(temporary / "data" / MAIN_FILE, data)
            (temporary / "data" / METADATA).write_text(json.dumps(about))
            for name in (MAIN_FILE, METADATA):
                sync_file(temporary / "data" / name)
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

    return folder


def _write_episodes(path: Path, data: Dataset) -> None:
    """Write an HDF5 file with a group for each episode."""
    stops = (data.episode_ends + 1).tolist()
    with new_hdf5(path, track_order=True) as file:
        start = 0
        for number, stop in enumerate(stops):
            group = file.create_group(f"episode_{number}")
            group.attrs["id"] = number
            group.attrs["total_steps"] = stop - start

            for name, column in _columns(data, start, stop).items():
                group[name] = column
            start = stop


def _columns(data: Dataset, start: int, stop: int) -> dict[str, np.ndarray]:
    """Return the arrays of one episode as minari calls them."""
    rows = slice(start, stop)
    last_obs = data.next_obs[stop - 1 : stop]
    return {
        "observations": np.concatenate([data.obs[rows], last_obs]),
        "actions": data.action[rows],
        "rewards": data.reward[rows].astype(np.float64),
        "terminations": data.terminated[rows],
        "truncations": data.truncated[rows],
    }


def _about(data: Dataset) -> dict[str, object]:
    """Return the metadata that minari reads."""
    spec = data.spec
    about: dict[str, object] = {
        "total_episodes": data.n_episodes,
        "total_steps": len(data),
        "observation_space": json.dumps(_observation_space(spec)),
        "action_space": json.dumps(_action_space(data)),
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "minari_version": "0.5.3",
    }

    env_spec = _env_spec(spec)
    if env_spec is not None:
        about["env_spec"] = env_spec
    return about


def _observation_space(spec: Spec) -> dict[str, object]:
    if spec.obs_dtype == "uint8":
        return _box(spec.obs_shape, "uint8", 0, 255)
    if spec.obs_dtype == "bool":
        return _box(spec.obs_shape, "bool", 0, 1)
    return _box(spec.obs_shape, spec.obs_dtype, -np.inf, np.inf)


def _action_space(data: Dataset) -> dict[str, object]:
    spec = data.spec
    if spec.n_actions is not None:
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": spec.n_actions}
    bound = 1.0 if np.abs(data.action).max() <= 1 else np.inf
    return _box(spec.action_shape, "float32", -bound, bound)


def _box(shape: tuple[int, ...], dtype: str, low: float, high: float) -> dict[str, object]:
    return {
        "type": "Box",
        "dtype": dtype,
        "shape": list(shape),
        "low": np.full(shape, low).tolist(),
        "high": np.full(shape, high).tolist(),
    }


def _env_spec(spec: Spec) -> str | None:
    """Return Gymnasium's description of the environment; None if only this library makes it."""
    if spec.env_id is None or spec.env_id not in gymnasium.registry or "layout" in spec.env_kwargs:
        return None

    env_spec = deepcopy(gymnasium.spec(spec.env_id))
    kwargs = dict(spec.env_kwargs)
    env_spec.max_episode_steps = kwargs.pop("max_episode_steps", env_spec.max_episode_steps)
    env_spec.kwargs.update(kwargs)
    return env_spec.to_json()
