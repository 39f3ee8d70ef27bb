"""Play episodes, and pack them into arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np


@dataclass
class Episode:
    """One episode while it is played; `obs` holds one observation more than there are rows."""

    env: gymnasium.Env[Any, Any]
    obs: Any
    before: int = 0  # rows of the episodes begun earlier, as far as they are known by now
    action: list[Any] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def over(self) -> bool:
        """Whether the environment ended it."""
        return self.terminated or self.truncated

    def step(self, action: Any) -> None:
        """Play one action and keep what came of it."""
        obs, reward, terminated, truncated, _ = self.env.step(action)
        self.obs.append(_stored(obs))
        self.action.append(action)
        self.reward.append(float(reward))
        self.terminated, self.truncated = bool(terminated), bool(truncated)
        if self.over:
            self.obs = np.stack(self.obs)  # an array per row would weigh more than the row


def rollouts(
    envs: list[gymnasium.Env[Any, Any]],
    play: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    steps: int,
    seed: int,
) -> Iterator[tuple[list[Episode], int]]:
    """Play until the first `steps` rows, in the order in which episodes began, are there.

    An environment rests once no later row of its can be among them, so the surplus is a fraction of an episode for
    each of the others.

    Args:
        envs: played in turn, one step each.
        play: observations `[n, *S]` and a generator to n actions.
        steps: rows wanted.
        seed: of the environments and of the generator.

    Yields:
        All episodes in the order in which they began, and the number of their rows, after each round.
    """
    rng = np.random.default_rng(seed)
    seeds = np.random.SeedSequence(seed).generate_state(len(envs))
    episodes = [Episode(env, [_stored(env.reset(seed=int(s))[0])]) for env, s in zip(envs, seeds)]
    live, rows = list(episodes), 0
    while live:
        for place, (episode, action) in enumerate(zip(live, play(np.stack([e.obs[-1] for e in live]), rng))):
            episode.step(action.item() if action.ndim == 0 else action)
            episode.before += place  # each of the live ones begun earlier has one row more
        rows += len(live)
        yield episodes, rows
        over = [episode for episode in live if episode.over]
        live = [episode for episode in live if not episode.over and episode.before + len(episode) < steps]
        for episode in over[: max(0, steps - rows)]:
            live.append(Episode(episode.env, [_stored(episode.env.reset()[0])], before=rows))
            episodes.append(live[-1])


def pack(episodes: list[Episode], steps: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The first `steps` rows of the episodes in D4RL's layout, and the returns of the episodes that are whole.

    Args:
        episodes: in order.
        steps: most rows.

    Returns:
        observations, actions, rewards, terminals, timeouts, next_observations; and `[E]` float64.
    """
    lengths = np.array([len(episode) for episode in episodes])
    lengths = np.minimum(lengths, np.maximum(0, steps - (np.cumsum(lengths) - lengths)))
    parts = [(episode, rows) for episode, rows in zip(episodes, lengths.tolist()) if rows]
    ends = np.cumsum([rows for _, rows in parts]) - 1
    terminals = np.zeros(ends[-1] + 1, bool)
    terminals[ends] = [episode.terminated and rows == len(episode) for episode, rows in parts]
    timeouts = np.zeros_like(terminals)
    timeouts[ends] = ~terminals[ends]
    arrays = {
        "observations": np.concatenate([episode.obs[:rows] for episode, rows in parts]),
        "actions": np.concatenate([episode.action[:rows] for episode, rows in parts]),
        "rewards": np.concatenate([episode.reward[:rows] for episode, rows in parts]).astype(np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
        "next_observations": np.concatenate([episode.obs[1 : rows + 1] for episode, rows in parts]),
    }
    whole = [sum(episode.reward) for episode, rows in parts if episode.over and rows == len(episode)]
    return arrays, np.array(whole)


def _stored(obs: Any) -> np.ndarray:
    """A copy, since an environment may return one and the same array every time, in the dtype that is stored."""
    return np.array(obs, dtype=None if np.asarray(obs).dtype in (np.uint8, np.bool_) else np.float32)
