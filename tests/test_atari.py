"""Atari: the protocol of evaluation, normalized scores, and collecting a replay log."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rlop.agents import DQN

from rlop.cli import main
from rlop.collect.atari import Log, collect_dqn_replay
from rlop.data import dqn_normalized_score, human_normalized_score, read_dqn_replay
from rlop.data.atari_scores import normalized_scores, scores
from rlop.envs.atari import AtariSettings, atari_game, atari_id, vector_arguments
from rlop.envs.make import make_vec_env
from rlop.training.compile import launch_size
from rlop.training.evaluate import Evaluator, make_evaluator
from rlop.training.run import Experiment, from_args
from rlop.types import InputError, Spec

BREAKOUT = "ALE/Breakout-v5"
SHORT = {"max_num_frames_per_episode": 200, "num_threads": 1}
LONGER = {"max_num_frames_per_episode": 500, "num_threads": 1}
CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs" / "atari").glob("*.yaml"))
PIXELS = ((4, 84, 84), 4, (), "uint8")


@pytest.fixture
def ale():
    return pytest.importorskip("ale_py")


class Policies:
    """R policies that take actions from their own sequences, whatever they see."""

    device = torch.device("cpu")

    def __init__(self, *moves):
        self.moves, self.at = moves, 0

    def act(self, obs):
        self.seen, self.at = obs, self.at + 1
        return torch.stack(
            [torch.full((obs.shape[1],), move[self.at % len(move)]) for move in self.moves]
        )


def test_names_of_games():
    assert atari_id("Breakout") == atari_id(BREAKOUT) == BREAKOUT
    for env_id in (BREAKOUT, "BreakoutNoFrameskip-v4", "Breakout-v0"):
        assert atari_game(env_id) == "Breakout"
    assert atari_game("d4rl:hopper") is None


def test_every_setting_that_ale_would_choose_otherwise_is_the_protocols():
    given = vector_arguments(BREAKOUT, {"noop_max": 30})
    assert given == {
        "vectorization_mode": "vector_entry_point",
        "num_threads": 0,
        "repeat_action_probability": 0.25,
        "frameskip": 4,
        "max_num_frames_per_episode": 4 * 27_000,
        "noop_max": 30,
        "full_action_space": False,
        "reward_clipping": False,
        "use_fire_reset": False,
        "episodic_life": False,
    }


def test_the_emulator_takes_them(ale):
    """What can be seen of each: zeros before the first frame, all lives, no ball before FIRE, and the time limit."""
    envs = make_vec_env(BREAKOUT, 2, **SHORT)
    obs, info = envs.reset(seed=1)
    assert (obs.shape, obs.dtype, info["episode_frame_number"].tolist()) == (
        (2, 4, 84, 84),
        np.uint8,
        [0, 0],
    )
    assert not obs[:, :3].any()
    assert obs[:, 3].any()
    for step in range(50):
        obs, reward, _, truncated, info = envs.step(np.zeros(2, np.int64))
        assert (reward.tolist(), info["lives"].tolist()) == ([0, 0], [5, 5])
        assert truncated.all() == (step == 49)
    envs.close()
    assert make_vec_env(BREAKOUT, 1, full_action_space=True).single_action_space.n == 18


def test_sticky_actions_are_drawn_from_the_runs_seed(ale):
    def frames(seed, **options):
        envs = make_vec_env(BREAKOUT, 1, **SHORT, **options)
        envs.reset(seed=seed)
        return np.stack([envs.step(np.array([1 + step % 3]))[0] for step in range(40)])

    assert np.array_equal(frames(1), frames(1))
    assert not np.array_equal(frames(1), frames(2))
    still = {"repeat_action_probability": 0}
    assert np.array_equal(frames(1, **still), frames(2, **still))


def test_a_score_does_not_depend_on_the_neighbours_and_lengths_are_steps_of_the_agent(ale):
    move, other = [1, 2, 2, 3, 2, 3, 3], [1, 3]
    among = Evaluator(BREAKOUT, [0, 4], 2, SHORT, spec=Spec(*PIXELS), epsilon=0.2)
    returns, lengths = among.rollout(Policies(other, move))
    alone, _ = Evaluator(BREAKOUT, [4], 2, SHORT, epsilon=0.2).rollout(Policies(move))
    assert (lengths.max(), returns.shape) == (50, (2, 2))
    assert len(set(returns.flatten().tolist())) > 1
    assert np.array_equal(returns[1], alone[0])
    again, _ = among.rollout(Policies(other, move))
    assert np.array_equal(returns, again)
    among.close()


def test_rewards_are_not_clipped_in_evaluation(ale):
    """In MsPacman a dot pays 10."""
    found = Evaluator("ALE/MsPacman-v5", [0], 1, LONGER)(Policies([2, 3]))
    assert found["eval/return"][0] >= 10
    clipped = Evaluator("ALE/MsPacman-v5", [0], 1, LONGER | {"reward_clipping": True})(
        Policies([2, 3])
    )
    assert clipped["eval/return"][0] == found["eval/return"][0] / 10


def test_epsilon_of_evaluation(ale):
    assert Evaluator(BREAKOUT, [0], 1, SHORT).epsilon == 0.001
    assert Evaluator(BREAKOUT, [0], 1, SHORT, epsilon=0).epsilon == 0
    assert Evaluator("CartPole-v1", [0], 1).epsilon == 0
    short = Evaluator("CartPole-v1", [0], 50)(Policies([1]))["eval/return"]
    mixed = Evaluator("CartPole-v1", [0], 50, epsilon=0.9)(Policies([1]))["eval/return"]
    assert mixed > short + 3  # pushing one way falls in 10 steps, random pushes in 20
    with pytest.raises(InputError, match="eval_epsilon = 2"):
        Evaluator("CartPole-v1", [0], 1, epsilon=2)


def test_what_is_wrong_is_named_in_one_line(ale):
    agent = DQN(Spec((4, 84, 84), 3, (), "uint8"), hidden=(8,))
    with pytest.raises(
        InputError, match=r"ALE/Breakout-v5: action space Discrete\(4\), but the data has 3"
    ):
        make_evaluator(agent, BREAKOUT, SHORT, 1)
    with pytest.raises(InputError, match=r"ALE/Braekout-v5.*did you mean 'ALE/Breakout-v5'"):
        make_evaluator(agent, "ALE/Braekout-v5", SHORT, 1)
    with pytest.raises(InputError, match="ALE/Breakout-v5: unknown key 'stickyness'"):
        make_evaluator(agent, BREAKOUT, {"stickyness": 1}, 1)
    with pytest.raises(InputError, match="frameskip = 0"):
        AtariSettings(frameskip=0)


def test_without_ale_py_the_extra_is_named(monkeypatch):
    import gymnasium

    monkeypatch.setattr(gymnasium, "registry", {})
    monkeypatch.setitem(__import__("sys").modules, "ale_py", None)
    with pytest.raises(InputError, match=r"rlop\[atari\]"):
        make_vec_env(BREAKOUT, 1)


def test_an_experiment_may_set_epsilon():
    assert Experiment().eval_epsilon is None
    with pytest.raises(InputError, match="eval_epsilon"):
        Experiment(eval_epsilon=-1.0)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_the_table_of_scores_is_whole():
    table = scores()
    assert sum({"random", "human"} <= known.keys() for known in table.values()) == 57
    assert sum("dqn" in known for known in table.values()) == 60
    assert all(known["human"] > known["random"] for known in table.values() if "human" in known)


def test_its_games_are_the_emulators(ale):
    make_vec_env(BREAKOUT, 1).close()
    import gymnasium

    assert all(atari_id(game) in gymnasium.registry for game in scores())


def test_normalized_scores_by_hand():
    # Breakout: random 1.7, human 30.5; Pong: random -20.7, human 14.6
    np.testing.assert_allclose(
        human_normalized_score([1.7, 16.1, 30.5, 59.3], "Breakout"), [0, 50, 100, 200]
    )
    assert human_normalized_score(-3.05, "ALE/Pong-v5") == pytest.approx(50)
    np.testing.assert_allclose(dqn_normalized_score([[1.7, 93.9541]], BREAKOUT), [[0, 100]])
    assert dqn_normalized_score(47.82705, "Breakout") == pytest.approx(50)


def test_scores_that_are_not_there_are_named():
    with pytest.raises(InputError, match="'Braekout': unknown, did you mean 'Breakout'"):
        human_normalized_score(0, "Braekout")
    with pytest.raises(
        InputError, match="'Surround': has only the score of random, human, expected random and dqn"
    ):
        dqn_normalized_score(0, "Surround")
    with pytest.raises(InputError, match="'Pooyan': has only the score of dqn"):
        dqn_normalized_score(0, "Pooyan")
    assert normalized_scores(0, "ALE/Pooyan-v5") == normalized_scores(0, "CartPole-v1") == {}
    assert normalized_scores(0, "MinAtar/Breakout-v1") == {}
    assert list(normalized_scores(0, BREAKOUT)) == ["human_normalized", "dqn_normalized"]
    assert list(normalized_scores(0, "ALE/Surround-v5")) == ["human_normalized"]


def test_evaluation_reports_them(ale):
    found = Evaluator(BREAKOUT, [0, 1], 1, SHORT, spec=Spec(*PIXELS))(Policies([1, 3], [1, 2]))
    np.testing.assert_allclose(
        found["eval/human_normalized"], 100 * (found["eval/return"] - 1.7) / 28.8
    )
    np.testing.assert_allclose(
        found["eval/dqn_normalized"], 100 * (found["eval/return"] - 1.7) / (93.9541 - 1.7)
    )


# --- collecting -------------------------------------------------------------------------------------------------------


class Counter:
    """n environments whose frames say which environment, episode and step they are of; episodes of 3, 4, 5, ... steps.

    The last frame of an episode is never stored, and the step behind it only resets, as in ALE.
    """

    def __init__(self, n):
        self.n = n

    def look(self):
        return np.stack([np.full((4, 2, 2), 50 * i + 10 * e + t, np.uint8) for i, e, t in self.now])

    def reset(self, seed):
        self.now, self.over = [[i, 0, 0] for i in range(self.n)], [False] * self.n
        return self.look(), {}

    def step(self, action):
        reward = np.zeros(self.n)
        for i, now in enumerate(self.now):
            if self.over[i]:
                now[1:], self.over[i] = [now[1] + 1, 0], False
            else:
                reward[i], now[2] = 10 * i + now[2], now[2] + 1
                self.over[i] = now[2] == 3 + now[1]
        even = np.array([now[1] % 2 == 0 for now in self.now])
        over = np.array(self.over)
        return self.look(), reward, over & even, over & ~even, {}


def test_rows_of_each_environment_stand_together_in_order():
    log = Log(11, 2, (2, 2))
    log.play(
        Counter(2), lambda obs, rng: obs[:, 0, 0, 0].astype(np.int64), [0, 0], [], lambda rows: None
    )
    frames = [0, 1, 2, 10, 11, 50, 51, 52, 60, 61, 62]
    assert log.frames[:, 0, 0].tolist() == log.action.tolist() == frames
    assert log.reward.tolist() == [0, 1, 2, 0, 1, 10, 11, 12, 10, 11, 12]
    assert np.flatnonzero(log.terminal).tolist() == [2, 7]
    assert not log.truncated.any()
    assert log.returns == [3, 33]


def test_a_log_that_is_stopped_keeps_what_was_played(tmp_path):
    log, stop = Log(40, 2, (2, 2)), []
    log.play(
        Counter(2),
        lambda obs, rng: np.zeros(2, np.int64),
        [0, 0],
        stop,
        lambda n: stop.extend([2][: n // 12]),
    )
    assert log.write(tmp_path / "Pong/1/replay_logs", 0, clip_reward=True) == 12
    data = read_dqn_replay("dqn-replay:Pong/1", root=tmp_path)
    ends = data.obs.frames[data.obs.last[data.end], 0, 0].tolist()
    assert ends == [
        2,
        11,
        52,
        61,
    ]  # the second episode of each is cut behind its third row, 12 and 62


def replayed(seed, moves):
    """Frames and rewards of a sequence of actions, which is one of Breakout's first episodes, and how it ends."""
    envs = make_vec_env(BREAKOUT, 1)
    rng = np.random.default_rng([seed, 0])
    obs, _ = envs.reset(seed=int(rng.integers(2**30)))
    stacks, rewards = [], []
    for move in moves:
        stacks.append(obs[0])
        obs, reward, terminated, _, _ = envs.step(np.array([move]))
        rewards.append(reward[0])
    return np.stack(stacks), np.array(rewards), terminated[0]


