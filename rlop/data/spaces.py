"""Compare a data set's shapes with an environment's spaces."""

from __future__ import annotations

import gymnasium
import numpy as np

from rlop.envs.spaces import Env, Space, VectorEnv
from rlop.types import InputError, Spec


def check_spaces(spec: Spec, env: Env | VectorEnv) -> None:
    """Raise InputError when an environment's observations or actions differ from the data's.

    Args:
        spec: of the data set.
        env: a Gymnasium environment, or a vector of them.
    """
    obs, action = env.observation_space, env.action_space
    if isinstance(env, gymnasium.vector.VectorEnv):
        obs, action = env.single_observation_space, env.single_action_space

    name = type(env.unwrapped).__name__
    if env.spec is not None:
        name = env.spec.id

    if not _same_obs(spec, obs):
        data = f"{spec.obs_shape} {spec.obs_dtype}"
        raise InputError(f"{name}: observations {obs.shape} {obs.dtype}, but the data has {data}")

    if not _same_actions(spec, action):
        data = f"continuous {spec.action_shape}"
        if spec.n_actions is not None:
            data = f"{spec.n_actions} discrete"
        raise InputError(f"{name}: action space {action}, but the data has {data} actions")


def _same_obs(spec: Spec, space: Space) -> bool:
    """Whether observations have the data's shape, and are bytes where the data has bytes."""
    both_or_neither_bytes = (spec.obs_dtype == "uint8") == (space.dtype == np.uint8)
    is_bool = space.dtype == np.bool_
    return space.shape == spec.obs_shape and (both_or_neither_bytes or is_bool)


def _same_actions(spec: Spec, space: Space) -> bool:
    """Whether actions are discrete and as many, or continuous and of one shape."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return spec.n_actions == int(space.n)
    return spec.n_actions is None and space.shape == spec.action_shape
