"""Rows, mixtures, policies and interruptions of a collection."""

import json
import os
import signal
import threading

import gymnasium
import numpy as np
import pytest
from helpers.collect import (
    always,
    check_ends,
    check_rows,
    episode_starts,
    read,
    tickets,  # noqa: F401  a fixture
)
from helpers.forks import Fork
from hypothesis import given
from hypothesis import strategies as st

from rlop.collect.collector import _counts, collect
from rlop.data import load_dataset
from rlop.types import InputError

pytestmark = pytest.mark.usefixtures("tickets")


# ---- rows


@pytest.mark.parametrize("n_envs", [1, 3, 8])
@pytest.mark.parametrize("steps", [1, 2, 7, 200])
def test_rows_stand_in_the_order_in_which_episodes_began(tmp_path, steps, n_envs):
    path = collect("test/Tickets-v0", "random", steps, tmp_path / "x.hdf5", n_envs=n_envs)
    arrays, attributes = read(path)
    check_rows(arrays, steps)
    check_ends(arrays)
    assert attributes["steps"] == steps
    assert load_dataset(path).spec.n_actions == 2


def test_an_environment_that_never_ends_gives_one_cut_episode(tmp_path):
    path = tmp_path / "x.hdf5"
    collect("test/Tickets-v0", "random", 50, path, n_envs=4, env_kwargs={"endless": True})

    arrays, attributes = read(path)
    check_rows(arrays, 50)
    assert arrays["timeouts"].nonzero()[0].tolist() == [49]
    assert json.loads(attributes["env_kwargs"]) == {"endless": True}
    assert attributes["episodes"] == 0
    assert "return_mean" not in attributes


def test_the_seed_alone_decides_the_file(tmp_path):
    files = []
    for number, seed in enumerate((1, 1, 2)):
        path = collect("CartPole-v1", "random", 300, tmp_path / f"{number}.hdf5", seed=seed)
        arrays, _ = read(path)
        files.append(arrays)

    first, same, other = files
    for key, column in first.items():
        assert np.array_equal(column, same[key])
    assert not np.array_equal(first["observations"], other["observations"])


def test_transitions_are_the_environments(tmp_path):
    arrays, _ = read(collect("CartPole-v1", "random", 200, tmp_path / "x.hdf5"))
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset()

    # CartPole is deterministic: put into a state, it must go where the file says.
    for row in range(200):
        env.state = tuple(arrays["observations"][row].astype(np.float64))
        env.steps_beyond_terminated = None
        obs, reward, terminated, *_ = env.step(int(arrays["actions"][row]))
        np.testing.assert_allclose(obs, arrays["next_observations"][row], atol=1e-6)
        assert reward == arrays["rewards"][row]
        if row < 199:
            assert terminated == arrays["terminals"][row]


# ---- mixtures


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(300, 3000))
def test_counts_are_the_shares_to_the_step(weights, steps):
    shares = {number: weight / sum(weights) for number, weight in enumerate(weights)}
    counts = _counts(shares, steps)
    assert sum(counts) == steps
    for count, share in zip(counts, shares.values()):
        assert abs(count - share * steps) < 1


