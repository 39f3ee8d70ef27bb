"""Minari's data sets in a temporary folder, written by hand."""

from __future__ import annotations

import json

import h5py
import numpy as np

from rlop.data import load_dataset

BOX = {"type": "Box", "dtype": "float64", "shape": [3], "low": [-np.inf] * 3, "high": [np.inf] * 3}
UNIT = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-1.0] * 2, "high": [1.0] * 2}
GOAL = {
    "type": "Dict",
    "subspaces": {
        "observation": BOX,
        "desired_goal": {**BOX, "shape": [1]},
        "achieved_goal": {
            "type": "Dict",
            "subspaces": {"y": {**BOX, "shape": [2, 1]}, "x": {**BOX, "shape": []}},
        },
        "gear": {"type": "Discrete", "start": 1, "n": 3},
        "words": {"type": "Text"},
    },
}
STATES = {"type": "Discrete", "start": 0, "n": 3}


def episode(steps, first=0, end="terminations", **changes):
    """Observations count up from `first`, so that rows and episodes can be told apart."""
    made = {
        "observations": first + np.arange(3.0 * (steps + 1)).reshape(-1, 3),
        "actions": np.linspace(-1, 1, 2 * steps, dtype=np.float32).reshape(-1, 2),
        "rewards": first + np.arange(float(steps)),
        "terminations": np.zeros(steps, bool),
        "truncations": np.zeros(steps, bool),
    }
    if end is not None:
        made[end][-1] = True
    return {**made, **changes}


def put(root, name, episodes, obs=BOX, action=UNIT, **metadata):
    folder = root / name / "data"
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        for i, columns in enumerate(episodes):
            for key, value in columns.items():
                if value is not None:
                    file[f"episode_{i}/{key}"] = value

    about = {"data_format": "hdf5", **metadata}
    for key, space in (("observation_space", obs), ("action_space", action)):
        if space is not None:
            about[key] = json.dumps(space)
    (folder / "metadata.json").write_text(json.dumps(about))


def put_one(root, name, obs=BOX, action=UNIT, **changes):
    """Write a data set of one episode of three steps and read it."""
    put(root, name, [episode(3, **changes)], obs, action)
    return load_dataset(f"minari:{name}")
