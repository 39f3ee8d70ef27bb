"""Scores of a random policy, a human tester and an online DQN in Atari games, to normalize returns."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from rlop.config.checks import closest
from rlop.envs.atari import atari_game
from rlop.types import InputError

REFERENCES = ("human", "dqn")


@lru_cache(maxsize=1)
def scores() -> dict[str, dict[str, float]]:
    """`random`, `human` and `dqn` of every game, as far as they are known; `about` in the file says whence they are."""
    return json.loads(files("rlop.data").joinpath("atari.json").read_text())["games"]


def human_normalized_score(returns: Any, game: str) -> np.ndarray:
    """Returns on the scale where a random policy has 0 and a human games tester 100.

    score = 100 (return - random) / (human - random)

    Args:
        returns: undiscounted returns of unclipped rewards, any shape.
        game: `Breakout`, or an environment's id such as `ALE/Breakout-v5`; 57 games have both scores.

    Returns:
        float64, of the shape of `returns`.

    Raises:
        InputError: an unknown game, with the nearest, or one without these scores.

    Reference: Mnih et al. 2015, doi:10.1038/nature14236; scores of dqn_zoo/atari_data.py of DQN Zoo, whose episodes
    begin with up to 30 actions that do nothing and have no sticky actions. Differs from: there 1 stands for 100.
    """
    return _normalized(returns, game, "human")


def dqn_normalized_score(returns: Any, game: str) -> np.ndarray:
    """Returns on the scale where a random policy has 0 and DQN, trained online under this protocol, 100.

    Args:
        returns: undiscounted returns of unclipped rewards, any shape.
        game: as in `human_normalized_score`; 55 games have both scores.

    Returns:
        float64, of the shape of `returns`.

    Raises:
        InputError: as `human_normalized_score`.

    Reference: Agarwal et al. 2020, arXiv:1907.04543, section 4. Differs from: the DQN is that of Dopamine's published
    baselines (last ten of 200 iterations, returns in training, mean of 5 runs), for that which logged the data set, of
    the same protocol but the optimizer and exploration of Mnih et al. 2015, has no published table of scores.
    """
    return _normalized(returns, game, "dqn")


def normalized_scores(returns: Any, env_id: str) -> dict[str, np.ndarray]:
    """`human_normalized` and `dqn_normalized` of returns, as far as they exist for an environment; mostly none."""
    known = scores().get(atari_game(env_id) or "", {})
    names = [name for name in REFERENCES if name in known and "random" in known]
    return {f"{name}_normalized": _normalized(returns, env_id, name) for name in names}


def _normalized(returns: Any, game: str, name: str) -> np.ndarray:
    plain = atari_game(game) or game
    if plain not in scores():
        raise InputError(f"game {plain!r}: unknown{closest(plain, scores())}")
    known = scores()[plain]
    if "random" not in known or name not in known:
        raise InputError(
            f"game {plain!r}: has only the score of {', '.join(known)}, expected random and {name}"
        )
    return (
        100 * (np.asarray(returns, np.float64) - known["random"]) / (known[name] - known["random"])
    )
