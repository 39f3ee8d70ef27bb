"""Minari's data sets, read from HDF5."""

from __future__ import annotations

import json
import os
import sys
import types

import gymnasium
import numpy as np
import pytest
from helpers.data import PROPERTY
from helpers.minari import BOX, GOAL, STATES, UNIT, episode, put, put_one
from hypothesis import given, settings
from hypothesis import strategies as st

from rlop.data import load_dataset
from rlop.envs.make import make_vec_env
from rlop.types import InputError

FAST = settings(PROPERTY, max_examples=25)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "minari"


# ---- reading


def test_every_row_has_its_next_observation(root):
    put(root, "a/b-v0", [episode(3), episode(2, 100, "truncations"), episode(1, 200, None)])
    data = load_dataset("minari:a/b-v0")
    assert data.name == "minari:a/b-v0"
    assert data.obs[:, 0].tolist() == [0, 3, 6, 100, 103, 200]
    assert data.next_obs[:, 0].tolist() == [3, 6, 9, 103, 106, 203]
    assert data.obs.dtype == np.float32
    assert data.terminated.nonzero()[0].tolist() == [2]
    # The last episode has no flag and was cut.
    assert data.truncated.nonzero()[0].tolist() == [4, 5]

    assert data.episode_returns().tolist() == [3, 201, 200]
    assert data.spec.action_shape == (2,)
    assert (data.spec.env_id, data.spec.env_kwargs) == (None, {})


@FAST
@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from(["terminations", "truncations"])),
        min_size=1,
        max_size=14,
    )
)
def test_episodes_stay_in_the_order_of_their_numbers(root, drawn):
    put(root, "x-v0", [episode(steps, 100 * i, end) for i, (steps, end) in enumerate(drawn)])
    data = load_dataset("minari:x-v0")
    starts = np.append(0, data.episode_ends[:-1] + 1)
    assert data.obs[starts, 0].tolist() == [100 * i for i in range(len(drawn))]
    assert data.episode_lengths().tolist() == [steps for steps, _ in drawn]
    assert np.array_equal(data.terminated[data.end], [end == "terminations" for _, end in drawn])

    inside = np.flatnonzero(~data.end)
    assert np.array_equal(data.next_obs[inside], data.obs[inside + 1])


def goal_episode(steps=4):
    rows = np.arange(steps + 1.0)
    return episode(
        steps,
        observations=None,
        **{
            "observations/observation": rows[:, None] + [0, 0.1, 0.2],
            "observations/desired_goal": np.full((steps + 1, 1), 7.0),
            "observations/achieved_goal/x": -rows,
            "observations/achieved_goal/y": np.stack([rows, rows], 1)[..., None] * 10,
            "observations/gear": np.arange(steps + 1) % 3 + 1,
            "observations/words": ["go"] * (steps + 1),
        },
    )


def test_dict_observations_by_hand(root):
    put(root, "goal-v0", [goal_episode()], GOAL)
    parts = ["achieved_goal", "desired_goal", "gear", "observation"]
    data = load_dataset("minari:goal-v0", keys=parts)
    # Row 1: achieved_goal/x, achieved_goal/y (2), desired_goal, gear 2 of 1..3 as one-hot, and
    # observation (3).
    np.testing.assert_allclose(data.obs[1], [-1, 10, 10, 7, 0, 1, 0, 1, 1.1, 1.2], rtol=1e-6)
    assert np.array_equal(data.next_obs[0], data.obs[1])

    some = load_dataset("minari:goal-v0", keys=["observation", "achieved_goal/x"])
    np.testing.assert_allclose(some.obs[1], [1, 1.1, 1.2, -1], rtol=1e-6)
    assert load_dataset("minari:goal-v0", keys="achieved_goal/y").obs.shape == (4, 2, 1)


def test_dict_observations_are_flattened_as_gymnasium_does(root):
    spaces = gymnasium.spaces
    goal = {"b": spaces.Discrete(3), "a": spaces.Discrete(2)}
    space = spaces.Dict(
        {
            "observation": spaces.Box(-9, 9, (3,), np.float64),
            "achieved_goal": spaces.Box(-9, 9, (2,), np.float64),
            "desired_goal": spaces.Dict(goal),
        }
    )
    described = {
        "observation": BOX,
        "achieved_goal": {**BOX, "shape": [2]},
        "desired_goal": {
            "type": "Dict",
            "subspaces": {"b": {"type": "Discrete", "n": 3}, "a": {"type": "Discrete", "n": 2}},
        },
    }
    space.seed(0)
    drawn = [space.sample() for _ in range(5)]
    columns = {
        "observations/observation": np.array([obs["observation"] for obs in drawn]),
        "observations/achieved_goal": np.array([obs["achieved_goal"] for obs in drawn]),
        "observations/desired_goal/a": [obs["desired_goal"]["a"] for obs in drawn],
        "observations/desired_goal/b": [obs["desired_goal"]["b"] for obs in drawn],
    }
    made = episode(4, observations=None, **columns)
    put(root, "x-v0", [made], {"type": "Dict", "subspaces": described})

    data = load_dataset("minari:x-v0")
    expected = np.array([spaces.flatten(space, obs) for obs in drawn], np.float32)
    assert np.array_equal(data.obs, expected[:-1])
    assert np.array_equal(data.next_obs, expected[1:])


