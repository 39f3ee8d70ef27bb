"""MuJoCo and gymnasium-robotics: D4RL's tasks in them, rows collected there, and the scripts."""

import json
import runpy
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.collect import read

from rlop.collect.collector import collect
from rlop.data.formats.hdf5 import write_hdf5
from rlop.envs.layouts import d4rl_env, simulator
from rlop.envs.make import make_env, make_vec_env
from rlop.training.checkpoint import load
from rlop.training.evaluate import Evaluator
from rlop.types import InputError, Spec

pytest.importorskip("mujoco")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def robotics():
    pytest.importorskip("gymnasium_robotics")


# ---- environments


@pytest.mark.parametrize(
    ("name", "width", "actions"), [("Hopper", 11, 3), ("HalfCheetah", 17, 6), ("Walker2d", 17, 6)]
)
@pytest.mark.parametrize("version", [4, 5])
def test_gym_environments_have_d4rls_layout(name, width, actions, version):
    # A warning about version 4 would be an error here.
    env = make_env(f"{name}-v{version}", layout="d4rl")
    assert env.observation_space.shape == (width,)
    assert env.action_space.shape == (actions,)

    # D4RL's layout: positions without the first, then velocities.
    obs, _ = env.reset(seed=0)
    data = simulator(env)
    np.testing.assert_allclose(obs, np.append(data.qpos[1:], np.clip(data.qvel, -10, 10)))


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("FrankaKitchen-v1", "59 observations, positions and velocities; D4RL's kitchen has 60"),
        ("AntMaze_UMaze-v5", "expected version -v4"),
        ("PointMaze_UMaze-v3", "another origin"),
        ("Ant-v4", "D4RL's ant has 111"),
        ("CartPole-v1", "known are Hopper"),
    ],
)
def test_layouts_that_cannot_be_are_named(robotics, env_id, message):
    with pytest.raises(InputError, match=f"{env_id}.*{message}"):
        make_env(env_id, layout="d4rl")
    with pytest.raises(InputError, match=f"{env_id}.*{message}"):
        make_vec_env(env_id, 2, layout="d4rl")


def test_an_unknown_layout_is_named():
    with pytest.raises(InputError, match=r"layout 'd4r': unknown, did you mean 'd4rl'\?"):
        make_env("Hopper-v4", layout="d4r")


def test_dictionaries_are_refused_with_a_hint(robotics, tmp_path):
    with pytest.raises(InputError, match=r"AntMaze_UMaze-v4'.*try layout d4rl"):
        collect("AntMaze_UMaze-v4", "random", 10, tmp_path / "x.hdf5")
    with pytest.raises(InputError, match=r"AntMaze_UMaze-v4: .*\{layout: d4rl\}"):
        Evaluator("AntMaze_UMaze-v4", [0], episodes=1, spec=Spec((29,), action_shape=(8,)))


# ---- AntMaze


def ant_maze(name="UMaze"):
    return make_env(f"AntMaze_{name}-v4", layout="d4rl")


@pytest.mark.parametrize(
    ("name", "goal", "limit"),
    [("UMaze", (0, 8), 700), ("Medium", (20, 20), 1000), ("Large", (32, 24), 1000)],
)
def test_ant_mazes_start_at_the_origin_and_end_at_d4rls_goal(robotics, name, goal, limit):
    env = ant_maze(name)
    assert env.spec.max_episode_steps == limit

    # D4RL starts within 0.1 of the first cell's middle, and draws goals in [0, 1.5] next to the
    # middle of the last.
    goals = []
    for seed in range(5):
        obs, _ = env.reset(seed=seed)
        assert obs.shape == (29,)
        assert np.abs(obs[:2]).max() <= 0.1
        goals.append(env.goal - goal)
    assert np.min(goals) >= 0
    assert np.max(goals) <= 1.5
    assert np.ptp(goals) > 0.3

    again, _ = env.reset(seed=4)
    assert np.array_equal(again, obs)


