"""An expert's own rows, played back by a policy that knows them, reach the environment unchanged.

The policy returns the actions as the data set holds them, as a clone without error would: the
environment must get the expert's own, and the policy must see the observations of the data.
"""

from __future__ import annotations

import json
from dataclasses import replace

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from rlop.agents import BC

import rlop
from rlop.data import Dataset, load_dataset
from rlop.envs.make import make_env
from rlop.training.evaluate import Evaluator, _start
from rlop.training.options import Experiment
from rlop.training.run import data_of
from rlop.types import InputError

STEPS = 6


class Replays:
    """A policy that takes the actions of a data set row by row, and keeps what it sees."""

    device = torch.device("cpu")

    def __init__(self, data):
        self.spec = data.spec
        self.stored = torch.from_numpy(data.action)
        self.seen = []

    def one_run(self, run):
        return self

    def act(self, obs):
        row = len(self.seen)
        self.seen.append(obs[0, 0].numpy().copy())
        return self.stored[row].expand(1, 1, *self.stored.shape[1:])


class Records(gymnasium.Wrapper):
    """Keeps the actions that an environment gets."""

    def __init__(self, env):
        super().__init__(env)
        self.played = []

    def step(self, action):
        assert self.action_space.contains(action), action
        self.played.append(np.array(action))
        return super().step(action)


