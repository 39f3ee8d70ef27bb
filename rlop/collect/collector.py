"""Roll policies out and write their transitions in D4RL's layout."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlop.collect.policies import TRAINED, Act, make_policy, random_actions, steps_in
from rlop.collect.rollout import Episode, Part, first, interleave, last, rollouts
from rlop.collect.writer import Writer, stop_signals
from rlop.envs.layouts import bounded
from rlop.envs.make import make_env
from rlop.logs.progress import Progress
from rlop.types import InputError

PACKAGES = (
    "rlop",
    "gymnasium",
    "gymnasium-robotics",
    "mujoco",
    "numpy",
    "torch",
    "stable_baselines3",
    "minatar",
)
Play = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def collect(
    env_id: str,
    policy: str | Act | Mapping[Any, float],
    steps: int,
    path: str | Path,
    *,
    epsilon: float = 0.0,
    stochastic: bool = False,
    shuffle: bool = False,
    seed: int = 0,
    env_kwargs: Mapping[str, Any] | None = None,
    n_envs: int = 8,
    chunk: int = 100_000,
    overwrite: bool = False,
) -> Path:
    """Exactly `steps` transitions of a policy in an environment, as an HDF5 file in D4RL's layout.

    Rows stand episode by episode in the order in which episodes began, which is what a single environment would give:
    in the order in which they end, short ones would be favoured. Only the last episode is cut (of a mixture, the last
    of each policy), and its last row marked as a time-out. `next_observations` are the true ones, at the end of an
    episode too.

    Actions of a Box with bounds are stored in [-1, 1], see `to_unit`; the attributes `action_low` and `action_high`
    say what stands for what. Beside D4RL's arrays there are `infos/policy`, which policy of a mixture acted, and in
    MuJoCo `infos/qpos` and `infos/qvel`, the simulator's state before the step.

    Every `chunk` steps, and when interrupted (SIGINT, SIGTERM), the rows so far are written, with the last row of each
    unfinished episode marked as a time-out: under its own name the file is complete and valid at any time.

    Args:
        env_id: Gymnasium id.
        policy: `random`; `sb3:FILE.zip` or `sb3:ALGORITHM:FILE.zip`, a Stable-Baselines3 policy (its pickles are not
            executed, see `load_sb3`); `ppo:STEPS` or `sac:STEPS`, which trains one first; a function of observations
            `[n, *S]` and a generator that returns actions `[n]` or `[n, *A]` in the environment's units; a mixture
            {policy: share of the steps}; or `replay:ppo:STEPS`, `replay:sac:STEPS`, the last `steps` transitions of
            such a training, which a replay buffer of that size holds at its end, in order.
        steps: number of transitions.
        path: file to write.
        epsilon: probability of a uniformly random action at each step.
        stochastic: draw from the policy's distribution instead of taking its mode; for a single policy of a mixture
            write `stochastic:` before its name.
        shuffle: of a mixture, episodes in random order instead of policy after policy.
        seed: of environments, exploration and training.
        env_kwargs: keyword arguments for `make_env`.
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
    shares = dict(policy) if isinstance(policy, Mapping) else {policy: 1.0}
    counts, training = _counts(shares, steps), _training(policy, steps, epsilon, stochastic)
    make = partial(make_env, env_id, **(env_kwargs or {}))
    space = _check_spaces(make(), env_id, needs_bounds=epsilon > 0 or "random" in shares)
    n_envs = 1 if training else min(n_envs, steps)
    about: dict[str, Any] = {
        "env_id": env_id,
        "env_kwargs": dict(env_kwargs or {}),
        "epsilon": epsilon,
        "seed": seed,
    }
    about |= {"n_envs": n_envs, "shuffle": shuffle, "versions": _versions(), **_units(space)}
    _check_json(about)
    made = [] if training else [make_policy(name, make, seed, stochastic) for name in shares]
    described = [{"policy": policy}] if training else [part for _, part in made]
    about["policies"] = [
        {**part, "share": share} for part, share in zip(described, shares.values())
    ]
    started = time.perf_counter()
    with stop_signals() as received, Progress(training[1] if training else steps) as bar:
        writer = Writer(path, about, space, chunk, received, bar)
        if training:
            from rlop.collect.sb3 import replay

            replay(
                *training,
                make,
                seed,
                lambda episodes, rows: writer(lambda: last(episodes, steps), rows),
            )
        else:
            plays = [partial(checked_actions, act, space, epsilon) for act, _ in made]
            envs = [make() for _ in range(n_envs)]
            _mix(envs, plays, counts, seed, shuffle, writer)
            for env in envs:
                env.close()
        summary = writer.write()
    rate = writer.rows / (time.perf_counter() - started)
    print(f"{'interrupted; ' if received else ''}{path}: {summary}, {rate:,.0f} steps/s")
    if received:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])
    return path


def _mix(
    envs: Sequence[gymnasium.Env[Any, Any]],
    plays: Sequence[Play],
    counts: Sequence[int],
    seed: int,
    shuffle: bool,
    writer: Writer,
) -> None:
    """Play each policy until its rows are there."""
    groups: dict[int, tuple[list[Episode], int]] = {}

    def parts() -> list[Part]:
        found = [part for episodes, rows in groups.values() for part in first(episodes, rows)]
        return interleave(found, np.random.default_rng(seed)) if shuffle else found

    for number, (play, steps) in enumerate(zip(plays, counts)):
        before, stream = sum(counts[:number]), [seed, number] if number else seed
        for episodes, rows in rollouts(envs[:steps], play, steps, stream, number):
            groups[number] = episodes, steps
            if not writer(parts, before + rows):
                return


