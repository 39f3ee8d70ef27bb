from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest

from rlop.data import load_dataset
from rlop.data.collect import collect
from rlop.data.policies import load_sb3
from rlop.data.rollout import Episode, pack
from rlop.types import InputError


class Tickets(gymnasium.Env):
    """obs = (number of the episode, step in it); lengths differ; the very same array is returned every time."""

    issued = 0

    def __init__(self, endless=False, box=False):
        self.endless = endless
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = gymnasium.spaces.Box(-2, 2, (3,)) if box else gymnasium.spaces.Discrete(2)
        self.obs = np.zeros(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.obs[:] = Tickets.issued, 0
        Tickets.issued += 1
        self.length = self.np_random.integers(1, 30)
        return self.obs, {}

    def step(self, action):
        self.obs[1] += 1
        over = not self.endless and self.obs[1] >= self.length
        natural = self.length % 2 == 0
        return self.obs, float(self.obs[1]), bool(over and natural), bool(over and not natural), {}


@pytest.fixture(autouse=True, scope="module")
def _register():
    gymnasium.register("test/Tickets-v0", Tickets)
    yield
    del gymnasium.registry["test/Tickets-v0"]


@pytest.fixture(autouse=True)
def _from_zero():
    Tickets.issued = 0


def stored(path):
    with h5py.File(path) as file:
        return {key: file[key][()] for key in file if isinstance(file[key], h5py.Dataset)}, dict(file.attrs)


def check_rows(arrays, steps):
    """Whole episodes one after another, in the order in which they began, with true next observations."""
    obs, following = arrays["observations"], arrays["next_observations"]
    assert all(len(column) == steps for column in arrays.values())
    assert obs.dtype == arrays["rewards"].dtype == np.float32
    assert np.array_equal(following[:, 0], obs[:, 0])
    assert np.array_equal(following[:, 1], obs[:, 1] + 1)
    assert np.array_equal(arrays["rewards"], following[:, 1])
    end = arrays["terminals"] | arrays["timeouts"]
    assert not (arrays["terminals"] & arrays["timeouts"]).any()
    assert end[-1]
    begins = np.append(True, end[:-1])
    assert np.array_equal(begins, obs[:, 1] == 0)
    assert np.array_equal(obs[:, 0], np.cumsum(begins) - 1)
    assert np.array_equal(obs[1:, 1][~end[:-1]], obs[:-1, 1][~end[:-1]] + 1)


# ---- rows


@pytest.mark.parametrize("n_envs", [1, 3, 8])
@pytest.mark.parametrize("steps", [1, 2, 7, 200])
def test_rows_stand_in_the_order_in_which_episodes_began(tmp_path, steps, n_envs):
    path = collect("test/Tickets-v0", "random", steps, tmp_path / "x.hdf5", n_envs=n_envs)
    arrays, attributes = stored(path)
    check_rows(arrays, steps)
    assert attributes["steps"] == steps
    # All but the last episode end where the environment ended them: even lengths terminate, odd ones are time-outs.
    end = arrays["terminals"] | arrays["timeouts"]
    whole = np.flatnonzero(end)[:-1]
    assert np.array_equal(arrays["terminals"][whole], arrays["next_observations"][whole, 1] % 2 == 0)
    assert load_dataset(path).spec.n_actions == 2


def test_an_environment_that_never_ends_gives_one_cut_episode(tmp_path):
    path = collect("test/Tickets-v0", "random", 50, tmp_path / "x.hdf5", n_envs=4, env_kwargs={"endless": True})
    arrays, attributes = stored(path)
    check_rows(arrays, 50)
    assert arrays["timeouts"].nonzero()[0].tolist() == [49]
    assert json.loads(attributes["env_kwargs"]) == {"endless": True}
    assert "return_mean" not in attributes


def test_the_same_seed_gives_the_same_file(tmp_path):
    first, again, other = (
        stored(collect("CartPole-v1", "random", 300, tmp_path / f"{i}.hdf5", seed=seed))[0]
        for i, seed in enumerate((1, 1, 2))
    )
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not np.array_equal(first["observations"], other["observations"])


def test_transitions_are_the_environments(tmp_path):
    # CartPole is deterministic given its state: put it there, and it must go where the file says.
    arrays, _ = stored(collect("CartPole-v1", "random", 200, tmp_path / "x.hdf5"))
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset()
    env.steps_beyond_terminated = None
    for i in range(200):
        env.state = tuple(arrays["observations"][i].astype(np.float64))
        env.steps_beyond_terminated = None
        obs, reward, terminated, *_ = env.step(int(arrays["actions"][i]))
        np.testing.assert_allclose(obs, arrays["next_observations"][i], atol=1e-6)
        assert reward == arrays["rewards"][i]
        if i < 199:
            assert terminated == arrays["terminals"][i]


def test_pack_by_hand():
    def episode(first, rows, terminated=False, truncated=False):
        obs = [np.array([first + k], np.float32) for k in range(rows + 1)]
        return Episode(None, obs, 0, list(range(rows)), [1.0] * rows, terminated, truncated)

    episodes = [episode(0, 2, terminated=True), episode(10, 1), episode(20, 3, truncated=True), episode(30, 0)]
    arrays, returns = pack(episodes, 99)
    assert arrays["observations"][:, 0].tolist() == [0, 1, 10, 20, 21, 22]
    assert arrays["next_observations"][:, 0].tolist() == [1, 2, 11, 21, 22, 23]
    assert arrays["actions"].tolist() == [0, 1, 0, 0, 1, 2]
    assert arrays["terminals"].tolist() == [False, True, False, False, False, False]
    assert arrays["timeouts"].tolist() == [False, False, True, False, False, True]
    assert returns.tolist() == [2, 3]
    arrays, returns = pack(episodes, 5)
    assert arrays["timeouts"].tolist() == [False, False, True, False, True]
    assert returns.tolist() == [2]


# ---- policies


def test_a_function_acts_on_batches(tmp_path):
    shapes = []

    def ones(obs, rng):
        shapes.append(obs.shape)
        return np.ones(len(obs), int)

    path = collect("CartPole-v1", ones, 100, tmp_path / "x.hdf5", n_envs=5)
    arrays, attributes = stored(path)
    assert (arrays["actions"] == 1).all()
    assert shapes[0] == (5, 4)
    assert attributes["policy"] == "ones"


def test_epsilon_is_the_share_of_random_actions(tmp_path):
    arrays, attributes = stored(
        collect("test/Tickets-v0", lambda obs, rng: np.zeros(len(obs), int), 4000, tmp_path / "x.hdf5", epsilon=0.5)
    )
    # A random action is 1 half of the time: 1000 of 4000, give or take 4 standard deviations.
    assert abs(arrays["actions"].sum() - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75)
    assert attributes["epsilon"] == 0.5


def test_continuous_actions_are_clipped_and_stored_as_played(tmp_path):
    far = lambda obs, rng: np.full((len(obs), 3), 9.0)  # noqa: E731
    arrays, _ = stored(collect("test/Tickets-v0", far, 20, tmp_path / "x.hdf5", env_kwargs={"box": True}))
    assert arrays["actions"].shape == (20, 3)
    assert (arrays["actions"] == 2).all()
    arrays, attributes = stored(
        collect("test/Tickets-v0", "random", 2000, tmp_path / "y.hdf5", env_kwargs={"box": True})
    )
    assert -2 <= arrays["actions"].min() < -1.9
    assert 1.9 < arrays["actions"].max() <= 2
    assert abs(arrays["actions"].mean()) < 4 * 4 / np.sqrt(12 * 6000)
    assert "n_actions" not in attributes


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (lambda obs, rng: np.zeros(3, int), r"policy: actions int64 of shape \(3,\), expected \(8,\) within Discrete"),
        (lambda obs, rng: np.full(len(obs), 2), "policy: actions"),
        (lambda obs, rng: np.zeros(len(obs)), "policy: actions float64"),
        ("expert", "policy 'expert': expected random, sb3:FILE.zip"),
        ("ppo:many", "policy 'ppo:many': expected"),
        ("ppo:0", "policy 'ppo:0': expected"),
        ("sb3:absent.zip", r"absent\.zip: no such file"),
    ],
)
def test_impossible_policies(tmp_path, policy, message):
    with pytest.raises(InputError, match=message):
        collect("CartPole-v1", policy, 100, tmp_path / "x.hdf5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("CartPole-v1", {"steps": 0}, "steps = 0"),
        ("CartPole-v1", {"epsilon": 1.5}, r"epsilon = 1\.5: expected a probability"),
        ("CartPole-v1", {"path": "x.npz"}, r"x\.npz: expected a name that ends in \.hdf5"),
        ("CartPol-v1", {}, "did you mean 'CartPole-v1'"),
        ("FrozenLake-v1", {}, r"observation space Discrete\(16\), expected a Box"),
        ("test/Tickets-v0", {"env_kwargs": {"endless": np.True_}}, "env_kwargs: .*JSON"),
    ],
)
def test_impossible_arguments(tmp_path, env_id, options, message):
    path = tmp_path / options.pop("path", "x.hdf5")
    with pytest.raises(InputError, match=message):
        collect(env_id, "random", options.pop("steps", 10), path, **options)
    assert not list(tmp_path.iterdir())