def test_ant_maze_observations_are_positions_and_velocities(robotics):
    env = ant_maze()
    env.reset(seed=0)
    data = simulator(env)
    for _ in range(20):
        obs, reward, terminated, _, _ = env.step(np.full(8, 0.5))
        state = np.append(data.qpos[2:], data.qvel)
        np.testing.assert_allclose(obs[2:], state, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(obs[:2], data.qpos[:2] - env.origin, atol=1e-5)
        assert (reward, terminated) == (0.0, False)

    model = env.unwrapped.ant_env.model
    assert model.opt.timestep == 0.02
    assert (model.actuator_gear[:, 0] == 30).all()


def test_ant_maze_walls_stand_where_d4rl_has_them(robotics):
    """Of the U: the way to +x is open for two cells, the one to +y closed until the far end."""
    env = ant_maze()
    env.reset(seed=0)
    model = env.unwrapped.ant_env.model
    walls = set()
    for position in model.geom_pos[model.geom_type == 6]:
        cell = np.round((position[:2] - env.origin) / 4)
        walls.add(tuple(cell.astype(int)))

    cells = set(product(range(-1, 4), range(-1, 4)))
    assert cells - walls == {(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2)}


@pytest.mark.parametrize(("gap", "reached"), [(0.7, False), (0.3, True)])
def test_ant_maze_pays_and_ends_within_half_a_unit_of_the_goal(robotics, gap, reached):
    env = ant_maze()
    env.reset(seed=0)
    data = simulator(env)
    data.qpos[:2] = env.goal + env.origin + [gap, 0]
    data.qvel[:] = 0

    obs, reward, terminated, truncated, _ = env.step(np.zeros(8))
    assert abs(np.linalg.norm(obs[:2] - env.goal) - gap) < 0.15
    assert reward == float(reached)
    assert terminated == reached
    assert not truncated


def test_a_dropped_pen_ends_the_episode(robotics):
    env = make_env("AdroitHandPen-v1", layout="d4rl")
    assert env.spec.max_episode_steps == 100
    env.reset(seed=0)
    assert not env.step(np.zeros(24))[2]

    simulator(env).qpos[24] = 0.2  # the pen's first joint slides it down
    obs, _, terminated, _, _ = env.step(np.zeros(24))
    assert obs[26] < 0.075
    assert terminated


# ---- collecting


def test_every_row_has_the_simulators_state(tmp_path):
    arrays, attributes = read(collect("Hopper-v4", "random", 120, tmp_path / "x.hdf5", n_envs=3))
    qpos = arrays["infos/qpos"].astype(float)
    qvel = arrays["infos/qvel"].astype(float)
    assert qpos.shape == qvel.shape == (120, 6)
    np.testing.assert_allclose(qpos[:, 1:], arrays["observations"][:, :5], atol=1e-6)

    # Put into the state of a row, the simulator must go where the file says.
    env = make_env("Hopper-v4").unwrapped
    env.reset(seed=0)
    for row in range(0, 120, 7):
        env.set_state(qpos[row], qvel[row])
        obs, reward, terminated, _, _ = env.step(arrays["actions"][row])
        np.testing.assert_allclose(obs, arrays["next_observations"][row], atol=2e-3)
        assert reward == pytest.approx(arrays["rewards"][row], abs=2e-3)
        assert terminated == arrays["terminals"][row] or row == 119

    assert json.loads(attributes["versions"])["mujoco"]
    assert json.loads(attributes["action_low"]) == [-1, -1, -1]


# One episode each; the folder's README has means of 3 to 5: 2437 (with statistics of observations)
# and 9433.
@pytest.mark.parametrize(
    ("algorithm", "name", "low", "high"),
    [("ppo", "Hopper", 2300, 2550), ("sac", "HalfCheetah", 8800, 9900)],
)
def test_real_policies_have_their_levels(shared_data, tmp_path, algorithm, name, low, high):
    pytest.importorskip("stable_baselines3")
    torch.set_num_threads(1)
    zip_path = shared_data / "policies" / algorithm / f"{name}-v3.zip"
    path = collect(f"{name}-v4", f"sb3:{zip_path}", 1000, tmp_path / "x.hdf5", n_envs=1)

    arrays, attributes = read(path)
    reward_sum = arrays["rewards"].sum()
    assert low < reward_sum < high
    assert attributes["return_mean"] == pytest.approx(reward_sum, rel=1e-5)
    assert ("vecnormalize_sha256" in attributes) == (algorithm == "ppo")


def test_a_real_policy_for_other_observations_is_refused(shared_data, tmp_path):
    pytest.importorskip("stable_baselines3")
    zip_path = shared_data / "policies" / "ppo" / "Walker2d-v3.zip"
    refused = r"Walker2d-v3\.zip: ActorCriticPolicy does not fit observations \(17,\)"
    with pytest.raises(InputError, match=refused):
        collect("Walker2d-v4", f"sb3:{zip_path}", 10, tmp_path / "x.hdf5")


# ---- scripts


SMALL = [
    "--agent.hidden=[8]",
    "--agent.policy_hidden=[8]",
    "--agent.batch_size=8",
    "--eval_episodes=1",
    "--steps=4",
]


def write_kitchen(path):
    """Write random rows that look like D4RL's kitchen."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(60, 60))
    actions = rng.uniform(-1, 1, (60, 9))
    arrays = {
        "observations": obs.astype(np.float32),
        "actions": actions.astype(np.float32),
        "rewards": np.ones(60, np.float32),
        "terminals": np.zeros(60, bool),
        "timeouts": np.arange(60) % 20 == 19,
    }
    write_hdf5(path, arrays, {})


def check_logs(folder, evaluated):
    assert load(folder / "checkpoint.pt")["step"] == 4
    assert ("eval/return" in (folder / "metrics.jsonl").read_text()) == evaluated


def test_the_mujoco_script_trains(tmp_path):
    """As a user starts it: in its own process, where mujoco is the package, not the script."""
    options = [
        f"--data={tmp_path / 'data.hdf5'}",
        "--collect.policy=random",
        "--collect.steps=60",
        f"--logdir={tmp_path / 'logs'}",
    ]
    argv = [sys.executable, "scripts/mujoco.py", *options, *SMALL]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check_logs(tmp_path / "logs", evaluated=True)


@pytest.mark.parametrize("script", ["antmaze", "kitchen", "adroit"])
def test_scripts_train(robotics, script, tmp_path, monkeypatch, capsys):
    path = tmp_path / "data.hdf5"
    if script == "kitchen":
        write_kitchen(path)
    else:
        env_id = "AntMaze_UMaze-v4" if script == "antmaze" else "AdroitHandPen-v1"
        collect(env_id, "random", 60, path, env_kwargs={"layout": "d4rl"}, n_envs=1)

    options = [f"--data={path}", f"--logdir={tmp_path / 'logs'}", *SMALL]
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *options])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(f"scripts/{script}.py", run_name="__main__")
    assert stopped.value.code == 0, capsys.readouterr().err

    check_logs(tmp_path / "logs", evaluated=script != "kitchen")


def test_layouts_take_the_environments_own_arguments():
    def make(env_id, **kwargs):
        return env_id, kwargs

    made = d4rl_env("Hopper-v4", "d4rl", make, max_episode_steps=7)
    assert made == ("Hopper-v4", {"max_episode_steps": 7})
