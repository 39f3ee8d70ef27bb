"""Training with Stable-Baselines3, for the final policy or for the transitions generated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

import gymnasium
import numpy as np

from rlop.collect.acting import Act, Make
from rlop.collect.rollout import Episode, Step, begin
from rlop.collect.sb3_policy import SB3Policy, sb3_act
from rlop.collect.vecnormalize import Normalizer
from rlop.envs.spaces import Action, Env, Info, Obs, Wrapper
from rlop.logs.messages import say
from rlop.types import InputError

PPO_ENVS = 8  # environments that PPO's rollouts come from; SAC plays in one


class Moments(Protocol):
    """Running mean and variance of observations."""

    mean: np.ndarray
    var: np.ndarray


class Environments(Protocol):
    """The part of Stable-Baselines3's environments that is used here.

    Only environments that normalize observations have the members other than `close`.
    """

    obs_rms: Moments
    epsilon: float
    clip_obs: float

    def close(self) -> None:
        """Close them all."""


class Model(Protocol):
    """The part of a Stable-Baselines3 model that is used here."""

    policy: SB3Policy

    def learn(self, steps: int, /, callback: Callable[..., bool] | None = None) -> object:
        """Train; the callback ends the training when it returns False."""

    def get_env(self) -> Environments:
        """Return the environments."""

    def get_vec_normalize_env(self) -> Environments | None:
        """Return the environments if they normalize observations."""


def train(kind: str, make: Make, steps: int, seed: int, stochastic: bool = False) -> Act:
    """Train PPO in 8 environments, or SAC in one, and return the policy at the end.

    PPO uses its defaults and running statistics of observations for continuous actions, and short
    rollouts and a larger learning rate for discrete ones; SAC uses its defaults.

    Args:
        kind: ppo or sac.
        make: gives a new copy of the environment.
        steps: environment steps of the training, all environments together.
        seed: seed of the training.
        stochastic: draw actions instead of taking the most likely ones.

    Raises:
        InputError: Stable-Baselines3 is not installed, or SAC with discrete actions.
    """
    n_envs = PPO_ENVS if kind == "ppo" else 1
    model = _model(kind, make, n_envs, seed)
    say(f"training {kind.upper()} for {steps:,} steps")
    model.learn(steps)

    normalizer = _normalizer(model)
    model.get_env().close()

    act = sb3_act(model.policy, normalizer, stochastic)
    return lambda obs, rng: act(flat_float(obs), rng)


def replay(
    kind: str,
    steps: int,
    make: Make,
    seed: int,
    keep: Callable[[list[Episode], int], bool],
) -> None:
    """Train in a single environment, and pass every transition on as it is generated.

    Args:
        kind: ppo or sac, with the options of `train`.
        steps: number of steps of the training.
        make: gives a new copy of the environment.
        seed: seed of the training and the environment.
        keep: called after each step with all episodes so far and the number of their rows;
            training ends when it returns False.

    Raises:
        InputError: as for `train`.
    """
    recorder = Recorder(make())
    model = _model(kind, lambda: recorder, 1, seed)
    rows = 0

    def after_step(variables: dict[str, object], names: dict[str, object]) -> bool:
        nonlocal rows
        rows += 1
        return keep(recorder.episodes, rows) and rows < steps

    model.learn(steps, callback=after_step)
    model.get_env().close()


class Recorder(Wrapper):
    """Environment that keeps every episode played in it, the last one possibly without rows."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.episodes: list[Episode] = []

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, object] | None = None,
    ) -> tuple[Obs, Info]:
        """Reset the environment and begin an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.episodes.append(begin(self.env, obs))
        return obs, info

    def step(self, action: Action) -> Step:
        """Step the environment and keep the row."""
        return self.episodes[-1].step(action)


class FlatFloat(gymnasium.ObservationWrapper[np.ndarray, Action, np.ndarray]):
    """Environment whose observations are one float32 vector, the input of an MLP."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        assert env.observation_space.shape is not None
        width = int(np.prod(env.observation_space.shape))
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (width,))

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Flatten one observation, `[*S] -> [D]`."""
        return flat_float(observation[None])[0]


def flat_float(obs: np.ndarray) -> np.ndarray:
    """Flatten observations, `[n, *S] -> [n, D]` float32; bytes are divided by 255."""
    scale = 255 if obs.dtype == np.uint8 else 1
    return obs.reshape(len(obs), -1).astype(np.float32) / scale


def _normalizer(model: Model) -> Normalizer | None:
    """Return the running statistics of a trained model; None if it has none."""
    envs = model.get_vec_normalize_env()
    if envs is None:
        return None
    std = np.sqrt(envs.obs_rms.var + envs.epsilon)
    return Normalizer(envs.obs_rms.mean, std, envs.clip_obs)


def _model(kind: str, make: Make, n_envs: int, seed: int) -> Model:
    """Build the model of Stable-Baselines3, untrained."""
    try:
        from stable_baselines3 import PPO, SAC
        from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
    except ImportError as error:
        message = f"policy {kind}: needs stable_baselines3; pip install 'rlop[collect]'"
        raise InputError(message) from error

    envs = DummyVecEnv([lambda: FlatFloat(make())] * n_envs)
    continuous = isinstance(envs.action_space, gymnasium.spaces.Box)

    if kind == "sac":
        if not continuous:
            raise InputError(f"policy sac: needs continuous actions, found {envs.action_space}")
        return cast(Model, SAC("MlpPolicy", envs, seed=seed, device="cpu"))

    ppo = partial(PPO, "MlpPolicy", seed=seed, device="cpu")
    if continuous:
        return cast(Model, ppo(VecNormalize(envs), n_steps=2048 // n_envs))

    model = ppo(
        envs,
        n_steps=1024 // n_envs,
        learning_rate=1e-3,
        ent_coef=0.01,
        batch_size=256,
        n_epochs=4,
    )
    return cast(Model, model)