def test_existing_files_are_kept_unless_told(tmp_path, capsys):
    path = tmp_path / "x.hdf5"
    collect("CartPole-v1", "random", 10, path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"x\.hdf5: exists already"):
        collect("CartPole-v1", "random", 20, path)
    assert path.read_bytes() == before
    assert collect("CartPole-v1", "random", 20, path, overwrite=True) == path
    assert len(load_dataset(path)) == 20
    assert f"{path}: 20 steps" in capsys.readouterr().out


# ---- interruption


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["int", "term"]
)
def test_an_interrupted_run_keeps_its_rows(tmp_path, capsys, number, error):
    def policy(obs, rng):
        policy.calls += 1
        if policy.calls == 40:
            os.kill(os.getpid(), number)
        return np.zeros(len(obs), int)

    policy.calls = 0
    before = signal.getsignal(number)
    with pytest.raises(error):
        collect("test/Tickets-v0", policy, 100_000, tmp_path / "x.hdf5", n_envs=4)
    assert signal.getsignal(number) == before
    arrays, attributes = stored(tmp_path / "x.hdf5")
    check_rows(arrays, 160)
    assert attributes["steps"] == 160
    assert f"interrupted; {tmp_path / 'x.hdf5'}: 160 steps" in capsys.readouterr().out


