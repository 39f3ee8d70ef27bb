"""d3rlpy's replay buffers: episodes of their own arrays (v2), and flat columns (v1)."""

from __future__ import annotations

import io

import h5py
import numpy as np
import pytest

from rlop.data import load_dataset
from rlop.data.formats.d3rlpy import is_d3rlpy
from rlop.data.formats.recognized import hdf5_neighbor
from rlop.types import InputError

EPISODES = ((4, True), (3, False), (1, False), (1, True))  # steps, and whether it terminated


def v2(path, **changes):
    """Write a file of d3rlpy 2; a change of None leaves an array out."""
    arrays = {"columns": [b"observations"], "num_episodes": len(EPISODES), "version": "2.1"}
    for number, (steps, terminated) in enumerate(EPISODES):
        rows = np.arange(steps, dtype=np.float32) + 10 * number
        arrays[f"observations_{number}"] = np.stack([rows, -rows], 1)
        arrays[f"actions_{number}"] = np.full((steps, 1), number % 2, np.int32)
        arrays[f"rewards_{number}"] = rows[:, None] / 10
        arrays[f"terminated_{number}"] = terminated

    with h5py.File(path, "w") as file:
        for key, value in (arrays | changes).items():
            if value is not None:
                file[key] = value


def v1(path, **changes):
    """Write a file of d3rlpy 1: three episodes of 3, 2 and 2 rows, the second terminated."""
    rows = np.arange(7)
    arrays = {
        "observations": rows[:, None].astype(np.float32),
        "actions": rows % 3,
        "rewards": rows.astype(np.float32),
        "terminals": (rows == 4).astype(np.float32),
        "episode_terminals": np.isin(rows, [2, 4, 6]).astype(np.float32),
        "discrete_action": True,
        "version": "1.0",
    }
    with h5py.File(path, "w") as file:
        for key, value in (arrays | changes).items():
            if value is not None:
                file[key] = value


@pytest.fixture
def path(tmp_path):
    return tmp_path / "buffer.h5"


def test_the_last_step_needs_a_successor_or_an_end(path):
    v2(path)
    data = load_dataset(f"d3rlpy:{path}")
    assert data.obs[:, 0].tolist() == [0, 1, 2, 3, 10, 11, 30]
    assert data.next_obs[~data.terminated, 0].tolist() == [1, 2, 3, 11, 12]
    assert data.reward.tolist() == np.float32([0, 0.1, 0.2, 0.3, 1, 1.1, 3]).tolist()
    assert data.terminated.nonzero()[0].tolist() == [3, 6]
    assert data.truncated.nonzero()[0].tolist() == [5]
    assert (data.spec.n_actions, data.n_episodes) == (2, 3)
    assert load_dataset(f"d3rlpy:{path}", n_actions=5).spec.n_actions == 5


def test_flat_columns_of_version_1(path):
    v1(path)
    data = load_dataset(f"d3rlpy:{path}")
    assert data.obs[:, 0].tolist() == [0, 1, 3, 4, 5]
    assert data.terminated.tolist() == [False, False, False, True, False]
    assert data.truncated.tolist() == [False, True, False, False, True]

    # Floats with the mark of discrete actions, and ends that only terminals tell.
    v1(path, actions=np.arange(7) % 3.0, episode_terminals=None)
    data = load_dataset(f"d3rlpy:{path}")
    assert (data.spec.n_actions, data.n_episodes, len(data)) == (3, 2, 6)


def test_images_keep_their_bytes_and_doubles_become_floats(path):
    v2(
        path,
        **{
            f"observations_{i}": np.ones((n, 1, 4, 4), np.uint8)
            for i, (n, _) in enumerate(EPISODES)
        },
    )
    assert load_dataset(f"d3rlpy:{path}").spec.obs_dtype == "uint8"
    v2(path, **{f"actions_{i}": np.full((n, 2), 0.5) for i, (n, _) in enumerate(EPISODES)})
    assert load_dataset(f"d3rlpy:{path}").spec.action_shape == (2,)


