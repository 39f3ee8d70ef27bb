"""Collecting a replay log from Atari."""

import os
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from helpers.atari import BREAKOUT, PIXELS, Counter

from rlop.cli import main
from rlop.collect.atari import Log, collect_dqn_replay
from rlop.collect.dqn_replay import replacing, write_dqn_replay
from rlop.data import read_dqn_replay
from rlop.data.dqn_replay.files import file_name, read_array
from rlop.envs.make import make_vec_env
from rlop.types import InputError, Spec


@pytest.fixture
def ale():
    return pytest.importorskip("ale_py")


# --- the log, on environments that count ---


def number_of_the_frame(obs, rng):
    return obs[:, 0, 0, 0].astype(np.int64)


def test_rows_of_each_environment_are_contiguous_and_in_order():
    log = Log(11, 2, (2, 2))
    log.play(Counter(2), number_of_the_frame, [0, 0], [], lambda rows: None)
    frames = [0, 1, 2, 10, 11, 50, 51, 52, 60, 61, 62]
    assert log.frames[:, 0, 0].tolist() == frames
    assert log.action.tolist() == frames
    assert log.reward.tolist() == [0, 1, 2, 0, 1, 10, 11, 12, 10, 11, 12]
    assert np.flatnonzero(log.terminal).tolist() == [2, 7]
    assert not log.truncated.any()
    assert log.returns == [3, 33]


def test_a_stopped_log_keeps_what_was_played(tmp_path):
    log = Log(40, 2, (2, 2))
    stop = []

    def stop_at_twelve(rows):
        if rows >= 12:
            stop.append(2)

    log.play(Counter(2), number_of_the_frame, [0, 0], stop, stop_at_twelve)
    assert log.write(tmp_path / "Pong/1/replay_logs", 0, clip_reward=True) == 12

    # The second episode of each is cut after its third row, 12 and 62.
    data = read_dqn_replay("dqn-replay:Pong/1", root=tmp_path)
    last_rows = data.obs.last[data.end]
    assert data.obs.frames[last_rows, 0, 0].tolist() == [2, 11, 52, 61]


# --- overwriting ---


def write(folder, number, fault=None):
    """Write a checkpoint whose frames are a number; then raise the fault, if there is one."""
    frames = np.full((3, 2, 2), number, np.uint8)
    write_dqn_replay(folder, frames, np.zeros(3, int), np.zeros(3), np.array([0, 0, 1], bool))
    if fault is not None:
        raise fault


def number_in(folder):
    return read_array(folder / file_name("observation", 0), "u").max()


@pytest.fixture
def logs(tmp_path):
    folder = tmp_path / "replay_logs"
    write(folder, 1)
    (folder / "notes.txt").write_text("mine")
    (folder / file_name("reward", 7)).touch()  # of an older, longer log
    return folder


def test_new_checkpoints_take_the_place_of_old_ones_once_they_are_whole(logs):
    with replacing(logs) as place:
        write(place, 2)
        assert number_in(logs) == 1
    assert number_in(logs) == 2
    assert (logs / "notes.txt").read_text() == "mine"
    assert not (logs / file_name("reward", 7)).exists()
    assert [path.name for path in logs.parent.iterdir()] == ["replay_logs"]


@pytest.mark.parametrize("fault", [InputError("disk full"), KeyboardInterrupt()], ids=repr)
def test_old_checkpoints_stay_if_new_ones_cannot_be_written(logs, fault):
    before = {path.name: path.read_bytes() for path in logs.iterdir()}
    with pytest.raises(type(fault)), replacing(logs) as place:
        write(place, 2, fault)
    assert {path.name: path.read_bytes() for path in logs.iterdir()} == before
    assert [path.name for path in logs.parent.iterdir()] == ["replay_logs"]


def test_old_checkpoints_stay_if_nothing_was_played(logs):
    with replacing(logs):
        pass
    assert number_in(logs) == 1


