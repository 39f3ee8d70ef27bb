"""OGBench: compact trajectories, and rewards of single tasks computed from the states."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from rlop.data import load_dataset
from rlop.data.formats.ogbench import parse_name
from rlop.data.formats.ogbench_tasks import find_task, relabel
from rlop.types import InputError

LENGTHS = (3, 1, 4)  # steps of each trajectory; each has one observation more
ENVS = {
    "pointmaze-giant": "maze",
    "visual-antmaze-teleport": "maze",
    "antsoccer-arena": "soccer",
    "cube-quadruple": "cube",
    "scene": "scene",
    "puzzle-4x6": "puzzle",
}


def ends():
    """Flags of the last observations."""
    flags = np.zeros(sum(LENGTHS) + len(LENGTHS), bool)
    flags[np.cumsum(np.array(LENGTHS) + 1) - 1] = True
    return flags


def arrays(**changes):
    rows = len(ends())
    rng = np.random.default_rng(4)
    return {
        "observations": np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2),
        "actions": rng.uniform(-1, 1, (rows, 3)).astype(np.float32),
        "terminals": ends(),
        "qpos": rng.normal(size=(rows, 15)).astype(np.float32),
        "qvel": np.zeros((rows, 14), np.float32),
    } | changes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))
    return tmp_path


def save(folder, name="antmaze-medium-navigate-v0", **changes):
    columns = {key: value for key, value in arrays(**changes).items() if value is not None}
    np.savez_compressed(folder / f"{name}.npz", **columns)


def test_trajectories_end_without_terminating(folder, caplog):
    save(folder)
    with caplog.at_level(logging.WARNING, logger="rlop"):
        data = load_dataset("ogbench:antmaze-medium-navigate-v0")
    assert "no rewards" in caplog.text

    assert data.episode_lengths().tolist() == list(LENGTHS)
    assert not data.terminated.any()
    assert not data.reward.any()

    # Read once more, trajectory by trajectory.
    stored, start, row = arrays(), 0, 0
    for steps in LENGTHS:
        rows = slice(row, row + steps)
        seen = stored["observations"][start : start + steps + 1]
        np.testing.assert_array_equal(data.obs[rows], seen[:-1])
        np.testing.assert_array_equal(data.next_obs[rows], seen[1:])
        np.testing.assert_array_equal(data.action[rows], stored["actions"][start : start + steps])
        start, row = start + steps + 1, row + steps
    assert data.spec.action_low == (-1.0, -1.0, -1.0)


def test_a_task_terminates_where_it_is_done(folder):
    qpos = np.full((len(ends()), 15), 9.0, np.float32)
    qpos[[1, 5], :2] = [20.3, 0.3]  # the goal of task 2 is (20, 0), its radius 0.5
    save(folder, qpos=qpos)
    data = load_dataset("ogbench:antmaze-medium-navigate-singletask-task2-v0")

    assert data.reward.tolist() == [-1, 0, -1, -1, -1, -1, -1, -1]  # row 5 ends a trajectory
    assert data.terminated.nonzero()[0].tolist() == [1]
    assert data.truncated.nonzero()[0].tolist() == [2, 3, 7]
    same = load_dataset("ogbench:antmaze-medium-navigate-v0", task=2)
    np.testing.assert_array_equal(same.reward, data.reward)


def test_the_default_task_and_the_path_of_a_file(folder):
    qpos = np.zeros((len(ends()), 15), np.float32)
    qpos[:, :2] = 20
    save(folder, "antmaze-medium-navigate-v0-val", qpos=qpos)
    path = folder / "antmaze-medium-navigate-v0.npz"

    data = load_dataset(f"ogbench:{path}", task=0, validation=True)
    assert data.terminated.all()
    name = "ogbench:antmaze-medium-navigate-singletask-v0"
    assert load_dataset(name, validation=True, root=str(folder)).terminated.all()


def test_images_and_powderworld_keep_their_bytes(folder):
    rows = len(ends())
    save(
        folder,
        "powderworld-easy-play-v0",
        observations=np.arange(rows * 24, dtype=np.uint8).reshape(rows, 2, 2, 6),
        actions=np.arange(rows, dtype=np.int32) % 3,
        qpos=None,
    )
    data = load_dataset("ogbench:powderworld-easy-play-v0")
    assert (data.spec.obs_dtype, data.spec.n_actions, data.spec.action_low) == ("uint8", 8, None)
    assert data.next_obs[0, 0, 0, 0] == 24


def goal_states(task):
    """States that reach a task's goal exactly, one row."""
    qpos, buttons = np.zeros(80), np.zeros(24, int)
    if task.family in ("maze", "soccer"):
        start = 15 if task.family == "soccer" else 0
        qpos[start : start + 2] = task.goal
    if task.family in ("cube", "scene"):
        cubes = task.goal if task.family == "cube" else task.goal["cubes"]
        for number, position in enumerate(cubes):
            qpos[14 + 7 * number : 17 + 7 * number] = position
    if task.family == "scene":
        buttons = np.array(task.goal["buttons"])
        qpos[23:25] = task.goal["drawer"], task.goal["window"]
    if task.family == "puzzle":
        buttons = np.array([int(digit) for digit in task.goal])
    return {"qpos": qpos[None].astype(np.float32), "button_states": buttons[None]}


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("number", range(1, 6))
def test_every_task_is_done_at_its_goal_alone(env, number):
    task = find_task(env, number)
    assert task.family == ENVS[env]
    states = goal_states(task)
    reward, done = relabel(task, states)
    assert (reward.tolist(), done.tolist(), reward.dtype) == ([0], [True], np.float32)

    # A light switched, a cube, the ball or the agent moved by 1.1: one part is wrong.
    moved = {"qpos": states["qpos"] + np.float32(0), "button_states": states["button_states"]}
    if task.family == "puzzle":
        moved["button_states"] = moved["button_states"].copy()
        moved["button_states"][0, 0] ^= 1
    moved["qpos"][0, [0, 14, 15]] += 1.1
    reward, done = relabel(task, moved)
    assert (reward.tolist(), done.tolist()) == ([-1], [False])


