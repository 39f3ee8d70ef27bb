"""Policies that collect data: random, a trained Stable-Baselines3 policy, or one that is trained on the spot."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium
import numpy as np

from rlop.collect.vecnormalize import Normalizer, read_vecnormalize
from rlop.types import InputError

Act: TypeAlias = Callable[
    [np.ndarray, np.random.Generator], np.ndarray
]  # obs [n, *S], rng -> actions [n, ...]
Make: TypeAlias = Callable[[], gymnasium.Env[Any, Any]]

ALGORITHMS = {
    "dqn": ("stable_baselines3.dqn.policies", "DQNPolicy"),
    "ppo": ("stable_baselines3.common.policies", "ActorCriticPolicy"),
    "a2c": ("stable_baselines3.common.policies", "ActorCriticPolicy"),
    "trpo": ("stable_baselines3.common.policies", "ActorCriticPolicy"),
    "sac": ("stable_baselines3.sac.policies", "SACPolicy"),
    "td3": ("stable_baselines3.td3.policies", "TD3Policy"),
    "qrdqn": ("sb3_contrib.qrdqn.policies", "QRDQNPolicy"),
}
TRAINED = ("ppo", "sac")


def make_policy(
    policy: str | Act, make: Make, seed: int, stochastic: bool = False
) -> tuple[Act, dict[str, Any]]:
    """What acts, in the environment's own units, and how a file describes it.

    Args:
        policy: `random`, `sb3:FILE.zip`, `sb3:ALGORITHM:FILE.zip`, `ppo:STEPS`, `sac:STEPS`, or a function of
            observations `[n, *S]` and a generator that returns n actions. `stochastic:` may stand before a name.
        make: gives a new copy of the environment that the policy will act in.
        seed: of the training, for `ppo:STEPS` and `sac:STEPS`.
        stochastic: draw from the policy's distribution instead of taking its mode.

    Raises:
        InputError: none of these, a file that is no such policy, one for other observations or actions, or one that
            has no distribution to draw from.
    """
    if callable(policy):
        return policy, {"policy": getattr(policy, "__name__", type(policy).__name__)}
    kind, _, rest = policy.partition(":")
    if kind == "stochastic":
        return make_policy(rest, make, seed, stochastic=True)
    if policy == "random":
        space = make().action_space
        return lambda obs, rng: random_actions(space, len(obs), rng), {"policy": "random"}
    if kind in TRAINED and steps_in(rest):
        from rlop.collect.sb3 import train

        act = train(kind, make, steps_in(rest), seed, stochastic)
        return act, {"policy": f"{kind}:{steps_in(rest)}", "stochastic": stochastic}
    if kind == "sb3" and rest:
        algorithm, _, file = (
            rest.partition(":") if rest.split(":")[0] in ALGORITHMS else ("", "", rest)
        )
        path = Path(file)
        act = load_sb3(path, make(), algorithm or None, stochastic)
        return act, {"policy": f"sb3:{path.name}", "stochastic": stochastic, **_digests(path)}
    known = "random, sb3:FILE.zip, sb3:ALGORITHM:FILE.zip, ppo:STEPS or sac:STEPS"
    raise InputError(f"policy {policy!r}: expected {known}")


def steps_in(text: str) -> int:
    """A number of steps as in `ppo:100_000`; 0 for anything else."""
    return int(text) if re.fullmatch("[0-9]+(_[0-9]+)*", text) else 0


def _digests(path: Path) -> dict[str, str]:
    """What names the files of a policy: SHA-256 of the zip and of the statistics beside it."""
    files = {"policy_sha256": path, "vecnormalize_sha256": statistics_file(path)}
    return {
        key: hashlib.sha256(file.read_bytes()).hexdigest()
        for key, file in files.items()
        if file is not None
    }


def random_actions(space: gymnasium.Space[Any], n: int, rng: np.random.Generator) -> np.ndarray:
    """n uniformly random actions."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(space.n, size=n)
    assert isinstance(space, gymnasium.spaces.Box)
    return rng.uniform(space.low, space.high, size=(n, *space.shape)).astype(np.float32)


