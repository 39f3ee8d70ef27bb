"""`check_spaces`: environments that fit the data, and those that do not."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from rlop.data import check_spaces
from rlop.types import InputError, Spec


class Shaped(gymnasium.Env):
    """An environment that has nothing but its spaces."""

    def __init__(self, obs, action):
        self.observation_space = obs
        self.action_space = action


def box(*shape, dtype=np.float32):
    return gymnasium.spaces.Box(0, 1, shape, dtype)


DISCRETE, CONTINUOUS = Spec((4,), 2), Spec((4,), None, (3,))
TWO = gymnasium.spaces.Discrete(2)
BYTES = gymnasium.spaces.Box(0, 255, (4,), np.uint8)


@pytest.mark.parametrize(
    ("spec", "env"),
    [
        (DISCRETE, Shaped(box(4, dtype=np.float64), TWO)),
        (CONTINUOUS, Shaped(box(4), box(3))),
        (Spec((4,), 2, obs_dtype="uint8"), Shaped(BYTES, TWO)),
        (Spec((4,), 2, obs_dtype="bool"), Shaped(box(4, dtype=np.bool_), TWO)),
    ],
)
def test_spaces_that_fit(spec, env):
    check_spaces(spec, env)


def test_spaces_of_a_vector_of_environments_fit():
    envs = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    check_spaces(DISCRETE, envs)


@pytest.mark.parametrize(
    ("spec", "env", "message"),
    [
        (
            Spec((5,), 2),
            gymnasium.make("CartPole-v1"),
            r"CartPole-v1: observations \(4,\) float32, but the data has \(5,\) float32",
        ),
        (
            Spec((4,), 3),
            gymnasium.make("CartPole-v1"),
            r"CartPole-v1: action space Discrete\(2\), but the data has 3 discrete actions",
        ),
        (CONTINUOUS, Shaped(box(4), box(2)), r"but the data has continuous \(3,\) actions"),
        (DISCRETE, Shaped(box(4), box(2)), r"action space Box.*but the data has 2 discrete"),
        (DISCRETE, Shaped(BYTES, TWO), r"\(4,\) uint8, but the data has \(4,\) float32"),
    ],
)
def test_spaces_that_do_not_fit_are_named(spec, env, message):
    with pytest.raises(InputError, match=message):
        check_spaces(spec, env)