def test_parts_count_one_by_one():
    task = find_task("scene", 1)
    states = goal_states(task)
    states["button_states"] = 1 - states["button_states"]
    states["qpos"][0, 24] += 0.041
    assert relabel(task, states)[0].tolist() == [-3]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scene-play-v0", ("scene-play-v0", "scene", "v0", None)),
        ("cube-double-play-singletask-v0", ("cube-double-play-v0", "cube-double", "v0", 0)),
        (
            "visual-puzzle-4x4-noisy-singletask-task5-v0",
            ("visual-puzzle-4x4-noisy-v0", "visual-puzzle-4x4", "v0", 5),
        ),
    ],
)
def test_names_are_taken_apart(name, expected):
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("antmaze-medium-navigate-oraclerep-v0", {}, "oraclerep"),
        ("../x", {}, "expected a name such as"),
        ("cube-double-play-100m-v0", {}, "expected a name such as"),
        ("antmaze-medium-stitch-v0", {}, "its address is https://"),
        ("antmaze-medium-navigate-v0", {"task": 6}, "task = 6: expected 1 to 5"),
        ("antmaze-medium-navigate-singletask-v0", {"task": 1}, "says which task already"),
        ("antmaze-tiny-navigate-singletask-v0", {}, "no file"),
        ("powderworld-easy-play-v0", {"task": 1}, "no tasks are known"),
    ],
)
def test_sources_that_are_refused(folder, source, options, message):
    save(folder)
    save(folder, "powderworld-easy-play-v0")
    with pytest.raises(InputError, match=message):
        load_dataset(f"ogbench:{source}", **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qpos": None}, "qpos: missing, and the rewards of antmaze-medium task 1"),
        ({"qpos": np.zeros((3, 15))}, "qpos: 3 rows, expected 11"),
        ({"qpos": np.zeros((11, 1))}, r"qpos: shape \(8, 1\), expected \[N, 2\]"),
        ({"actions": np.zeros((10, 3))}, r"actions: shape \(10, 3\), expected 11 rows"),
        ({"terminals": np.zeros(0, bool)}, "terminals: 0 rows"),
        ({"terminals": np.ones(11, bool)}, "every row ends a trajectory"),
        ({"terminals": np.arange(11)}, "expected only 0 and 1"),
        ({"observations": np.full((11, 2), np.nan)}, "observations: 8 of 8 rows hold NaN"),
        ({"observations": np.array([None] * 11)}, "observations: an object array"),
    ],
)
def test_files_that_are_refused(folder, changes, message):
    save(folder, **changes)
    with pytest.raises(InputError, match=message) as error:
        load_dataset("ogbench:antmaze-medium-navigate-singletask-v0")
    assert str(error.value).count("antmaze-medium-navigate-v0.npz") == 1
    assert "\n" not in str(error.value)


def test_a_file_of_another_name_has_no_tasks(folder):
    save(folder, "mine")
    assert len(load_dataset(f"ogbench:{folder / 'mine.npz'}")) == sum(LENGTHS)
    with pytest.raises(InputError, match="does not say which environment"):
        load_dataset(f"ogbench:{folder / 'mine.npz'}", task=1)


@pytest.mark.filterwarnings("ignore")
def test_the_package_reads_the_same(folder):
    ogbench = pytest.importorskip("ogbench")
    qpos = np.random.default_rng(0).normal(20, 0.4, (len(ends()), 15)).astype(np.float32)
    save(folder, "pointmaze-medium-navigate-v0", qpos=qpos)
    save(folder, "pointmaze-medium-navigate-v0-val", qpos=qpos)

    name = "pointmaze-medium-navigate-singletask-task1-v0"
    _, theirs, _ = ogbench.make_env_and_datasets(name, dataset_dir=str(folder))
    data = load_dataset(f"ogbench:{name}")
    np.testing.assert_array_equal(data.obs, theirs["observations"])
    np.testing.assert_array_equal(data.next_obs, theirs["next_observations"])
    np.testing.assert_array_equal(data.action, theirs["actions"])
    np.testing.assert_array_equal(data.reward, theirs["rewards"])
    np.testing.assert_array_equal(data.terminated, theirs["masks"] == 0)
    np.testing.assert_array_equal(data.end, (theirs["masks"] == 0) | (theirs["terminals"] == 1))
    assert data.spec.env_id == "pointmaze-medium-singletask-task1-v0"
