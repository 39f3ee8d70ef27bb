"""Play episodes, and pack them into arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from rlop.envs.layouts import simulator


@dataclass
class Episode:
    """One episode while it is played; `obs` holds one observation more than there are rows."""

    env: gymnasium.Env[Any, Any]
    obs: Any
    before: int = 0  # rows of the episodes begun earlier, as far as they are known by now
    action: Any = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False
    policy: int = 0  # which policy of a mixture played it
    physics: Any = None  # what holds qpos and qvel of a MuJoCo environment
    qpos: Any = field(default_factory=list)
    qvel: Any = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def over(self) -> bool:
        """Whether the environment ended it."""
        return self.terminated or self.truncated

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Play one action, keep what came of it, and return what the environment did."""
        if self.physics is not None:
            self.qpos.append(self.physics.qpos.astype(np.float32))
            self.qvel.append(self.physics.qvel.astype(np.float32))
        played = (
            action if isinstance(action, int) else np.array(action)
        )  # the caller may write into it later
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.obs.append(_stored(obs))
        self.action.append(played)
        self.reward.append(float(reward))
        self.terminated, self.truncated = bool(terminated), bool(truncated)
        if self.over:  # an array per row would weigh more than the row
            for name in ("obs", "action", "qpos", "qvel"):
                setattr(self, name, np.array(getattr(self, name)))
        return obs, reward, terminated, truncated, info


def begin(env: gymnasium.Env[Any, Any], obs: Any, before: int = 0, policy: int = 0) -> Episode:
    """An episode of an environment that was just reset to `obs`."""
    return Episode(env, [_stored(obs)], before, policy=policy, physics=simulator(env))


def rollouts(
    envs: Sequence[gymnasium.Env[Any, Any]],
    play: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    steps: int,
    seed: int | Sequence[int],
    policy: int = 0,
) -> Iterator[tuple[list[Episode], int]]:
    """Play until the first `steps` rows, in the order in which episodes began, are there.

    An environment rests once no later row of its can be among them, so the surplus is a fraction of an episode for
    each of the others.

    Args:
        envs: played in turn, one step each.
        play: observations `[n, *S]` and a generator to n actions.
        steps: rows wanted.
        seed: of the environments and of the generator.
        policy: what the episodes are marked with.

    Yields:
        All episodes in the order in which they began, and the number of their rows, after each round.
    """
    rng = np.random.default_rng(seed)
    seeds = np.random.SeedSequence(seed).generate_state(len(envs))
    episodes = [begin(env, env.reset(seed=int(s))[0], policy=policy) for env, s in zip(envs, seeds)]
    live, rows = list(episodes), 0
    while live:
        for place, (episode, action) in enumerate(
            zip(live, play(np.stack([e.obs[-1] for e in live]), rng))
        ):
            episode.step(action.item() if action.ndim == 0 else action)
            episode.before += place  # each of the live ones begun earlier has one row more
        rows += len(live)
        yield episodes, rows
        over = [episode for episode in live if episode.over]
        live = [
            episode
            for episode in live
            if not episode.over and episode.before + len(episode) < steps
        ]
        for episode in over[: max(0, steps - rows)]:
            live.append(begin(episode.env, episode.env.reset()[0], rows, policy))
            episodes.append(live[-1])


class Part(NamedTuple):
    """Rows `start` to `stop` (exclusive) of an episode."""

    episode: Episode
    start: int
    stop: int

    @property
    def whole(self) -> bool:
        """Whether the environment ended the episode and all of its rows are here."""
        return self.episode.over and self.start == 0 and self.stop == len(self.episode)


def first(episodes: Sequence[Episode], steps: int) -> list[Part]:
    """The first `steps` rows of episodes in order."""
    lengths = np.array([len(episode) for episode in episodes])
    stops = np.minimum(lengths, np.maximum(0, steps - (np.cumsum(lengths) - lengths)))
    return [Part(episode, 0, stop) for episode, stop in zip(episodes, stops.tolist()) if stop]


def last(episodes: Sequence[Episode], steps: int) -> list[Part]:
    """The last `steps` rows of episodes in order."""
    lengths = np.array([len(episode) for episode in episodes])
    starts = np.maximum(
        0, lengths - np.maximum(0, steps - (np.cumsum(lengths[::-1])[::-1] - lengths))
    )
    rows = zip(episodes, starts.tolist(), lengths.tolist())
    return [Part(episode, start, length) for episode, start, length in rows if start < length]


def interleave(parts: Sequence[Part], rng: np.random.Generator) -> list[Part]:
    """Whole episodes of several policies in random order; those of one policy keep theirs."""
    queues = {
        policy: [p for p in parts if p.episode.policy == policy]
        for policy in {p.episode.policy for p in parts}
    }
    turns = rng.permutation([part.episode.policy for part in parts])
    iterators = {policy: iter(queue) for policy, queue in queues.items()}
    return [next(iterators[int(policy)]) for policy in turns]


def pack(parts: Sequence[Part]) -> dict[str, np.ndarray]:
    """Rows of episodes in D4RL's layout; the last row of a part that the environment did not end is a time-out.

    Returns:
        observations, actions, rewards, terminals, timeouts, next_observations, infos/policy int8, and where there is a
        simulator infos/qpos and infos/qvel, its state before the step.
    """
    ends = np.cumsum([stop - start for _, start, stop in parts]) - 1
    terminals = np.zeros(ends[-1] + 1, bool)
    terminals[ends] = [episode.terminated and stop == len(episode) for episode, _, stop in parts]
    timeouts = np.zeros_like(terminals)
    timeouts[ends] = ~terminals[ends]
    arrays = {
        "observations": np.concatenate([episode.obs[start:stop] for episode, start, stop in parts]),
        "actions": np.concatenate([episode.action[start:stop] for episode, start, stop in parts]),
        "rewards": np.concatenate(
            [episode.reward[start:stop] for episode, start, stop in parts]
        ).astype(np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
        "next_observations": np.concatenate(
            [episode.obs[start + 1 : stop + 1] for episode, start, stop in parts]
        ),
        "infos/policy": np.repeat(
            [part.episode.policy for part in parts], np.diff(ends, prepend=-1)
        ).astype(np.int8),
    }
    if all(episode.physics is not None for episode, _, _ in parts):
        for name in ("qpos", "qvel"):
            kept = [getattr(episode, name)[start:stop] for episode, start, stop in parts]
            arrays[f"infos/{name}"] = np.concatenate(kept)
    return arrays


def _stored(obs: Any) -> np.ndarray:
    """A copy, since an environment may return one and the same array every time, in the dtype that is stored."""
    return np.array(
        obs, dtype=None if np.asarray(obs).dtype in (np.uint8, np.bool_) else np.float32
    )
