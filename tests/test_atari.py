"""Atari: the protocol of evaluation, and normalized scores."""

import numpy as np
import pytest
import torch
from rlop.agents import DQN

from rlop.data import dqn_normalized_score, human_normalized_score
from rlop.data.atari_scores import normalized_scores, scores
from rlop.envs.atari import AtariSettings, atari_game, atari_id, vector_arguments
from rlop.envs.make import make_vec_env
from rlop.evaluate import Evaluator, make_evaluator
from rlop.experiment import Experiment
from rlop.types import InputError, Spec

BREAKOUT = "ALE/Breakout-v5"
SHORT = {"max_num_frames_per_episode": 200, "num_threads": 1}
LONGER = {"max_num_frames_per_episode": 500, "num_threads": 1}
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
        return torch.stack([torch.full((obs.shape[1],), move[self.at % len(move)]) for move in self.moves])


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
    assert (obs.shape, obs.dtype, info["episode_frame_number"].tolist()) == ((2, 4, 84, 84), np.uint8, [0, 0])
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
    among = Evaluator(BREAKOUT, [0, 4], 3, SHORT, spec=Spec(*PIXELS), epsilon=0.2)
    returns, lengths = among.rollout(Policies(other, move))
    alone, _ = Evaluator(BREAKOUT, [4], 3, SHORT, epsilon=0.2).rollout(Policies(move))
    assert (lengths.max(), returns.shape) == (50, (2, 3))
    assert len(set(returns.flatten().tolist())) > 1
    assert np.array_equal(returns[1], alone[0])
    again, _ = among.rollout(Policies(other, move))
    assert np.array_equal(returns, again)
    among.close()


def test_rewards_are_not_clipped_in_evaluation(ale):
    """In MsPacman a dot pays 10."""
    found = Evaluator("ALE/MsPacman-v5", [0], 1, LONGER)(Policies([2, 3]))
    assert found["eval/return"][0] >= 10
    clipped = Evaluator("ALE/MsPacman-v5", [0], 1, LONGER | {"reward_clipping": True})(Policies([2, 3]))
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
    with pytest.raises(InputError, match=r"ALE/Breakout-v5: action space Discrete\(4\), but the data has 3"):
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
    np.testing.assert_allclose(human_normalized_score([1.7, 16.1, 30.5, 59.3], "Breakout"), [0, 50, 100, 200])
    assert human_normalized_score(-3.05, "ALE/Pong-v5") == pytest.approx(50)
    np.testing.assert_allclose(dqn_normalized_score([[1.7, 93.9541]], BREAKOUT), [[0, 100]])
    assert dqn_normalized_score(47.82705, "Breakout") == pytest.approx(50)


def test_scores_that_are_not_there_are_named():
    with pytest.raises(InputError, match="'Braekout': unknown, did you mean 'Breakout'"):
        human_normalized_score(0, "Braekout")
    with pytest.raises(InputError, match="'Surround': has only the score of random, human, expected random and dqn"):
        dqn_normalized_score(0, "Surround")
    with pytest.raises(InputError, match="'Pooyan': has only the score of dqn"):
        dqn_normalized_score(0, "Pooyan")
    assert normalized_scores(0, "ALE/Pooyan-v5") == normalized_scores(0, "CartPole-v1") == {}
    assert normalized_scores(0, "MinAtar/Breakout-v1") == {}
    assert list(normalized_scores(0, BREAKOUT)) == ["human_normalized", "dqn_normalized"]
    assert list(normalized_scores(0, "ALE/Surround-v5")) == ["human_normalized"]


def test_evaluation_reports_them(ale):
    found = Evaluator(BREAKOUT, [0, 1], 1, SHORT, spec=Spec(*PIXELS))(Policies([1, 3], [1, 2]))
    np.testing.assert_allclose(found["eval/human_normalized"], 100 * (found["eval/return"] - 1.7) / 28.8)
    np.testing.assert_allclose(found["eval/dqn_normalized"], 100 * (found["eval/return"] - 1.7) / (93.9541 - 1.7))
