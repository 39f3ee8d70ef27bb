"""`load_dataset`: embedded data, sources of the user's own, and names that nothing fits."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest
from helpers.data import same_columns

from rlop.data import load, load_dataset
from rlop.envs.make import make_env
from rlop.types import InputError

# ---- embedded


def test_embedded_data_comes_from_the_environment_it_names():
    data = load_dataset("gridworld?size=4&observation=smooth&steps=300&epsilon=0.5&seed=3")
    assert len(data) == 300
    env = make_env(data.spec.env_id, **data.spec.env_kwargs)
    assert data.spec.obs_shape == env.observation_space.shape
    assert data.spec.n_actions == env.action_space.n == 5

    mdp = env.unwrapped.mdp
    state, following = data.infos["state"], data.infos["next_state"]
    assert np.array_equal(data.obs, mdp.observations[state])
    assert np.array_equal(data.next_obs, mdp.observations[following])
    assert (mdp.transition[state, data.action, following] > 0).all()
    assert np.array_equal(data.terminated, mdp.terminal[following])


def test_embedded_options_are_keywords_or_a_query():
    options = {"steps": 200, "length": 4, "epsilon": [0.1, 0.9], "max_episode_steps": 7}
    data = load_dataset("chain", **options)
    written = load_dataset("chain?steps=200&length=4&epsilon=0.1,0.9&max_episode_steps=7")
    same_columns(data, written)
    assert data.episode_lengths().max() <= 7
    assert make_env(data.spec.env_id, **data.spec.env_kwargs).spec.max_episode_steps == 7

    # A keyword wins over the query.
    assert len(load_dataset("chain?steps=200", steps=10)) == 10

    other = load_dataset("chain", **options, data_seed=1)
    assert other.spec == data.spec
    assert not np.array_equal(other.action, data.action)


# ---- names that nothing fits


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gridworld?sise=4", r"gridworld: no option 'sise', did you mean 'size'"),
        ("gridworld?size=big", r"gridworld: size = 'big': expected int"),
        ("gridworld?size=999", r"size: expected an integer from 2"),
        ("chain?epsilon=2", r"epsilon: expected probabilities"),
        (
            "data.csv",
            r"data 'data\.csv': expected gridworld, .* a file \*\.hdf5.*d4rl:NAME.*module:function",
        ),
        ("d4rk:hopper-medium-v2", r"data 'd4rk:hopper-medium-v2': expected .*mean 'd4rl'"),
        ("d5rl:file.npz", r"data 'd5rl:file\.npz': expected .*mean 'd4rl'"),
    ],
)
def test_unknown_sources_and_options(source, message):
    with pytest.raises(InputError, match=message):
        load_dataset(source)


def test_a_dataset_is_returned_as_it_is():
    data = load_dataset("chain", steps=10)
    assert load_dataset(data) is data
    assert load_dataset(data, env_id="E-v0").spec.env_id == "E-v0"
    assert load_dataset(data, env_id=None).spec.env_id is None
    with pytest.raises(InputError, match="no option 'steps'"):
        load_dataset(data, steps=3)


# ---- sources of the user's own

MODULE = """
import numpy as np
from rlop.data import Dataset

def load(rows=3, reward=0.5, name="own", flag=False):
    ends = np.arange(rows) == rows - 1
    obs = np.zeros((rows, 2), np.float32)
    rewards = np.full(rows, reward)
    return Dataset.from_arrays(obs, ends * 1, rewards, ends, ~ends & flag, obs, name=name)

def empty(path):
    return None

def read(source, rows=3):
    return load(rows, name=source)

NUMBER = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module `own_files` on the path."""
    (tmp_path / "own_files.py").write_text(MODULE)
    (tmp_path / "broken_files.py").write_text("from rlop.data import nothing_of_this_name")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_function_is_called_with_the_options_of_its_query(own):
    data = load_dataset("own_files:load?rows=5&reward=1e-1&name=x.npz&flag=true", rows=7)
    assert (len(data), data.name) == (7, "x.npz")
    assert data.reward[0] == np.float32(0.1)
    assert data.truncated[0]
    assert len(load_dataset("own_files:load")) == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("own_file:load", r"^own_file:load: no module 'own_file', expected one that Python finds"),
        ("own_files.deep:load", r"no module 'own_files\.deep'"),
        ("broken_files:load", r"'broken_files' cannot be imported: .*nothing_of_this_name"),
        ("own_files:lod", r"module 'own_files' has no 'lod', did you mean 'load'"),
        ("own_files:NUMBER", r"found int, expected a function"),
        ("own_files:load?row=5", r"own_files:load: no option 'row', did you mean 'rows'"),
        ("own_files:empty", r"own_files:empty: missing a required argument: 'path'"),
        ("own_files:empty?path=x", r"own_files:empty: returned NoneType, expected a Dataset"),
    ],
)
def test_a_function_that_cannot_be_called_is_named(own, source, message):
    with pytest.raises(InputError, match=message):
        load_dataset(source)


def test_installed_packages_register_names(own, monkeypatch):
    registered = EntryPoint("mine", "own_files:read", load.ENTRY_POINTS)
    monkeypatch.setattr(load, "entry_points", lambda group: [registered])
    assert load_dataset("mine").name == "mine"
    assert load_dataset("mine:x-v0", rows=4).name == "mine:x-v0"
    with pytest.raises(InputError, match="no option 'row', did you mean 'rows'"):
        load_dataset("mine", row=4)


def test_a_registered_prefix_comes_before_the_end_of_a_name(own, monkeypatch):
    registered = EntryPoint("mine", "own_files:read", load.ENTRY_POINTS)
    monkeypatch.setattr(load, "entry_points", lambda group: [registered])
    assert load_dataset("mine:rows.npz").name == "mine:rows.npz"
