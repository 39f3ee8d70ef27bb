from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlop.data import Dataset, load_dataset, read_hdf5, read_npz, write_hdf5
from rlop.envs.make import make_env, make_vec_env, time_limit
from rlop.types import InputError

SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def d4rl_arrays(rows=12, seed=0, ends=((3, "terminals"), (7, "timeouts"))):
    rng = np.random.default_rng(seed)
    arrays = {
        "observations": rng.standard_normal((rows, 3)).astype(np.float32),
        "actions": rng.integers(4, size=rows),
        "rewards": rng.standard_normal(rows).astype(np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.zeros(rows, bool),
        "next_observations": rng.standard_normal((rows, 3)).astype(np.float32),
    }
    for row, key in ends:
        arrays[key][row] = True
    return arrays


def d4rl_loop(arrays):
    """What D4RL's qlearning_dataset returns, row by row."""
    got = {key: [] for key in ("obs", "action", "reward", "next_obs", "terminated")}
    for i in range(len(arrays["rewards"]) - 1):
        if arrays["timeouts"][i]:
            continue
        got["obs"].append(arrays["observations"][i])
        got["action"].append(arrays["actions"][i])
        got["reward"].append(arrays["rewards"][i])
        got["next_obs"].append(arrays["observations"][i + 1])
        got["terminated"].append(bool(arrays["terminals"][i]))
    return got


# ---- HDF5


def test_round_trip(tmp_path):
    arrays = {**d4rl_arrays(), "infos/state": np.arange(12)}
    write_hdf5(
        tmp_path / "deep" / "x.hdf5",
        arrays,
        {"env_id": "E-v0", "env_kwargs": {"size": 3}, "n_actions": 6},
    )
    data = load_dataset(tmp_path / "deep" / "x.hdf5", infos=True)
    assert len(data) == 12
    for ours, theirs in (
        ("obs", "observations"),
        ("action", "actions"),
        ("next_obs", "next_observations"),
    ):
        assert np.array_equal(getattr(data, ours), arrays[theirs])
    assert data.terminated.nonzero()[0].tolist() == [3]
    assert data.truncated.nonzero()[0].tolist() == [7, 11]
    assert data.spec.n_actions == 6
    assert (data.spec.env_id, data.spec.env_kwargs) == ("E-v0", {"size": 3})
    assert data.infos["state"].tolist() == list(range(12))
    assert data.name == "x.hdf5"
    assert load_dataset(tmp_path / "deep" / "x.hdf5", env_id="F-v0").spec.env_id == "F-v0"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.hdf5"]


@SETTINGS
@given(
    st.integers(3, 30),
    st.lists(st.tuples(st.integers(0, 29), st.sampled_from(["terminals", "timeouts"])), max_size=9),
)
def test_shifted_is_what_d4rl_returns(tmp_path, rows, ends):
    arrays = d4rl_arrays(rows, ends=[(row % rows, key) for row, key in ends])
    expected = d4rl_loop(arrays)
    write_hdf5(tmp_path / "x.hdf5", arrays, {}, overwrite=True)
    if not expected["obs"]:
        with pytest.raises(InputError, match="no row has a known successor"):
            read_hdf5(tmp_path / "x.hdf5", next_obs="shifted")
        return
    data = read_hdf5(tmp_path / "x.hdf5", next_obs="shifted")
    for key, column in expected.items():
        assert np.array_equal(getattr(data, key), np.array(column)), key
    del arrays["next_observations"]
    write_hdf5(tmp_path / "x.hdf5", arrays, {}, overwrite=True)
    assert np.array_equal(read_hdf5(tmp_path / "x.hdf5").next_obs, data.next_obs)


def test_no_timeouts(tmp_path):
    arrays = d4rl_arrays(11, ends=[(3, "terminals")])
    del arrays["timeouts"], arrays["next_observations"]
    write_hdf5(tmp_path / "x.hdf5", arrays, {})
    assert len(read_hdf5(tmp_path / "x.hdf5")) == 10
    # steps 0 1 2 3(terminal) | 4 5 6 | 7 8 9 | 10: the third of each is a time-out, counted from the terminal
    data = read_hdf5(tmp_path / "x.hdf5", time_limit=3)
    kept = [0, 1, 3, 4, 5, 7, 8]
    assert np.array_equal(data.obs, arrays["observations"][kept])
    assert np.array_equal(data.next_obs, arrays["observations"][np.array(kept) + 1])
    assert data.truncated.tolist() == [False, True, False, False, True, False, True]


def test_columns_of_shape_n_1_and_float64(tmp_path):
    arrays = d4rl_arrays()
    expected = arrays["observations"].copy()
    for key in ("rewards", "terminals", "timeouts"):
        arrays[key] = arrays[key].reshape(-1, 1).astype(np.float64)
    arrays["observations"] = arrays["observations"].astype(np.float64)
    arrays["actions"] = np.random.default_rng(0).standard_normal((12, 2))
    write_hdf5(tmp_path / "x.h5", arrays, {})
    data = load_dataset(str(tmp_path / "x.h5"))
    assert np.array_equal(data.obs, expected)
    assert data.reward.shape == (12,)
    assert data.obs.dtype == data.action.dtype == data.reward.dtype == np.float32
    assert data.spec.action_shape == (2,)
    arrays["timeouts"] = arrays["timeouts"][:, 0]
    write_hdf5(tmp_path / "x.h5", arrays, {}, overwrite=True)
    assert len(read_hdf5(tmp_path / "x.h5", next_obs="shifted")) == 10


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_bytes_stay(tmp_path, dtype):
    arrays = d4rl_arrays()
    for key in ("observations", "next_observations"):
        arrays[key] = np.random.default_rng(0).integers(2, size=(12, 4, 4)).astype(dtype)
    write_hdf5(tmp_path / "x.hdf5", arrays, {})
    data = read_hdf5(tmp_path / "x.hdf5")
    assert data.obs.dtype == dtype
    assert np.array_equal(data.next_obs, arrays["next_observations"])


def test_scalars_and_strings_beside_the_arrays_do_no_harm(tmp_path):
    write_hdf5(tmp_path / "x.hdf5", d4rl_arrays(), {"note": "text", "lr": 0.1})
    with h5py.File(tmp_path / "x.hdf5", "a") as file:
        file["metadata/algorithm"] = np.bytes_(b"SAC")
        file["infos/goal"] = np.zeros((12, 2))
    assert read_hdf5(tmp_path / "x.hdf5", infos=True).infos["goal"].shape == (12, 2)


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.hdf5: no such file"):
        load_dataset(tmp_path / "absent.hdf5")
    (tmp_path / "text.hdf5").write_text("no")
    with pytest.raises(InputError, match=r"text\.hdf5: not an HDF5 file"):
        load_dataset(tmp_path / "text.hdf5")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"rewards": None, "reward": np.zeros(12)},
            {},
            r"no 'rewards', which D4RL's layout has, did you mean 'reward'",
        ),
        ({"rewards": np.zeros(9)}, {}, r"x\.hdf5: rewards: 9 rows, expected 12$"),
        ({"rewards": np.full(12, np.nan)}, {}, r"x\.hdf5: rewards: 12 of 12 rows hold NaN"),
        ({"terminals": np.full(12, 3)}, {}, r"x\.hdf5: terminals: 3 at row 0"),
        ({"terminals": np.zeros(9)}, {}, r"x\.hdf5: terminals: 9 rows"),
        ({"timeouts": np.zeros(9, bool)}, {}, r"x\.hdf5: timeouts: 9 rows"),
        ({"timeouts": np.zeros(9, bool)}, {"next_obs": "shifted"}, r"x\.hdf5: timeouts: 9 rows"),
        ({"terminals": np.full(12, 3)}, {"next_obs": "shifted"}, r"x\.hdf5: terminals: 3 at row 0"),
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
def test_wrong_contents_are_named(tmp_path, change, options, message):
    arrays = {key: value for key, value in {**d4rl_arrays(), **change}.items() if value is not None}
    write_hdf5(tmp_path / "x.hdf5", arrays, {})
    with pytest.raises(InputError, match=message):
        load_dataset(tmp_path / "x.hdf5", **options)


