"""robomimic's demonstrations and imitation's trajectories, against arrays made by hand."""

import json

import h5py
import numpy as np
import pytest

from rlop.data import load_dataset
from rlop.types import InputError

STEPS = (3, 4)


def demo(seed, steps):
    """Arrays of one demonstration that is done at its last step if its seed is even."""
    rng = np.random.default_rng(seed)
    hand, goal = rng.standard_normal((steps + 1, 2)), rng.standard_normal((steps + 1, 3))
    return {
        "actions": rng.uniform(-1, 1, (steps, 2)),
        "rewards": rng.standard_normal(steps),
        "dones": (np.arange(steps) == steps - 1) & (seed % 2 == 0),
        "obs/hand": hand[:-1],
        "obs/goal": goal[:-1],
        "next_obs/hand": hand[1:],
        "next_obs/goal": goal[1:],
    }


@pytest.fixture
def demos():
    return [demo(seed, steps) for seed, steps in enumerate(STEPS)]


@pytest.fixture
def write(tmp_path):
    """Write demonstrations, without some arrays, and return the path."""

    def written(demos, without=(), attributes=None):
        path = tmp_path / "low_dim.hdf5"
        with h5py.File(path, "w") as file:
            for number, arrays in enumerate(demos):
                for name, array in arrays.items():
                    if not name.startswith(tuple(without) or "-"):
                        file[f"data/demo_{number}/{name}"] = array
            file["data"].attrs.update(attributes or {})
            file["mask/valid"] = [b"demo_1"]
        return path

    return written


def stacked(demos, *names):
    """Join arrays of all demonstrations, side by side."""
    parts = [np.concatenate([made[name] for made in demos]) for name in names]
    return np.concatenate(parts, axis=1).astype(np.float32)


def test_demonstrations_are_read_with_their_parts_in_the_order_of_their_names(demos, write):
    path = write(demos, attributes={"env_args": json.dumps({"env_name": "Lift"})})
    data = load_dataset(path)  # recognized
    assert np.array_equal(data.obs, stacked(demos, "obs/goal", "obs/hand"))
    assert np.array_equal(data.next_obs, stacked(demos, "next_obs/goal", "next_obs/hand"))
    assert np.array_equal(data.action, stacked(demos, "actions"))
    assert data.terminated.tolist() == [False, False, True, False, False, False, False]
    assert data.truncated.tolist() == [False] * 6 + [True]
    assert data.spec.obs_keys == ("goal", "hand")
    assert data.spec.env_id is None


def test_parts_and_demonstrations_are_chosen_by_name(demos, write):
    data = load_dataset(f"robomimic:{write(demos)}", keys=["hand"], mask="valid")
    assert np.array_equal(data.obs, demos[1]["obs/hand"].astype(np.float32))


def test_without_successors_the_last_step_of_one_that_is_not_done_is_dropped(demos, write):
    data = load_dataset(write(demos, without=["next_obs"]))
    assert len(data) == 3 + 3
    assert np.array_equal(data.next_obs[3:], stacked(demos[1:], "obs/goal", "obs/hand")[1:])


def test_missing_rewards_are_zeros_and_said(demos, write, caplog):
    data = load_dataset(write(demos, without=["rewards"]))
    assert not data.reward.any()
    assert "no rewards in the file" in caplog.text


@pytest.mark.parametrize(
    ("without", "options", "message"),
    [
        (["actions"], {}, "no 'actions'"),
        (["obs"], {}, "no 'obs'"),
        (["dones"], {}, "no 'dones'"),
        ([], {"keys": ["hands"]}, "no part 'hands', did you mean 'hand'"),
        ([], {"mask": "train"}, "mask 'train': unknown"),
    ],
)
def test_what_is_missing_is_named(demos, write, without, options, message):
    with pytest.raises(InputError, match=rf"low_dim\.hdf5: .*{message}"):
        load_dataset(f"robomimic:{write(demos, without)}", **options)


# ---- imitation


def imitation(**changes):
    """Two trajectories of three and two steps, the first one terminal."""
    made = {
        "obs": np.arange(14.0).reshape(7, 2),
        "acts": np.array([0, 1, 0, 1, 1]),
        "rews": np.arange(5.0),
        "indices": np.array([3]),
        "terminal": np.array([True, False]),
        "infos": np.array([{}] * 5, dtype=object),
        **changes,
    }
    return {name: array for name, array in made.items() if array is not None}


def test_trajectories_of_imitation_have_their_last_observation(tmp_path):
    path = tmp_path / "rollouts.npz"
    np.savez(path, **imitation())
    for source in (path, f"imitation:{path}"):
        data = load_dataset(source)
        assert data.obs[:, 0].tolist() == [0, 2, 4, 8, 10]
        assert data.next_obs[:, 0].tolist() == [2, 4, 6, 10, 12]
        assert data.action.tolist() == [0, 1, 0, 1, 1]
        assert data.reward.tolist() == [0, 1, 2, 3, 4]
        assert data.terminated.tolist() == [False, False, True, False, False]
        assert data.truncated.tolist() == [False, False, False, False, True]

    data = load_dataset(f"imitation:{path}", time_limit=3)
    assert data.truncated.tolist() == [False, False, True, False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indices": np.array([3, 2])}, "indices: expected increasing rows"),
        ({"terminal": np.array([True])}, "terminal: 1 rows, expected 2"),
        ({"obs": np.zeros((6, 2))}, r"obs: shape \(6, 2\), expected 7 rows"),
        ({"rews": np.zeros(4)}, "4 rows, expected 5|rews"),
        ({"acts": np.array([0.5, np.nan, 0, 0, 0])}, "acts: 1 of 5 rows hold NaN"),
    ],
)
def test_wrong_trajectories_of_imitation_are_named(tmp_path, changes, message):
    path = tmp_path / "rollouts.npz"
    np.savez(path, **imitation(**changes))
    with pytest.raises(InputError, match=rf"rollouts\.npz: .*(?:{message})"):
        load_dataset(f"imitation:{path}")


def test_pickles_are_refused_with_the_lines_that_convert_them(tmp_path):
    path = tmp_path / "buffer.pkl"
    path.write_bytes(b"no matter what")
    with pytest.raises(InputError, match=r"buffer\.pkl: a pickle.*never read.*load_from_pkl.*npz"):
        load_dataset(path)
