"""HDF5 files in D4RL's layout, read and written."""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest
from helpers.data import PROPERTY, changed, d4rl_arrays, same_columns
from hypothesis import given
from hypothesis import strategies as st

from rlop.data import Dataset, load_dataset, read_hdf5, write_hdf5
from rlop.types import InputError


def twelve(seed=0, **changes):
    """Twelve rows with discrete actions, a terminal row, a time-out and stored successors."""
    rng = np.random.default_rng(100 + seed)
    made = d4rl_arrays(12, [3], [7], seed)
    made["actions"] = rng.integers(4, size=12)
    made["next_observations"] = rng.standard_normal((12, 3)).astype(np.float32)
    return changed(made, changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.hdf5"


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "x.hdf5"
    made = {**twelve(), "infos/state": np.arange(12)}
    write_hdf5(path, made, {"env_id": "E-v0", "env_kwargs": {"size": 3}, "n_actions": 6})
    data = load_dataset(path, infos=True)

    assert np.array_equal(data.obs, made["observations"])
    assert np.array_equal(data.action, made["actions"])
    assert np.array_equal(data.next_obs, made["next_observations"])
    assert data.terminated.nonzero()[0].tolist() == [3]
    assert data.truncated.nonzero()[0].tolist() == [7, 11]
    assert data.infos["state"].tolist() == list(range(12))

    assert data.name == "x.hdf5"
    assert data.spec.n_actions == 6
    assert (data.spec.env_id, data.spec.env_kwargs) == ("E-v0", {"size": 3})
    other = load_dataset(path, env_id="F-v0").spec
    assert (other.env_id, other.env_kwargs) == ("F-v0", {})
    assert [file.name for file in path.parent.iterdir()] == ["x.hdf5"]


ROWS = st.lists(st.integers(0, 29), max_size=5)


@PROPERTY
@given(st.integers(3, 30), ROWS, ROWS)
def test_shifted_rows_keep_all_that_need_no_successor(tmp_path, rows, terminals, timeouts):
    path = tmp_path / "x.hdf5"
    stored = np.zeros((rows, 3), np.float32)
    made = d4rl_arrays(rows, terminals, timeouts, next_observations=stored)
    write_hdf5(path, made, {}, overwrite=True)

    terminated = made["terminals"].astype(bool)
    dropped = made["timeouts"].astype(bool) & ~terminated
    dropped[-1] |= not terminated[-1]
    kept = np.flatnonzero(~dropped)
    if not len(kept):
        with pytest.raises(InputError, match="no row has a known successor"):
            read_hdf5(path, next_obs="shifted")
        return

    shifted = read_hdf5(path, next_obs="shifted")
    # Without stored successors "auto" is "shifted".
    del made["next_observations"]
    write_hdf5(path, made, {}, overwrite=True)
    following = np.minimum(kept + 1, rows - 1)
    for data in (shifted, read_hdf5(path)):
        assert np.array_equal(data.obs, made["observations"][kept])
        assert np.array_equal(data.next_obs, made["observations"][following])
        assert np.array_equal(data.reward, made["rewards"][kept].astype(np.float32))
        assert np.array_equal(data.terminated, terminated[kept])


def test_a_time_limit_marks_the_last_of_so_many_steps(path):
    made = d4rl_arrays(11, [3])
    write_hdf5(path, made, {})
    assert len(read_hdf5(path)) == 10

    # steps 0 1 2 3(terminal) | 4 5 6 | 7 8 9 | 10: a time-out is the third since the terminal row
    data = read_hdf5(path, time_limit=3)
    kept = np.array([0, 1, 3, 4, 5, 7, 8])
    assert np.array_equal(data.obs, made["observations"][kept])
    assert np.array_equal(data.next_obs, made["observations"][kept + 1])
    assert data.truncated.tolist() == [False, True, False, False, True, False, True]


def test_columns_of_shape_n_1_and_float64(path):
    made = twelve(actions=np.random.default_rng(0).standard_normal((12, 2)))
    expected = made["observations"]
    made["observations"] = expected.astype(np.float64)
    for key in ("rewards", "terminals", "timeouts"):
        made[key] = made[key].reshape(-1, 1).astype(np.float64)
    write_hdf5(path, made, {})

    data = read_hdf5(path)
    assert np.array_equal(data.obs, expected)
    assert data.reward.shape == (12,)
    assert data.obs.dtype == data.action.dtype == data.reward.dtype == np.float32
    assert data.spec.action_shape == (2,)

    # Flags of different shapes are still the same flags.
    made["timeouts"] = made["timeouts"][:, 0]
    write_hdf5(path, made, {}, overwrite=True)
    assert len(read_hdf5(path, next_obs="shifted")) == 10


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_bytes_stay(path, dtype):
    images = np.random.default_rng(0).integers(2, size=(12, 4, 4)).astype(dtype)
    write_hdf5(path, twelve(observations=images, next_observations=images), {})
    data = read_hdf5(path)
    assert data.obs.dtype == dtype
    assert np.array_equal(data.next_obs, images)


def test_scalars_strings_and_groups_in_a_file_do_no_harm(path):
    write_hdf5(path, twelve(), {"note": "text", "lr": 0.1})
    with h5py.File(path, "a") as file:
        file["metadata/algorithm"] = np.bytes_(b"SAC")
        file["infos/goal"] = np.zeros((12, 2))
        file["infos/deep/er"] = np.zeros(3)
    assert list(read_hdf5(path, infos=True).infos) == ["goal"]


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.hdf5: no such file"):
        load_dataset(tmp_path / "absent.hdf5")
    (tmp_path / "text.hdf5").write_text("no")
    with pytest.raises(InputError, match=r"text\.hdf5: not an HDF5 file"):
        load_dataset(tmp_path / "text.hdf5")


def test_a_file_cut_short_is_one_line(path):
    write_hdf5(path, d4rl_arrays(5000), {})
    os.truncate(path, 20_000)
    with pytest.raises(InputError, match=r"x\.hdf5: damaged or cut short \(") as error:
        load_dataset(path)
    assert "\n" not in str(error.value)


NINE = np.zeros(9)
THREES = np.full(12, 3)
SHIFTED = {"next_obs": "shifted"}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"reward": np.zeros(12)},
            {},
            r"'rewards' and 'reward' both mean",
        ),
        ({"rewards": NINE}, {}, r"x\.hdf5: rewards: 9 rows, expected 12$"),
        ({"rewards": np.array(1.0)}, {}, r"x\.hdf5: rewards: 1 rows, expected 12$"),
        ({"rewards": np.full(12, np.nan)}, {}, r"x\.hdf5: rewards: 12 of 12 rows hold NaN"),
        ({"terminals": THREES}, {}, r"x\.hdf5: terminals: 3 at row 0"),
        ({"terminals": THREES}, SHIFTED, r"x\.hdf5: terminals: 3 at row 0"),
        ({"terminals": NINE}, {}, r"x\.hdf5: terminals: 9 rows"),
        ({"timeouts": NINE}, {}, r"x\.hdf5: timeouts: 9 rows"),
        ({"timeouts": NINE}, SHIFTED, r"x\.hdf5: timeouts: 9 rows"),
        (
            {"actions": np.full(12, 4)},
            {"n_actions": 4},
            r"x\.hdf5: actions: 4 at row 0, expected 0 <= action < 4",
        ),
        ({"observations": np.zeros(12)}, {}, r"x\.hdf5: observations: shape \(12,\)"),
        ({"next_observations": None}, {"next_obs": "stored"}, r"no 'next_observations'"),
        ({}, {"time_limit": 0}, r"time_limit = 0: expected a number >= 1"),
        ({}, {"next_obs": "both"}, r"next_obs = 'both': expected auto, stored or shifted"),
        ({}, {"next_ob": "auto"}, r"no option 'next_ob', did you mean 'next_obs'"),
    ],
)
def test_wrong_contents_and_options_are_named(path, change, options, message):
    write_hdf5(path, twelve(**change), {})
    with pytest.raises(InputError, match=message):
        load_dataset(path, **options)