def test_empty_file(tmp_path):
    arrays = {key: value[:0] for key, value in d4rl_arrays().items()}
    write_hdf5(tmp_path / "x.hdf5", {**arrays, "rewards": np.zeros(0)}, {})
    for mode in ("stored", "shifted"):
        with pytest.raises(InputError, match="observations: 0 rows"):
            read_hdf5(tmp_path / "x.hdf5", next_obs=mode)


def test_writing_does_not_overwrite_unless_told(tmp_path):
    path = tmp_path / "x.hdf5"
    write_hdf5(path, d4rl_arrays(seed=1), {})
    with pytest.raises(InputError, match=r"x\.hdf5: exists already"):
        write_hdf5(path, d4rl_arrays(seed=2), {})
    assert np.array_equal(read_hdf5(path).obs, d4rl_arrays(seed=1)["observations"])
    write_hdf5(path, d4rl_arrays(seed=2), {}, overwrite=True)
    assert np.array_equal(read_hdf5(path).obs, d4rl_arrays(seed=2)["observations"])


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.hdf5"
    write_hdf5(path, d4rl_arrays(seed=1), {})
    with pytest.raises(TypeError):
        write_hdf5(path, {**d4rl_arrays(seed=2), "bad": np.array([object()])}, {}, overwrite=True)
    assert np.array_equal(read_hdf5(path).obs, d4rl_arrays(seed=1)["observations"])
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_are_attributes(tmp_path):
    write_hdf5(
        tmp_path / "x.hdf5", {"a/b": np.ones(2)}, {"s": "t", "i": 3, "f": 0.5, "d": {"k": [1]}}
    )
    with h5py.File(tmp_path / "x.hdf5") as file:
        assert (file.attrs["s"], file.attrs["i"], file.attrs["f"]) == ("t", 3, 0.5)
        assert json.loads(file.attrs["d"]) == {"k": [1]}
        assert file["a/b"][()].tolist() == [1, 1]


