"""D4RL's data sets by name: its very transitions, from files on disk."""

from __future__ import annotations

import os
import warnings

import h5py
import numpy as np
import pytest
from helpers.data import PROPERTY, changed, d4rl_arrays, qlearning_rows, same_as_qlearning
from hypothesis import given
from hypothesis import strategies as st

from rlop.data import load_dataset, normalized_score, write_hdf5
from rlop.data.formats import d4rl
from rlop.data.formats.d4rl import count_timeouts, find
from rlop.data.scores import source_of, sources
from rlop.types import InputError

PEN = "pen-human-v0"  # 100 steps at most
LIMIT = 100


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of data sets."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "d4rl"


@pytest.fixture
def offline(monkeypatch):
    def refuse(urls, path, published):
        raise InputError(f"{urls[-1]}: no network in tests")

    monkeypatch.setattr(d4rl, "fetch", refuse)


def put(name, made):
    """Write a file where the data set's would be."""
    file_name = source_of(name).url.rpartition("/")[2]
    path = os.path.join(os.environ["D4RL_DATASET_DIR"], file_name)
    write_hdf5(path, made, {}, overwrite=True)
    return path


# ---- reading


@PROPERTY
@given(
    st.integers(3, 450),
    st.lists(st.integers(0, 449), max_size=6),
    st.none() | st.lists(st.integers(0, 449), max_size=6),
    st.booleans(),
)
def test_transitions_are_those_of_d4rl(rows, terminals, timeouts, keep):
    made = d4rl_arrays(rows, terminals, timeouts)
    put(PEN, made)
    if not qlearning_rows(made, LIMIT, keep)[0]:
        with pytest.raises(InputError, match="no row has a known successor"):
            load_dataset(f"d4rl:{PEN}", terminate_on_end=keep)
        return

    data = load_dataset(f"d4rl:{PEN}", terminate_on_end=keep)
    same_as_qlearning(data, made, LIMIT, keep)


@PROPERTY
@given(
    st.integers(1, 60), st.lists(st.integers(0, 59), max_size=9), st.integers(2, 9), st.booleans()
)
def test_counted_timeouts_are_d4rls(rows, terminals, limit, keep):
    # D4RL never looks at the very last row.
    made = d4rl_arrays(rows + 1, [row for row in terminals if row < rows])
    kept, cut = qlearning_rows(made, limit, keep)
    expected = set(range(rows)) - set(kept)
    if keep:
        expected = {row for row, last in zip(kept, cut) if last}

    timeouts = count_timeouts(made["terminals"], limit, keep)[:rows]
    assert set(np.flatnonzero(timeouts)) == expected


def test_counter_by_hand():
    over = np.isin(np.arange(14), [5])
    # 0 1 2 3x | 4 5(terminal) | 6 7 8x | 9 10 11 12x | 13: after a terminal row the next one counts
    # as the second, so that 8 is dropped instead of 9.
    assert np.flatnonzero(count_timeouts(over, 4)).tolist() == [3, 8, 12]
    # After a kept time-out, too: 3 | 4 5(terminal) | 6 7 8 | 9 10 11 | 12 13
    assert np.flatnonzero(count_timeouts(over[:, None], 4, keep=True)).tolist() == [3, 8, 11]
    # A terminal row on the last step is dropped, and the next row is then the first.
    assert np.flatnonzero(count_timeouts(np.isin(np.arange(9), [3]), 4)).tolist() == [3, 7]
    with pytest.raises(ValueError, match="limit: expected at least 2, got 1"):
        count_timeouts(over, 1)


def test_flags_win_over_the_limit():
    made = d4rl_arrays(250, timeouts=[7])
    put(PEN, made)
    assert len(load_dataset(f"d4rl:{PEN}")) == 248
    kept = load_dataset(f"d4rl:{PEN}", terminate_on_end=True)
    assert kept.truncated.nonzero()[0].tolist() == [7, 248]


def test_stored_keeps_timeouts_with_their_true_next_observation():
    made = d4rl_arrays(30, [4], [9, 19])
    made["next_observations"] = made["observations"] + 100
    put("hopper-medium-v2", made)
    data = load_dataset("d4rl:hopper-medium-v2", next_obs="stored")
    assert len(data) == 30
    assert np.array_equal(data.next_obs, made["next_observations"])
    assert data.truncated.nonzero()[0].tolist() == [9, 19, 29]
    assert len(load_dataset("d4rl:hopper-medium-v2")) == 27


