from __future__ import annotations

import builtins
import hashlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlop.cli import main
from rlop.collect.collector import _counts, collect
from rlop.collect.rollout import Episode, first, interleave, last, pack
from rlop.collect.sb3_policy import load_sb3
from rlop.collect.vecnormalize import Reader, read_vecnormalize
from rlop.data import load_dataset
from rlop.envs.layouts import from_unit, to_unit
from rlop.training.evaluate import Evaluator
from rlop.types import InputError


class Tickets(gymnasium.Env):
    """obs = (number of the episode, step in it); lengths differ; the very same array is returned every time."""

    issued = 0

    def __init__(self, endless=False, box=False):
        self.endless = endless
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = (
            gymnasium.spaces.Box(-2, 2, (3,)) if box else gymnasium.spaces.Discrete(2)
        )
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
        arrays = {key: file[key][()] for key in file if isinstance(file[key], h5py.Dataset)}
        infos = {f"infos/{key}": value[()] for key, value in file.get("infos", {}).items()}
        return {**arrays, **infos}, dict(file.attrs)


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
    assert np.array_equal(
        arrays["terminals"][whole], arrays["next_observations"][whole, 1] % 2 == 0
    )
    assert load_dataset(path).spec.n_actions == 2


def test_an_environment_that_never_ends_gives_one_cut_episode(tmp_path):
    path = collect(
        "test/Tickets-v0", "random", 50, tmp_path / "x.hdf5", n_envs=4, env_kwargs={"endless": True}
    )
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


def made(start, rows, terminated=False, truncated=False, policy=0):
    obs = [np.array([start + k], np.float32) for k in range(rows + 1)]
    return Episode(None, obs, 0, list(range(rows)), [1.0] * rows, terminated, truncated, policy)


def test_pack_by_hand():
    episodes = [made(0, 2, terminated=True), made(10, 1), made(20, 3, truncated=True), made(30, 0)]
    parts = first(episodes, 99)
    arrays = pack(parts)
    assert arrays["observations"][:, 0].tolist() == [0, 1, 10, 20, 21, 22]
    assert arrays["next_observations"][:, 0].tolist() == [1, 2, 11, 21, 22, 23]
    assert arrays["actions"].tolist() == [0, 1, 0, 0, 1, 2]
    assert arrays["terminals"].tolist() == [False, True, False, False, False, False]
    assert arrays["timeouts"].tolist() == [False, False, True, False, False, True]
    assert [part.whole for part in parts] == [True, False, True]
    parts = first(episodes, 5)
    assert pack(parts)["timeouts"].tolist() == [False, False, True, False, True]
    assert [part.whole for part in parts] == [True, False, False]
    parts = last(episodes, 5)  # the first episode has lost its first row, and nothing else
    arrays = pack(parts)
    assert arrays["observations"][:, 0].tolist() == [1, 10, 20, 21, 22]
    assert arrays["next_observations"][:, 0].tolist() == [2, 11, 21, 22, 23]
    assert arrays["terminals"].tolist() == [True, False, False, False, False]
    assert arrays["timeouts"].tolist() == [False, True, False, False, True]
    assert [part.whole for part in parts] == [False, False, True]
    assert len(last(episodes, 99)) == 3


# ---- mixtures


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(300, 3000))
def test_counts_are_the_shares_to_the_step(weights, steps):
    shares = {i: weight / sum(weights) for i, weight in enumerate(weights)}
    counts = _counts(shares, steps)
    assert sum(counts) == steps
    assert all(abs(count - share * steps) < 1 for count, share in zip(counts, shares.values()))


def test_counts_by_hand():
    assert _counts({"a": 0.5, "b": 0.5}, 5) == [3, 2]
    assert _counts({"a": 0.1, "b": 0.2, "c": 0.7}, 10) == [1, 2, 7]
    assert _counts({"a": 1.0}, 7) == [7]


