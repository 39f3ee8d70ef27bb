"""Policies by name: random, read from a file of others, or trained first."""

from __future__ import annotations

import hashlib
import inspect
import re
from pathlib import Path
from typing import TypeAlias

from rlop.collect.acting import Act, Make
from rlop.collect.d4rl_policy import load_d4rl
from rlop.collect.sb3_policy import ALGORITHMS, load_sb3, statistics_file
from rlop.collect.sb3_training import train
from rlop.envs.spaces import random_actions
from rlop.types import InputError

Description: TypeAlias = dict[str, str | bool]  # how a file describes the policy that made its rows

TRAINED = ("ppo", "sac")  # algorithms that can be trained before collecting
EXPECTED = "random, sb3:FILE.zip, sb3:ALGORITHM:FILE.zip, d4rl:FILE.hdf5, ppo:STEPS or sac:STEPS"


def make_policy(
    policy: str | Act,
    make: Make,
    seed: int,
    stochastic: bool = False,
) -> tuple[Act, Description]:
    """Make the function that returns actions in the environment's units, and describe it.

    Args:
        policy: `random`, `sb3:FILE.zip`, `sb3:ALGORITHM:FILE.zip`, `d4rl:FILE.hdf5`, `d4rl:NAME`,
            `ppo:STEPS`, `sac:STEPS`, or a function of observations `[n, *S]` and a generator that
            returns n actions. `stochastic:` may precede a name.
        make: gives a new copy of the environment that the policy will act in.
        seed: seed of the training, for `ppo:STEPS` and `sac:STEPS`.
        stochastic: draw from the policy's distribution instead of taking its mode; a policy of
            D4RL is always drawn from as it was when its data set was made.

    Returns:
        The function, and its description for the metadata of a file.

    Raises:
        InputError: for an unknown policy, a file that does not hold one, a policy for other
            observations or actions, or one that has no distribution to draw from.
    """
    if callable(policy):
        name = policy.__name__ if inspect.isroutine(policy) else type(policy).__name__
        return policy, {"policy": name}

    kind, _, rest = policy.partition(":")
    if kind == "stochastic":
        return make_policy(rest, make, seed, stochastic=True)
    if policy == "random":
        return _random_policy(make), {"policy": "random"}

    if kind in TRAINED and steps_in(rest):
        steps = steps_in(rest)
        act = train(kind, make, steps, seed, stochastic)
        return act, {"policy": f"{kind}:{steps}", "stochastic": stochastic}

    if kind == "sb3" and rest:
        return _zip_policy(rest, make, stochastic)
    if kind == "d4rl" and rest:
        return _d4rl_policy(rest, make, stochastic)
    raise InputError(f"policy {policy!r}: expected {EXPECTED}")


def steps_in(text: str) -> int:
    """Read a number of steps as in `ppo:100_000`; return 0 for any other text."""
    return int(text) if re.fullmatch("[0-9]+(_[0-9]+)*", text) else 0


def _random_policy(make: Make) -> Act:
    space = make().action_space
    return lambda obs, rng: random_actions(space, len(obs), rng)


def _zip_policy(name: str, make: Make, stochastic: bool) -> tuple[Act, Description]:
    """Load `FILE.zip` or `ALGORITHM:FILE.zip`."""
    algorithm, _, file = name.partition(":")
    if algorithm in ALGORITHMS:
        path = Path(file)
        act = load_sb3(path, make(), algorithm, stochastic)
    else:
        path = Path(name)
        act = load_sb3(path, make(), stochastic=stochastic)

    about: Description = {
        "policy": f"sb3:{path.name}",
        "stochastic": stochastic,
        "policy_sha256": _sha256(path),
    }

    statistics = statistics_file(path)
    if statistics is not None:
        about["vecnormalize_sha256"] = _sha256(statistics)
    return act, about


def _d4rl_policy(name: str, make: Make, stochastic: bool) -> tuple[Act, Description]:
    """Load the behavior policy that a file of D4RL holds."""
    act, policy, path = load_d4rl(name, make())
    draws = policy.log_std is not None
    if stochastic and not draws:
        raise InputError(f"{path}: its policy is deterministic, nothing to draw from; use epsilon")
    return act, {
        "policy": f"d4rl:{path.name}",
        "stochastic": draws,
        "distribution": policy.distribution,
        "policy_sha256": _sha256(path),
    }


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
