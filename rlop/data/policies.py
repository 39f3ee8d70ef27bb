"""Policies that collect data: random, a trained Stable-Baselines3 policy, or a PPO trained on the spot."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium
import numpy as np

from rlop.types import InputError

Act: TypeAlias = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # obs [n, *S], rng -> actions [n, ...]

ALGORITHMS = {
    "dqn": ("stable_baselines3.dqn.policies", "DQNPolicy"),
    "ppo": ("stable_baselines3.common.policies", "ActorCriticPolicy"),
    "a2c": ("stable_baselines3.common.policies", "ActorCriticPolicy"),
    "trpo": ("stable_baselines3.common.policies", "ActorCriticPolicy"),
    "sac": ("stable_baselines3.sac.policies", "SACPolicy"),
    "td3": ("stable_baselines3.td3.policies", "TD3Policy"),
    "qrdqn": ("sb3_contrib.qrdqn.policies", "QRDQNPolicy"),
}


def make_policy(
    policy: str | Act, make: Callable[[], gymnasium.Env[Any, Any]], seed: int
) -> tuple[Act, dict[str, Any]]:
    """What acts, and how a file describes it.

    Args:
        policy: `random`, `sb3:FILE.zip`, `sb3:ALGORITHM:FILE.zip`, `ppo:STEPS`, or a function of observations
            `[n, *S]` and a generator that returns n actions.
        make: gives a new copy of the environment that the policy will act in.
        seed: of the training, for `ppo:STEPS`.

    Raises:
        InputError: none of these, a file that is no such policy, or one for other observations or actions.
    """
    if callable(policy):
        return policy, {"policy": getattr(policy, "__name__", type(policy).__name__)}
    kind, _, rest = policy.partition(":")
    if policy == "random":
        space = make().action_space
        return lambda obs, rng: random_actions(space, len(obs), rng), {"policy": "random"}
    if kind == "ppo" and rest.replace("_", "").isdigit() and int(rest) > 0:
        return train_ppo(make, int(rest), seed), {"policy": f"ppo:{int(rest)}"}
    if kind == "sb3" and rest:
        algorithm, _, file = rest.partition(":") if rest.split(":")[0] in ALGORITHMS else ("", "", rest)
        path = Path(file)
        act = load_sb3(path, make(), algorithm or None)
        return act, {"policy": f"sb3:{path.name}", "policy_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    raise InputError(f"policy {policy!r}: expected random, sb3:FILE.zip, sb3:ALGORITHM:FILE.zip or ppo:STEPS")


def random_actions(space: gymnasium.Space[Any], n: int, rng: np.random.Generator) -> np.ndarray:
    """n uniformly random actions."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(space.n, size=n)
    assert isinstance(space, gymnasium.spaces.Box)
    return rng.uniform(space.low, space.high, size=(n, *space.shape)).astype(np.float32)


def load_sb3(path: Path, env: gymnasium.Env[Any, Any], algorithm: str | None = None) -> Act:
    """The deterministic policy of a Stable-Baselines3 zip, built anew from its readable parts.

    Such zips hold pickles. None is opened: the class and its arguments are read from the text that stands beside the
    pickles, and the weights with `torch.load(weights_only=True)`.

    Args:
        path: zip written by `model.save`.
        env: gives the spaces.
        algorithm: one of `ALGORITHMS`, where the zip does not name its policy class.

    Raises:
        InputError: no such file, no such zip, a class of one's own, normalised observations, or other spaces.
    """
    data, weights = _read_zip(path)
    for beside in (path.with_suffix(".vecnormalize.pkl"), path.with_name("vecnormalize.pkl")):
        if beside.exists():
            raise InputError(
                f"{path}: trained on normalised observations ({beside.name}), whose statistics are a pickle, "
                f"which is never read; pass a function that normalises them"
            )
    cls, arguments = _policy_class(path, data, algorithm), _arguments(path, data)
    try:
        policy = cls(env.observation_space, env.action_space, lambda _: 0.0, **arguments)
        # Zips from before 1.7 name the feature extractor that actor and critic share only once.
        missing, unexpected = policy.load_state_dict(weights, strict=False)
        missing = [key for key in missing if not key.startswith(("pi_features_extractor.", "vf_features_extractor."))]
    except (RuntimeError, AssertionError, AttributeError, TypeError) as error:
        spaces = f"observations {env.observation_space.shape} and actions {env.action_space}"
        raise InputError(
            f"{path}: {cls.__name__} does not fit {spaces}: {str(error).splitlines()[-1].strip()}"
        ) from error
    if missing or unexpected:
        raise InputError(f"{path}: {cls.__name__} has other weights: {(missing + unexpected)[0]}")
    policy.set_training_mode(False)
    return lambda obs, rng: policy.predict(obs, deterministic=True)[0]