def test_a_file_is_recognized_by_its_names(path):
    for write, changes, expected in (
        (v2, {}, True),
        (v1, {}, True),
        (v1, {"episode_terminals": None}, False),
        (v1, {"timeouts": np.zeros(7)}, False),
    ):
        write(path, **changes)
        with h5py.File(path) as file:
            assert is_d3rlpy(file) is expected
            assert (hdf5_neighbor(file) is not None) is (expected and write is v2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards_1": None}, "no 'rewards_1'"),
        ({"num_episodes": 9}, "num_episodes: 9, but the file has 4"),
        ({"observations_2": None}, "num_episodes: 4, but the file has 2"),
        ({"actions_0": np.zeros((3, 1), int)}, "actions_0: 3 rows, expected 4"),
        ({"actions_1": np.zeros((3, 1))}, "episode 1: action: rows"),
        ({"observations_1": np.zeros((3, 5))}, r"episode 1: obs: rows \(5,\)"),
        ({"observations_1": np.full((3, 2), np.inf)}, "observations: 2 of 7 rows hold NaN or inf"),
        ({"terminated_0": 2}, "terminated_0: 2"),
        ({"terminated_0": [0, 1]}, r"terminated_0: shape \(2,\), expected a single number"),
        ({"rewards_0": 1.0}, r"rewards_0: shape \(\), expected an array"),
        ({"rewards_0": np.zeros((4, 2))}, r"episode 0: reward: shape \(4, 2\)"),
        ({"actions_0": ["a"] * 4}, "actions_0: dtype object, expected numbers"),
        ({"observations_0_0": np.zeros((4, 2))}, "several parts"),
        ({"observations_0": h5py.ExternalLink("/etc/other.h5", "x")}, "observations_0: a link"),
        ({"observations_0": h5py.SoftLink("/actions_0")}, "observations_0: a link"),
    ],
)
def test_what_is_refused(path, changes, message):
    v2(path, **changes)
    with pytest.raises(InputError, match=message) as error:
        load_dataset(f"d3rlpy:{path}")
    assert str(error.value).count(str(path)) == 1


def test_no_episodes_and_no_file(path):
    with pytest.raises(InputError, match="no such file"):
        load_dataset(f"d3rlpy:{path}")
    path.write_bytes(b"text")
    with pytest.raises(InputError, match="not an HDF5 file"):
        load_dataset(f"d3rlpy:{path}")
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="not d3rlpy's"):
        load_dataset(f"d3rlpy:{path}")


@pytest.mark.filterwarnings("ignore")
def test_d3rlpy_itself_draws_the_same_transitions(path):
    d3rlpy = pytest.importorskip("d3rlpy")
    episodes = []
    for number, (steps, terminated) in enumerate(((5, True), (4, False), (2, True))):
        rng = np.random.default_rng(number)
        episodes.append(
            d3rlpy.dataset.Episode(
                rng.normal(size=(steps, 3)).astype(np.float32),
                rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
                rng.normal(size=(steps, 1)).astype(np.float32),
                terminated,
            )
        )
    buffer = io.BytesIO()
    d3rlpy.dataset.dump(episodes, buffer)
    path.write_bytes(buffer.getvalue())

    data, row = load_dataset(f"d3rlpy:{path}"), 0
    pick = d3rlpy.dataset.BasicTransitionPicker()
    for episode in episodes:
        for index in range(episode.transition_count):
            theirs = pick(episode, index)
            np.testing.assert_array_equal(data.obs[row], theirs.observation)
            np.testing.assert_array_equal(data.action[row], theirs.action)
            assert data.reward[row] == theirs.reward[0]
            assert data.terminated[row] == bool(theirs.terminal)
            if not theirs.terminal:
                np.testing.assert_array_equal(data.next_obs[row], theirs.next_observation)
            row += 1
    assert row == len(data)


def test_options_of_a_recognized_file_are_passed_on_or_refused(path):
    v2(path)
    assert load_dataset(path, n_actions=9).spec.n_actions == 9
    with pytest.raises(InputError, match=r"read by read_d3rlpy: no option 'time_limit'"):
        load_dataset(path, time_limit=4)
    assert len(load_dataset(path, ends="flagged")) == len(load_dataset(path))