@pytest.mark.parametrize("mode", ["stored", "shifted"])
def test_an_empty_file_is_named(path, mode):
    empty = {key: value[:0] for key, value in twelve().items()}
    write_hdf5(path, empty, {})
    with pytest.raises(InputError, match="observations: 0 rows"):
        read_hdf5(path, next_obs=mode)


# ---- writing


def test_writing_does_not_overwrite_unless_asked_to(path):
    write_hdf5(path, twelve(seed=1), {})
    with pytest.raises(InputError, match=r"x\.hdf5: exists already"):
        write_hdf5(path, twelve(seed=2), {})
    assert np.array_equal(read_hdf5(path).obs, twelve(seed=1)["observations"])

    write_hdf5(path, twelve(seed=2), {}, overwrite=True)
    assert np.array_equal(read_hdf5(path).obs, twelve(seed=2)["observations"])


def test_a_write_that_fails_leaves_the_old_file_and_no_other(path):
    write_hdf5(path, twelve(seed=1), {})
    with pytest.raises(TypeError):
        write_hdf5(path, {**twelve(seed=2), "bad": np.array([object()])}, {}, overwrite=True)
    assert np.array_equal(read_hdf5(path).obs, twelve(seed=1)["observations"])
    assert list(path.parent.iterdir()) == [path]


def test_metadata_are_attributes(path):
    write_hdf5(path, {"a/b": np.ones(2)}, {"s": "t", "i": 3, "f": 0.5, "d": {"k": [1]}})
    with h5py.File(path) as file:
        assert (file.attrs["s"], file.attrs["i"], file.attrs["f"]) == ("t", 3, 0.5)
        assert json.loads(file.attrs["d"]) == {"k": [1]}
        assert file["a/b"][()].tolist() == [1, 1]


# ---- files of other people


def test_real_d4rl_files(shared_data):
    files = sorted((shared_data / "d4rl_like").glob("*.hdf5"))
    assert len(files) == 9
    for path in files:
        with h5py.File(path) as file:
            arrays = {key: item[()] for key, item in file.items() if isinstance(item, h5py.Dataset)}

        data = load_dataset(path, infos=True)
        assert len(data) == len(data.infos["qpos"]) == 5000
        assert data.spec.action_shape == data.action.shape[1:]
        assert np.array_equal(data.terminated, arrays["terminals"])
        # Within an episode the stored next observation is the next row's.
        inside = np.flatnonzero(~data.end)
        assert np.array_equal(data.next_obs[inside], data.obs[inside + 1])

        shifted = load_dataset(path, next_obs="shifted")
        columns = ("observations", "actions", "rewards", "terminals", "timeouts")
        same_columns(shifted, Dataset.from_arrays(*(arrays[key] for key in columns)))


def test_real_returns(shared_data):
    data = load_dataset(shared_data / "d4rl_like" / "halfcheetah_medium-like.hdf5")
    assert data.episode_returns().mean() == pytest.approx(5746, rel=0.01)
