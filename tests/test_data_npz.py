"""NumPy archives: our own columns, and the expert files of Stable Baselines."""

from __future__ import annotations

import numpy as np
import pytest

from rlop.data import load_dataset, read_npz
from rlop.types import InputError


def ours(rows=5):
    return {
        "obs": np.arange(2.0 * rows).reshape(rows, 2),
        "action": np.arange(rows) % 2,
        "reward": np.ones(rows),
        "terminated": np.arange(rows) == 2,
        "truncated": np.zeros(rows, bool),
    }


def expert(lengths, **changes):
    rows = sum(lengths)
    starts = np.zeros(rows, bool)
    starts[np.cumsum([0, *lengths[:-1]])] = True
    return {
        "obs": np.arange(rows, dtype=np.float32)[:, None],
        "actions": (np.arange(rows) % 2)[:, None],
        "rewards": np.ones(rows),
        "episode_starts": starts,
        "episode_returns": np.array(lengths, np.float64),
        **changes,
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.npz"


def test_our_archive(path):
    np.savez(path, **ours(), next_obs=np.zeros((5, 2)), n_actions=4, env_id="E-v0")
    data = load_dataset(path)
    assert (len(data), data.spec.n_actions, data.spec.env_id) == (5, 4, "E-v0")
    assert not data.next_obs.any()

    np.savez(path, **ours())
    assert len(load_dataset(path, n_actions=2)) == 4


def test_expert_archive_with_a_time_limit(path):
    np.savez(path, **expert([4, 2, 4]))
    data = load_dataset(path, time_limit=4)
    # Rows 0-3 are a time-out, so row 3 has no successor; 4 5 terminated; 6-9 a time-out again.
    assert data.obs[:, 0].tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert data.terminated.nonzero()[0].tolist() == [4]
    assert data.truncated.nonzero()[0].tolist() == [2, 7]
    not_terminated = ~data.terminated
    assert data.next_obs[not_terminated, 0].tolist() == [1, 2, 3, 5, 7, 8, 9]
    assert data.spec.n_actions == 2


def test_expert_archive_without_a_time_limit(path):
    np.savez(path, **expert([4, 2, 4]))
    data = load_dataset(path)
    assert not data.terminated.any()
    assert data.obs[:, 0].tolist() == [0, 1, 2, 4, 6, 7, 8]


def test_the_environment_knows_its_time_limit(path):
    np.savez(path, **expert([500, 300]))
    data = load_dataset(path, env_id="CartPole-v1")
    assert data.terminated.nonzero()[0].tolist() == [798]
    assert data.truncated.nonzero()[0].tolist() == [498]


def test_object_arrays_are_never_read(path):
    trap = np.array([{"a": 1}, None], dtype=object)
    # One that nothing needs is left alone, one that is needed is an error.
    np.savez(path, **ours(), other=trap)
    assert len(read_npz(path)) == 4

    np.savez(path, **{**ours(), "reward": trap})
    message = r"x\.npz: reward: an object array, which would need unpickling"
    with pytest.raises(InputError, match=message):
        read_npz(path)


def misnamed():
    arrays = ours()
    arrays["rewarding"] = arrays.pop("reward")
    return arrays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (misnamed(), r"x\.npz: no 'rewards', for reward, did you mean 'rewarding'"),
        (expert([3], rewards=np.full(3, np.nan)), r"x\.npz: rewards: 3 of 3 rows"),
    ],
)
def test_wrong_contents_are_named(path, arrays, message):
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message):
        load_dataset(path)


def test_wrong_files_are_named(path):
    with pytest.raises(InputError, match=r"x\.npz: no such file"):
        load_dataset(path)
    path.write_text("no")
    with pytest.raises(InputError, match=r"x\.npz: not an archive"):
        load_dataset(path)


def test_real_expert_archives(shared_data):
    folder = shared_data / "stable-baselines"
    data = load_dataset(folder / "expert_cartpole.npz", env_id="CartPole-v1")
    assert (data.spec.obs_shape, data.spec.n_actions) == ((4,), 2)
    # 99 of 100 episodes reach the limit of 500 steps and lose their last row; one falls after 27.
    assert len(data) == 49_527 - 99
    assert data.terminated.sum() == 1
    assert sorted(set(data.episode_lengths())) == [27, 499]
    assert abs(data.obs[data.terminated][0, 2]) > 0.19  # the pole is about to pass 12 degrees

    pendulum = load_dataset(folder / "expert_pendulum.npz", time_limit=200)
    assert (pendulum.spec.n_actions, pendulum.spec.action_shape) == (None, (1,))
    assert len(pendulum) == 20_000 - 100