def test_what_is_collected_is_read_back(ale, tmp_path, monkeypatch):
    folder = tmp_path / "Breakout" / "1"
    command = [
        "collect",
        "--format",
        "dqn-replay",
        "--env",
        "Breakout",
        "--steps",
        "150",
        "--envs",
        "2",
    ]
    assert main([*command, "--rows-per-file", "100", str(folder)]) == 0
    monkeypatch.setenv("DQN_REPLAY_DIR", str(tmp_path))
    data = read_dqn_replay("dqn-replay:Breakout/1")
    assert data.spec == Spec(*PIXELS, BREAKOUT)
    assert set(data.infos["file"].tolist()) == {0, 1}
    assert len(data) == 150 - 4  # less the cut row and the last row of each environment
    assert main([*command, "--rows-per-file", "100", str(folder)]) == 2
    assert main([*command, "--overwrite", str(folder)]) == 0
    assert set(read_dqn_replay("dqn-replay:Breakout/1").infos["file"].tolist()) == {0}


def test_stacks_and_rewards_are_those_of_the_emulator(ale, tmp_path):
    collect_dqn_replay(BREAKOUT, "random", 500, tmp_path / "Breakout/2", seed=1, n_envs=1)
    data = read_dqn_replay("dqn-replay:Breakout/2", root=tmp_path)
    length = int(np.flatnonzero(data.terminated)[0]) + 1
    stacks, rewards, terminated = replayed(1, data.action[:length])
    assert terminated
    assert np.array_equal(np.asarray(data.obs[:length]), stacks)
    assert np.array_equal(np.asarray(data.next_obs[: length - 1]), stacks[1:])
    assert np.array_equal(data.reward[:length], np.clip(rewards, -1, 1))
    assert rewards.sum() > 0


