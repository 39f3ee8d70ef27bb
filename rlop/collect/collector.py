"""Roll out policies and write their transitions in D4RL's layout."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium
import numpy as np

from rlop.collect.acting import Act, Make, checked_actions
from rlop.collect.policies import TRAINED, make_policy, steps_in
from rlop.collect.rollout import Episode, Part, first, interleave, last, rollouts
from rlop.collect.sb3_training import replay
from rlop.collect.signals import raise_received, stop_signals
from rlop.collect.writer import About, Writer
from rlop.envs.layouts import bounded
from rlop.envs.make import make_env
from rlop.envs.spaces import Env, EnvOptions, Space
from rlop.logs.progress import Progress
from rlop.types import InputError

Policy: TypeAlias = str | Act
# Policy -> its share of the steps. Any, since a `Mapping` is invariant in its keys.
Mix: TypeAlias = Mapping[Any, float]
Training: TypeAlias = tuple[str, int]  # algorithm and steps of `replay:ALGORITHM:STEPS`

LARGEST_MIX = 127  # policies: a row stores the index of its policy in one signed byte
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


def collect(
    env_id: str,
    policy: Policy | Mix,
    steps: int,
    path: str | Path,
    *,
    epsilon: float = 0.0,
    stochastic: bool = False,
    shuffle: bool = False,
    seed: int = 0,
    env_kwargs: EnvOptions | None = None,
    n_envs: int = 8,
    chunk: int = 100_000,
    overwrite: bool = False,
) -> Path:
    """Collect exactly `steps` transitions of a policy into an HDF5 file of D4RL's layout.

    Rows are stored episode by episode in the order in which episodes began, as from a single
    environment: the order in which they end would favor short ones. Only the last episode is cut
    (in a mixture, the last of each policy), and its last row is marked as a time-out.
    `next_observations` are the true ones, also at the end of an episode.

    Actions of a Box with bounds are stored in [-1, 1], see `to_unit`; the attributes `action_low`
    and `action_high` hold the bounds. The file also has `infos/policy`, the index of the policy
    that acted, and in MuJoCo `infos/qpos` and `infos/qvel`, the simulator's state before the step.

    Every `chunk` steps, and when interrupted (SIGINT, SIGTERM, SIGHUP), the rows so far are
    written, with the last row of each unfinished episode marked as a time-out: the file at `path`
    is complete and valid at any time.

    Args:
        env_id: Gymnasium id.
        policy: `random`; `sb3:FILE.zip` or `sb3:ALGORITHM:FILE.zip`, a Stable-Baselines3 policy
            (its pickles are not executed, see `load_sb3`); `d4rl:FILE.hdf5` or `d4rl:NAME`, the
            behavior policy in a file of D4RL, drawn from as stored; `ppo:STEPS` or `sac:STEPS`,
            which trains one first; a function of observations `[n, *S]` and a generator that
            returns actions `[n]` or `[n, *A]` in the environment's units; a mixture {policy: share
            of the steps}; or `replay:ppo:STEPS`, `replay:sac:STEPS`, the last `steps` transitions
            of such a training in order, as a replay buffer of that size holds them at the end.
        steps: number of transitions.
        path: file to write.
        epsilon: probability of a uniformly random action at each step.
        stochastic: draw from the policy's distribution instead of taking its mode; for a single
            policy of a mixture write `stochastic:` before its name.
        shuffle: store the episodes of a mixture in random order instead of policy by policy.
        seed: seed of environments, exploration and training.
        env_kwargs: keyword arguments for `make_env`.
        n_envs: environments played in turn, so that the policy acts on a batch.
        chunk: steps between writes.
        overwrite: replace an existing file.

    Returns:
        The path.

    Raises:
        InputError: before playing, for an invalid argument; while playing, for impossible actions.
        KeyboardInterrupt, SystemExit: once the rows of an interrupted run are written.
    """
    path = Path(path)
    _check_arguments(steps, epsilon, n_envs, chunk)
    _check_file(path, overwrite)

    shares = dict(policy) if isinstance(policy, Mapping) else {policy: 1.0}
    counts = _counts(shares, steps)
    training = _training(policy, steps, epsilon, stochastic)

    make = partial(make_env, env_id, **(env_kwargs or {}))
    space = _check_spaces(make(), env_id, needs_bounds=epsilon > 0 or "random" in shares)
    n_envs = 1 if training else min(n_envs, steps)
    about = {
        "env_id": env_id,
        "env_kwargs": dict(env_kwargs or {}),
        "epsilon": epsilon,
        "seed": seed,
        "n_envs": n_envs,
        "shuffle": shuffle,
        "versions": _versions(),
        **_units(space),
    }
    _check_json(about)

    acts: list[Act] = []
    if training:
        about["policies"] = [{"policy": policy, "share": 1.0}]
    else:
        acts, about["policies"] = _make_policies(shares, make, seed, stochastic)

    started = time.perf_counter()
    with stop_signals() as received, Progress(training[1] if training else steps) as bar:
        writer = Writer(path, about, space, chunk, received, bar)
        if training:
            _record_training(training, steps, make, seed, writer)
        else:
            envs = [make() for _ in range(n_envs)]
            plays = [partial(checked_actions, act, space, epsilon) for act in acts]
            _mix(envs, plays, counts, seed, shuffle, writer)
            for env in envs:
                env.close()

        summary = writer.write()

    seconds = time.perf_counter() - started
    prefix = "interrupted; " if received else ""
    print(f"{prefix}{path}: {summary}, {writer.rows / seconds:,.0f} steps/s")
    raise_received(received)
    return path


def _make_policies(
    shares: Mix,
    make: Make,
    seed: int,
    stochastic: bool,
) -> tuple[list[Act], list[About]]:
    """Make every policy of a mixture, and describe each with its share."""
    acts = []
    about = []
    for name, share in shares.items():
        act, description = make_policy(name, make, seed, stochastic)
        acts.append(act)
        about.append({**description, "share": share})
    return acts, about


def _record_training(training: Training, steps: int, make: Make, seed: int, writer: Writer) -> None:
    """Train, and keep the last `steps` rows."""

    def keep(episodes: list[Episode], rows: int) -> bool:
        return writer(lambda: last(episodes, steps), rows)

    algorithm, length = training
    replay(algorithm, length, make, seed, keep)


def _mix(
    envs: Sequence[Env],
    plays: Sequence[Act],
    counts: Sequence[int],
    seed: int,
    shuffle: bool,
    writer: Writer,
) -> None:
    """Play each policy until its rows are complete, or a signal is received."""
    groups: dict[int, list[Episode]] = {}  # episodes of each policy so far

    def parts() -> list[Part]:
        all_parts = []
        for number, episodes in groups.items():
            all_parts += first(episodes, counts[number])
        if not shuffle:
            return all_parts
        return interleave(all_parts, np.random.default_rng(seed))

    rows_before = 0
    for number, play in enumerate(plays):
        steps = counts[number]
        # The first policy gets the same random numbers as without the others.
        stream = [seed, number] if number else seed
        for episodes, rows in rollouts(envs[:steps], play, steps, stream, number):
            groups[number] = episodes
            if not writer(parts, rows_before + rows):
                return
        rows_before += steps


def _counts(shares: Mix, steps: int) -> list[int]:
    """Split the steps by shares; steps lost to rounding go to the largest remainders."""
    values = list(shares.values())
    are_positive = all(share > 0 for share in values)
    sum_to_one = abs(sum(values) - 1) <= 1e-6
    if not are_positive or not sum_to_one or len(values) > LARGEST_MIX:
        raise InputError(
            f"mix = {values}: expected at most {LARGEST_MIX} positive shares that sum to 1"
        )

    exact = np.array(values) * steps
    counts = np.floor(exact + 1e-6).astype(int)
    by_remainder = np.argsort(counts - exact, kind="stable")
    left = steps - counts.sum()
    counts[by_remainder[:left]] += 1

    if counts.min() == 0:
        raise InputError(f"mix = {values}: a share of {steps} steps is less than one step")
    return counts.tolist()


def _training(
    policy: Policy | Mix,
    steps: int,
    epsilon: float,
    stochastic: bool,
) -> Training | None:
    """Read `replay:ALGORITHM:STEPS`; return None for other policies."""
    if isinstance(policy, Mapping):
        if any(str(name).startswith("replay:") for name in policy):
            raise InputError("mix: a replay stream cannot be part of a mixture")
        return None
    if not isinstance(policy, str) or policy.partition(":")[0] != "replay":
        return None

    _, _, rest = policy.partition(":")
    algorithm, _, length = rest.partition(":")
    if algorithm not in TRAINED or steps_in(length) < steps:
        raise InputError(
            f"policy {policy!r}: expected replay:ppo:STEPS or replay:sac:STEPS "
            f"of at least {steps} steps"
        )

    if epsilon or stochastic:
        raise InputError(
            f"policy {policy!r}: explores in its own way, expected no epsilon and no stochastic"
        )
    return algorithm, steps_in(length)


def _units(space: Space) -> About:
    """Describe stored actions: their number, or the bounds that -1 and 1 stand for."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return {"n_actions": int(space.n)}
    assert isinstance(space, gymnasium.spaces.Box)
    if not bounded(space):
        return {}
    return {"action_low": space.low.tolist(), "action_high": space.high.tolist()}