def test_images_stay_bytes(root):
    image = {"type": "Box", "dtype": "uint8", "shape": [4, 4, 3], "low": 0, "high": 255}
    pixels = np.random.default_rng(0).integers(0, 255, (4, 4, 4, 3)).astype(np.uint8)
    data = put_one(root, "image-v0", image, observations=pixels)
    assert data.obs.dtype == np.uint8
    assert np.array_equal(data.next_obs, pixels[1:])


def test_discrete_observations_become_one_hot(root):
    data = put_one(root, "state-v0", STATES, observations=np.array([0, 2, 1, 0]))
    assert data.next_obs.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_discrete_observations_out_of_range(root):
    message = "observations: 0 to 3, expected 3 values of a Discrete space"
    with pytest.raises(InputError, match=message):
        put_one(root, "x-v0", STATES, observations=np.array([0, 2, 3, 0]))


def test_discrete_actions(root):
    space = {"type": "Discrete", "dtype": "int64", "start": 0, "n": 5}
    actions = np.array([0, 3, 1])
    data = put_one(root, "d-v0", action=space, actions=actions)
    assert (data.action.tolist(), data.spec.n_actions) == ([0, 3, 1], 5)

    undescribed = put_one(root, "none-v0", None, None, actions=actions)
    assert undescribed.spec.n_actions == 4
    assert load_dataset("minari:none-v0", n_actions=9).spec.n_actions == 9


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ([-2.0, 0.0], [2.0, 10.0], [[-1, 1], [0.5, 0], [0, -1]]),
        ([-np.inf, -np.inf], [np.inf, np.inf], [[-2, 10], [1, 5], [0, 0]]),
    ],
)
def test_actions_of_a_bounded_box_are_brought_to_the_unit_box(root, low, high, expected):
    actions = np.array([[-2, 10], [1, 5], [0, 0]], np.float32)
    data = put_one(root, "x-v0", action={**UNIT, "low": low, "high": high}, actions=actions)
    assert data.action.tolist() == expected


OWN = {
    "id": "CartPole-v1",
    "kwargs": {"sutton_barto_reward": True},
    "max_episode_steps": 500,  # as registered
}
SHORT = {"id": "CartPole-v1", "kwargs": {}, "max_episode_steps": 7}


def test_the_data_sets_own_environment(root):
    put(root, "own-v0", [episode(3)], env_spec=json.dumps(OWN))
    spec = load_dataset("minari:own-v0").spec
    assert (spec.env_id, spec.env_kwargs) == ("CartPole-v1", {"sutton_barto_reward": True})


def test_another_environment_for_evaluation(root):
    put(root, "x-v0", [episode(3)], env_spec=json.dumps(OWN), eval_env_spec=json.dumps(SHORT))
    spec = load_dataset("minari:x-v0").spec
    assert (spec.env_id, spec.env_kwargs) == ("CartPole-v1", {"max_episode_steps": 7})
    assert load_dataset("minari:x-v0", env_id="E-v0").spec.env_kwargs == {}

    # Its step limit is in force.
    envs = make_vec_env(spec.env_id, 1, **spec.env_kwargs)
    envs.reset(seed=0)
    ended = [envs.step(np.array([i % 2]))[3][0] for i in range(8)]
    assert ended.index(True) == 6


@pytest.mark.parametrize(
    ("changes", "spaces", "options", "message"),
    [
        ({"rewards": None}, {}, {}, r"x-v0/data: episode_0: no 'rewards'"),
        ({"rewards": np.zeros(3)}, {}, {}, r"episode_0/actions: 5 rows, expected 3 with 3 rewards"),
        (
            {"observations": np.zeros((5, 3))},
            {},
            {},
            r"episode_0/observations: 5 rows, expected 6 with 5 rewards",
        ),
        ({"actions": np.zeros((4, 2))}, {}, {}, r"episode_0/actions: 4 rows, expected 5"),
        (
            {"rewards": np.array(1.0)},
            {},
            {},
            r"episode_0/actions: 5 rows, expected 1 with 1 rewards",
        ),
        ({"truncations": np.zeros(2)}, {}, {}, r"episode_0/truncations: 2 rows, expected 5"),
        ({"rewards": np.full(5, np.nan)}, {}, {}, r"x-v0/data: reward: 5 of 10 rows hold NaN"),
        (
            {"actions": None, "actions/a": np.zeros(5)},
            {},
            {},
            r"episode_0/actions: a group, expected one array",
        ),
        (
            {},
            {"action": {"type": "MultiBinary", "n": 2}},
            {},
            r"actions: MultiBinary space, expected Box, Disc",
        ),
        (
            {},
            {"action": {"type": "MultiDiscrete", "nvec": [[2, 2]]}},
            {},
            r"action_space: nvec = \[2, 2\]: expected a whole number",
        ),
        (
            {},
            {"obs": {"type": "Text"}},
            {},
            r"observations: Text of float64, expected numbers; leave it out with keys",
        ),
        (
            {},
            {"obs": {**BOX, "shape": [32, 32, 3]}},
            {},
            r"observations: rows \(3,\), expected \(32, 32, 3\)",
        ),
        ({}, {}, {"keys": ["goal"]}, r"observations: no part 'goal'"),
        ({}, {}, {"key": ["goal"]}, r"minari:x-v0: no option 'key', did you mean 'keys'"),
    ],
)
def test_what_is_wrong_is_named(root, changes, spaces, options, message):
    put(root, "x-v0", [episode(5, **changes), episode(5)], **spaces)
    with pytest.raises(InputError, match=message) as error:
        load_dataset("minari:x-v0", **options)
    assert "\n" not in str(error.value)