def _read_zip(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import torch

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as file:
            data, weights = json.loads(file.read("data")), file.read("policy.pth")
        return data, torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: not a zip of Stable-Baselines3: {str(error).splitlines()[0]}") from error


def _policy_class(path: Path, data: dict[str, Any], algorithm: str | None) -> Any:
    about = data.get("policy_class") or {}
    module, expected = str(about.get("__module__")), ALGORITHMS.get(algorithm or "")
    if module.split(".")[0] not in ("stable_baselines3", "sb3_contrib"):
        raise InputError(f"{path}: the policy's class, of {module}, is not one of Stable-Baselines3's; pass a function")
    constructor = re.match(r"<function (\w+)\.__init__ ", str(about.get("__init__")))
    name = constructor.group(1) if constructor else expected[1] if expected else None
    if name is None:
        raise InputError(f"{path}: does not name its policy class; name it: sb3:ALGORITHM:{path.name}")
    if expected and expected[0] != module:
        raise InputError(f"{path}: holds {module}.{name}, which is not {algorithm}'s")
    try:
        cls = getattr(import_module(module), name, None)
        from stable_baselines3.common.policies import BasePolicy
    except ImportError as error:
        package = "sb3-contrib" if module.startswith("sb3_contrib") else "'rlop[collect]'"
        raise InputError(f"{path}: needs {error.name}; pip install {package}") from error
    if not (isinstance(cls, type) and issubclass(cls, BasePolicy)):
        raise InputError(f"{path}: {module}.{name} is no policy of the Stable-Baselines3 installed here")
    return cls


def _arguments(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the policy; what cannot be JSON stands in the zip as a pickle and as text: we read text."""
    given = data.get("policy_kwargs") or {}
    arguments = {key: value for key, value in given.items() if not key.startswith((":", "optimizer_", "device"))}
    for key, value in arguments.items():
        if isinstance(value, str) and value.startswith("<"):
            name = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", value)
            arguments[key] = getattr(import_module("torch.nn"), name.group(1), None) if name else None
            if arguments[key] is None:
                raise InputError(f"{path}: policy argument {key} = {value} cannot be rebuilt; pass a function")
    net_arch = arguments.get("net_arch")
    if isinstance(net_arch, list) and net_arch and isinstance(net_arch[0], dict):
        arguments["net_arch"] = net_arch[0]  # the form before 1.8
    return {**arguments, "use_sde": True} if data.get("use_sde") else arguments


class FlatFloat(gymnasium.ObservationWrapper[np.ndarray, Any, np.ndarray]):
    """Observations as one float32 vector, bytes divided by 255: what a multi-layer perceptron reads."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert env.observation_space.shape is not None
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (int(np.prod(env.observation_space.shape)),))

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """`[*S] -> [D]`."""
        return flat_float(observation[None])[0]


def flat_float(obs: np.ndarray) -> np.ndarray:
    """`[n, *S] -> [n, D]` float32, bytes divided by 255."""
    return obs.reshape(len(obs), -1).astype(np.float32) / (255 if obs.dtype == np.uint8 else 1)


def train_ppo(make: Callable[[], gymnasium.Env[Any, Any]], steps: int, seed: int) -> Act:
    """The deterministic policy of Stable-Baselines3's PPO after `steps` steps in 8 copies of the environment.

    Raises:
        InputError: Stable-Baselines3 is not installed.
    """
    try:
        from stable_baselines3 import PPO
        from stable_baselines3.common.vec_env import DummyVecEnv
    except ImportError as error:
        raise InputError("policy ppo: needs stable_baselines3; pip install 'rlop[collect]'") from error
    print(f"training PPO for {steps:,} steps", file=sys.stderr)
    envs = DummyVecEnv([lambda: FlatFloat(make())] * 8)
    hyper: dict[str, Any] = {"learning_rate": 1e-3, "ent_coef": 0.01, "seed": seed, "device": "cpu"}
    model = PPO("MlpPolicy", envs, n_steps=128, batch_size=256, n_epochs=4, **hyper)
    model.learn(steps)
    envs.close()
    return lambda obs, rng: model.policy.predict(flat_float(obs), deterministic=True)[0]
