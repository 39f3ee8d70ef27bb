"""Scores of a random policy, a human tester and an online DQN in Atari games, and their actions."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rlop.config.checks import closest
from rlop.envs.atari import atari_game
from rlop.types import InputError

RANDOM = "random"
REFERENCES = ("human", "dqn")


def scores() -> dict[str, dict[str, float]]:
    """Read `random`, `human` and `dqn` of every game; `about` in the file gives their sources."""
    return _table()["games"]


def minimal_actions(game: str) -> int | None:
    """Return how many actions a game uses; None for a game that RL Unplugged has not."""
    return _table()["actions"].get(game)


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    return json.loads(files("rlop.data").joinpath("atari.json").read_text())


def human_normalized_score(returns: ArrayLike, game: str) -> np.ndarray:
    """Map returns to the scale where a random policy has 0 and a human games tester 100.

        score = 100 (return - random) / (human - random)

    Args:
        returns: undiscounted returns of unclipped rewards, any shape.
        game: `Breakout`, or an environment's id such as `ALE/Breakout-v5`; 57 games have both
            scores.

    Returns:
        float64, of the shape of `returns`.

    Raises:
        InputError: an unknown game, with the nearest, or one without these scores.

    Reference: Mnih et al. 2015, doi:10.1038/nature14236; scores of dqn_zoo/atari_data.py of DQN
        Zoo, whose episodes begin with up to 30 actions that do nothing and have no sticky actions.
    Differs from: there 1 stands for 100.
    """
    return _normalized(returns, game, "human")


def dqn_normalized_score(returns: ArrayLike, game: str) -> np.ndarray:
    """Map returns to the scale where a random policy has 0 and DQN, trained online, 100.

    Args:
        returns: undiscounted returns of unclipped rewards, any shape.
        game: as in `human_normalized_score`; 55 games have both scores.

    Returns:
        float64, of the shape of `returns`.

    Raises:
        InputError: as `human_normalized_score`.

    Reference: Agarwal et al. 2020, arXiv:1907.04543, section 4.
    Differs from: the DQN is the one of Dopamine's published baselines (last ten of 200 iterations,
        returns in training, mean of 5 runs). The DQN that logged the data set, trained under the
        same protocol but with the optimizer and exploration of Mnih et al. 2015, has no published
        table of scores.
    """
    return _normalized(returns, game, "dqn")


def normalized_scores(returns: ArrayLike, env_id: str) -> dict[str, np.ndarray]:
    """Return `human_normalized` and `dqn_normalized` of returns, where the environment has them."""
    of_game = scores().get(atari_game(env_id) or "", {})
    if RANDOM not in of_game:
        return {}

    normalized: dict[str, np.ndarray] = {}
    for name in REFERENCES:
        if name in of_game:
            normalized[f"{name}_normalized"] = _normalized(returns, env_id, name)
    return normalized


def _normalized(returns: ArrayLike, game: str, name: str) -> np.ndarray:
    """Map returns to the scale of `random` and the reference `name`."""
    plain = atari_game(game) or game
    if plain not in scores():
        raise InputError(f"game {plain!r}: unknown{closest(plain, scores())}")

    of_game = scores()[plain]
    if RANDOM not in of_game or name not in of_game:
        raise InputError(
            f"game {plain!r}: has only the score of {', '.join(of_game)}, "
            f"expected random and {name}"
        )

    low = of_game[RANDOM]
    high = of_game[name]
    return 100 * (np.asarray(returns, np.float64) - low) / (high - low)
