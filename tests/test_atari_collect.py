"""Collecting a replay log from Atari."""

import gymnasium
import numpy as np
import pytest
from helpers.atari import BREAKOUT, PIXELS, Counter

from rlop.cli import main
from rlop.collect.atari import Log, collect_dqn_replay
from rlop.data import read_dqn_replay
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


# --- the emulator ---


def test_a_collection_is_read_back_and_overwritten_only_on_request(ale, tmp_path, monkeypatch):
    folder = str(tmp_path / "Breakout" / "1")
    command = ["collect", "--format", "dqn-replay", "--env", "Breakout", "--envs", "2"]
    command += ["--steps", "150"]
    assert main([*command, "--rows-per-file", "100", folder]) == 0

    monkeypatch.setenv("DQN_REPLAY_DIR", str(tmp_path))
    data = read_dqn_replay("dqn-replay:Breakout/1")
    assert data.spec == Spec(*PIXELS, BREAKOUT)
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
