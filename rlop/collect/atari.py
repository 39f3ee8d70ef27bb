"""Roll out a policy in an Atari game and write a replay log in Dopamine's format."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from rlop.collect.acting import Act, checked_actions
from rlop.collect.dqn_replay import holds_checkpoints, replacing, write_dqn_replay
from rlop.collect.policies import TRAINED, make_policy
from rlop.collect.signals import raise_received, stop_signals
from rlop.config.checks import check_range
from rlop.data.dqn_replay.storage import available_bytes
from rlop.envs.atari import atari_game, atari_id
from rlop.envs.make import make_vec_env
from rlop.envs.spaces import Env, EnvOptions, Space, VectorEnv
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
    env_kwargs: EnvOptions | None = None,
    n_envs: int = 8,
    rows_per_file: int = MILLION,
    clip_reward: bool = True,
    overwrite: bool = False,
) -> Path:
    """Collect exactly `steps` transitions of a policy into the files of a replay log.

    `read_dqn_replay`, Dopamine and batch_rl read them. All environments play the same number of
    steps of a checkpoint, however long their episodes are, and are reset for the next one; the last
    row of an episode cut there is marked as a time-out. Only the newest frame of each stack is
    kept: 7.06 GB of memory for a million rows. A checkpoint depends only on the seed and its
    number.

    When interrupted (SIGINT, SIGTERM, SIGHUP), the rows of the current checkpoint are written.

    Args:
        game: `Breakout` or `ALE/Breakout-v5`.
        policy: `random`, `sb3:FILE.zip`, `sb3:ALGORITHM:FILE.zip`, or a function of observations
            `[n, 4, 84, 84]` uint8 and a generator that returns n actions.
        steps: number of transitions.
        folder: `.../GAME/RUN`; the files go to `replay_logs` in it, and `dqn-replay:GAME/RUN` with
            the root `...` names the data.
        epsilon: probability of a uniformly random action at each step.
        stochastic: draw from the policy's distribution instead of taking its mode.
        seed: seed of environments and exploration.
        env_kwargs: keyword arguments of the environment, see `AtariSettings`.
        n_envs: environments stepped together.
        rows_per_file: transitions per checkpoint; the last one has the rest.
        clip_reward: clip rewards to [-1, 1], as in the published files.
        overwrite: replace all checkpoints in the folder, once the new ones are complete.

    Returns:
        The folder of the files.

    Raises:
        InputError: before playing, for an invalid argument or too little memory; while playing, for
            impossible actions.
        KeyboardInterrupt, SystemExit: once the rows of an interrupted run are written.
    """
    env_id = atari_id(game)
    for name, value in (("steps", steps), ("n_envs", n_envs), ("rows_per_file", rows_per_file)):
        check_range(name, value, low=1)
    check_range("epsilon", epsilon, low=0, high=1)
    logs = _free_folder(Path(folder), atari_game(env_id) or game, overwrite)

    n_envs = min(n_envs, steps, rows_per_file)
    envs = make_vec_env(env_id, n_envs, **(env_kwargs or {}))
    frame_shape = (envs.single_observation_space.shape or ())[1:]
    rows_in_memory = min(steps, rows_per_file)
    _check_memory(rows_in_memory * int(np.prod(frame_shape)))
    play = _play(policy, envs, epsilon, seed, stochastic)

    # Checkpoints follow one another, each with episodes of its own.
    started = time.perf_counter()
    rows = 0
    returns: list[float] = []
    with stop_signals() as received, Progress(steps) as bar, replacing(logs) as place:
        for suffix, start in enumerate(range(0, steps, rows_per_file)):
            length = min(rows_per_file, steps - start)
            log = Log(length, envs.num_envs, frame_shape)
            show = partial(_show, bar, start)
            log.play(envs, play, [seed, suffix], received, show)

            rows += log.write(place, suffix, clip_reward)
            returns += log.returns
            if received:
                break
    envs.close()

    seconds = time.perf_counter() - started
    summary = f"{rows} steps, {len(returns)} whole episodes"
    if returns:
        summary += f", return mean {np.mean(returns):.4g}"
    prefix = "interrupted; " if received else ""
    print(f"{prefix}{logs}: {summary}, {rows / seconds:,.0f} steps/s")
    raise_received(received)
    return logs


class Log:
    """The rows of one checkpoint during play, stored environment by environment.

    Args:
        rows: number of rows, all environments together.
        n_envs: number of environments.
        frame_shape: height and width of a frame.
    """

    def __init__(self, rows: int, n_envs: int, frame_shape: Sequence[int]) -> None:
        self.frames = np.empty((rows, *frame_shape), np.uint8)
        self.action = np.zeros(rows, np.int32)
        self.reward = np.zeros(rows, np.float32)
        self.terminal = np.zeros(rows, bool)
        self.truncated = np.zeros(rows, bool)

        # Rows of each environment: where they begin and end, and the next one to play.
        bounds = np.arange(n_envs + 1) * rows // n_envs
        self.begin = bounds[:-1]
        self.end = bounds[1:]
        self.at = self.begin.copy()
        self.returns: list[float] = []  # of whole episodes

    @property
    def played(self) -> int:
        """Number of rows so far."""
        rows = self.at - self.begin
        return int(rows.sum())

    @property
    def full(self) -> bool:
        """Whether every environment has played its rows."""
        return bool((self.at >= self.end).all())

    def play(
        self,
        envs: VectorEnv,
        play: Act,
        seed: list[int],
        received: Sequence[int],
        show: Callable[[int], None],
    ) -> None:
        """Fill the rows, or stop at a signal.

        Args:
            envs: one for each share of the rows.
            play: observations `[n, 4, H, W]` and a generator to n actions.
            seed: seed of environments and exploration.
            received: signals so far.
            show: called after each step with the number of rows so far.
        """
        rng = np.random.default_rng(seed)
        env_seed = int(rng.integers(2**30))
        obs, _ = envs.reset(seed=env_seed)

        n = len(self.at)
        fresh = np.zeros(n, bool)
        reward_sum = np.zeros(n)

        while not self.full and not received:
            action = play(obs, rng)
            frame = obs[:, -1]
            obs, reward, terminated, truncated, _ = envs.step(action)

            # The step after an episode's end only returns the first frame of the next one.
            kept = ~fresh & (self.at < self.end)
            rows = self.at[kept]
            timeouts = truncated & ~terminated
            self.frames[rows] = frame[kept]
            self.action[rows] = action[kept]
            self.reward[rows] = reward[kept]
            self.terminal[rows] = terminated[kept]
            self.truncated[rows] = timeouts[kept]
            self.at += kept

            over = (terminated | truncated) & ~fresh
            reward_sum += np.where(kept, reward, 0)
            whole = over & kept
            self.returns += reward_sum[whole].tolist()
            reward_sum[over] = 0
            fresh = over

            show(self.played)

    def write(self, folder: Path, suffix: int, clip_reward: bool) -> int:
        """Write the rows so far as one checkpoint; return their number."""
        if not self.played:
            return 0

        last_rows = self.at[self.at > self.begin] - 1
        self.truncated[last_rows] |= ~self.terminal[last_rows]

        rows: slice | np.ndarray = slice(None)  # a view: a full log is not copied
        if not self.full:
            pieces = [np.arange(begin, at) for begin, at in zip(self.begin, self.at)]
            rows = np.concatenate(pieces)

        reward = np.clip(self.reward, -1, 1) if clip_reward else self.reward
        write_dqn_replay(
            folder,
            self.frames[rows],
            self.action[rows],
            reward[rows],
            self.terminal[rows],
            self.truncated[rows],
            suffix=suffix,
        )
        return self.played


def _show(bar: Progress, rows_before: int, rows: int) -> None:
    bar.update(rows_before + rows)


def _free_folder(folder: Path, game: str, overwrite: bool) -> Path:
    """Return the folder of the checkpoints; reject names that no reader finds, and old files."""
    if not folder.name.isdigit() or folder.parent.name != game:
        raise InputError(
            f"{folder}: expected a folder that ends in {game}/RUN with a number RUN, "
            f"e.g. data/{game}/1"
        )

    logs = folder / "replay_logs"
    if holds_checkpoints(logs) and not overwrite:
        raise InputError(
            f"{logs}: has checkpoints already; choose another number of the run, or overwrite"
        )
    return logs


def _check_memory(needed: int) -> None:
    """Reject frames that take more bytes than are free."""
    free = available_bytes()
    if free is not None and needed > free:
        raise InputError(
            f"rows_per_file: its frames need {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB "
            f"are free: expected fewer rows per file"
        )


class _Spaces(Env):
    """The spaces of one copy of a vector environment: all that a policy needs."""

    def __init__(self, envs: VectorEnv) -> None:
        self.observation_space: Space = envs.single_observation_space
        self.action_space: Space = envs.single_action_space


def _play(policy: str | Act, envs: VectorEnv, epsilon: float, seed: int, stochastic: bool) -> Act:
    if isinstance(policy, str) and policy.partition(":")[0] in (*TRAINED, "replay"):
        raise InputError(
            f"policy {policy!r}: expected random or sb3:FILE.zip, which acts on stacks of frames"
        )

    act, _ = make_policy(policy, lambda: _Spaces(envs), seed, stochastic)
    return partial(checked_actions, act, envs.single_action_space, epsilon)