def test_columns_of_shape_n_1_float64_and_scalars():
    made = d4rl_arrays(20, [3], [9])
    shaped = {key: made[key].reshape(-1, 1) for key in ("rewards", "terminals", "timeouts")}
    path = put(PEN, {**made, **shaped, "observations": made["observations"].astype(np.float64)})
    with h5py.File(path, "a") as file:
        file["metadata/algorithm"], file["metadata/iteration"] = "SAC", 7
        file["infos/goal"] = np.arange(40.0).reshape(20, 2)
        file["infos/deep/er"] = np.zeros(3)

    data = load_dataset(f"d4rl:{PEN}", infos=True)
    same_as_qlearning(data, made, LIMIT)
    assert data.obs.dtype == np.float32
    assert data.infos["goal"][:, 0].tolist() == [2.0 * i for i in range(19) if i != 9]


def test_name_and_environment():
    put("antmaze-umaze-v2", d4rl_arrays(20))
    data = load_dataset("d4rl:antmaze-umaze-v2")
    assert data.name == "d4rl:antmaze-umaze-v2"
    assert (data.spec.env_id, data.spec.env_kwargs) == ("AntMaze_UMaze-v4", {"layout": "d4rl"})

    other = load_dataset("d4rl:antmaze-umaze-v2", env_id="E-v0").spec
    assert (other.env_id, other.env_kwargs) == ("E-v0", {})
    put("maze2d-umaze-v1", d4rl_arrays(20))
    assert load_dataset("d4rl:maze2d-umaze-v1").spec.env_id is None


def test_discrete_actions():
    put("minigrid-fourrooms-v0", d4rl_arrays(20, actions=np.arange(20) % 3))
    assert load_dataset("d4rl:minigrid-fourrooms-v0").spec.n_actions == 3
    assert load_dataset("d4rl:minigrid-fourrooms-v0", n_actions=7).spec.n_actions == 7


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": None}, r"pen-v0_demos_clipped\.hdf5: no 'rewards'"),
        ({"rewards": np.zeros(9)}, r"pen-v0_demos_clipped\.hdf5: rewards: 9 rows, expected 20$"),
        ({"terminals": np.zeros(9)}, r"terminals: 9 rows, expected 20$"),
        ({"timeouts": np.zeros(9)}, r"timeouts: 9 rows, expected 20$"),
        ({"rewards": np.array(3.0)}, r"rewards: 1 rows, expected 20$"),
        ({"rewards": np.zeros((20, 2))}, r"rewards: shape"),
        (
            {"observations": np.full((20, 3), np.nan)},
            r"observations: 19 of 19 rows hold NaN|20 of 20 rows",
        ),
        ({"actions": np.zeros((0, 2))}, r"actions: 0 rows, expected 20$"),
        ({"infos/goal": np.zeros(3)}, r"goal: 3 rows, expected 20$"),
    ],
)
def test_wrong_contents_are_named(change, message, keep):
    put(PEN, changed(d4rl_arrays(20), change))
    with pytest.raises(InputError, match=message) as error:
        load_dataset(f"d4rl:{PEN}", infos=True, terminate_on_end=keep)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "hoper-medium-v2",
            {},
            r"^'hoper-medium-v2': no such D4RL data set, did you mean 'hopper-medium-v2'\?$",
        ),
        ("hopper-medium-v7", {}, r"did you mean 'hopper-medium-v[012]'"),
        (PEN, {"next_obs": "auto"}, r"next_obs = 'auto': expected shifted or stored"),
        (
            PEN,
            {"next_obs": "stored", "terminate_on_end": True},
            r"terminate_on_end = true: expected next_obs",
        ),
        (
            PEN,
            {"terminate_on_ends": True},
            r"d4rl:pen-human-v0: no option 'terminate_on_ends', did you mean 'term",
        ),
        (PEN, {"time_limit": 3}, r"no option 'time_limit'"),
        (
            PEN,
            {"download": False},
            r"^d4rl:pen-human-v0: no file .*pen-v0_demos_clipped.hdf5; put there what is at http",
        ),
        (
            PEN,
            {},
            r"^d4rl:pen-human-v0: no file .*, and no download: https://rail.*: no network",
        ),
    ],
)
def test_wrong_names_and_options(name, options, message, offline, folder):
    with pytest.raises(InputError, match=message):
        load_dataset(f"d4rl:{name}", **options)
    assert not folder.exists()