def always(action):
    return lambda obs, rng: np.full(len(obs), action)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_mixture_has_its_shares_and_whole_episodes(tmp_path, shuffle):
    mix = {always(0): 0.25, "random": 0.5, always(1): 0.25}
    arrays, attributes = stored(
        collect("test/Tickets-v0", mix, 1000, tmp_path / "x.hdf5", shuffle=shuffle, seed=1)
    )
    policy = arrays["infos/policy"]
    assert policy.dtype == np.int8
    assert np.bincount(policy).tolist() == [250, 500, 250]
    assert (arrays["actions"][policy == 0] == 0).all()
    assert (arrays["actions"][policy == 2] == 1).all()
    assert 150 < arrays["actions"][policy == 1].sum() < 350
    end = arrays["terminals"] | arrays["timeouts"]
    begins = np.append(True, end[:-1])
    ticket = arrays["observations"][:, 0]
    assert np.array_equal(begins, arrays["observations"][:, 1] == 0)
    assert np.array_equal(begins[1:], ticket[1:] != ticket[:-1])
    for number in range(3):  # each policy's episodes stand in the order in which they began
        assert (np.diff(ticket[begins & (policy == number)]) > 0).all()
    changes = (np.diff(policy[begins].astype(int)) != 0).sum()
    assert changes > 10 if shuffle else changes == 2
    about = json.loads(attributes["policies"])
    assert [part["steps"] for part in about] == [250, 500, 250]
    assert sum(part["episodes"] for part in about) == attributes["episodes"]
    assert (
        len(ticket[begins]) - attributes["episodes"] <= 3
    )  # at most the last episode of each policy is cut
    weighted = sum(part["return_mean"] * part["episodes"] for part in about)
    assert weighted / attributes["episodes"] == pytest.approx(attributes["return_mean"])


def test_interleaving_keeps_all_parts():
    parts = first([made(10 * i, 2, terminated=True, policy=i % 2) for i in range(20)], 40)
    mixed = interleave(parts, np.random.default_rng(0))
    assert mixed != parts
    assert sorted(id(part.episode) for part in mixed) == sorted(id(part.episode) for part in parts)
    for number in (0, 1):
        assert [p for p in mixed if p.episode.policy == number] == [
            p for p in parts if p.episode.policy == number
        ]


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"random": 0.5}, r"mix = \[0\.5\]: expected at most 127 positive shares that sum to 1"),
        ({"random": 1.5, always(0): -0.5}, "mix = "),
        ({"random": 0.9999, always(0): 0.0001}, "less than one step"),
        ({"random": 0.5, "replay:ppo:99": 0.5}, "cannot be part of a mixture"),
        ({}, "mix = "),
    ],
)
def test_impossible_mixtures(tmp_path, mix, message):
    with pytest.raises(InputError, match=message):
        collect("CartPole-v1", mix, 100, tmp_path / "x.hdf5")


# ---- units of actions


def test_units_by_hand():
    box = gymnasium.spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))
    assert to_unit(np.array([[-2, 0], [1, 5], [2, 10]]), box).tolist() == [
        [-1, -1],
        [0.5, 0],
        [1, 1],
    ]
    assert from_unit(np.array([[-1, -1], [0.5, 0], [9, 1]]), box).tolist() == [
        [-2, 0],
        [1, 5],
        [2, 10],
    ]
    for space in (gymnasium.spaces.Discrete(3), gymnasium.spaces.Box(-np.inf, np.inf, (2,))):
        actions = np.array([[5, 7]])
        assert to_unit(actions, space) is actions
        assert from_unit(actions, space) is actions


@given(st.floats(-100, 100), st.floats(0.1, 100), st.floats(0, 1))
def test_units_there_and_back(low, span, place):
    box = gymnasium.spaces.Box(low, low + span, (1,))
    action = np.array([[float(box.low[0]) + place * (float(box.high[0]) - float(box.low[0]))]])
    unit = to_unit(action, box)
    assert abs(unit[0, 0] - (2 * place - 1)) < 1e-5
    np.testing.assert_allclose(from_unit(unit, box), action, atol=1e-5 * (abs(low) + span))


class Scripted:
    """Acts as told, in an agent's units."""

    device = torch.device("cpu")

    def __init__(self, action):
        self.action = torch.tensor(action)

    def act(self, obs):
        assert obs.dtype == torch.float32
        return self.action.expand(*obs.shape[:2], -1)