def test_a_killed_run_leaves_the_last_checkpoint(tmp_path):
    code = f"""
import os, signal
import numpy as np
from rlop.data.collect import collect

def policy(obs, rng, calls=[0]):
    calls[0] += 1
    if calls[0] == 65:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.zeros(len(obs), int)

collect("CartPole-v1", policy, 100_000, {str(tmp_path / "x.hdf5")!r}, n_envs=4, chunk=100)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    data = load_dataset(tmp_path / "x.hdf5")
    assert len(data) == 200
    assert data.spec.env_id == "CartPole-v1"
    assert np.array_equal(data.next_obs[:-1][~data.end[:-1]], data.obs[1:][~data.end[:-1]])


def test_works_outside_the_main_thread(tmp_path):
    worker = threading.Thread(target=collect, args=("CartPole-v1", "random", 30, tmp_path / "x.hdf5"))
    worker.start()
    worker.join()
    assert len(load_dataset(tmp_path / "x.hdf5")) == 30


# ---- Stable-Baselines3


class Spaces(gymnasium.Env):
    def __init__(self, obs_dim, actions):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs_dim,))
        self.action_space = actions

    def reset(self, *, seed=None, options=None):
        return np.zeros(self.observation_space.shape, np.float32), {}


DISCRETE, CONTINUOUS = gymnasium.spaces.Discrete(3), gymnasium.spaces.Box(-2, 2, (2,))


@pytest.fixture
def no_unpickling(monkeypatch):
    import pickle

    cloudpickle = pytest.importorskip("cloudpickle")

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled something")

    for module in (pickle, cloudpickle):
        monkeypatch.setattr(module, "loads", refuse)
        monkeypatch.setattr(module, "load", refuse)


@pytest.mark.parametrize(
    ("name", "actions", "options"),
    [
        ("DQN", DISCRETE, {"buffer_size": 10}),
        ("PPO", DISCRETE, {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [16]}}}),
        ("PPO", CONTINUOUS, {"policy_kwargs": {"activation_fn": "ReLU", "log_std_init": -1.0}}),
        ("A2C", CONTINUOUS, {"use_sde": True}),
        ("SAC", CONTINUOUS, {"buffer_size": 10, "policy_kwargs": {"net_arch": [16]}}),
        ("TD3", CONTINUOUS, {"buffer_size": 10, "policy_kwargs": {"net_arch": [16]}}),
    ],
)
def test_zips_act_as_their_models_and_no_pickle_is_opened(tmp_path, request, name, actions, options):
    sb3 = pytest.importorskip("stable_baselines3")
    import torch

    if "activation_fn" in options.get("policy_kwargs", {}):
        options = {**options, "policy_kwargs": {**options["policy_kwargs"], "activation_fn": torch.nn.ReLU}}
    env = Spaces(5, actions)
    model = getattr(sb3, name)("MlpPolicy", env, device="cpu", seed=0, **options)
    model.save(tmp_path / "m.zip")
    request.getfixturevalue("no_unpickling")
    obs = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32)
    expected = model.predict(obs, deterministic=True)[0]
    for algorithm in (None, name.lower()):
        got = load_sb3(tmp_path / "m.zip", env, algorithm)(obs, np.random.default_rng(0))
        np.testing.assert_array_equal(got, expected)
    assert len(np.unique(expected)) > 1


def test_zips_that_do_not_fit_are_named(tmp_path):
    sb3 = pytest.importorskip("stable_baselines3")
    path = tmp_path / "m.zip"
    sb3.DQN("MlpPolicy", Spaces(5, DISCRETE), buffer_size=10, device="cpu").save(path)
    with pytest.raises(InputError, match=r"m\.zip: DQNPolicy does not fit observations \(4,\).*size mismatch"):
        load_sb3(path, Spaces(4, DISCRETE))
    with pytest.raises(InputError, match="DQNPolicy does not fit"):
        load_sb3(path, Spaces(5, CONTINUOUS))
    with pytest.raises(InputError, match=r"holds stable_baselines3\.dqn\.policies\.DQNPolicy, which is not ppo's"):
        load_sb3(path, Spaces(5, DISCRETE), "ppo")
    (tmp_path / "vecnormalize.pkl").write_bytes(b"")
    with pytest.raises(InputError, match=r"trained on normalised observations \(vecnormalize\.pkl\)"):
        load_sb3(path, Spaces(5, DISCRETE))
    (tmp_path / "text.zip").write_text("no")
    with pytest.raises(InputError, match=r"text\.zip: not a zip of Stable-Baselines3"):
        collect("CartPole-v1", f"sb3:{tmp_path / 'text.zip'}", 10, tmp_path / "x.hdf5")


def test_classes_of_ones_own_are_refused(tmp_path):
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.torch_layers import FlattenExtractor
    from stable_baselines3.dqn.policies import DQNPolicy

    class Extractor(FlattenExtractor):
        pass

    class Mine(DQNPolicy):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    env, options = Spaces(5, DISCRETE), {"buffer_size": 10, "device": "cpu"}
    sb3.DQN("MlpPolicy", env, policy_kwargs={"features_extractor_class": Extractor}, **options).save(tmp_path / "a.zip")
    with pytest.raises(InputError, match=r"a\.zip: policy argument features_extractor_class = .* cannot be rebuilt"):
        load_sb3(tmp_path / "a.zip", env)
    sb3.DQN(Mine, env, **options).save(tmp_path / "b.zip")
    with pytest.raises(InputError, match=r"b\.zip: the policy's class, of test_collect, is not one of"):
        load_sb3(tmp_path / "b.zip", env)


def test_ppo_is_trained_first(tmp_path):
    pytest.importorskip("stable_baselines3")
    path = collect("rlop/Chain-v0", "ppo:4096", 500, tmp_path / "x.hdf5", env_kwargs={"length": 4})
    arrays, attributes = stored(path)
    assert attributes["policy"] == "ppo:4096"
    assert "stable_baselines3" in json.loads(attributes["versions"])
    # The chain pays for walking right without a break, and a random walk would often not arrive.
    assert attributes["return_mean"] == 1.0
    assert arrays["actions"].mean() == 1.0


def test_real_policy(shared_data, tmp_path):
    pytest.importorskip("stable_baselines3")
    zip_path = shared_data / "policies" / "dqn" / "CartPole-v1.zip"
    path = collect("CartPole-v1", f"sb3:{zip_path}", 2000, tmp_path / "x.hdf5", epsilon=0.3)
    arrays, attributes = stored(path)
    assert len(arrays["rewards"]) == 2000
    assert attributes["policy"] == "sb3:CartPole-v1.zip"
    assert attributes["policy_sha256"] == hashlib.sha256(Path(zip_path).read_bytes()).hexdigest()
    assert attributes["n_actions"] == 2
    # Random play falls after 22 steps; this policy stands for 500, and for a good part of that at epsilon 0.3.
    assert load_dataset(path).episode_returns().mean() > 60
    perfect = load_dataset(collect("CartPole-v1", f"sb3:dqn:{zip_path}", 1000, tmp_path / "y.hdf5"))
    assert perfect.episode_returns().tolist() == [500.0, 500.0]
