"""Atari: names of games, the protocol of evaluation, and the emulator that follows it."""

import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from helpers.atari import BREAKOUT, PIXELS, SHORT, Policies
from rlop.agents import DQN

from rlop.cli import main
from rlop.envs.atari import AtariSettings, atari_game, atari_id, vector_arguments
from rlop.envs.make import make_vec_env
from rlop.training.compile import launch_size
from rlop.training.evaluate import Evaluator, make_evaluator
from rlop.training.run import Experiment, from_args
from rlop.types import InputError, Spec

LONGER = {"max_num_frames_per_episode": 500, "num_threads": 1}
CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs" / "atari").glob("*.yaml"))


@pytest.fixture
def ale():
    return pytest.importorskip("ale_py")


# --- names and settings ---


@pytest.mark.parametrize("env_id", [BREAKOUT, "BreakoutNoFrameskip-v4", "Breakout-v0"])
def test_every_form_of_an_id_names_its_game(env_id):
    assert atari_game(env_id) == "Breakout"


def test_games_have_the_id_of_ale():
    assert atari_id("Breakout") == BREAKOUT
    assert atari_id(BREAKOUT) == BREAKOUT
    assert atari_game("d4rl:hopper") is None


def test_every_setting_that_ale_would_choose_otherwise_is_the_protocols():
    assert vector_arguments(BREAKOUT, {"noop_max": 30}) == {
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repeat_action_probability", 1.1),
        ("frameskip", 0),
        ("max_num_frames_per_episode", 0),
        ("noop_max", -1),
        ("num_threads", -1),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(InputError, match=f"{name} = {value}"):
        AtariSettings(**{name: value})


def test_without_ale_py_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(gymnasium, "registry", {})
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(InputError, match=r"rlop\[atari\]"):
        make_vec_env(BREAKOUT, 1)


# --- the emulator ---


def test_the_emulator_follows_the_protocol(ale):
    envs = make_vec_env(BREAKOUT, 2, **SHORT)
    obs, info = envs.reset(seed=1)
    assert obs.shape == (2, 4, 84, 84)
    assert obs.dtype == np.uint8
    assert info["episode_frame_number"].tolist() == [0, 0]

    # Zeros before the first frame.
    assert not obs[:, :3].any()
    assert obs[:, 3].any()

    # All lives, no ball before FIRE, and the time limit.
    for step in range(50):
        obs, reward, _, truncated, info = envs.step(np.zeros(2, np.int64))
        assert reward.tolist() == [0, 0]
        assert info["lives"].tolist() == [5, 5]
        assert truncated.all() == (step == 49)
    envs.close()


def test_all_actions_are_an_option(ale):
    envs = make_vec_env(BREAKOUT, 1, full_action_space=True)
    assert envs.single_action_space.n == 18


def test_sticky_actions_are_drawn_from_the_seed(ale):
    def frames(seed, **options):
        envs = make_vec_env(BREAKOUT, 1, **SHORT, **options)
        envs.reset(seed=seed)
        return np.stack([envs.step(np.array([1 + step % 3]))[0] for step in range(40)])

    assert np.array_equal(frames(1), frames(1))
    assert not np.array_equal(frames(1), frames(2))
    not_sticky = {"repeat_action_probability": 0}
    assert np.array_equal(frames(1, **not_sticky), frames(2, **not_sticky))


# --- evaluation ---


def test_a_score_does_not_depend_on_the_neighbors_and_lengths_are_steps_of_the_agent(ale):
    moves = [1, 2, 2, 3, 2, 3, 3]
    other_moves = [1, 3]
    among = Evaluator(BREAKOUT, [0, 4], 2, SHORT, spec=Spec(*PIXELS), epsilon=0.2)
    returns, lengths = among.rollout(Policies(other_moves, moves))
    assert returns.shape == (2, 2)
    assert lengths.max() == 50
    assert len(np.unique(returns)) > 1

    alone, _ = Evaluator(BREAKOUT, [4], 2, SHORT, epsilon=0.2).rollout(Policies(moves))
    assert np.array_equal(returns[1], alone[0])
    again, _ = among.rollout(Policies(other_moves, moves))
    assert np.array_equal(returns, again)
    among.close()


def test_rewards_are_not_clipped_in_evaluation(ale):
    # In MsPacman a dot pays 10.
    env_id = "ALE/MsPacman-v5"
    score = Evaluator(env_id, [0], 1, LONGER)(Policies([2, 3]))["eval/return"][0]
    assert score >= 10

    clipping = {**LONGER, "reward_clipping": True}
    clipped = Evaluator(env_id, [0], 1, clipping)(Policies([2, 3]))["eval/return"][0]
    assert clipped == score / 10


def test_epsilon_is_a_thousandth_for_atari_and_zero_elsewhere(ale):
    assert Evaluator(BREAKOUT, [0], 1, SHORT).epsilon == 0.001
    assert Evaluator(BREAKOUT, [0], 1, SHORT, epsilon=0).epsilon == 0
    assert Evaluator("CartPole-v1", [0], 1).epsilon == 0


def test_epsilon_makes_actions_random():
    def score(epsilon):
        evaluator = Evaluator("CartPole-v1", [0], 50, epsilon=epsilon)
        return evaluator(Policies([1]))["eval/return"]

    # Pushing one way falls in 10 steps, random pushes in 20.
    assert score(0.9) > score(0) + 3
    with pytest.raises(InputError, match="eval_epsilon = 2"):
        score(2)


def test_a_training_may_set_epsilon():
    assert Experiment().eval_epsilon is None
    with pytest.raises(InputError, match="eval_epsilon"):
        Experiment(eval_epsilon=-1.0)


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        (BREAKOUT, SHORT, r"Breakout-v5: action space Discrete\(4\), but the data has 3"),
        ("ALE/Braekout-v5", SHORT, r"Braekout-v5.*did you mean 'ALE/Breakout-v5'"),
        (BREAKOUT, {"stickyness": 1}, "ALE/Breakout-v5: unknown key 'stickyness'"),
    ],
)
def test_mistakes_in_an_evaluation_are_named_in_one_line(ale, env_id, options, message):
    agent = DQN(Spec((4, 84, 84), 3, (), "uint8"), hidden=(8,))
    with pytest.raises(InputError, match=message):
        make_evaluator(agent, env_id, options, 1)


# --- configurations ---


OF_RLU = {"dr3", "rlu"}  # others read the replay of DQN


def test_the_configurations_exist():
    assert [path.stem for path in CONFIGS] == ["cql", "cql_dr3", "dqn", "dr3", "qr", "rem", "rlu"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_fit_the_protocol(path):
    experiment, _ = from_args([str(path)])
    preset = "cql" if path.stem in OF_RLU else path.stem
    assert experiment.agent["preset"] == f"atari/{preset}"
    assert experiment.steps % experiment.eval_every == 0
    intervals = [experiment.steps, experiment.eval_every, experiment.log_every]
    assert launch_size(intervals, 2000) > 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_say_what_is_missing(path, monkeypatch, capsys, tmp_path):
    folder, game = ("DQN_REPLAY_DIR", "Breakout")
    if path.stem in OF_RLU:
        folder, game = "RLU_DIR", "Asterix"
    monkeypatch.delenv(folder, raising=False)
    assert main(["train", str(path)]) == 2
    assert f"expected option root, or ${folder}" in capsys.readouterr().err

    assert main(["train", str(path), "--data_options.root", str(tmp_path)]) == 2
    assert str(tmp_path / game) in capsys.readouterr().err