# ---- NumPy archives


def ours(rows=5):
    return {
        "obs": np.arange(2.0 * rows).reshape(rows, 2),
        "action": np.arange(rows) % 2,
        "reward": np.ones(rows),
        "terminated": np.arange(rows) == 2,
        "truncated": np.zeros(rows, bool),
    }


def test_our_archive(tmp_path):
    np.savez(tmp_path / "x.npz", **ours(), next_obs=np.zeros((5, 2)), n_actions=4, env_id="E-v0")
    data = load_dataset(tmp_path / "x.npz")
    assert (len(data), data.spec.n_actions, data.spec.env_id) == (5, 4, "E-v0")
    assert not data.next_obs.any()
    np.savez(tmp_path / "y.npz", **ours())
    assert len(load_dataset(tmp_path / "y.npz", n_actions=2)) == 4


def expert(lengths, **kwargs):
    starts = np.zeros(sum(lengths), bool)
    starts[np.cumsum([0, *lengths[:-1]])] = True
    rows = len(starts)
    return {
        "obs": np.arange(rows, dtype=np.float32)[:, None],
        "actions": (np.arange(rows) % 2)[:, None],
        "rewards": np.ones(rows),
        "episode_starts": starts,
        "episode_returns": np.array(lengths, np.float64),
        **kwargs,
    }


def test_expert_archive_with_a_time_limit(tmp_path):
    np.savez(tmp_path / "x.npz", **expert([4, 2, 4]))
    data = load_dataset(tmp_path / "x.npz", time_limit=4)
    # rows 0-3 are a time-out, so 3 has no successor; 4 5 terminated; 6-9 a time-out again
    assert data.obs[:, 0].tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert data.terminated.tolist() == [False, False, False, False, True, False, False, False]
    assert data.truncated.tolist() == [False, False, True, False, False, False, False, True]
    assert data.next_obs[[0, 1, 2, 3, 5, 6, 7], 0].tolist() == [1, 2, 3, 5, 7, 8, 9]
    assert data.spec.n_actions == 2