def _versions() -> dict[str, str]:
    """Return the version of each installed package that affects the rows."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


# ---- checks before anything is played


def _check_arguments(steps: int, epsilon: float, n_envs: int, chunk: int) -> None:
    if steps < 1 or n_envs < 1 or chunk < 1:
        raise InputError(
            f"steps = {steps}, n_envs = {n_envs}, chunk = {chunk}: expected at least 1"
        )
    if not 0 <= epsilon <= 1:
        raise InputError(f"epsilon = {epsilon}: expected a probability in [0, 1]")


def _check_file(path: Path, overwrite: bool) -> None:
    """Reject a file that exists, has the wrong name, or lies in a folder that is not writable."""
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name, or overwrite")

    if path.suffix not in (".hdf5", ".h5"):
        raise InputError(f"{path}: expected a name that ends in .hdf5 or .h5")

    # Missing folders are created later, in the nearest one that exists.
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent

    can_be_written = folder.is_dir() and os.access(folder, os.W_OK)
    if not can_be_written:
        raise InputError(f"{path}: {folder} cannot be written, expected a folder to write to")


def _check_spaces(env: Env, env_id: str, needs_bounds: bool) -> Space:
    """Reject spaces that rows cannot hold; return the action space."""
    obs, action = env.observation_space, env.action_space
    if not isinstance(obs, gymnasium.spaces.Box):
        is_dict = isinstance(obs, gymnasium.spaces.Dict)
        shown = f"{type(obs).__name__}; try layout d4rl" if is_dict else str(obs)
        raise InputError(f"env_id {env_id!r}: observation space {shown}, expected a Box")

    is_box = isinstance(action, gymnasium.spaces.Box)
    counts_from_zero = isinstance(action, gymnasium.spaces.Discrete) and action.start == 0
    if not is_box and not counts_from_zero:
        raise InputError(
            f"env_id {env_id!r}: action space {action}, expected Discrete from 0, or a Box"
        )

    if needs_bounds and isinstance(action, gymnasium.spaces.Box) and not action.is_bounded():
        raise InputError(
            f"env_id {env_id!r}: action space {action} has no bounds to draw random actions in"
        )
    return action


def _check_json(about: About) -> None:
    try:
        json.dumps(about)
    except TypeError as error:
        raise InputError(
            f"env_kwargs: {error}; expected what JSON can hold, so that the file can name it"
        ) from error


def read_mix(items: Sequence[str]) -> dict[str, float]:
    """Read a mixture of policies from the command line.

    Args:
        items: `POLICY:SHARE` each.
    Raises:
        InputError: for a share that is not a number.
    """
    shares = {}
    for item in items:
        name, _, share = item.rpartition(":")
        try:
            shares[name] = float(share)
        except ValueError as error:
            raise InputError(
                f"--mix {' '.join(items)}: {error}; expected POLICY:SHARE, e.g. random:0.5"
            ) from error
    return shares