def load_sb3(
    path: Path, env: gymnasium.Env[Any, Any], algorithm: str | None = None, stochastic: bool = False
) -> Act:
    """The policy of a Stable-Baselines3 zip, built anew from its readable parts.

    Such zips hold pickles. None is opened: the class and its arguments are read from the text that stands beside the
    pickles, and the weights with `torch.load(weights_only=True)`. Statistics of observations, a pickle beside the zip
    named `NAME.vecnormalize.pkl` or `vecnormalize.pkl`, are read as `read_vecnormalize` does.

    Actions are in the environment's units, as the algorithm's own `predict` gives them: squashed ones are rescaled,
    others clipped.

    Args:
        path: zip written by `model.save`.
        env: gives the spaces.
        algorithm: one of `ALGORITHMS`, where the zip does not name its policy class.
        stochastic: draw actions instead of taking the most likely ones.

    Raises:
        InputError: no such file, no such zip, a class of one's own, other spaces, or nothing to draw from.
    """
    data, weights = _read_zip(path)
    cls, arguments = _policy_class(path, data, algorithm), _arguments(path, data)
    try:
        policy = cls(env.observation_space, env.action_space, lambda _: 0.0, **arguments)
        # Zips from before 1.7 name the feature extractor that actor and critic share only once.
        missing, unexpected = policy.load_state_dict(weights, strict=False)
        missing = [
            key
            for key in missing
            if not key.startswith(("pi_features_extractor.", "vf_features_extractor."))
        ]
    except (RuntimeError, AssertionError, AttributeError, TypeError) as error:
        spaces = f"observations {env.observation_space.shape} and actions {env.action_space}"
        raise InputError(
            f"{path}: {cls.__name__} does not fit {spaces}: {str(error).splitlines()[-1].strip()}"
        ) from error
    if missing or unexpected:
        raise InputError(f"{path}: {cls.__name__} has other weights: {(missing + unexpected)[0]}")
    if stochastic and not (
        hasattr(policy, "action_dist") or hasattr(getattr(policy, "actor", None), "action_dist")
    ):
        raise InputError(
            f"{path}: {cls.__name__} has one action per observation, nothing to draw from; use epsilon"
        )
    beside = statistics_file(path)
    normalizer = read_vecnormalize(beside) if beside else None
    if normalizer is not None and normalizer.mean.shape != env.observation_space.shape:
        raise InputError(
            f"{beside}: statistics {normalizer.mean.shape}, observations {env.observation_space.shape}"
        )
    return sb3_act(policy, normalizer, stochastic)


def statistics_file(path: Path) -> Path | None:
    """The statistics of observations beside a policy's zip, if there are any."""
    names = (path.with_suffix(".vecnormalize.pkl"), path.with_name("vecnormalize.pkl"))
    return next((name for name in names if name.is_file()), None)


def sb3_act(policy: Any, normalize: Normalizer | None, stochastic: bool) -> Act:
    """A Stable-Baselines3 policy as a function; its draws come from the generator it is given."""
    import torch

    policy.set_training_mode(False)

    def act(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        obs = obs if normalize is None else normalize(obs)
        if not stochastic:
            return policy.predict(obs, deterministic=True)[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63)))
            if getattr(getattr(policy, "actor", policy), "use_sde", False):
                policy.reset_noise(
                    len(obs)
                )  # else the exploration matrix of before the weights were loaded
            return policy.predict(obs, deterministic=False)[0]

    return act


def _read_zip(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import torch

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as file:
            data, weights = json.loads(file.read("data")), file.read("policy.pth")
        return data, torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path}: not a zip of Stable-Baselines3: {str(error).splitlines()[0]}"
        ) from error


def _policy_class(path: Path, data: dict[str, Any], algorithm: str | None) -> Any:
    about = data.get("policy_class") or {}
    module, expected = str(about.get("__module__")), ALGORITHMS.get(algorithm or "")
    if module.split(".")[0] not in ("stable_baselines3", "sb3_contrib"):
        raise InputError(
            f"{path}: the policy's class, of {module}, is not one of Stable-Baselines3's; pass a function"
        )
    constructor = re.match(r"<function (\w+)\.__init__ ", str(about.get("__init__")))
    name = constructor.group(1) if constructor else expected[1] if expected else None
    if name is None:
        raise InputError(
            f"{path}: does not name its policy class; name it: sb3:ALGORITHM:{path.name}"
        )
    if expected and expected[0] != module:
        raise InputError(f"{path}: holds {module}.{name}, which is not {algorithm}'s")
    try:
        cls = getattr(import_module(module), name, None)
        from stable_baselines3.common.policies import BasePolicy
    except ImportError as error:
        package = "sb3-contrib" if module.startswith("sb3_contrib") else "'rlop[collect]'"
        raise InputError(f"{path}: needs {error.name}; pip install {package}") from error
    if not (isinstance(cls, type) and issubclass(cls, BasePolicy)):
        raise InputError(
            f"{path}: {module}.{name} is no policy of the Stable-Baselines3 installed here"
        )
    return cls


def _arguments(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the policy; what cannot be JSON stands in the zip as a pickle and as text: we read text."""
    given = data.get("policy_kwargs") or {}
    arguments = {
        key: value
        for key, value in given.items()
        if not key.startswith((":", "optimizer_", "device"))
    }
    for key, value in arguments.items():
        if isinstance(value, str) and value.startswith("<"):
            name = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", value)
            arguments[key] = (
                getattr(import_module("torch.nn"), name.group(1), None) if name else None
            )
            if arguments[key] is None:
                raise InputError(
                    f"{path}: policy argument {key} = {value} cannot be rebuilt; pass a function"
                )
    net_arch = arguments.get("net_arch")
    if isinstance(net_arch, list) and net_arch and isinstance(net_arch[0], dict):
        arguments["net_arch"] = net_arch[0]  # the form before 1.8
    return {**arguments, "use_sde": True} if data.get("use_sde") else arguments