def test_expert_archive_without_a_time_limit(tmp_path):
    np.savez(tmp_path / "x.npz", **expert([4, 2, 4]))
    data = load_dataset(tmp_path / "x.npz")
    assert not data.terminated.any()
    assert data.obs[:, 0].tolist() == [0, 1, 2, 4, 6, 7, 8]


def test_the_environment_knows_its_time_limit(tmp_path):
    np.savez(tmp_path / "x.npz", **expert([500, 300]))
    data = load_dataset(tmp_path / "x.npz", env_id="CartPole-v1")
    assert data.terminated.nonzero()[0].tolist() == [798]
    assert data.truncated.nonzero()[0].tolist() == [498]


def test_object_arrays_are_not_read(tmp_path):
    # One that nothing needs is left alone, one that is needed is an error.
    trap = np.array([{"a": 1}, None], dtype=object)
    np.savez(tmp_path / "x.npz", **ours(), other=trap)
    assert len(read_npz(tmp_path / "x.npz")) == 4
    np.savez(tmp_path / "y.npz", **{**ours(), "reward": trap})
    with pytest.raises(
        InputError, match=r"y\.npz: reward: an object array, which would need unpickling"
    ):
        read_npz(tmp_path / "y.npz")


def test_wrong_archives_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.npz: no such file"):
        load_dataset(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(InputError, match=r"text\.npz: not an archive"):
        load_dataset(tmp_path / "text.npz")
    arrays = ours()
    arrays["rewards"] = arrays.pop("reward")
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(
        InputError, match=r"x\.npz: no 'reward', expected obs, .*did you mean 'rewards'"
    ):
        load_dataset(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", **expert([3], rewards=np.full(3, np.nan)))
    with pytest.raises(InputError, match=r"y\.npz: rewards: 3 of 3 rows"):
        load_dataset(tmp_path / "y.npz")


# ---- load_dataset


def test_embedded_data_comes_from_the_environment_it_names():
    data = load_dataset("gridworld?size=4&observation=smooth&steps=300&epsilon=0.5&seed=3")
    assert len(data) == 300
    env = make_env(data.spec.env_id, **data.spec.env_kwargs)
    mdp = env.unwrapped.mdp
    assert data.spec.obs_shape == env.observation_space.shape
    assert data.spec.n_actions == env.action_space.n == 5
    state, following = data.infos["state"], data.infos["next_state"]
    assert np.array_equal(data.obs, mdp.observations[state])
    assert np.array_equal(data.next_obs, mdp.observations[following])
    assert (mdp.transition[state, data.action, following] > 0).all()
    assert np.array_equal(data.terminated, mdp.terminal[following])


def test_embedded_options():
    named = load_dataset("chain", steps=200, length=4, epsilon=[0.1, 0.9], max_episode_steps=7)
    written = load_dataset("chain?steps=200&length=4&epsilon=0.1,0.9&max_episode_steps=7")
    for key, column in named.columns().items():
        assert np.array_equal(column, written.columns()[key])
    assert named.episode_lengths().max() <= 7
    assert make_env(named.spec.env_id, **named.spec.env_kwargs).spec.max_episode_steps == 7
    other = load_dataset(
        "chain", steps=200, length=4, epsilon=[0.1, 0.9], max_episode_steps=7, data_seed=1
    )
    assert other.spec == named.spec
    assert not np.array_equal(other.action, named.action)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gridworld?sise=4", r"gridworld: no option 'sise', did you mean 'size'"),
        ("gridworld?size=big", r"gridworld: size = 'big': expected int"),
        ("gridworld?size=999", r"size: expected an integer from 2"),
        ("chain?epsilon=2", r"epsilon: expected probabilities"),
        (
            "data.csv",
            r"data 'data\.csv': expected gridworld, chain, or a file \*\.hdf5, \*\.h5, \*\.npz",
        ),
    ],
)
def test_unknown_sources_and_options(source, message):
    with pytest.raises(InputError, match=message):
        load_dataset(source)


