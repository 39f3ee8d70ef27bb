"""Atari 2600 as agents of the DQN family see it: stacks of four grey 84 x 84 frames, played by ale-py's vector code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rlop.config.checks import check_range
from rlop.config.schema import build

PREFIX = "ALE/"
EPSILON = 0.001  # of random actions in evaluation


@dataclass(frozen=True)
class AtariSettings:
    """Arguments of ale-py's `AtariVectorEnv`, with the defaults of the protocol of the DQN Replay Dataset.

    `AtariVectorEnv` by itself repeats no action, clips rewards, presses FIRE after a reset and begins with up to 30
    actions that do nothing. Shape and preprocessing of the observations are fixed: maximum of the last two frames of a
    step, grey, 84 x 84, stacks of four, oldest first, zeros before the first frame of an episode.

    Raises:
        InputError: a value out of range.

    Reference: Machado et al. 2018, arXiv:1709.06009, sections 4 and 5; `atari_lib.py` and the gin files of Dopamine,
    whose evaluation runs also with `EPSILON`. Differs from: the emulator is that of ale-py and scales frames itself, so
    that pixels are close to those of Dopamine (OpenCV, ROMs of atari-py <= 0.2.5), not equal.
    """

    repeat_action_probability: float = 0.25  # sticky actions
    frameskip: int = 4
    max_num_frames_per_episode: int = 108_000  # 27,000 steps of the agent
    noop_max: int = 0
    full_action_space: bool = False  # all 18 actions; the data set has those that the game knows
    reward_clipping: bool = False
    use_fire_reset: bool = False
    episodic_life: bool = False
    num_threads: int = 0  # of the emulators; 0: one for every core

    def __post_init__(self) -> None:
        check_range("repeat_action_probability", self.repeat_action_probability, low=0, high=1)
        for name in ("frameskip", "max_num_frames_per_episode"):
            check_range(name, getattr(self, name), low=1)
        for name in ("noop_max", "num_threads"):
            check_range(name, getattr(self, name), low=0)


def vector_arguments(env_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for `gymnasium.make_vec`, the settings of the protocol overridden by what is given.

    Raises:
        InputError: an unknown setting, with the nearest, or one of another type or out of range.
    """
    return {
        **asdict(build(AtariSettings, given, where=env_id)),
        "vectorization_mode": "vector_entry_point",
    }


def atari_id(game: str) -> str:
    """`ALE/Breakout-v5` for `Breakout`; the names of the games are those of the DQN Replay Dataset."""
    return game if game.startswith(PREFIX) else f"{PREFIX}{game}-v5"


def atari_game(env_id: str) -> str | None:
    """`Breakout` for `ALE/Breakout-v5`, `Breakout-v4` or `BreakoutNoFrameskip-v4`; None for another form of name."""
    match = re.fullmatch(r"(?:ALE/)?(\w+?)(?:NoFrameskip|Deterministic)?-v\d+", env_id)
    return match[1] if match else None
