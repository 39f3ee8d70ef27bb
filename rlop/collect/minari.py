"""Write a data set in Minari's layout."""

from __future__ import annotations

import json
import os
import re
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np

from rlop.data.dataset import Dataset
from rlop.data.formats.minari import MAIN_FILE, METADATA, PREFIX, root
from rlop.types import InputError, Spec


def write_minari(data: Dataset, name: str) -> Path:
    """A folder of `$MINARI_DATASETS_PATH` (or `~/.minari/datasets`) that minari and `minari:NAME` load.

    An episode's last observation is the next_obs of its last row, which in D4RL's transitions ("shifted") is not the
    episode's own where it terminated.

    Args:
        data: one-step rows.
        name: minari's id, `[namespace/]name-vN`.

    Returns:
        The folder.

    Raises:
        InputError: the id is malformed or taken, or the rows span several steps.
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
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        (temporary / "data").mkdir(parents=True)
        _write_episodes(temporary / "data" / MAIN_FILE, data)
        about = {**_about(data), "dataset_id": folder.relative_to(root()).as_posix()}
        with open(temporary / "data" / METADATA, "w") as file:
            json.dump(about, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write_episodes(path: Path, data: Dataset) -> None:
    with h5py.File(path, "w", track_order=True) as file:
        stops = data.episode_ends + 1
        for i, (start, stop) in enumerate(
            zip((stops - data.episode_lengths()).tolist(), stops.tolist())
        ):
            group = file.create_group(f"episode_{i}")
            group.attrs.update({"id": i, "total_steps": stop - start})
            group["observations"] = np.concatenate(
                [data.obs[start:stop], data.next_obs[stop - 1 : stop]]
            )
            for key, column in {
                "actions": data.action,
                "rewards": data.reward.astype(np.float64),
            }.items():
                group[key] = column[start:stop]
            group["terminations"], group["truncations"] = (
                data.terminated[start:stop],
                data.truncated[start:stop],
            )
    with open(path, "rb") as written:
        os.fsync(written.fileno())


def _about(data: Dataset) -> dict[str, Any]:
    """What minari reads from the metadata."""
    spec, counts = data.spec, {"total_episodes": data.n_episodes, "total_steps": len(data)}
    inside = spec.n_actions is None and np.abs(data.action).max() <= 1
    action = _box(spec.action_shape, "float32", 1.0 if inside else np.inf)
    if spec.n_actions is not None:
        action = {"type": "Discrete", "dtype": "int64", "start": 0, "n": spec.n_actions}
    top = {"uint8": 255, "bool": 1}.get(spec.obs_dtype)
    obs = _box(
        spec.obs_shape, spec.obs_dtype, np.inf if top is None else top, None if top is None else 0
    )
    spaces = {"observation_space": json.dumps(obs), "action_space": json.dumps(action)}
    about = {
        **counts,
        **spaces,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "minari_version": "0.5.3",
    }
    return about | ({"env_spec": text} if (text := _env_spec(spec)) else {})


def _box(
    shape: tuple[int, ...], dtype: str, high: float, low: float | None = None
) -> dict[str, Any]:
    ends = {
        "low": np.full(shape, -high if low is None else low).tolist(),
        "high": np.full(shape, high).tolist(),
    }
    return {"type": "Box", "dtype": dtype, "shape": list(shape), **ends}


def _env_spec(spec: Spec) -> str | None:
    """Gymnasium's description of the environment; None where only this library can make it."""
    if spec.env_id not in gymnasium.registry or "layout" in spec.env_kwargs:
        return None
    made = deepcopy(gymnasium.spec(spec.env_id))
    kwargs = dict(spec.env_kwargs)
    made.max_episode_steps = kwargs.pop("max_episode_steps", made.max_episode_steps)
    made.kwargs.update(kwargs)
    return made.to_json()
