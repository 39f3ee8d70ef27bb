"""Environments by id: a misspelt one is named, vectors reset themselves, MinAtar is registered."""

from __future__ import annotations

import numpy as np
import pytest

from rlop.envs.make import make_env, make_vec_env, time_limit
from rlop.envs.stored import stored_env
from rlop.types import InputError


def test_the_time_limit_is_the_environments():
    assert make_env("CartPole-v1").spec.max_episode_steps == time_limit("CartPole-v1") == 500


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("CartPol-v1", "did you mean 'CartPole-v1'"),
        ("rlop/Gridworld-v0", "did you mean 'rlop/GridWorld-v0'"),
        ("rlop/Chain-v0", "unexpected keyword argument 'wrong'"),
    ],
)
def test_a_wrong_id_or_argument_is_named(env_id, message):
    with pytest.raises(InputError, match=message):
        make_env(env_id, wrong=1)


def test_a_vector_needs_an_environment():
    with pytest.raises(InputError, match="n = 0"):
        make_vec_env("CartPole-v1", 0)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "rlop/Chain-v0"])
def test_vector_environments_reset_themselves_one_step_late(env_id):
    envs = make_vec_env(env_id, 3)
    envs.reset(seed=0)
    action = np.ones(3, int)
    for _ in range(200):
        over = np.logical_or(*envs.step(action)[2:4])
        if over.any():
            break
    assert over.any()

    reward, terminated, truncated = envs.step(action)[1:4]
    assert not reward[over].any()
    assert not (terminated | truncated)[over].any()


def test_minatar_is_registered():
    pytest.importorskip("minatar")
    env = make_env("MinAtar/Breakout-v1")
    assert env.reset(seed=0)[0].dtype == bool
    assert env.action_space.n == 3
    with pytest.raises(InputError, match="did you mean 'MinAtar/Breakout-v1'"):
        make_env("MinAtar/Breakut-v1")


# ---- environments that files name


@pytest.mark.parametrize(
    "kwargs",
    [
        {"size": 4, "wind": 0.5, "slippery": True, "seed": None},
        {"maze_map": [[1, 1, "g"], [1, "r", 1]], "reward_type": "sparse"},
        {"tasks_to_complete": ["slide cabinet", "hinge_cabinet"], "healthy_z_range": [0.7, np.inf]},
        {"options": {"map_name": "8x8", "version": "1.5"}},
    ],
)
def test_plain_arguments_of_a_file_are_taken_and_said(kwargs, caplog):
    caplog.set_level("INFO")
    assert stored_env("x.hdf5", "CartPole-v1", kwargs) == ("CartPole-v1", kwargs)
    (line,) = caplog.messages
    assert line.startswith(f"x.hdf5: its environment CartPole-v1 is made with {next(iter(kwargs))}")


@pytest.mark.parametrize(
    "value",
    [
        "/etc/passwd",
        "../ant.xml",
        "ant.xml",
        ".hidden",
        "~",
        "C:x",
        "os:system",
        "gymnasium.envs.mujoco",
        "https://example.org",
        ["a", ["b/c"]],
        {"x": {"y": "a/b"}},
        {"a/b": 1},
        b"bytes",
        np.zeros(2),
        [[[[[[[[[1]]]]]]]]],
    ],
)
def test_arguments_that_name_a_place_leave_the_environment_out(value, caplog):
    assert stored_env("x.hdf5", "CartPole-v1", {"n": 1, "file": value}) == (None, {})
    (line,) = caplog.messages
    assert line.startswith("x.hdf5: names the environment 'CartPole-v1' with file = ")
    assert "\n" not in line


def test_an_argument_that_is_no_word_leaves_the_environment_out():
    assert stored_env("x.hdf5", "CartPole-v1", {"a b": 1}) == (None, {})
    assert stored_env("x.hdf5", None, {"a": 1}) == (None, {})