def test_parts_that_cannot_be_numbers_are_named(root):
    put(root, "goal-v0", [goal_episode()], GOAL)
    message = r"observations/words: Text of object, expected numbers; leave it out with keys"
    with pytest.raises(InputError, match=message):
        load_dataset("minari:goal-v0")
    with pytest.raises(InputError, match=r"no part 'observatio', did you mean 'observation'"):
        load_dataset("minari:goal-v0", keys=["observatio"])


def test_broken_folders_are_named(root):
    put(root, "x-v0", [])
    with pytest.raises(InputError, match="x-v0/data: no episodes"):
        load_dataset("minari:x-v0")

    main_file = root / "x-v0" / "data" / "main_data.hdf5"
    main_file.write_text("no")
    with pytest.raises(InputError, match=r"main_data\.hdf5: missing, or not an HDF5 file"):
        load_dataset("minari:x-v0")

    put(root, "x-v0", [episode(500)])
    os.truncate(main_file, 6000)
    with pytest.raises(InputError, match=r"main_data\.hdf5: damaged or cut short: .*truncated"):
        load_dataset("minari:x-v0")

    put(root, "x-v0", [], data_format="zarr")
    with pytest.raises(InputError, match="data_format 'zarr': expected hdf5, arrow or parquet"):
        load_dataset("minari:x-v0")

    (root / "x-v0" / "data" / "metadata.json").write_text("{")
    with pytest.raises(InputError, match=r"metadata\.json: Expecting property name"):
        load_dataset("minari:x-v0")


# ---- what is not there


def test_not_on_disk(root):
    absent = r"^minari:D4RL/door/human-v2: no data set in .*human-v2; download = true, or"
    with pytest.raises(InputError, match=absent):
        load_dataset("minari:D4RL/door/human-v2")
    assert not root.exists()

    put(root, "D4RL/door/human-v1", [episode(3)])
    with pytest.raises(InputError, match=r"did you mean 'D4RL/door/human-v1'\?; download"):
        load_dataset("minari:D4RL/door/human-v2")


def test_default_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    put(tmp_path / "home" / ".minari" / "datasets", "x-v0", [episode(3)])
    assert len(load_dataset("minari:x-v0")) == 3


def test_download_asks_the_package(root, monkeypatch):
    stub = types.ModuleType("minari")
    stub.download_dataset = lambda name: put(root, name, [episode(4)])
    monkeypatch.setitem(sys.modules, "minari", stub)
    assert len(load_dataset("minari:a/x-v0", download=True)) == 4

    def fail(name):
        raise RuntimeError("Name or service not known\nand more")

    stub.download_dataset = fail
    # A data set on disk is not fetched again.
    assert len(load_dataset("minari:a/x-v0", download=True)) == 4
    failed = r"^minari:y-v0: no data set in .*, and no download: Name or service not known$"
    with pytest.raises(InputError, match=failed):
        load_dataset("minari:y-v0", download=True)

    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(InputError, match=r"and no download: .*; pip install 'rlop\[minari\]'"):
        load_dataset("minari:y-v0", download=True)


def test_actions_of_several_parts_are_numbered_jointly(root):
    parts = np.array([[0, 1], [1, 3], [1, 1]])
    data = put_one(
        root,
        "parts-v0",
        action={"type": "MultiDiscrete", "nvec": [2, 3], "start": [0, 1]},
        actions=parts,
    )
    assert (data.spec.n_actions, data.spec.action_counts) == (6, (2, 3))
    assert data.action.tolist() == [0, 5, 3]


# ---- memory


@pytest.mark.parametrize("claimed", [0, 5, 10**18, "many"])
def test_the_room_that_the_metadata_claim_does_not_matter(root, claimed):
    put(root, "x-v0", [episode(3), episode(40, first=7), episode(2)], total_steps=claimed)
    data = load_dataset("minari:x-v0")
    assert len(data) == 45
    expected = np.concatenate([episode(steps, first)["rewards"] for steps, first in PARTS])
    assert np.array_equal(data.reward, expected)


PARTS = ((3, 0), (40, 7), (2, 0))


def test_truncations_within_an_episode_are_kept(root):
    flags = np.array([0, 1, 0], bool)
    put(root, "x-v0", [episode(3, truncations=flags)])
    data = load_dataset("minari:x-v0")
    assert data.truncated.tolist() == [False, True, False]
    assert data.terminated.tolist() == [False, False, True]