class Paid(gymnasium.Env):
    """Pays the sum of the action; three steps."""

    def __init__(self):
        self.observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float64)
        self.action_space = gymnasium.spaces.Box(
            np.array([-2, 0], np.float32), np.array([2, 10], np.float32)
        )

    def reset(self, *, seed=None, options=None):
        self.left = 3
        return np.zeros(1), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.left -= 1
        return np.zeros(1), float(action.sum()), self.left == 0, False, {}


def test_evaluation_maps_an_agents_actions_to_the_environments(tmp_path):
    gymnasium.register("test/Paid-v0", Paid)
    try:
        arrays, attributes = stored(collect("test/Paid-v0", "random", 300, tmp_path / "x.hdf5"))
        for action in ([-1.0, -1.0], [0.0, 0.0], [0.5, 1.0], [9.0, 0.0]):
            returns, _ = Evaluator("test/Paid-v0", [0], episodes=2).rollout(Scripted(action))
            expected = 3 * (np.clip(action, -1, 1) @ [2, 5] + 5)
            np.testing.assert_allclose(returns, [[expected] * 2])
    finally:
        del gymnasium.registry["test/Paid-v0"]
    # The file's actions are in the agent's units: what they were paid says so.
    np.testing.assert_allclose(arrays["actions"] @ [2, 5] + 5, arrays["rewards"], atol=1e-5)
    assert np.abs(arrays["actions"]).max() <= 1
    assert json.loads(attributes["action_low"]) == [-2, 0]
    assert json.loads(attributes["action_high"]) == [2, 10]


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
        collect(
            "test/Tickets-v0",
            lambda obs, rng: np.zeros(len(obs), int),
            4000,
            tmp_path / "x.hdf5",
            epsilon=0.5,
        )
    )
    # A random action is 1 half of the time: 1000 of 4000, give or take 4 standard deviations.
    assert abs(arrays["actions"].sum() - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75)
    assert attributes["epsilon"] == 0.5


