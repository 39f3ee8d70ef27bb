"""Three hundred files in D4RL's layout, beside an independent reading of `qlearning_dataset`."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from rlop.data import load_dataset
from rlop.data.scores import source_of
from rlop.types import InputError

NAMES = ("pen-human-v0", "door-human-v0", "hopper-medium-v0")  # 100, 200 and 1000 steps at most
FILES = 300
AT_ONCE = 30  # files of one test


def qlearning_dataset(path, limit, terminate_on_end):
    """Read a file as D4RL 1.1 does, row by row; `limit` counts where no time-out is marked."""
    with h5py.File(path) as file:
        dataset = {key: file[key][()] for key in file}
    obs, next_obs, actions, rewards, dones = [], [], [], [], []

    episode_step = 0
    for i in range(dataset["rewards"].shape[0] - 1):
        done = bool(dataset["terminals"][i])
        if "timeouts" in dataset:
            final_timestep = bool(dataset["timeouts"][i])
        else:
            final_timestep = episode_step == limit - 1
        if not terminate_on_end and final_timestep:
            episode_step = 0
            continue
        if done or final_timestep:
            episode_step = 0

        obs.append(dataset["observations"][i].astype(np.float32))
        next_obs.append(dataset["observations"][i + 1].astype(np.float32))
        actions.append(dataset["actions"][i].astype(np.float32))
        rewards.append(dataset["rewards"][i].astype(np.float32))
        dones.append(done)
        episode_step += 1
    return {
        "obs": np.array(obs),
        "next_obs": np.array(next_obs),
        "action": np.array(actions),
        "reward": np.array(rewards).reshape(-1),
        "terminated": np.array(dones),
    }


def write_any(path, rng):
    """Write a file of random length, shapes, dtypes, flags and storage."""
    rows = int(rng.choice([rng.integers(2, 8), rng.integers(8, 120), rng.integers(100, 320)]))
    column = (rows, 1) if rng.random() < 0.2 else (rows,)
    shape = tuple(rng.integers(1, 4, rng.choice([1, 1, 1, 3])))
    n_dims = int(rng.integers(1, 5))

    observations = rng.normal(0, 100, (rows, *shape))
    kind = rng.choice(["float32", "float64", "float16", "uint8", "int64"])
    if kind in ("uint8", "int64"):
        observations = rng.integers(0, 256, (rows, *shape))
    actions = rng.uniform(-1, 1, (rows, n_dims)).astype(rng.choice(["float32", "float64"]))
    if rng.random() < 0.2:
        actions = rng.integers(0, 4, column).astype(rng.choice(["int32", "int64", "uint8"]))

    def flag(share):
        kind = rng.choice(["bool", "uint8", "float32"])
        return (rng.random(column) < share).astype(kind)

    arrays = {
        "observations": observations.astype(kind),
        "actions": actions,
        "rewards": rng.normal(0, 10, column).astype(rng.choice(["float32", "float64"])),
        "terminals": flag(rng.choice([0, 0.02, 0.3])),
    }
    if rng.random() < 0.6:
        arrays["timeouts"] = flag(rng.choice([0, 0.02, 0.3]))
    if rng.random() < 0.5:
        arrays["next_observations"] = rng.normal(size=(rows, *shape)).astype("float32")

    storage = [{}, {"chunks": True}, {"compression": "gzip"}][rng.integers(3)]
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for key in rng.permutation(list(arrays)):
            file.create_dataset(key, data=arrays[key], **storage)


@pytest.mark.parametrize("first", range(0, FILES, AT_ONCE))
def test_a_file_is_read_as_d4rl_reads_it(first, tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    read = 0
    for number in range(first, first + AT_ONCE):
        rng = np.random.default_rng(number)
        name, keeps = NAMES[number % len(NAMES)], bool(rng.integers(2))
        about = source_of(name)
        path = tmp_path / about.url.rpartition("/")[2]
        write_any(path, rng)

        expected = qlearning_dataset(path, about.limit, keeps)
        if not len(expected["reward"]):
            with pytest.raises(InputError, match=r"no row has a known successor|0 rows"):
                load_dataset(f"d4rl:{name}", terminate_on_end=keeps)
            continue
        data = load_dataset(f"d4rl:{name}", terminate_on_end=keeps)
        for key, values in expected.items():
            found = getattr(data, key)
            values = values[:, 0] if found.ndim == 1 and values.ndim == 2 else values
            assert found.shape == values.shape, (number, key)
            assert np.array_equal(found.astype(values.dtype), values), (number, key)
        read += 1
    assert read > AT_ONCE / 2
