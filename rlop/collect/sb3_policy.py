"""Policies of Stable-Baselines3, read from their zips without opening a pickle."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import torch

from rlop.collect.acting import Act
from rlop.collect.vecnormalize import Normalizer, read_vecnormalize
from rlop.config.checks import check_known
from rlop.envs.spaces import Env, Space
from rlop.types import InputError

Description: TypeAlias = Mapping[str, Any]  # of a model, as the JSON text in its zip gives it
Weights: TypeAlias = Mapping[str, torch.Tensor]

ALGORITHMS = {  # name -> module and class of its policy for vectors
    "dqn": ("stable_baselines3.dqn.policies", "DQNPolicy"),
    "ppo": ("stable_baselines3.common.policies", "ActorCriticPolicy"),
    "a2c": ("stable_baselines3.common.policies", "ActorCriticPolicy"),
    "trpo": ("stable_baselines3.common.policies", "ActorCriticPolicy"),
    "sac": ("stable_baselines3.sac.policies", "SACPolicy"),
    "td3": ("stable_baselines3.td3.policies", "TD3Policy"),
    "qrdqn": ("sb3_contrib.qrdqn.policies", "QRDQNPolicy"),
}
# Zips from before version 1.7 list a feature extractor shared by actor and critic only once.
SHARED_EXTRACTORS = ("pi_features_extractor.", "vf_features_extractor.")


class SB3Policy(Protocol):
    """The part of a Stable-Baselines3 policy that is used here."""

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        lr_schedule: Callable[[float], float],
        **arguments: object,
    ) -> None: ...

    def load_state_dict(self, weights: Weights, /, strict: bool) -> tuple[list[str], list[str]]:
        """Load the weights; return the names that are missing and those not expected."""

    def set_training_mode(self, mode: bool, /) -> None:
        """Switch dropout and batch normalization between training and evaluation."""

    def predict(self, obs: np.ndarray, /, *, deterministic: bool) -> tuple[np.ndarray, object]:
        """Return actions for observations `[n, *S]`, and a state that only some policies have."""

    def reset_noise(self, n: int, /) -> None:
        """Draw n exploration matrices, where exploration depends on the state."""


def load_sb3(path: Path, env: Env, algorithm: str | None = None, stochastic: bool = False) -> Act:
    """Rebuild the policy of a Stable-Baselines3 zip from its readable parts.

    Such zips hold pickles. None is opened: the class and its arguments are read from the text next
    to the pickles, and the weights with `torch.load(weights_only=True)`. Statistics of
    observations, a pickle next to the zip named `NAME.vecnormalize.pkl` or `vecnormalize.pkl`, are
    read as `read_vecnormalize` does.

    Actions are in the environment's units, as the algorithm's own `predict` gives them: squashed
    ones are rescaled, others clipped.

    Args:
        path: zip written by `model.save`.
        env: gives the spaces.
        algorithm: one of `ALGORITHMS`, where the zip does not name its policy class.
        stochastic: draw actions instead of taking the most likely ones.

    Raises:
        InputError: for a missing file, another kind of zip, a class from outside Stable-Baselines3,
            other spaces, or a policy that has no distribution to draw from.
    """
    if algorithm is not None:
        check_known(f"{path}: algorithm", algorithm, ALGORITHMS)

    data, weights = read_zip(path)
    policy = _build_policy(path, data, weights, env, algorithm)

    name = type(policy).__name__
    if stochastic and not _draws_actions(policy):
        raise InputError(
            f"{path}: {name} has one action per observation, nothing to draw from; use epsilon"
        )
    normalizer = _read_statistics(path, env)
    return sb3_act(policy, normalizer, stochastic)


def sb3_act(policy: SB3Policy, normalizer: Normalizer | None, stochastic: bool) -> Act:
    """Turn a Stable-Baselines3 policy into a function that draws from the generator passed to it.

    Args:
        policy: policy of Stable-Baselines3, with `predict`.
        normalizer: applied to observations first; None if the policy reads them unchanged.
        stochastic: draw actions instead of taking the most likely ones.
    """
    policy.set_training_mode(False)
    explores_by_state = stochastic and getattr(_actor(policy), "use_sde", False)

    def act(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if normalizer is not None:
            obs = normalizer(obs)
        if not stochastic:
            return policy.predict(obs, deterministic=True)[0]

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63)))
            if explores_by_state:
                # The exploration matrix dates from before the weights were loaded.
                policy.reset_noise(len(obs))
            return policy.predict(obs, deterministic=False)[0]

    return act


def statistics_file(path: Path) -> Path | None:
    """Find the statistics of observations next to a policy's zip; return None if there are none."""
    for file in (path.with_suffix(".vecnormalize.pkl"), path.with_name("vecnormalize.pkl")):
        if file.is_file():
            return file
    return None