class Walks(gymnasium.Env):
    """Shows a sum of the actions, in one of several kinds of spaces."""

    def __init__(self, action_space, obs_space=None):
        self.action_space = action_space
        self.observation_space = obs_space or gymnasium.spaces.Box(-99, 99, (2,))

    def seen(self):
        return self.observation_space.dtype.type(self.position % 99) * np.ones(
            self.observation_space.shape, self.observation_space.dtype
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = self.np_random.uniform(0, 9)
        return self.seen(), {}

    def step(self, action):
        self.position += float(np.sum(action))
        return self.seen(), 1.0, False, False, {}


def recorded(env, seed=0, steps=STEPS):
    """Play uniformly random actions; return observations, actions, terminations and truncations."""
    obs, _ = env.reset(seed=_start(seed))
    env.action_space.seed(seed)
    observations, actions, terminations = [obs], [], []
    for _ in range(steps):
        action = env.action_space.sample()
        obs, _, terminated, truncated, _ = env.step(action)
        observations.append(obs)
        actions.append(action)
        terminations.append(terminated)
        if terminated or truncated:
            break
    truncations = np.zeros(len(actions), bool)
    truncations[-1] = not terminations[-1]
    return observations, np.array(actions), np.array(terminations), truncations


def check(env, data, actions, exact=False):
    """Play a data set back in an environment that cuts after its rows, and compare."""
    env = Records(env)
    policy = Replays(data)
    cut = gymnasium.wrappers.TimeLimit(env, len(actions))
    Evaluator(cut, [0], episodes=1, spec=data.spec).rollout(policy)

    tolerance = 0.0 if exact else 2e-7 * max(1.0, float(np.abs(actions).max()))
    np.testing.assert_allclose(env.played, actions, rtol=0, atol=tolerance)
    np.testing.assert_allclose(policy.seen, data.obs, rtol=1e-5, atol=1e-5)


def rows_of(env, **options):
    """Record an environment of array observations as a data set."""
    observations, actions, terminated, truncated = recorded(env)
    obs = np.array(observations)
    reward = np.ones(len(actions))
    arrays = (obs[:-1], actions, reward, terminated, truncated, obs[1:])
    return Dataset.from_arrays(*arrays, **options), actions


def box(low, high, shape=(2,)):
    low, high = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
    return gymnasium.spaces.Box(low.astype(np.float32), high.astype(np.float32))


# ---- continuous actions


@pytest.mark.parametrize(
    ("low", "high", "shape"),
    [
        (0, 1, (2,)),
        (-2, 2, (2,)),
        ([-1, 0.5], [3, 10], (2,)),
        (-1, 1, (2, 3)),
        ([[0], [-4]], [[1], [4]], (2, 3)),
    ],
    ids=["Box(0, 1)", "Box(-2, 2)", "asymmetric", "two axes", "two axes of bounds"],
)
def test_boxes(low, high, shape):
    env = Walks(box(low, high, shape))
    bounds = {"action_low": env.action_space.low, "action_high": env.action_space.high}
    data, actions = rows_of(env, **bounds)
    assert data.spec.action_shape == (np.prod(shape),)
    assert np.abs(data.action).max() <= 1
    check(env, data, actions)


@pytest.mark.parametrize("suffix", [".hdf5", ".npz"])
def test_a_file_in_native_units_is_brought_to_the_unit_range_by_its_environment(tmp_path, suffix):
    env = make_env("Pendulum-v1")
    data, actions = rows_of(env)
    path = tmp_path / f"own{suffix}"
    columns = {
        "observations": data.obs,
        "actions": data.action,
        "rewards": data.reward,
        "terminals": data.terminated,
        "timeouts": data.truncated,
        "next_observations": data.next_obs,
    }
    if suffix == ".npz":
        np.savez(path, **columns)
    else:
        with h5py.File(path, "w") as file:
            file.update(columns)

    assert np.abs(actions).max() > 1
    assert load_dataset(path).spec.action_low is None  # no environment is known
    data = load_dataset(path, env_id="Pendulum-v1")
    assert (data.spec.action_low, data.spec.action_high) == ((-2.0,), (2.0,))
    check(env, data, actions)
    # The same, where the environment is named later, or by a configuration.
    same = load_dataset(load_dataset(path), env_id="Pendulum-v1")
    assert np.array_equal(same.action, data.action)
    configured = data_of(Experiment(data=str(path), env="Pendulum-v1"))
    assert np.array_equal(configured.action, data.action)


def test_actions_beyond_the_environments_bounds_are_left_for_others_to_refuse():
    env = make_env("Pendulum-v1")
    data, _ = rows_of(env)
    for action, env_id in ((data.action * 9, "Pendulum-v1"), (data.action, "NoSuch-v0")):
        spec = replace(data.spec, env_id=env_id)
        wide = replace(data, action=action, spec=spec)
        assert rlop.load_dataset(wide).action is action


# ---- discrete actions and observations


def test_discrete_from_one():
    env = Walks(gymnasium.spaces.Discrete(3, start=1))
    data, actions = rows_of(env, action_start=1, n_actions=3)
    assert data.action.min() >= 0
    check(env, data, actions, exact=True)


def test_several_parts():
    env = Walks(gymnasium.spaces.MultiDiscrete([2, 5, 3]))
    data, actions = rows_of(env, n_actions=[2, 5, 3])
    assert data.spec.n_actions == 30
    check(env, data, actions, exact=True)


def test_frozen_lake():
    env = make_env("FrozenLake-v1", is_slippery=False)
    data, actions = rows_of(env, env_id="FrozenLake-v1", n_actions=4)
    assert data.spec.obs_shape == (16,)
    assert data.obs.sum(1).tolist() == [1] * len(data)
    check(env, data, actions, exact=True)

    told, _ = rows_of(env, n_states=16, n_actions=4)
    assert np.array_equal(told.obs, data.obs)
    with pytest.raises(InputError, match=r"obs: \d+ at row \d+, expected 1 values from 0"):
        rows_of(env, n_states=1)
    with pytest.raises(InputError, match=r"obs: .* with n_states = 3"):
        rows_of(Walks(gymnasium.spaces.Discrete(2)), n_states=3)


def test_a_clone_of_an_expert_on_the_lake_reaches_its_goal():
    path = [2, 2, 1, 1, 1, 2]  # right, right, down, down, down, right
    env = make_env("FrozenLake-v1", is_slippery=False)
    states = [env.reset()[0]] + [env.step(action)[0] for action in path]
    assert states[-1] == 15
    end = np.arange(6) == 5
    data = Dataset.from_arrays(
        np.tile(states[:-1], 20),
        np.tile(path, 20),
        np.tile(end, 20),
        np.tile(end, 20),
        np.zeros(120, bool),
        np.tile(states[1:], 20),
        n_actions=4,
        env_id="FrozenLake-v1",
        env_kwargs={"is_slippery": False},
    )
    agent = BC(data.spec, hidden=(16,), batch_size=32, lr=1e-2)
    history = rlop.train(
        agent,
        data,
        steps=100,
        log_every=100,
        probe_every=0,
        progress=False,
        evaluate="FrozenLake-v1",
    )
    assert history.get("eval/return")[1][-1] == [1.0]


# ---- pixels


def test_pixels():
    pixels = gymnasium.spaces.Box(0, 255, (3, 12, 12), np.uint8)
    env = Walks(gymnasium.spaces.Discrete(2), pixels)
    data, actions = rows_of(env, n_actions=2)
    assert data.obs.dtype == np.uint8
    check(env, data, actions, exact=True)


# ---- dictionaries, through a file of Minari's kind


def described(space):
    """Describe a space in JSON as minari does."""
    if isinstance(space, gymnasium.spaces.Dict):
        inner = {key: described(value) for key, value in space.spaces.items()}
        return {"type": "Dict", "subspaces": inner}
    if isinstance(space, gymnasium.spaces.Discrete):
        return {"type": "Discrete", "start": int(space.start), "n": int(space.n)}
    return {
        "type": "Box",
        "dtype": str(space.dtype),
        "shape": list(space.shape),
        "low": space.low.tolist(),
        "high": space.high.tolist(),
    }


def write_tree(group, name, rows):
    """Write observations of one step after another, dictionaries as groups."""
    if isinstance(rows[0], dict):
        for key in rows[0]:
            write_tree(group.require_group(name), key, [row[key] for row in rows])
        return
    group[name] = np.array(rows)


def as_minari(root, env):
    """Record an environment in a data set of Minari's format, and read it."""
    observations, actions, terminated, truncated = recorded(env)
    folder = root / "own-v0" / "data"
    folder.mkdir(parents=True)
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        group = file.create_group("episode_0")
        write_tree(group, "observations", observations)
        group["actions"], group["rewards"] = actions, np.ones(len(actions))
        group["terminations"], group["truncations"] = terminated, truncated

    about = {
        "data_format": "hdf5",
        "observation_space": json.dumps(described(env.observation_space)),
        "action_space": json.dumps(described(env.action_space)),
    }
    (folder / "metadata.json").write_text(json.dumps(about))
    return load_dataset("minari:own-v0"), actions


@pytest.fixture
def minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def test_dictionaries(minari_root):
    class Places(Walks):
        def seen(self):
            at = np.float32([self.position, -self.position])
            return {"to": at[:1], "at": {"b": at, "a": 2 + int(self.position) % 3}}

    at = gymnasium.spaces.Dict(
        {"b": gymnasium.spaces.Box(-99, 99, (2,)), "a": gymnasium.spaces.Discrete(3, start=2)}
    )
    space = gymnasium.spaces.Dict({"to": gymnasium.spaces.Box(-99, 99, (1,)), "at": at})
    env = Places(box(-3, 1), space)
    data, actions = as_minari(minari_root, env)
    assert data.spec.obs_keys == ("at/a", "at/b", "to")
    assert data.spec.obs_shape == (6,)
    check(env, data, actions)


@pytest.mark.parametrize(
    ("env_id", "width"),
    [("PointMaze_UMaze-v3", 8), ("FrankaKitchen-v1", None), ("AntMaze_UMaze-v4", 31)],
)
def test_robots(minari_root, env_id, width):
    pytest.importorskip("gymnasium_robotics")
    env = make_env(env_id)
    data, actions = as_minari(minari_root, env)
    assert width in (None, *data.spec.obs_shape)
    check(env, data, actions)


# ---- real files


def test_real_pendulum_trains_and_plays(shared_data):
    path = shared_data / "stable-baselines" / "expert_pendulum.npz"
    data = load_dataset(path, env_id="Pendulum-v1")
    assert (data.spec.action_low, data.spec.action_high) == ((-2.0,), (2.0,))
    assert np.abs(data.action).max() <= 1
    agent = BC(data.spec, hidden=(64, 64), batch_size=256, lr=3e-3)
    history = rlop.train(
        agent,
        data,
        steps=400,
        log_every=400,
        probe_every=0,
        progress=False,
        evaluate="Pendulum-v1",
    )
    returns = history.get("eval/return")[1]
    assert (returns[0] < -700).all()
    assert (returns[-1] > -400).all()
