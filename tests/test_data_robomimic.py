"""robomimic's demonstrations: parts of observations joined by name, dones as terminations."""

from __future__ import annotations

import json
import logging

import h5py
import numpy as np
import pytest

from rlop.data import load_dataset
from rlop.data.formats.recognized import hdf5_neighbor
from rlop.data.formats.robomimic import read_robomimic
from rlop.types import InputError

STEPS = {"demo_0": 3, "demo_2": 2, "demo_10": 4}  # in the order of their numbers
DONE = ("demo_0", "demo_10")


def demo(label, steps):
    """Arrays of one demonstration."""
    rows = np.arange(steps + 1.0) + 100 * int(label[5:])
    parts = {"object": np.stack([rows, rows + 0.5], 1), "eef": -rows[:, None]}
    arrays = {
        "actions": np.stack([rows[:-1] / 5000] * 2, 1),
        "rewards": rows[:-1] / 10,
        "dones": np.arange(steps) == (steps - 1 if label in DONE else -1),
    }
    for key, part in parts.items():
        arrays[f"obs/{key}"] = part[:-1]
        arrays[f"next_obs/{key}"] = part[1:]
    return arrays


def save(path, without=(), **changes):
    """Write a file; changes are arrays of demo_2."""
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for label, steps in STEPS.items():
            arrays = demo(label, steps) | (changes if label == "demo_2" else {})
            for key, array in arrays.items():
                if not key.startswith(tuple(without)) or not without:
                    file[f"data/{label}/{key}"] = array
        file["mask/valid"] = np.array([b"demo_10", b"demo_0"])
        file["mask/odd"] = np.array([b"demo_7"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "demos.hdf5"


def test_parts_are_joined_by_their_sorted_names(path, caplog):
    save(path)
    with caplog.at_level(logging.INFO, logger="rlop"):
        data = load_dataset(f"robomimic:{path}")
    assert "recorded in 'Lift'" in caplog.text
    assert data.spec.env_id is None
    assert data.spec.obs_keys == ("eef", "object")

    row = 0
    for label, steps in STEPS.items():
        for step in range(steps):
            value = step + 100 * int(label[5:])
            assert data.obs[row].tolist() == [-value, value, value + 0.5]
            assert data.next_obs[row].tolist() == [-value - 1, value + 1, value + 1.5]
            assert data.reward[row] == np.float32(value / 10)
            assert data.terminated[row] == (step == steps - 1 and label in DONE)
            assert data.truncated[row] == (step == steps - 1 and label not in DONE)
            row += 1
    assert row == len(data)


def test_without_next_observations_the_last_step_needs_an_end(path):
    save(path, without=("next_obs",))
    data = load_dataset(f"robomimic:{path}")
    assert data.episode_lengths().tolist() == [3, 1, 4]
    assert data.next_obs[3].tolist() == [-201, 201, 201.5]


def test_keys_and_masks_choose(path):
    save(path)
    data = load_dataset(f"robomimic:{path}", keys=["object"], mask="valid")
    assert data.obs[:, 0].tolist() == [0, 1, 2, 1000, 1001, 1002, 1003]
    assert data.spec.obs_keys == ("object",)
    assert load_dataset(f"robomimic:{path}", keys="eef").spec.obs_shape == (1,)


def test_several_dones_of_a_demonstration_all_terminate(path):
    save(path, dones=[1, 1])
    assert load_dataset(f"robomimic:{path}").terminated.nonzero()[0].tolist() == [2, 3, 4, 8]


def test_a_file_without_rewards_says_so(path, caplog):
    save(path, without=("rewards",))
    with caplog.at_level(logging.WARNING, logger="rlop"):
        assert not load_dataset(f"robomimic:{path}").reward.any()
    assert "no rewards" in caplog.text


def test_images_are_chosen_by_name(path):
    with h5py.File(path, "w") as file:
        for key, array in demo("demo_0", 3).items():
            file[f"data/demo_0/{key}"] = array
        for group in ("obs", "next_obs"):
            file[f"data/demo_0/{group}/image"] = np.ones((3, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match=r"images \(image\) beside other parts"):
        load_dataset(f"robomimic:{path}")
    spec = load_dataset(f"robomimic:{path}", keys=["image"]).spec
    assert (spec.obs_shape, spec.obs_dtype) == ((8, 8, 3), "uint8")


def test_a_file_is_recognized_by_its_names(path):
    save(path)
    with h5py.File(path) as file:
        assert hdf5_neighbor(file) is read_robomimic
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink("/etc/other.h5", "data")
    with h5py.File(path) as file:
        assert hdf5_neighbor(file) is None


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"actions": np.zeros((3, 2))}, {}, "data/demo_2/rewards: 2 rows, expected 3"),
        ({"actions": 1.0}, {}, "data/demo_2/actions: a single number"),
        ({"dones": [0, 2]}, {}, "data/demo_2/dones: 2 at row 1"),
        ({"obs/eef": np.zeros((1, 1))}, {}, "data/demo_2/obs/eef: 1 rows, expected 2"),
        ({"obs/eef": np.zeros((2, 5))}, {}, "demo_2: obs: rows"),
        ({"obs/eef": np.full((2, 1), np.nan)}, {}, "obs: 2 of 9 rows hold NaN"),
        ({"rewards": [b"a", b"b"]}, {}, "data/demo_2/rewards: dtype"),
        ({"obs/eef": h5py.SoftLink("/data")}, {}, "data/demo_2/obs/eef: a link"),
        ({}, {"keys": ["objct"]}, "no part 'objct', did you mean 'object'"),
        ({}, {"mask": "vald"}, "mask 'vald': unknown, did you mean 'valid'"),
        ({}, {"mask": "odd"}, "mask/odd: no demonstration 'demo_7'"),
    ],
)
def test_what_is_refused(path, changes, options, message):
    save(path, **changes)
    with pytest.raises(InputError, match=message) as error:
        load_dataset(f"robomimic:{path}", **options)
    assert str(error.value).count(str(path)) == 1


def test_no_demonstrations(path):
    with h5py.File(path, "w") as file:
        file.create_group("data")
    with pytest.raises(InputError, match="no demonstrations"):
        load_dataset(f"robomimic:{path}")