def test_not_hdf5_and_default_folder(monkeypatch, tmp_path, folder, offline):
    path = tmp_path / "home" / ".d4rl" / "datasets" / "hopper_medium-v2.hdf5"
    path.parent.mkdir(parents=True)
    path.write_text("no")
    assert find("hopper-medium-v2") == path

    folder.mkdir()
    (folder / path.name).write_text("this comes first")
    assert find("hopper-medium-v2") == folder / path.name

    monkeypatch.delenv("D4RL_DATASET_DIR")
    assert find("hopper-medium-v2") == path
    with pytest.raises(InputError, match=r"hopper_medium-v2\.hdf5: not an HDF5 file"):
        load_dataset("d4rl:hopper-medium-v2")


@pytest.mark.parametrize("next_obs", ["shifted", "stored"])
def test_a_file_cut_short(next_obs):
    path = put("hopper-medium-v2", d4rl_arrays(5000))
    os.truncate(path, 20_000)
    message = r"hopper_medium-v2\.hdf5: damaged or cut short \(.*truncated.*; delete it to fetch"
    with pytest.raises(InputError, match=message) as error:
        load_dataset("d4rl:hopper-medium-v2", next_obs=next_obs)
    assert "\n" not in str(error.value)


# ---- the package d4rl itself, where it can be imported


@pytest.fixture
def original(monkeypatch, tmp_path):
    monkeypatch.setenv("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return __import__("d4rl")
        except Exception as error:  # it raises a plain Exception where MuJoCo 2.1 is missing
            pytest.skip(f"d4rl: {str(error).splitlines()[0]}")


KEYS = {
    "obs": "observations",
    "action": "actions",
    "next_obs": "next_observations",
    "reward": "rewards",
    "terminated": "terminals",
}


@pytest.mark.parametrize("env", ["halfcheetah", "hopper", "walker2d"])
@pytest.mark.parametrize("level", ["random", "medium", "expert"])
@pytest.mark.parametrize("counted", [False, True])
def test_the_original_returns_the_same(original, shared_data, env, level, counted, recwarn):
    from gym.spaces import Box

    with h5py.File(shared_data / "d4rl_like" / f"{env}_{level}-like.hdf5") as source:
        made = {key: item[()] for key, item in source.items() if isinstance(item, h5py.Dataset)}
    if counted:
        del made["timeouts"]

    for name in (f"{env}-{level}-v2", PEN, "maze2d-open-v0"):
        path = put(name, made)
        made_env = original.offline_env.OfflineEnv()
        made_env.observation_space = Box(-9, 9, made["observations"].shape[1:])
        made_env.action_space = Box(-9, 9, made["actions"].shape[1:])
        made_env._max_episode_steps = source_of(name).limit
        for keep in (False, True):
            theirs = original.qlearning_dataset(
                made_env, made_env.get_dataset(path), terminate_on_end=keep
            )
            ours = load_dataset(f"d4rl:{name}", terminate_on_end=keep)
            for column, key in KEYS.items():
                mine = getattr(ours, column)
                assert np.array_equal(mine, theirs[key]), (name, keep, column)
                assert mine.dtype == theirs[key].dtype

    returns = np.array([-300.0, 0.0, 4000.0])
    name = f"{env}-{level}-v2"
    expected = 100 * original.get_normalized_score(name, returns)
    np.testing.assert_allclose(normalized_score(returns, name), expected)


def test_the_original_has_the_same_table(original):
    assert {name: source.url for name, source in sources().items()} == original.infos.DATASET_URLS
    scores = {name: source.scores for name, source in sources().items() if source.scores}
    low, high = original.infos.REF_MIN_SCORE, original.infos.REF_MAX_SCORE
    assert scores == {name: (low[name], high[name]) for name in low}