def test_old_checkpoints_stay_if_the_new_ones_cannot_take_their_place(logs, monkeypatch):
    rename = os.rename

    def refuse(source, target):
        if str(source).endswith(".tmp"):
            raise OSError(13, "Permission denied", str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(InputError, match="cannot be written"), replacing(logs) as place:
        write(place, 2)
    assert number_in(logs) == 1
    assert [path.name for path in logs.parent.iterdir()] == ["replay_logs"]


def test_without_old_checkpoints_each_new_one_is_there_at_once(tmp_path):
    with replacing(tmp_path) as place:
        assert place == tmp_path


# --- the emulator ---


def test_a_collection_is_read_back_and_overwritten_only_on_request(ale, tmp_path, monkeypatch):
    folder = str(tmp_path / "Breakout" / "1")
    command = ["collect", "--format", "dqn-replay", "--env", "Breakout", "--envs", "2"]
    command += ["--steps", "150"]
    assert main([*command, "--rows-per-file", "100", folder]) == 0

    monkeypatch.setenv("DQN_REPLAY_DIR", str(tmp_path))
    data = read_dqn_replay("dqn-replay:Breakout/1")
    (dropped,) = data.spec.changes
    assert dropped.startswith("18 of 164 rows dropped")  # 14 of them padding
    assert replace(data.spec, changes=()) == Spec(*PIXELS, BREAKOUT)
    assert np.unique(data.infos["file"]).tolist() == [0, 1]
    assert len(data) == 150 - 4  # less the cut row and the last row of each environment

    assert main([*command, "--rows-per-file", "100", folder]) == 2
    assert main([*command, "--overwrite", folder]) == 0
    data = read_dqn_replay("dqn-replay:Breakout/1")
    assert np.unique(data.infos["file"]).tolist() == [0]


def replayed(seed, moves):
    """Stacks and rewards of the actions of one of Breakout's first episodes, and how it ends."""
    envs = make_vec_env(BREAKOUT, 1)
    rng = np.random.default_rng([seed, 0])
    obs, _ = envs.reset(seed=int(rng.integers(2**30)))
    stacks = []
    rewards = []
    for move in moves:
        stacks.append(obs[0])
        obs, reward, terminated, _, _ = envs.step(np.array([move]))
        rewards.append(reward[0])
    return np.stack(stacks), np.array(rewards), terminated[0]


def test_stacks_and_rewards_are_those_of_the_emulator(ale, tmp_path):
    collect_dqn_replay(BREAKOUT, "random", 500, tmp_path / "Breakout/2", seed=1, n_envs=1)
    data = read_dqn_replay("dqn-replay:Breakout/2", root=tmp_path)
    length = int(np.flatnonzero(data.terminated)[0]) + 1
    stacks, rewards, terminated = replayed(1, data.action[:length])

    assert terminated
    assert rewards.sum() > 0
    assert np.array_equal(data.reward[:length], np.clip(rewards, -1, 1))
    assert np.array_equal(np.asarray(data.obs[:length]), stacks)
    assert np.array_equal(np.asarray(data.next_obs[: length - 1]), stacks[1:])


class Pixels(gymnasium.Env):
    """Spaces of Breakout."""

    observation_space = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space = gymnasium.spaces.Discrete(4)


def test_a_policy_of_stable_baselines_acts_on_stacks(ale, tmp_path):
    sb3 = pytest.importorskip("stable_baselines3")
    model = sb3.DQN("CnnPolicy", Pixels(), buffer_size=1, device="cpu", seed=0)
    model.save(tmp_path / "policy.zip")

    policy = f"sb3:dqn:{tmp_path / 'policy.zip'}"
    collect_dqn_replay("Breakout", policy, 40, tmp_path / "Breakout/1", n_envs=2)
    data = read_dqn_replay("dqn-replay:Breakout/1", root=tmp_path, n_actions=4)
    expected, _ = model.predict(np.asarray(data.obs), deterministic=True)
    assert np.array_equal(data.action, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Braekout", "random", 10, "Braekout/1"), r"Braekout-v5.*did you mean 'ALE/Breakout-v5'"),
        (("Breakout", "random", 10, ""), r"ends in Breakout/RUN"),
        (("Breakout", "ppo:100", 10, "Breakout/1"), r"'ppo:100': expected random or sb3"),
    ],
)
def test_bad_input_of_a_collection_is_named_before_anything_is_written(
    ale, tmp_path, arguments, message
):
    *arguments, folder = arguments
    with pytest.raises(InputError, match=message):
        collect_dqn_replay(*arguments, tmp_path / folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("steps", "options", "message"),
    [
        (10**12, {"rows_per_file": 10**12}, r"rows_per_file: its frames need .* GB"),
        (10, {"epsilon": 2}, "epsilon = 2"),
    ],
)
def test_bad_options_of_a_collection_are_named_before_anything_is_written(
    ale, tmp_path, steps, options, message
):
    with pytest.raises(InputError, match=message):
        collect_dqn_replay("Breakout", "random", steps, tmp_path / "Breakout/1", **options)
    assert not list(tmp_path.iterdir())