def test_a_dataset_is_returned_as_it_is():
    data = load_dataset("chain", steps=10)
    assert load_dataset(data) is data
    assert load_dataset(data, env_id="E-v0").spec.env_id == "E-v0"
    with pytest.raises(InputError, match="no option 'steps'"):
        load_dataset(data, steps=3)


# ---- environments by id


def test_make_env_names_what_is_wrong():
    assert make_env("CartPole-v1").spec.max_episode_steps == time_limit("CartPole-v1") == 500
    for env_id, message in (
        ("CartPol-v1", "did you mean 'CartPole-v1'"),
        ("rlop/Gridworld-v0", "did you mean 'rlop/GridWorld-v0'"),
        ("rlop/Chain-v0", "unexpected keyword argument 'wrong'"),
    ):
        with pytest.raises(InputError, match=message):
            make_env(env_id, wrong=1)
    with pytest.raises(InputError, match="n = 0"):
        make_vec_env("CartPole-v1", 0)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "rlop/Chain-v0"])
def test_vector_environments_reset_themselves_one_step_late(env_id):
    envs = make_vec_env(env_id, 3)
    envs.reset(seed=0)
    for _ in range(200):
        over = np.logical_or(*envs.step(np.ones(3, int))[2:4])
        if over.any():
            break
    assert over.any()
    reward, terminated, truncated = envs.step(np.ones(3, int))[1:4]
    assert not reward[over].any()
    assert not (terminated | truncated)[over].any()


def test_minatar_is_registered():
    pytest.importorskip("minatar")
    env = make_env("MinAtar/Breakout-v1")
    assert env.reset(seed=0)[0].dtype == bool
    assert env.action_space.n == 3
    with pytest.raises(InputError, match="did you mean 'MinAtar/Breakout-v1'"):
        make_env("MinAtar/Breakut-v1")


# ---- files that nobody here wrote


def test_real_d4rl_files(shared_data):
    files = sorted((shared_data / "d4rl_like").glob("*.hdf5"))
    assert len(files) == 9
    for path in files:
        data = load_dataset(path, infos=True)
        assert len(data) == 5000
        assert data.spec.action_shape == data.action.shape[1:]
        assert len(data.infos["qpos"]) == 5000
        with h5py.File(path) as file:
            arrays = {
                key: file[key][()]
                for key in ("observations", "actions", "rewards", "terminals", "timeouts")
            }
            assert np.array_equal(data.terminated, file["terminals"][()])
            # Within an episode the stored next observation is the next row's.
            inside = ~data.end
            assert np.array_equal(data.next_obs[inside], data.obs[np.flatnonzero(inside) + 1])
        shifted = load_dataset(path, next_obs="shifted")
        for key, column in d4rl_loop(arrays).items():
            assert np.array_equal(getattr(shifted, key), np.array(column))


def test_real_returns(shared_data):
    returns = load_dataset(
        shared_data / "d4rl_like" / "halfcheetah_medium-like.hdf5"
    ).episode_returns()
    assert returns.mean() == pytest.approx(5746, rel=0.01)


def test_real_expert_archives(shared_data):
    path = shared_data / "stable-baselines" / "expert_cartpole.npz"
    data = load_dataset(path, env_id="CartPole-v1")
    assert (data.spec.obs_shape, data.spec.n_actions) == ((4,), 2)
    # 99 of 100 episodes reach the limit of 500 steps and lose their last row; one falls after 27.
    assert len(data) == 49_527 - 99
    assert data.terminated.sum() == 1
    assert sorted(set(data.episode_lengths())) == [27, 499]
    assert abs(data.obs[data.terminated][0, 2]) > 0.19  # the pole is about to pass 12 degrees
    pendulum = load_dataset(
        shared_data / "stable-baselines" / "expert_pendulum.npz", time_limit=200
    )
    assert (pendulum.spec.n_actions, pendulum.spec.action_shape) == (None, (1,))
    assert len(pendulum) == 20_000 - 100
    assert isinstance(pendulum, Dataset)
