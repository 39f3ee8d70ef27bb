"""D4RL's layouts and action units, without a simulator: every row of the tables."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlop.envs.layouts import d4rl_env, maze_of, simulator
from rlop.envs.make import check_env_id, make_env, time_limit
from rlop.envs.spaces import bounded, from_unit, to_unit
from rlop.types import InputError

# From d4rl/locomotion/maze_env.py: 1 wall, 0 free; rows from small to large y.
D4RL_MAZES = {
    "AntMaze_UMaze": "11111/1r001/11101/1g001/11111",
    "AntMaze_Medium": ("11111111/1r011001/10010001/11000111/10010001/10100101/100010g1/11111111"),
    "AntMaze_Large": (
        "111111111111/1r0001000001/101101010101/100000010001/101111011101/"
        "100101000001/110101010111/100100010g01/111111111111"
    ),
}


class Recorder:
    """Stands in for `gymnasium.make`: returns its arguments."""

    def __call__(self, env_id, **options):
        return env_id, options


@pytest.mark.parametrize(
    "env_id",
    [
        "Hopper-v4",
        "HalfCheetah-v4",
        "Walker2d-v4",
        "AdroitHandDoor-v1",
        "AdroitHandHammer-v1",
        "AdroitHandRelocate-v1",
    ],
)
def test_environments_whose_observations_are_d4rls_are_made_as_they_are(env_id):
    made, options = d4rl_env(env_id, "d4rl", Recorder(), frame_skip=4)
    assert made == env_id
    assert options == {"frame_skip": 4}


@pytest.mark.parametrize(
    ("env_id", "reason"),
    [
        ("Ant-v4", "27 or 105 observations"),
        ("FrankaKitchen-v1", "59 observations"),
        ("PointMaze_UMaze-v3", "another origin"),
        ("AntMaze_UMaze-v5", "expected version -v4"),
        ("Walker-v4", "known are Hopper, HalfCheetah, Walker2d"),
        ("CartPole-v1", "known are Hopper, HalfCheetah, Walker2d"),
    ],
)
def test_environments_that_cannot_become_d4rls_are_refused_with_the_reason(env_id, reason):
    with pytest.raises(InputError, match=f"{env_id}.*cannot be brought into layout.*{reason}"):
        d4rl_env(env_id, "d4rl", Recorder())


def test_another_layout_is_unknown():
    with pytest.raises(InputError, match="layout 'd5rl': unknown"):
        d4rl_env("Hopper-v4", "d5rl", Recorder())


@pytest.mark.parametrize("name", D4RL_MAZES)
def test_mazes_are_d4rls_upside_down(name):
    rows = []
    for line in D4RL_MAZES[name].split("/"):
        rows.append([int(cell) if cell in "01" else cell for cell in line])
    assert maze_of(name) == rows[::-1]


class Pen(gymnasium.Env):
    """A pen that falls by 0.01 a step."""

    action_space = gymnasium.spaces.Discrete(1)
    observation_space = gymnasium.spaces.Box(-1, 1, (45,))

    def reset(self, *, seed=None, options=None):
        self.height = 0.095
        return np.zeros(45), {}

    def step(self, action):
        self.height -= 0.01
        obs = np.zeros(45)
        obs[26] = self.height
        return obs, 1.0, False, False, {}


def test_adroits_pen_ends_when_it_is_dropped_and_has_d4rls_time_limit():
    limits = []

    def make(env_id, max_episode_steps):
        limits.append(max_episode_steps)
        return Pen()

    env = d4rl_env("AdroitHandPen-v1", "d4rl", make)
    d4rl_env("AdroitHandPen-v1", "d4rl", make, max_episode_steps=7)
    assert limits == [100, 7]

    # Heights .085, .075 + rounding, .065: below .075 at the third step.
    env.reset()
    assert [bool(env.step(0)[2]) for _ in range(3)] == [False, False, True]


# --- units of actions ---

BOX = gymnasium.spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64)


def test_units_by_hand():
    actions = np.array([[-2.0, 0], [0, 5], [1, 10]])
    unit = np.array([[-1.0, -1], [0, 0], [0.5, 1]])
    np.testing.assert_array_equal(to_unit(actions, BOX), unit)
    np.testing.assert_array_equal(from_unit(unit, BOX), actions)
    assert from_unit(np.array([[-3.0, 7]]), BOX).tolist() == [[-2, 10]]  # clipped


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=2))
def test_units_there_and_back(unit):
    unit = np.array([unit])
    np.testing.assert_allclose(to_unit(from_unit(unit, BOX), BOX), unit, atol=1e-6)


@pytest.mark.parametrize(
    "space",
    [gymnasium.spaces.Discrete(3), gymnasium.spaces.Box(-np.inf, np.inf, (2,))],
    ids=["discrete", "unbounded"],
)
def test_actions_without_bounds_keep_their_units(space):
    actions = np.array([0, 2])
    assert not bounded(space)
    assert to_unit(actions, space) is actions
    assert from_unit(actions, space) is actions


def test_a_side_of_length_zero_is_the_lower_end():
    point = gymnasium.spaces.Box(np.array([1.0]), np.array([1.0]), dtype=np.float64)
    assert to_unit(np.array([[1.0]]), point).tolist() == [[-1.0]]


# --- simulators and ids ---


@pytest.mark.parametrize("part", [None, "ant_env", "point_env", "robot_env"])
def test_the_simulator_is_found_in_the_environment_or_in_a_part_of_it(part):
    data = SimpleNamespace(qpos=np.zeros(2), qvel=np.zeros(2))
    unwrapped = SimpleNamespace(data=data)
    if part is not None:
        unwrapped = SimpleNamespace(**{part: SimpleNamespace(data=data)})
    assert simulator(SimpleNamespace(unwrapped=unwrapped)) is data


def test_an_environment_without_positions_has_no_simulator():
    assert simulator(gymnasium.make("CartPole-v1")) is None
    unwrapped = SimpleNamespace(data=[1, 2])
    assert simulator(SimpleNamespace(unwrapped=unwrapped)) is None


def test_ids_are_checked_and_limits_are_the_registered_ones():
    import rlop.envs  # noqa: F401  # registers rlop/Chain-v0

    check_env_id("CartPole-v1")
    assert time_limit("CartPole-v1") == 500
    assert time_limit("rlop/Chain-v0") == 20
    with pytest.raises(InputError, match="'CartPoll-v1': no such environment, did you mean"):
        check_env_id("CartPoll-v1")
    with pytest.raises(InputError, match=r"CartPole-v1.*unexpected keyword"):
        make_env("CartPole-v1", gravitation=1)
