"""Roll a policy out and write its transitions in D4RL's layout."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlop.data.hdf5 import write_hdf5
from rlop.data.policies import Act, make_policy, random_actions
from rlop.data.rollout import Episode, pack, rollouts
from rlop.envs.make import make_env
from rlop.progress import Progress
from rlop.types import InputError

PACKAGES = ("rlop", "gymnasium", "numpy", "torch", "stable_baselines3", "minatar")


def collect(
    env_id: str,
    policy: str | Act,
    steps: int,
    path: str | Path,
    *,
    epsilon: float = 0.0,
    seed: int = 0,
    env_kwargs: Mapping[str, Any] | None = None,
    n_envs: int = 8,
    chunk: int = 100_000,
    overwrite: bool = False,
) -> Path:
    """Exactly `steps` transitions of a policy in an environment, as an HDF5 file in D4RL's layout.

    Rows stand episode by episode in the order in which episodes began, which is what a single environment would give:
    in the order in which they end, short ones would be favoured. Only the last episode is cut, and its last row marked
    as a time-out. `next_observations` are the true ones, at the end of an episode too.

    Every `chunk` steps, and when interrupted (SIGINT, SIGTERM), the rows so far are written, with the last row of each
    unfinished episode marked as a time-out: under its own name the file is complete and valid at any time.

    Args:
        env_id: Gymnasium id.
        policy: `random`; `sb3:FILE.zip` or `sb3:ALGORITHM:FILE.zip`, a Stable-Baselines3 policy, deterministic (its
            pickles are not opened, see `load_sb3`); `ppo:STEPS`, which trains one first; or a function of observations
            `[n, *S]` and a generator that returns actions `[n]` or `[n, *A]`.
        steps: number of transitions.
        path: file to write.
        epsilon: probability of a uniformly random action at each step.
        seed: of environments, exploration and `ppo`.
        env_kwargs: keyword arguments for `gymnasium.make`.
        n_envs: environments played in turn, so that the policy acts on a batch.
        chunk: steps between writes.
        overwrite: replace an existing file.

    Returns:
        The path.

    Raises:
        InputError: before anything is played, for anything wrong with the above; later, for impossible actions.
        KeyboardInterrupt, SystemExit: once the rows of an interrupted run are written.
    """
    path = Path(path)
    _check_arguments(steps, epsilon, n_envs, chunk, path, overwrite)
    make = partial(make_env, env_id, **(env_kwargs or {}))
    space = _check_spaces(make(), env_id, needs_bounds=epsilon > 0 or policy == "random")
    act, about = make_policy(policy, make, seed)
    about |= {"env_id": env_id, "env_kwargs": dict(env_kwargs or {}), "epsilon": epsilon, "seed": seed}
    about |= {"n_envs": n_envs, "versions": _versions()}
    if isinstance(space, gymnasium.spaces.Discrete):
        about["n_actions"] = int(space.n)
    _check_json(about)
    play = partial(_actions, act, space, epsilon)
    envs = [make() for _ in range(min(n_envs, steps))]
    started, saved, summary = time.perf_counter(), 0, ""
    with stop_signals() as received, Progress(steps) as bar:
        for episodes, rows in rollouts(envs, play, steps, seed):
            bar.update(min(rows, steps))
            if received or rows - saved >= chunk:
                summary, saved = _write(path, episodes, steps, about), rows
            if received:
                break
        else:
            summary = _write(path, episodes, steps, about)
    for env in envs:
        env.close()
    seconds = time.perf_counter() - started
    print(f"{'interrupted; ' if received else ''}{path}: {summary}, {rows / seconds:,.0f} steps/s")
    if received:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])
    return path


def _write(path: Path, episodes: list[Episode], steps: int, about: Mapping[str, Any]) -> str:
    """Write the rows so far, and say in half a line what they are."""
    arrays, returns = pack(episodes, steps)
    rows = len(arrays["rewards"])
    about = {**about, "steps": rows, "episodes": len(returns)}
    summary = f"{rows} steps, {len(returns)} whole episodes"
    if len(returns):
        about["return_mean"] = float(returns.mean())
        summary += f", return mean {returns.mean():.4g}, {returns.min():.4g} to {returns.max():.4g}"
    write_hdf5(path, arrays, about, overwrite=True)
    return summary


def _actions(
    act: Act, space: gymnasium.Space[Any], epsilon: float, obs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The policy's actions, checked and brought within bounds, some of them replaced by random ones."""
    actions, shape = np.asarray(act(obs, rng)), (len(obs), *(space.shape or ()))
    if isinstance(space, gymnasium.spaces.Box):
        fits = actions.shape == shape and np.isfinite(actions).all()
        actions = np.clip(actions, space.low, space.high).astype(np.float32) if fits else actions
    else:
        fits = actions.shape == shape and actions.dtype.kind in "iu" and all(map(space.contains, actions))
        actions = actions.astype(np.int64) if fits else actions
    if not fits:
        raise InputError(f"policy: actions {actions.dtype} of shape {actions.shape}, expected {shape} within {space}")
    if epsilon == 0:
        return actions
    wander = rng.random(len(obs)) < epsilon
    return np.where(wander.reshape(-1, *[1] * (actions.ndim - 1)), random_actions(space, len(obs), rng), actions)


def _check_arguments(steps: int, epsilon: float, n_envs: int, chunk: int, path: Path, overwrite: bool) -> None:
    if steps < 1 or n_envs < 1 or chunk < 1:
        raise InputError(f"steps = {steps}, n_envs = {n_envs}, chunk = {chunk}: expected at least 1")
    if not 0 <= epsilon <= 1:
        raise InputError(f"epsilon = {epsilon}: expected a probability in [0, 1]")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name, or overwrite")
    if path.suffix not in (".hdf5", ".h5"):
        raise InputError(f"{path}: expected a name that ends in .hdf5 or .h5")


def _check_spaces(env: gymnasium.Env[Any, Any], env_id: str, needs_bounds: bool) -> gymnasium.Space[Any]:
    obs, action = env.observation_space, env.action_space
    if not isinstance(obs, gymnasium.spaces.Box):
        raise InputError(f"env_id {env_id!r}: observation space {obs}, expected a Box")
    discrete = isinstance(action, gymnasium.spaces.Discrete) and action.start == 0
    if not discrete and not isinstance(action, gymnasium.spaces.Box):
        raise InputError(f"env_id {env_id!r}: action space {action}, expected Discrete from 0, or a Box")
    if needs_bounds and isinstance(action, gymnasium.spaces.Box) and not action.is_bounded():
        raise InputError(f"env_id {env_id!r}: action space {action} has no bounds to draw random actions in")
    return action


def _check_json(about: Mapping[str, Any]) -> None:
    try:
        json.dumps(about)
    except TypeError as error:
        raise InputError(f"env_kwargs: {error}; expected what JSON can hold, so that the file can name it") from error


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that receives SIGINT and SIGTERM instead of the process; a second one acts as it used to."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may set handlers, and only it is interrupted
        return

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
