"""Loading takes little more memory than the data: 1.2 times the size of the columns at the most."""

from __future__ import annotations

import gc
import tracemalloc

import h5py
import numpy as np
import pytest
from helpers.minari import BOX, UNIT, put

from rlop.data import load_dataset

ROWS, LENGTH, WIDTH, ACTIONS = 100_000, 2_000, 17, 6


def columns():
    """A hundred thousand steps under D4RL's names."""
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((ROWS + 1, WIDTH), np.float32)
    return {
        "observations": obs[:-1],
        "actions": rng.uniform(-1, 1, (ROWS, ACTIONS)).astype(np.float32),
        "rewards": rng.standard_normal(ROWS, np.float32),
        "next_observations": obs[1:],
        "terminals": np.zeros(ROWS, bool),
        "timeouts": np.arange(ROWS) % LENGTH == LENGTH - 1,
    }


def write_hdf5(folder):
    with h5py.File(folder / "x.hdf5", "w") as file:
        for key, column in columns().items():
            file[key] = column
    return str(folder / "x.hdf5")


def write_npz(folder):
    np.savez(folder / "x.npz", **columns())
    return str(folder / "x.npz")


def write_ogbench(folder):
    made = columns()
    path = folder / "cube-single-play-v0.npz"
    names = ("observations", "actions")
    np.savez(path, **{name: made[name] for name in names}, terminals=made["timeouts"])
    return f"ogbench:{path}"


def write_minari(folder):
    made = columns()
    episodes = []
    for first in range(0, ROWS, LENGTH):
        rows = slice(first, first + LENGTH)
        last = made["next_observations"][rows][-1:]
        episodes.append(
            {
                "observations": np.concatenate([made["observations"][rows], last]),
                "actions": made["actions"][rows],
                "rewards": made["rewards"][rows],
                "terminations": made["terminals"][rows],
                "truncations": made["timeouts"][rows],
            }
        )
    obs = {**BOX, "shape": [WIDTH]}
    action = {**UNIT, "shape": [ACTIONS], "low": [-1.0] * ACTIONS, "high": [1.0] * ACTIONS}
    put(folder, "x-v0", episodes, obs=obs, action=action, total_steps=ROWS)
    return "minari:x-v0"


@pytest.mark.parametrize(
    ("write", "options"),
    [
        (write_hdf5, {"next_obs": "stored"}),
        (write_hdf5, {"next_obs": "shifted"}),
        (write_npz, {}),
        (write_ogbench, {}),
        (write_minari, {}),
    ],
)
def test_loading_takes_little_more_than_the_data(write, options, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    source = write(tmp_path)
    load_dataset(source, **options)  # what is imported on the way is not counted
    gc.collect()

    tracemalloc.start()
    try:
        data = load_dataset(source, **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = sum(column.nbytes for column in data.columns().values())
    assert len(data) >= ROWS - ROWS // LENGTH
    assert peak < 1.2 * size