def test_a_policy_of_stable_baselines_acts_on_stacks(ale, tmp_path):
    sb3 = pytest.importorskip("stable_baselines3")
    import gymnasium

    class Pixels(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
        action_space = gymnasium.spaces.Discrete(4)

    model = sb3.DQN("CnnPolicy", Pixels(), buffer_size=1, device="cpu", seed=0)
    model.save(tmp_path / "policy.zip")
    file = f"sb3:dqn:{tmp_path / 'policy.zip'}"
    collect_dqn_replay("Breakout", file, 40, tmp_path / "Breakout/1", n_envs=2)
    data = read_dqn_replay("dqn-replay:Breakout/1", root=tmp_path, n_actions=4)
    expected, _ = model.predict(np.asarray(data.obs), deterministic=True)
    assert np.array_equal(data.action, expected)


def test_bad_input_of_a_collection(ale, tmp_path):
    with pytest.raises(InputError, match=r"Braekout-v5.*did you mean 'ALE/Breakout-v5'"):
        collect_dqn_replay("Braekout", "random", 10, tmp_path / "Braekout/1")
    with pytest.raises(InputError, match=r"ends in Breakout/RUN"):
        collect_dqn_replay("Breakout", "random", 10, tmp_path)
    with pytest.raises(InputError, match=r"'ppo:100': expected random or sb3"):
        collect_dqn_replay("Breakout", "ppo:100", 10, tmp_path / "Breakout/1")
    with pytest.raises(InputError, match=r"rows_per_file: its frames need .* GB"):
        collect_dqn_replay(
            "Breakout", "random", 10**12, tmp_path / "Breakout/1", rows_per_file=10**12
        )
    with pytest.raises(InputError, match="epsilon = 2"):
        collect_dqn_replay("Breakout", "random", 10, tmp_path / "Breakout/1", epsilon=2)
    assert not list(tmp_path.iterdir())


# --- configurations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_say_what_is_missing(path, monkeypatch, capsys, tmp_path):
    experiment, _ = from_args([str(path)])
    assert experiment.agent["preset"] == f"atari/{path.stem}"
    assert experiment.steps == 200 * experiment.eval_every
    assert launch_size([experiment.steps, experiment.eval_every, experiment.log_every], 2000) > 1
    monkeypatch.delenv("DQN_REPLAY_DIR", raising=False)
    assert main(["train", str(path)]) == 2
    assert main(["train", str(path), "--data_options.root", str(tmp_path)]) == 2
    variable, folder = capsys.readouterr().err.splitlines()
    assert "expected option root, or $DQN_REPLAY_DIR" in variable
    assert f"no folder {tmp_path / 'Breakout'}" in folder


def test_the_five_configurations_are_there():
    assert [path.stem for path in CONFIGS] == ["cql", "cql_dr3", "dqn", "qr", "rem"]
