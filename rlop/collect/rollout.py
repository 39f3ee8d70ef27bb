"""Play episodes, and pack them into arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, SupportsFloat, TypeAlias

import numpy as np

from rlop.collect.acting import Act
from rlop.envs.layouts import Physics, simulator
from rlop.envs.spaces import Action, Env, Info, Obs

Step: TypeAlias = tuple[Obs, SupportsFloat, bool, bool, Info]  # as `Env.step` returns it
Rows: TypeAlias = Any  # a list while an episode goes on, an array once it is over


@dataclass
class Episode:
    """One episode while it is played.

    obs, action, qpos and qvel are lists of rows during the episode, and arrays once it is over.
    """

    env: Env
    obs: Rows  # T + 1 observations of T rows
    before: int = 0  # rows played so far in episodes that began earlier
    action: Rows = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False
    policy: int = 0  # position in the mixture of the policy that played it
    physics: Physics | None = None  # MuJoCo's data, if there is a simulator
    qpos: Rows = field(default_factory=list)
    qvel: Rows = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def over(self) -> bool:
        """Whether the environment ended it."""
        return self.terminated or self.truncated

    def step(self, action: Action) -> Step:
        """Play one action, keep the row, and return what the environment returned."""
        if self.physics is not None:
            self.qpos.append(self.physics.qpos.astype(np.float32))
            self.qvel.append(self.physics.qvel.astype(np.float32))

        # A copy, since the caller may write into its array later.
        played = action if isinstance(action, int) else np.array(action)
        self.action.append(played)

        obs, reward, terminated, truncated, info = self.env.step(action)
        self.obs.append(_stored(obs))
        self.reward.append(float(reward))
        self.terminated = bool(terminated)
        self.truncated = bool(truncated)

        if self.over:
            self._pack()
        return obs, reward, terminated, truncated, info

    def _pack(self) -> None:
        """Turn lists of small arrays into arrays: an object per row takes more memory."""
        self.obs = np.array(self.obs)
        self.action = np.array(self.action)
        self.qpos = np.array(self.qpos)
        self.qvel = np.array(self.qvel)


def begin(env: Env, obs: Obs, before: int = 0, policy: int = 0) -> Episode:
    """Begin an episode of an environment that was just reset to `obs`."""
    return Episode(env, [_stored(obs)], before, policy=policy, physics=simulator(env))


def rollouts(
    envs: Sequence[Env],
    play: Act,
    steps: int,
    seed: int | Sequence[int],
    policy: int = 0,
) -> Iterator[tuple[list[Episode], int]]:
    """Play until the first `steps` rows, in the order in which episodes began, are complete.

    An environment stops once none of its later rows can be among them, so the surplus is a fraction
    of an episode for each of the other environments.

    Args:
        envs: played in turn, one step each.
        play: observations `[n, *S]` and a generator to n actions.
        steps: rows wanted.
        seed: seed of the environments and of the generator.
        policy: position in a mixture, recorded in the episodes.

    Yields:
        All episodes in the order in which they began, and the number of their rows, after each
        round.
    """
    rng = np.random.default_rng(seed)
    seeds = np.random.SeedSequence(seed).generate_state(len(envs))

    episodes = []
    for env, env_seed in zip(envs, seeds):
        obs, _ = env.reset(seed=int(env_seed))
        episodes.append(begin(env, obs, policy=policy))

    # Unfinished episodes, in the order in which they began.
    live = list(episodes)
    rows = 0
    while live:
        _step_all(live, play, rng)
        rows += len(live)
        yield episodes, rows

        # At most as many new episodes as rows are still missing.
        ended = [episode for episode in live if episode.over]
        live = [episode for episode in live if _is_wanted(episode, steps)]

        for episode in ended[: max(0, steps - rows)]:
            obs, _ = episode.env.reset()
            following = begin(episode.env, obs, rows, policy)
            live.append(following)
            episodes.append(following)


def _step_all(live: Sequence[Episode], play: Act, rng: np.random.Generator) -> None:
    """Play one step of every live episode, in the order in which they began."""
    obs = np.stack([episode.obs[-1] for episode in live])
    actions = play(obs, rng)

    for place, episode in enumerate(live):
        action = actions[place]
        if action.ndim == 0:
            action = action.item()
        episode.step(action)

        # Each live episode that began earlier has one row more now.
        episode.before += place


def _is_wanted(episode: Episode, steps: int) -> bool:
    """Return whether the next row of an episode is among the first `steps` rows."""
    next_row = episode.before + len(episode)
    return not episode.over and next_row < steps


class Part(NamedTuple):
    """Rows `start` to `stop` (exclusive) of an episode."""

    episode: Episode
    start: int
    stop: int

    @property
    def whole(self) -> bool:
        """Whether the environment ended the episode and all of its rows belong to the part."""
        has_all_rows = self.start == 0 and self.stop == len(self.episode)
        return self.episode.over and has_all_rows


def first(episodes: Sequence[Episode], steps: int) -> list[Part]:
    """Take the first `steps` rows of episodes in order."""
    parts = []
    for episode in episodes:
        stop = min(len(episode), steps)
        steps -= stop
        if stop:
            parts.append(Part(episode, 0, stop))
    return parts


def last(episodes: Sequence[Episode], steps: int) -> list[Part]:
    """Take the last `steps` rows of episodes in order."""
    parts = []
    for episode in reversed(episodes):
        length = len(episode)
        taken = min(length, steps)
        steps -= taken
        if taken:
            parts.append(Part(episode, length - taken, length))
    return parts[::-1]


def interleave(parts: Sequence[Part], rng: np.random.Generator) -> list[Part]:
    """Put the episodes of several policies into random order; those of one policy keep theirs."""
    queues: dict[int, list[Part]] = {}
    for part in reversed(parts):
        queue = queues.setdefault(part.episode.policy, [])
        queue.append(part)

    policies = [part.episode.policy for part in parts]
    turns = rng.permutation(policies).tolist()
    return [queues[policy].pop() for policy in turns]


def pack(parts: Sequence[Part]) -> dict[str, np.ndarray]:
    """Pack rows of episodes into arrays of D4RL's layout.

    The last row of a part that the environment did not end is a time-out.

    Returns:
        observations, actions, rewards, terminals, timeouts, next_observations, infos/policy int8,
        and with a simulator infos/qpos and infos/qvel, its state before the step.
    """
    columns: dict[str, list[Rows]] = {}
    for part in parts:
        for name, column in _columns(part).items():
            columns.setdefault(name, []).append(column)

    arrays = {name: np.concatenate(pieces) for name, pieces in columns.items()}
    arrays["rewards"] = arrays["rewards"].astype(np.float32)
    arrays["infos/policy"] = arrays["infos/policy"].astype(np.int8)
    return arrays


def _columns(part: Part) -> dict[str, Rows]:
    """Cut the columns of one part out of its episode."""
    episode, start, stop = part
    n = stop - start
    terminals = np.zeros(n, bool)
    terminals[-1] = episode.terminated and stop == len(episode)

    # Rows that the environment did not end were cut.
    timeouts = np.zeros(n, bool)
    timeouts[-1] = not terminals[-1]

    columns = {
        "observations": episode.obs[start:stop],
        "actions": episode.action[start:stop],
        "rewards": episode.reward[start:stop],
        "terminals": terminals,
        "timeouts": timeouts,
        "next_observations": episode.obs[start + 1 : stop + 1],
        "infos/policy": np.full(n, episode.policy),
    }
    if episode.physics is not None:
        columns["infos/qpos"] = episode.qpos[start:stop]
        columns["infos/qvel"] = episode.qvel[start:stop]
    return columns


def _stored(obs: Obs) -> np.ndarray:
    """Copy an observation in the dtype that is stored.

    A copy, since an environment may return the same array every time.
    """
    if np.asarray(obs).dtype in (np.uint8, np.bool_):
        return np.array(obs)
    return np.array(obs, dtype=np.float32)