def _counts(shares: Mapping[Any, float], steps: int) -> list[int]:
    """How many of the steps each policy plays; what rounding leaves goes to the largest remainders."""
    if (
        len(shares) > 127
        or any(not share > 0 for share in shares.values())
        or abs(sum(shares.values()) - 1) > 1e-6
    ):
        raise InputError(
            f"mix = {list(shares.values())}: expected at most 127 positive shares that sum to 1"
        )
    exact = np.array(list(shares.values())) * steps
    counts = np.floor(exact + 1e-6).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: steps - counts.sum()]] += 1
    if counts.min() == 0:
        raise InputError(
            f"mix = {list(shares.values())}: a share of {steps} steps is less than one step"
        )
    return counts.tolist()


def _training(policy: Any, steps: int, epsilon: float, stochastic: bool) -> tuple[str, int] | None:
    """Algorithm and steps of `replay:ALGORITHM:STEPS`; None for other policies."""
    if isinstance(policy, Mapping) and any(str(name).startswith("replay:") for name in policy):
        raise InputError("mix: a replay stream cannot be part of a mixture")
    kind, _, rest = policy.partition(":") if isinstance(policy, str) else ("", "", "")
    if kind != "replay":
        return None
    algorithm, _, length = rest.partition(":")
    if algorithm not in TRAINED or steps_in(length) < steps:
        raise InputError(
            f"policy {policy!r}: expected replay:ppo:STEPS or replay:sac:STEPS of at least {steps} steps"
        )
    if epsilon or stochastic:
        raise InputError(
            f"policy {policy!r}: explores in its own way, expected no epsilon and no stochastic"
        )
    return algorithm, steps_in(length)


def checked_actions(
    act: Act, space: gymnasium.Space[Any], epsilon: float, obs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The policy's actions, checked and brought within bounds, some of them replaced by random ones."""
    actions, shape = np.asarray(act(obs, rng)), (len(obs), *(space.shape or ()))
    if isinstance(space, gymnasium.spaces.Box):
        fits = actions.shape == shape and np.isfinite(actions).all()
        actions = np.clip(actions, space.low, space.high).astype(np.float32) if fits else actions
    else:
        fits = (
            actions.shape == shape
            and actions.dtype.kind in "iu"
            and all(map(space.contains, actions))
        )
        actions = actions.astype(np.int64) if fits else actions
    if not fits:
        raise InputError(
            f"policy: actions {actions.dtype} of shape {actions.shape}, expected {shape} within {space}"
        )
    if epsilon == 0:
        return actions
    wander = rng.random(len(obs)) < epsilon
    return np.where(
        wander.reshape(-1, *[1] * (actions.ndim - 1)), random_actions(space, len(obs), rng), actions
    )


def _units(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """What stored actions stand for: how many there are, or what -1 and 1 mean."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return {"n_actions": int(space.n)}
    assert isinstance(space, gymnasium.spaces.Box)
    return (
        {"action_low": space.low.tolist(), "action_high": space.high.tolist()}
        if bounded(space)
        else {}
    )


def _check_arguments(
    steps: int, epsilon: float, n_envs: int, chunk: int, path: Path, overwrite: bool
) -> None:
    if steps < 1 or n_envs < 1 or chunk < 1:
        raise InputError(
            f"steps = {steps}, n_envs = {n_envs}, chunk = {chunk}: expected at least 1"
        )
    if not 0 <= epsilon <= 1:
        raise InputError(f"epsilon = {epsilon}: expected a probability in [0, 1]")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name, or overwrite")
    if path.suffix not in (".hdf5", ".h5"):
        raise InputError(f"{path}: expected a name that ends in .hdf5 or .h5")


def _check_spaces(
    env: gymnasium.Env[Any, Any], env_id: str, needs_bounds: bool
) -> gymnasium.Space[Any]:
    obs, action = env.observation_space, env.action_space
    if not isinstance(obs, gymnasium.spaces.Box):
        hint = (
            f"{type(obs).__name__}; try layout d4rl"
            if isinstance(obs, gymnasium.spaces.Dict)
            else str(obs)
        )
        raise InputError(f"env_id {env_id!r}: observation space {hint}, expected a Box")
    discrete = isinstance(action, gymnasium.spaces.Discrete) and action.start == 0
    if not discrete and not isinstance(action, gymnasium.spaces.Box):
        raise InputError(
            f"env_id {env_id!r}: action space {action}, expected Discrete from 0, or a Box"
        )
    if needs_bounds and isinstance(action, gymnasium.spaces.Box) and not action.is_bounded():
        raise InputError(
            f"env_id {env_id!r}: action space {action} has no bounds to draw random actions in"
        )
    return action


def _check_json(about: Mapping[str, Any]) -> None:
    try:
        json.dumps(about)
    except TypeError as error:
        raise InputError(
            f"env_kwargs: {error}; expected what JSON can hold, so that the file can name it"
        ) from error


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
