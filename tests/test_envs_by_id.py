"""Environments by id: a misspelt one is named, vectors reset themselves, MinAtar is registered."""

from __future__ import annotations

import numpy as np
import pytest

from rlop.envs.make import make_env, make_vec_env, time_limit
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