def test_continuous_actions_are_clipped_and_stored_in_units_of_the_bounds(tmp_path):
    far = lambda obs, rng: np.full((len(obs), 3), [9.0, 1.0, -9.0])  # noqa: E731
    arrays, _ = stored(
        collect("test/Tickets-v0", far, 20, tmp_path / "x.hdf5", env_kwargs={"box": True})
    )
    assert arrays["actions"].tolist() == [[1, 0.5, -1]] * 20  # of [-2, 2]
    arrays, attributes = stored(
        collect("test/Tickets-v0", "random", 2000, tmp_path / "y.hdf5", env_kwargs={"box": True})
    )
    assert -1 <= arrays["actions"].min() < -0.95
    assert 0.95 < arrays["actions"].max() <= 1
    assert abs(arrays["actions"].mean()) < 4 * 2 / np.sqrt(12 * 6000)
    assert "n_actions" not in attributes


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            lambda obs, rng: np.zeros(3, int),
            r"policy: actions int64 of shape \(3,\), expected \(8,\) within Discrete",
        ),
        (lambda obs, rng: np.full(len(obs), 2), "policy: actions"),
        (lambda obs, rng: np.zeros(len(obs)), "policy: actions float64"),
        ("expert", "policy 'expert': expected random, sb3:FILE.zip"),
        ("ppo:many", "policy 'ppo:many': expected"),
        ("ppo:0", "policy 'ppo:0': expected"),
        ("ppo:1__0", "policy 'ppo:1__0': expected"),
        ("ppo:²", "policy 'ppo:²': expected"),
        ("replay:ppo:99", "of at least 100 steps"),
        ("replay:dqn:999", "expected replay:ppo:STEPS or replay:sac:STEPS"),
        ("stochastic:nobody", "policy 'nobody': expected"),
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
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
    ids=["int", "term"],
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
from rlop.collect.collector import collect

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
    worker = threading.Thread(
        target=collect, args=("CartPole-v1", "random", 30, tmp_path / "x.hdf5")
    )
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
def test_zips_act_as_their_models_and_no_pickle_is_opened(
    tmp_path, request, name, actions, options
):
    sb3 = pytest.importorskip("stable_baselines3")
    import torch

    if "activation_fn" in options.get("policy_kwargs", {}):
        options = {
            **options,
            "policy_kwargs": {**options["policy_kwargs"], "activation_fn": torch.nn.ReLU},
        }
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
    with pytest.raises(
        InputError, match=r"m\.zip: DQNPolicy does not fit observations \(4,\).*size mismatch"
    ):
        load_sb3(path, Spaces(4, DISCRETE))
    with pytest.raises(InputError, match="DQNPolicy does not fit"):
        load_sb3(path, Spaces(5, CONTINUOUS))
    with pytest.raises(
        InputError, match=r"holds stable_baselines3\.dqn\.policies\.DQNPolicy, which is not ppo's"
    ):
        load_sb3(path, Spaces(5, DISCRETE), "ppo")
    with pytest.raises(
        InputError, match="DQNPolicy has one action per observation, nothing to draw from"
    ):
        load_sb3(path, Spaces(5, DISCRETE), stochastic=True)
    (tmp_path / "vecnormalize.pkl").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"vecnormalize\.pkl: not a pickle of VecNormalize: EOFError"
    ):
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
    sb3.DQN(
        "MlpPolicy", env, policy_kwargs={"features_extractor_class": Extractor}, **options
    ).save(tmp_path / "a.zip")
    with pytest.raises(
        InputError, match=r"a\.zip: policy argument features_extractor_class = .* cannot be rebuilt"
    ):
        load_sb3(tmp_path / "a.zip", env)
    sb3.DQN(Mine, env, **options).save(tmp_path / "b.zip")
    with pytest.raises(
        InputError, match=r"b\.zip: the policy's class, of test_collect, is not one of"
    ):
        load_sb3(tmp_path / "b.zip", env)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PPO", {}),
        ("PPO", {"use_sde": True}),
        ("SAC", {"buffer_size": 10, "policy_kwargs": {"net_arch": [16]}}),
        ("SAC", {"buffer_size": 10, "use_sde": True, "policy_kwargs": {"net_arch": [16]}}),
    ],
)
def test_stochastic_policies_draw_around_the_deterministic_action(tmp_path, name, options):
    sb3 = pytest.importorskip("stable_baselines3")
    env = Spaces(5, CONTINUOUS)
    getattr(sb3, name)("MlpPolicy", env, device="cpu", seed=0, **options).save(tmp_path / "m.zip")
    obs = np.repeat(
        np.random.default_rng(0).standard_normal((1, 5)).astype(np.float32), 4000, axis=0
    )
    calm = load_sb3(tmp_path / "m.zip", env)(obs[:1], np.random.default_rng(0))[0]
    act = load_sb3(tmp_path / "m.zip", env, stochastic=True)
    before = torch.get_rng_state()
    drawn = act(obs, np.random.default_rng(3))
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is left alone
    assert np.array_equal(act(obs, np.random.default_rng(3)), drawn)
    assert not np.array_equal(act(obs, np.random.default_rng(4)), drawn)
    assert (np.abs(drawn) <= 2).all()
    if not options.get(
        "use_sde"
    ):  # there the spread depends on features, and clipping biases the mean
        assert drawn.std(0).min() > 0.3
    assert (np.abs(np.median(drawn, axis=0) - calm) < 0.1).all()


def trained_on_normalised(tmp_path, protocol=4):
    """A PPO with VecNormalize around it, saved as a zip with its statistics beside it."""
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    env = Spaces(5, CONTINUOUS)
    wrapped = VecNormalize(DummyVecEnv([lambda: env]), clip_obs=1.5, epsilon=1e-3)
    rng = np.random.default_rng(0)
    wrapped.obs_rms.update(rng.normal(3, [1, 2, 3, 4, 5], (100, 5)))
    model = sb3.PPO("MlpPolicy", wrapped, device="cpu", seed=0)
    model.save(tmp_path / "m.zip")
    with open(tmp_path / "m.vecnormalize.pkl", "wb") as file:
        pickle.dump(wrapped, file, protocol=protocol)
    return env, wrapped, model


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_statistics_are_read_without_unpickling(tmp_path, protocol, request):
    env, wrapped, model = trained_on_normalised(tmp_path, protocol)
    request.getfixturevalue("no_unpickling")
    found = read_vecnormalize(tmp_path / "m.vecnormalize.pkl")
    obs = np.random.default_rng(1).normal(3, 5, (64, 5)).astype(np.float32)
    assert found.clip == 1.5
    np.testing.assert_array_equal(found(obs), wrapped.normalize_obs(obs).astype(np.float32))
    expected = model.predict(wrapped.normalize_obs(obs), deterministic=True)[0]
    np.testing.assert_array_equal(
        load_sb3(tmp_path / "m.zip", env)(obs, np.random.default_rng(0)), expected
    )
    with pytest.raises(InputError, match=r"m\.zip: .*does not fit"):
        load_sb3(tmp_path / "m.zip", Spaces(4, CONTINUOUS))


