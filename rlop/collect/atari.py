"""Roll a policy out in an Atari game and write a replay log as Dopamine does."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from rlop.collect.collector import Play, checked_actions
from rlop.collect.dqn_replay import write_dqn_replay
from rlop.collect.policies import TRAINED, Act, make_policy
from rlop.collect.writer import stop_signals
from rlop.config.checks import check_range
from rlop.data.dqn_replay.storage import available_bytes
from rlop.envs.atari import atari_game, atari_id
from rlop.envs.make import make_vec_env
from rlop.logs.progress import Progress
from rlop.types import InputError

MILLION = 1_000_000  # transitions of a published file


def collect_dqn_replay(
    game: str,
    policy: str | Act,
    steps: int,
    folder: str | Path,
    *,
    epsilon: float = 0.0,
    stochastic: bool = False,
    seed: int = 0,
    env_kwargs: Mapping[str, Any] | None = None,
    n_envs: int = 8,
    rows_per_file: int = MILLION,
    clip_reward: bool = True,
    overwrite: bool = False,
) -> Path:
    """Exactly `steps` transitions of a policy, as checkpoints that `read_dqn_replay`, Dopamine and batch_rl read.

    Each of the environments plays as many steps of a checkpoint as the others, whatever its episodes' lengths, and
    begins anew for the next one; where it is cut the last row is marked as a time-out. Of the frames only the newest of
    each stack is kept: 7.06 GB of memory for a million rows. A checkpoint depends on the seed and its number alone.

    When interrupted (SIGINT, SIGTERM), what has been played of the present checkpoint is written.

    Args:
        game: `Breakout` or `ALE/Breakout-v5`.
        policy: `random`, `sb3:FILE.zip`, `sb3:ALGORITHM:FILE.zip`, or a function of observations `[n, 4, 84, 84]` uint8
            and a generator that returns n actions.
        steps: number of transitions.
        folder: `.../GAME/RUN`; the files go to `replay_logs` in it, and `dqn-replay:GAME/RUN` with the root `...` names
            the data.
        epsilon: probability of a uniformly random action at each step.
        stochastic: draw from the policy's distribution instead of taking its mode.
        seed: of environments and exploration.
        env_kwargs: of the environment, see `AtariSettings`.
        n_envs: environments stepped together.
        rows_per_file: transitions of a checkpoint; the last one has what is left.
        clip_reward: to [-1, 1], as in the published files.
        overwrite: replace the checkpoints in the folder, all of them.

    Returns:
        The folder of the files.

    Raises:
        InputError: before anything is played, for anything wrong with the above, or too little memory; later, for
            impossible actions.
        KeyboardInterrupt, SystemExit: once the rows of an interrupted run are written.
    """
    env_id = atari_id(game)
    for name, value in (("steps", steps), ("n_envs", n_envs), ("rows_per_file", rows_per_file)):
        check_range(name, value, low=1)
    check_range("epsilon", epsilon, low=0, high=1)
    logs = _free_folder(Path(folder), atari_game(env_id) or game, overwrite)
    envs = make_vec_env(env_id, min(n_envs, steps, rows_per_file), **(env_kwargs or {}))
    shape = (envs.single_observation_space.shape or ())[1:]
    _check_memory(min(steps, rows_per_file) * int(np.prod(shape)))
    play = _play(policy, envs, epsilon, seed, stochastic)
    started, done, returns = time.perf_counter(), 0, list[float]()
    with stop_signals() as received, Progress(steps) as bar:
        for suffix, start in enumerate(range(0, steps, rows_per_file)):
            log = Log(min(rows_per_file, steps - start), envs.num_envs, shape)
            log.play(
                envs,
                play,
                [seed, suffix],
                received,
                lambda rows, start=start: bar.update(start + rows),
            )
            if (
                suffix == 0 and (log.at > log.begin).any()
            ):  # only now is there something in place of what was there
                for path in logs.glob("*_ckpt.*.gz"):
                    path.unlink()
            done += log.write(logs, suffix, clip_reward)
            returns += log.returns
            if received:
                break
    envs.close()
    mean = f", return mean {np.mean(returns):.4g}" if returns else ""
    print(
        f"{'interrupted; ' if received else ''}{logs}: {done} steps, {len(returns)} whole episodes{mean}, "
        f"{done / (time.perf_counter() - started):,.0f} steps/s"
    )
    if received:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])
    return logs


class Log:
    """The rows of one checkpoint while they are played; those of each environment stand together, in order.

    Args:
        rows: of all environments.
        n_envs: their number.
        shape: of a frame.
    """

    def __init__(self, rows: int, n_envs: int, shape: Sequence[int]) -> None:
        self.frames = np.empty((rows, *shape), np.uint8)
        self.action, self.reward = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
        self.terminal, self.truncated = np.zeros(rows, bool), np.zeros(rows, bool)
        bounds = np.arange(n_envs + 1) * rows // n_envs
        self.begin, self.end = bounds[:-1], bounds[1:]  # rows of each environment
        self.at = self.begin.copy()
        self.returns: list[float] = []  # of whole episodes

    def play(
        self, envs: Any, play: Play, seed: list[int], received: Sequence[int], shown: Any
    ) -> None:
        """Fill the rows, or stop at a signal."""
        rng = np.random.default_rng(seed)
        obs, _ = envs.reset(seed=int(rng.integers(2**30)))
        fresh, reward_sum = np.zeros(len(self.at), bool), np.zeros(len(self.at))
        while (self.at < self.end).any() and not received:
            action = play(obs, rng)
            seen, (obs, reward, terminated, truncated, _) = obs[:, -1], envs.step(action)
            over = (terminated | truncated) & ~fresh
            kept = ~fresh & (
                self.at < self.end
            )  # the step after an episode only brings the first frame of the next
            rows = self.at[kept]
            self.frames[rows], self.action[rows], self.reward[rows] = (
                seen[kept],
                action[kept],
                reward[kept],
            )
            self.terminal[rows], self.truncated[rows] = (
                terminated[kept],
                (truncated & ~terminated)[kept],
            )
            reward_sum += np.where(kept, reward, 0)
            self.returns += reward_sum[over & kept].tolist()
            reward_sum[over] = 0
            self.at += kept
            fresh = over
            shown(int((self.at - self.begin).sum()))

    def write(self, folder: Path, suffix: int, clip_reward: bool) -> int:
        """Write the rows that are there as one checkpoint; how many."""
        cut = self.at[self.at > self.begin] - 1
        self.truncated[cut] |= ~self.terminal[cut]
        there: Any = slice(None)  # a view: the frames are not copied
        if (self.at < self.end).any():
            there = np.concatenate([np.arange(*ends) for ends in zip(self.begin, self.at)])
        reward = np.clip(self.reward, -1, 1) if clip_reward else self.reward
        columns = (self.frames, self.action, reward, self.terminal, self.truncated)
        rows = int((self.at - self.begin).sum())
        if rows:
            write_dqn_replay(folder, *(column[there] for column in columns), suffix=suffix)
        return rows


def _free_folder(folder: Path, game: str, overwrite: bool) -> Path:
    if not folder.name.isdigit() or folder.parent.name != game:
        raise InputError(
            f"{folder}: expected a folder that ends in {game}/RUN with a number RUN, e.g. data/{game}/1"
        )
    logs = folder / "replay_logs"
    if any(logs.glob("*_ckpt.*.gz")) and not overwrite:
        raise InputError(
            f"{logs}: has checkpoints already; choose another number of the run, or overwrite"
        )
    return logs


def _check_memory(needed: int) -> None:
    free = available_bytes()
    if free is not None and needed > free:
        raise InputError(
            f"rows_per_file: its frames need {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are free: expected "
            f"fewer rows per file"
        )


def _play(policy: str | Act, envs: Any, epsilon: float, seed: int, stochastic: bool) -> Play:
    if isinstance(policy, str) and policy.partition(":")[0] in (*TRAINED, "replay"):
        raise InputError(
            f"policy {policy!r}: expected random or sb3:FILE.zip, which acts on stacks of frames"
        )
    spaces: Any = SimpleNamespace(
        observation_space=envs.single_observation_space, action_space=envs.single_action_space
    )
    act, _ = make_policy(policy, lambda: spaces, seed, stochastic)
    return partial(checked_actions, act, envs.single_action_space, epsilon)
