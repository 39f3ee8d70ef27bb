"""Trainings with Stable-Baselines3: the policy one ends with, or the transitions it generates on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from rlop.collect.policies import Act, Make, sb3_act
from rlop.collect.rollout import Episode, begin
from rlop.collect.vecnormalize import Normalizer
from rlop.types import InputError


class FlatFloat(gymnasium.ObservationWrapper[np.ndarray, Any, np.ndarray]):
    """Observations as one float32 vector, bytes divided by 255: what a multi-layer perceptron reads."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert env.observation_space.shape is not None
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (int(np.prod(env.observation_space.shape)),)
        )

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """`[*S] -> [D]`."""
        return flat_float(observation[None])[0]


def flat_float(obs: np.ndarray) -> np.ndarray:
    """`[n, *S] -> [n, D]` float32, bytes divided by 255."""
    return obs.reshape(len(obs), -1).astype(np.float32) / (255 if obs.dtype == np.uint8 else 1)


class Recorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps every episode that is played in an environment, the last one possibly without rows."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.episodes: list[Episode] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment's."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.episodes.append(begin(self.env, obs))
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's."""
        return self.episodes[-1].step(action)


def train(kind: str, make: Make, steps: int, seed: int, stochastic: bool = False) -> Act:
    """The policy of Stable-Baselines3's PPO after `steps` steps in 8 environments, or SAC's in one.

    PPO has its defaults and running statistics of observations for continuous actions, short rollouts and a larger step
    for discrete ones; SAC has its defaults.

    Raises:
        InputError: Stable-Baselines3 is not installed, or SAC with discrete actions.
    """
    model = _model(kind, make, 8 if kind == "ppo" else 1, seed)
    print(f"training {kind.upper()} for {steps:,} steps", file=sys.stderr)
    model.learn(steps)
    normalizer = None
    if model.get_vec_normalize_env() is not None:
        envs = model.get_vec_normalize_env()
        normalizer = Normalizer(
            envs.obs_rms.mean, np.sqrt(envs.obs_rms.var + envs.epsilon), envs.clip_obs
        )
    model.get_env().close()
    act = sb3_act(model.policy, normalizer, stochastic)
    return lambda obs, rng: act(flat_float(obs), rng)


def replay(
    kind: str, steps: int, make: Make, seed: int, keep: Callable[[list[Episode], int], bool]
) -> None:
    """Train for `steps` steps in a single environment, and hand every transition over as it is generated.

    Args:
        kind: ppo or sac, with the options of `train`.
        steps: of the training.
        make: gives a new copy of the environment.
        seed: of the training and the environment.
        keep: called after each step with all episodes so far and the number of their rows; training ends when it
            returns False.

    Raises:
        InputError: as `train`.
    """
    recorder = Recorder(make())
    model = _model(kind, lambda: recorder, 1, seed)
    rows = 0

    def noted(variables: Any, names: Any) -> bool:
        nonlocal rows
        rows += 1
        return keep(recorder.episodes, rows) and rows < steps

    model.learn(steps, callback=noted)
    model.get_env().close()


def _model(kind: str, make: Make, n_envs: int, seed: int) -> Any:
    try:
        from stable_baselines3 import PPO, SAC
        from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
    except ImportError as error:
        raise InputError(
            f"policy {kind}: needs stable_baselines3; pip install 'rlop[collect]'"
        ) from error
    envs = DummyVecEnv([lambda: FlatFloat(make())] * n_envs)
    continuous = isinstance(envs.action_space, gymnasium.spaces.Box)
    build: Any = partial(PPO if kind == "ppo" else SAC, "MlpPolicy", seed=seed, device="cpu")
    if kind == "sac":
        if not continuous:
            raise InputError(f"policy sac: needs continuous actions, found {envs.action_space}")
        return build(envs)
    if continuous:
        return build(VecNormalize(envs), n_steps=2048 // n_envs)
    options = {"learning_rate": 1e-3, "ent_coef": 0.01, "batch_size": 256, "n_epochs": 4}
    return build(envs, n_steps=1024 // n_envs, **options)