def test_statistics_of_rewards_alone_are_none(tmp_path):
    _, wrapped, _ = trained_on_normalised(tmp_path)
    wrapped.norm_obs = False
    wrapped.save(str(tmp_path / "vecnormalize.pkl"))
    assert read_vecnormalize(tmp_path / "vecnormalize.pkl") is None


class Call:
    """Pickles into a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touched(path):
    raise AssertionError("executed")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "call",
    [
        lambda path: Call(os.system, f"touch {path}"),
        lambda path: Call(builtins.exec, f"open({str(path)!r}, 'w').close()"),
        lambda path: Call(builtins.open, str(path), "w"),
        lambda path: Call(touched, path),
        lambda path: Call(builtins.getattr, Call(builtins.__import__, "os"), "system"),
        lambda path: [1, {"obs_rms": Call(os.mkdir, str(path))}],
    ],
    ids=["system", "exec", "open", "function", "getattr", "nested"],
)
def test_a_malicious_pickle_does_nothing(tmp_path, call, protocol):
    target, file = tmp_path / "touched", tmp_path / "vecnormalize.pkl"
    file.write_bytes(pickle.dumps(call(target), protocol=protocol))
    modules = set(sys.modules)
    with pytest.raises(InputError, match=r"vecnormalize\.pkl: "):
        read_vecnormalize(file)
    assert not target.exists()
    assert set(sys.modules) == modules
    file.unlink()
    file.write_bytes(b"cnot_imported_before\nthing\n.")
    with pytest.raises(
        InputError, match=r"holds not_imported_before\.thing|not a pickle|holds type"
    ):
        read_vecnormalize(file)
    assert "not_imported_before" not in sys.modules


def test_a_malicious_pickle_inside_true_statistics_does_nothing(tmp_path):
    _, wrapped, _ = trained_on_normalised(tmp_path)
    mean = wrapped.obs_rms.mean
    wrapped.venv_hook = Call(os.system, f"touch {tmp_path / 'touched'}")
    content = pickle.dumps({**wrapped.__getstate__(), "extra": wrapped.venv_hook})
    assert b"system" in content
    Reader(io.BytesIO(content)).load()
    assert not (tmp_path / "touched").exists()
    wrapped.clip_reward = Call(os.system, f"touch {tmp_path / 'touched'}")
    wrapped.save(str(tmp_path / "m.vecnormalize.pkl"))
    np.testing.assert_array_equal(read_vecnormalize(tmp_path / "m.vecnormalize.pkl").mean, mean)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: setattr(w, "obs_rms", {"a": w.obs_rms}), "holds dict, expected RunningMeanStd"),
        (
            lambda w: setattr(w.obs_rms, "mean", w.obs_rms.mean.astype(object)),
            "mean is no array of floats: dtype",
        ),
        (lambda w: setattr(w.obs_rms, "mean", "x"), "mean is no array of floats"),
        (lambda w: setattr(w.obs_rms, "var", w.obs_rms.var[:3]), r"mean \(5,\), var \(3,\)"),
        (lambda w: setattr(w.obs_rms, "var", -w.obs_rms.var), "not positive"),
        (lambda w: setattr(w, "epsilon", "x"), "two numbers"),
    ],
)
def test_statistics_that_make_no_sense_are_named(tmp_path, change, message):
    _, wrapped, _ = trained_on_normalised(tmp_path)
    change(wrapped)
    wrapped.save(str(tmp_path / "m.vecnormalize.pkl"))
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(InputError, match=rf"m\.vecnormalize\.pkl: .*{message}"),
    ):
        read_vecnormalize(tmp_path / "m.vecnormalize.pkl")


# ---- trainings


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


def test_a_replay_stream_is_the_trainings_own_in_order(tmp_path):
    pytest.importorskip("stable_baselines3")
    arrays, attributes = stored(
        collect("test/Tickets-v0", "replay:ppo:1500", 1500, tmp_path / "x.hdf5")
    )
    check_rows(arrays, 1500)  # episode after episode, and only the last one cut
    end = arrays["terminals"] | arrays["timeouts"]
    whole = np.flatnonzero(end)[:-1]
    assert np.array_equal(
        arrays["terminals"][whole], arrays["next_observations"][whole, 1] % 2 == 0
    )
    assert attributes["policy"] == "replay:ppo:1500"
    assert 0.1 < arrays["actions"].mean() < 0.9  # it explores
    Tickets.issued = 0
    buffer, attributes = stored(
        collect("test/Tickets-v0", "replay:ppo:1500", 400, tmp_path / "y.hdf5")
    )
    for key, column in buffer.items():  # the same training, of which the last rows are kept
        np.testing.assert_array_equal(column, arrays[key][-400:])
    assert attributes["steps"] == 400


def test_a_replay_stream_of_continuous_actions(tmp_path):
    pytest.importorskip("stable_baselines3")
    options = {"env_kwargs": {"box": True}, "chunk": 50}
    arrays, _ = stored(
        collect("test/Tickets-v0", "replay:sac:110", 110, tmp_path / "x.hdf5", **options)
    )
    check_rows(arrays, 110)
    assert np.abs(arrays["actions"]).max() <= 1
    assert arrays["actions"].min() < -0.9  # drawn uniformly at first
    with pytest.raises(InputError, match="policy sac: needs continuous actions"):
        collect("CartPole-v1", "replay:sac:110", 110, tmp_path / "y.hdf5")
    with pytest.raises(InputError, match="explores in its own way"):
        collect("CartPole-v1", "replay:ppo:110", 110, tmp_path / "y.hdf5", epsilon=0.1)


def test_an_interrupted_replay_stream_keeps_its_rows(tmp_path, monkeypatch):
    pytest.importorskip("stable_baselines3")
    step = Tickets.step

    def interrupting(self, action):
        interrupting.calls += 1
        if interrupting.calls == 70:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, action)

    interrupting.calls = 0
    monkeypatch.setattr(Tickets, "step", interrupting)
    with pytest.raises(KeyboardInterrupt):
        collect("test/Tickets-v0", "replay:ppo:9999", 5000, tmp_path / "x.hdf5")
    check_rows(stored(tmp_path / "x.hdf5")[0], 70)


def test_policies_for_continuous_actions_are_trained(tmp_path):
    pytest.importorskip("stable_baselines3")
    options = {"env_kwargs": {"box": True}, "n_envs": 2}
    arrays, attributes = stored(
        collect("test/Tickets-v0", "stochastic:ppo:300", 200, tmp_path / "x.hdf5", **options)
    )
    assert (attributes["policy"], attributes["stochastic"]) == ("ppo:300", True)
    assert (
        0.3 < arrays["actions"].std() < 0.7
    )  # of a standard deviation of 1 in [-2, 2], cut at the ends


def test_the_command_line_mixes_policies(tmp_path, capsys):
    path = tmp_path / "x.hdf5"
    mix = ["--mix", "random:0.75", "ppo:64:0.25"]
    pytest.importorskip("stable_baselines3")
    options = ["--steps", "200", "--shuffle", "--stochastic"]
    assert main(["collect", str(path), "--env", "CartPole-v1", *options, *mix]) == 0
    arrays, attributes = stored(path)
    assert np.bincount(arrays["infos/policy"]).tolist() == [150, 50]
    assert json.loads(attributes["policies"])[1]["stochastic"] is True
    assert (
        main(["collect", str(path), "--env", "CartPole-v1", "--overwrite", "--mix", "random"]) == 2
    )
    assert "--mix random: could not convert" in capsys.readouterr().err