@pytest.mark.parametrize(
    ("shares", "steps", "counts"),
    [
        ({"a": 0.5, "b": 0.5}, 5, [3, 2]),
        ({"a": 0.1, "b": 0.2, "c": 0.7}, 10, [1, 2, 7]),
        ({"a": 1.0}, 7, [7]),
    ],
)
def test_counts_by_hand(shares, steps, counts):
    assert _counts(shares, steps) == counts


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_mixture_has_its_shares_and_whole_episodes(tmp_path, shuffle):
    mix = {always(0): 0.25, "random": 0.5, always(1): 0.25}
    path = tmp_path / "x.hdf5"
    collect("test/Tickets-v0", mix, 1000, path, shuffle=shuffle, seed=1)
    arrays, attributes = read(path)

    policy = arrays["infos/policy"]
    actions = arrays["actions"]
    assert policy.dtype == np.int8
    assert np.bincount(policy).tolist() == [250, 500, 250]
    assert (actions[policy == 0] == 0).all()
    assert (actions[policy == 2] == 1).all()
    assert 150 < actions[policy == 1].sum() < 350

    starts = episode_starts(arrays)
    ticket = arrays["observations"][:, 0]
    assert np.array_equal(starts, arrays["observations"][:, 1] == 0)
    assert np.array_equal(starts[1:], ticket[1:] != ticket[:-1])
    for number in range(3):  # each policy's episodes stand in the order in which they began
        assert (np.diff(ticket[starts & (policy == number)]) > 0).all()
    changes = (np.diff(policy[starts].astype(int)) != 0).sum()
    assert changes > 10 if shuffle else changes == 2

    about = json.loads(attributes["policies"])
    assert [part["steps"] for part in about] == [250, 500, 250]
    assert sum(part["episodes"] for part in about) == attributes["episodes"]
    # At most the last episode of each policy is cut.
    assert starts.sum() - attributes["episodes"] <= 3
    total = sum(part["return_mean"] * part["episodes"] for part in about)
    assert total / attributes["episodes"] == pytest.approx(attributes["return_mean"])


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


# ---- policies


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            lambda obs, rng: np.zeros(3, int),
            r"policy: actions int64 of shape \(3,\), expected \(8,\) within Discrete",
        ),
        (always(2), "policy: actions"),
        (always(0.0), "policy: actions float64"),
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
    options = {"steps": 10, "path": "x.hdf5", "policy": "random", **options}
    options["path"] = tmp_path / options["path"]
    with pytest.raises(InputError, match=message):
        collect(env_id, **options)
    assert not list(tmp_path.iterdir())


def test_a_file_below_a_file_is_refused_before_playing(tmp_path):
    def never(obs, rng):
        raise AssertionError("played")

    (tmp_path / "file").touch()
    for name in ("file/x.hdf5", "file/folder/x.hdf5"):
        with pytest.raises(InputError, match=r"x\.hdf5: .*file cannot be written"):
            collect("CartPole-v1", never, 10, tmp_path / name)


def test_existing_files_are_kept_unless_overwritten(tmp_path, capsys):
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


class Interrupting:
    """Always action 0; sends a signal to this process at one of its calls."""

    def __init__(self, at_call, number):
        self.at_call = at_call
        self.number = number
        self.calls = 0

    def __call__(self, obs, rng):
        self.calls += 1
        if self.calls == self.at_call:
            os.kill(os.getpid(), self.number)
        return np.zeros(len(obs), int)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, SystemExit),
        (signal.SIGHUP, SystemExit),
    ],
    ids=["int", "term", "hup"],
)
def test_an_interrupted_run_keeps_its_rows(tmp_path, capsys, number, error):
    path = tmp_path / "x.hdf5"
    handler = signal.getsignal(number)
    with pytest.raises(error):
        collect("test/Tickets-v0", Interrupting(40, number), 100_000, path, n_envs=4)
    assert signal.getsignal(number) == handler

    arrays, attributes = read(path)
    check_rows(arrays, 160)
    assert attributes["steps"] == 160
    assert f"interrupted; {path}: 160 steps" in capsys.readouterr().out


def test_a_killed_run_leaves_the_rows_of_the_last_write(tmp_path):
    path = tmp_path / "x.hdf5"
    policy = Interrupting(65, signal.SIGKILL)
    options = {"n_envs": 4, "chunk": 100}
    child = Fork(lambda: collect("CartPole-v1", policy, 100_000, path, **options))
    child.end()
    assert child.code == -signal.SIGKILL

    data = load_dataset(path)
    assert len(data) == 200
    assert data.spec.env_id == "CartPole-v1"
    goes_on = ~data.end[:-1]
    assert np.array_equal(data.next_obs[:-1][goes_on], data.obs[1:][goes_on])


def test_collecting_works_outside_the_main_thread(tmp_path):
    path = tmp_path / "x.hdf5"
    worker = threading.Thread(target=collect, args=("CartPole-v1", "random", 30, path))
    worker.start()
    worker.join()
    assert len(load_dataset(path)) == 30
