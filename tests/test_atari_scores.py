"""Normalized scores of Atari games."""

import gymnasium
import numpy as np
import pytest
from helpers.atari import BREAKOUT, PIXELS, SHORT, Policies

from rlop.data import dqn_normalized_score, human_normalized_score
from rlop.data.atari_scores import normalized_scores, scores
from rlop.envs.atari import atari_id
from rlop.envs.make import make_vec_env
from rlop.training.evaluate import Evaluator
from rlop.types import InputError, Spec


@pytest.fixture
def ale():
    return pytest.importorskip("ale_py")


def test_the_table_of_scores_is_whole():
    with_human = 0
    with_dqn = 0
    for game, row in scores().items():
        with_dqn += "dqn" in row
        if "human" in row:
            with_human += "random" in row
            assert row["human"] > row["random"], game
    assert with_human == 57
    assert with_dqn == 60


def test_its_games_are_the_emulators(ale):
    make_vec_env(BREAKOUT, 1).close()  # registers them
    for game in scores():
        assert atari_id(game) in gymnasium.registry


def test_normalized_scores_by_hand():
    # Breakout: random 1.7, human 30.5.  Pong: random -20.7, human 14.6.
    returns = [1.7, 16.1, 30.5, 59.3]
    np.testing.assert_allclose(human_normalized_score(returns, "Breakout"), [0, 50, 100, 200])
    assert human_normalized_score(-3.05, "ALE/Pong-v5") == pytest.approx(50)

    np.testing.assert_allclose(dqn_normalized_score([[1.7, 93.9541]], BREAKOUT), [[0, 100]])
    assert dqn_normalized_score(47.82705, "Breakout") == pytest.approx(50)


def test_missing_scores_are_named():
    with pytest.raises(InputError, match="'Braekout': unknown, did you mean 'Breakout'"):
        human_normalized_score(0, "Braekout")
    with pytest.raises(InputError, match="'Surround': has only the score of random, human"):
        dqn_normalized_score(0, "Surround")
    with pytest.raises(InputError, match="expected random and dqn"):
        dqn_normalized_score(0, "Surround")
    with pytest.raises(InputError, match="'Pooyan': has only the score of dqn"):
        dqn_normalized_score(0, "Pooyan")


@pytest.mark.parametrize(
    ("env_id", "names"),
    [
        (BREAKOUT, ["human_normalized", "dqn_normalized"]),
        ("ALE/Surround-v5", ["human_normalized"]),
        ("ALE/Pooyan-v5", []),
        ("CartPole-v1", []),
        ("MinAtar/Breakout-v1", []),
    ],
)
def test_an_environment_has_the_scores_that_its_game_has(env_id, names):
    assert list(normalized_scores(0, env_id)) == names


def test_evaluation_reports_them(ale):
    evaluator = Evaluator(BREAKOUT, [0, 1], 1, SHORT, spec=Spec(*PIXELS))
    values = evaluator(Policies([1, 3], [1, 2]))
    above_random = values["eval/return"] - 1.7
    np.testing.assert_allclose(values["eval/human_normalized"], 100 * above_random / 28.8)
    np.testing.assert_allclose(values["eval/dqn_normalized"], 100 * above_random / (93.9541 - 1.7))
