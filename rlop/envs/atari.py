"""Atari 2600 as agents of the DQN family see it: stacks of four gray 84 x 84 frames.

The games are played by ale-py's vector code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rlop.config.checks import check_range
from rlop.config.schema import build

PREFIX = "ALE/"
EPSILON = 0.001  # probability of a random action in evaluation, as in Dopamine


@dataclass(frozen=True)
class AtariSettings:
    """Arguments of ale-py's `AtariVectorEnv`, by default the protocol of the DQN Replay Dataset.

    `AtariVectorEnv` by itself repeats no action, clips rewards, presses FIRE after a reset and
    begins with up to 30 no-op actions. Shape and preprocessing of the observations are
    fixed: maximum of the last two frames of a step, gray, 84 x 84, stacks of four, oldest first,
    zeros before the first frame of an episode.

    Raises:
        InputError: a value out of range.
    Reference: Machado et al. 2018, arXiv:1709.06009, sections 4 and 5; `atari_lib.py` and the gin
        files of Dopamine, whose evaluation also runs with `EPSILON`.
    Differs from: Dopamine in the emulator: ale-py scales frames itself, so its pixels are close but
        not equal to Dopamine's (OpenCV, ROMs of atari-py <= 0.2.5).
    """

    repeat_action_probability: float = 0.25  # sticky actions
    frameskip: int = 4
    max_num_frames_per_episode: int = 108_000  # 27,000 steps of the agent
    noop_max: int = 0
    full_action_space: bool = False  # all 18 actions; the data set has those that the game uses
    reward_clipping: bool = False
    use_fire_reset: bool = False
    episodic_life: bool = False
    num_threads: int = 0  # of the emulators; 0: one for every core

    def __post_init__(self) -> None:
        check_range("repeat_action_probability", self.repeat_action_probability, low=0, high=1)
        check_range("frameskip", self.frameskip, low=1)
        check_range("max_num_frames_per_episode", self.max_num_frames_per_episode, low=1)
        check_range("noop_max", self.noop_max, low=0)
        check_range("num_threads", self.num_threads, low=0)


def vector_arguments(env_id: str, options: Mapping[str, object]) -> dict[str, object]:
    """Return arguments for `gymnasium.make_vec`: the protocol, overridden by `options`.

    Raises:
        InputError: an unknown setting (the message suggests the nearest), or a value of another
            type or out of range.
    """
    settings = build(AtariSettings, options, where=env_id)
    return {**asdict(settings), "vectorization_mode": "vector_entry_point"}


def atari_id(game: str) -> str:
    """Return `ALE/Breakout-v5` for `Breakout`; games are named as in the DQN Replay Dataset."""
    return game if game.startswith(PREFIX) else f"{PREFIX}{game}-v5"


def atari_game(env_id: str) -> str | None:
    """Return `Breakout` for `ALE/Breakout-v5`, `Breakout-v4` or `BreakoutNoFrameskip-v4`.

    Returns:
        The game; None for another form of name.
    """
    match = re.fullmatch(r"(?:ALE/)?(\w+?)(?:NoFrameskip|Deterministic)?-v\d+", env_id)
    return match[1] if match else None