def _read_statistics(path: Path, env: Env) -> Normalizer | None:
    """Read the statistics next to a policy's zip, and check that they fit the observations."""
    file = statistics_file(path)
    if file is None:
        return None

    normalizer = read_vecnormalize(file)
    shape = env.observation_space.shape
    if normalizer is not None and normalizer.mean.shape != shape:
        raise InputError(f"{file}: statistics {normalizer.mean.shape}, observations {shape}")
    return normalizer


def _actor(policy: SB3Policy) -> object:
    """Return the part that acts: off-policy algorithms have an actor within their policy."""
    return getattr(policy, "actor", policy)


def _draws_actions(policy: SB3Policy) -> bool:
    """Return whether a policy has a distribution of actions to draw from."""
    return hasattr(_actor(policy), "action_dist")


# ---- parts of a zip


def read_zip(path: Path) -> tuple[Description, Weights]:
    """Read the description of a model and the weights of its policy."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")

    try:
        with zipfile.ZipFile(path) as file:
            data = json.loads(file.read("data"))
            weights = io.BytesIO(file.read("policy.pth"))
        return data, torch.load(weights, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a zip of Stable-Baselines3: {reason}") from error


def _build_policy(
    path: Path,
    data: Description,
    weights: Weights,
    env: Env,
    algorithm: str | None,
) -> SB3Policy:
    """Build a policy of the class that the zip names and load the weights into it."""
    cls = _policy_class(path, data, algorithm)
    arguments = policy_arguments(path, data)

    try:
        # The schedule of learning rates is for training only.
        policy = cls(env.observation_space, env.action_space, lambda _: 0.0, **arguments)
        missing, unexpected = policy.load_state_dict(weights, strict=False)
    except (RuntimeError, AssertionError, AttributeError, TypeError) as error:
        spaces = f"observations {env.observation_space.shape} and actions {env.action_space}"
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path}: {cls.__name__} does not fit {spaces}: {reason}") from error

    missing = [key for key in missing if not key.startswith(SHARED_EXTRACTORS)]
    other = missing + unexpected
    if other:
        raise InputError(f"{path}: {cls.__name__} has other weights: {other[0]}")
    return policy


def _policy_class(path: Path, data: Description, algorithm: str | None) -> type[SB3Policy]:
    """Import the policy class that a zip names, which must be one of Stable-Baselines3."""
    about = data.get("policy_class") or {}
    module = str(about.get("__module__"))
    if module.split(".")[0] not in ("stable_baselines3", "sb3_contrib"):
        raise InputError(
            f"{path}: the policy's class, of {module}, is not one of Stable-Baselines3's; "
            f"pass a function"
        )

    name = _class_name(path, about, algorithm)
    if algorithm is not None and ALGORITHMS[algorithm][0] != module:
        raise InputError(f"{path}: holds {module}.{name}, which is not {algorithm}'s")

    try:
        cls = import_module(module).__dict__.get(name)
        from stable_baselines3.common.policies import BasePolicy
    except ImportError as error:
        package = "sb3-contrib" if module.startswith("sb3_contrib") else "'rlop[collect]'"
        raise InputError(f"{path}: needs {error.name}; pip install {package}") from error

    if not (isinstance(cls, type) and issubclass(cls, BasePolicy)):
        raise InputError(
            f"{path}: {module}.{name} is no policy of the Stable-Baselines3 installed here"
        )
    return cast(type[SB3Policy], cls)


def _class_name(path: Path, about: Description, algorithm: str | None) -> str:
    """Read the name of the class from its constructor; newer zips do not name it elsewhere."""
    constructor = re.match(r"<function (\w+)\.__init__ ", str(about.get("__init__")))
    if constructor:
        return constructor.group(1)
    if algorithm is None:
        raise InputError(
            f"{path}: does not name its policy class; name it: sb3:ALGORITHM:{path.name}"
        )
    return ALGORITHMS[algorithm][1]


def policy_arguments(path: Path, data: Description) -> dict[str, object]:
    """Read the keyword arguments of the policy.

    The zip holds values that JSON cannot represent both as a pickle and as text; the text is read.
    """
    arguments: dict[str, object] = {}
    for key, value in (data.get("policy_kwargs") or {}).items():
        # Keys that begin with a colon hold pickles; the other two are for training only.
        if not key.startswith((":", "optimizer_", "device")):
            arguments[key] = _policy_argument(path, key, value)

    net_arch = arguments.get("net_arch")
    if isinstance(net_arch, list) and net_arch and isinstance(net_arch[0], dict):
        arguments["net_arch"] = net_arch[0]  # the form before 1.8

    if data.get("use_sde"):
        arguments["use_sde"] = True
    return arguments


def _policy_argument(path: Path, key: str, value: object) -> object:
    """Return a plain value unchanged, or the class that the text of an activation names."""
    if not (isinstance(value, str) and value.startswith("<")):
        return value

    activation = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", value)
    cls = torch.nn.__dict__.get(activation.group(1)) if activation else None
    if cls is None:
        raise InputError(
            f"{path}: policy argument {key} = {value} cannot be rebuilt; pass a function"
        )
    return cls
