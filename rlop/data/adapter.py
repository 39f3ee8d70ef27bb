"""Translate between an environment and an agent: observations one way, actions the other.

An agent sees vectors or images, numbers its discrete actions from 0, and acts in [-1, 1]. `Spec`
says what reading the data did to arrive there; the adapter does the same to observations and undoes
it for actions.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from rlop.data.images import transposed
from rlop.data.native import ROUNDING, action_box, by_name, joint_counts, joint_parts
from rlop.data.transforms import normalized
from rlop.envs.spaces import Env, Space, VectorEnv, as_type, bounded, from_unit
from rlop.logs.messages import say
from rlop.types import InputError, Spec

# Spaces of observations that become numbers.
READABLE = (
    gymnasium.spaces.Box,
    gymnasium.spaces.Discrete,
    gymnasium.spaces.MultiDiscrete,
    gymnasium.spaces.MultiBinary,
)


class Adapter:
    """Translate observations and actions of n environments.

    Args:
        spec: of the data set that the agent was trained on.
        obs_space: of one environment.
        action_space: of one environment.
        name: of the environment, for messages.
    Raises:
        InputError: spaces that differ from the data's, or actions whose units nothing says.
    """

    def __init__(self, spec: Spec, obs_space: Space, action_space: Space, name: str) -> None:
        self.spec = spec
        self.obs_space = obs_space
        self.action_space = action_space
        self.keys = obs_keys(obs_space, spec.obs_keys, name)
        self.parts = parts_of(obs_space, self.keys)
        self._check_obs(name)
        self._check_actions(name)
        self.recorded: gymnasium.spaces.Box | None = None  # bounds in which the data's actions were
        if spec.action_low is not None and isinstance(action_space, gymnasium.spaces.Box):
            assert spec.action_high is not None  # `Spec` holds both or neither
            self.recorded = action_box(spec.action_low, spec.action_high, action_space.shape)

    def obs(self, obs: Any) -> np.ndarray:
        """Return observations `[n, *obs_shape]` as the agent was trained on.

        Args:
            obs: of a vector of n environments: an array `[n, ...]`, or a dictionary of them.
        """
        return normalized(transposed(flat_obs(self.parts, obs), self.spec), self.spec)

    def action(self, actions: np.ndarray) -> np.ndarray:
        """Return the environment's own actions.

        Args:
            actions: of the agent, `[n]` or `[n, m]`.
        """
        space = self.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            return actions + space.start
        if isinstance(space, gymnasium.spaces.MultiDiscrete):
            parts = joint_parts(actions, tuple(space.nvec.tolist()))
            return parts.astype(space.dtype) + space.start

        assert isinstance(space, gymnasium.spaces.Box)  # `_check_actions` saw to it
        played = actions.reshape(len(actions), *space.shape)
        if self.recorded is None:
            return from_unit(played, space)
        own = from_unit(played.astype(np.float64), self.recorded)
        return as_type(np.clip(own, space.low, space.high), space.dtype)

    def _check_obs(self, name: str) -> None:
        """Raise InputError unless observations have the data's shape, and are bytes as they are."""
        spec, space = self.spec, self.obs_space
        sample = flat_obs(self.parts, _batch_of_one(space))
        if len(spec.obs_axes) in (0, sample.ndim - 1):
            sample = transposed(sample, spec)
        both_or_neither_bytes = (spec.obs_dtype == "uint8") == (sample.dtype == np.uint8)
        if sample.shape[1:] != spec.obs_shape or not (
            both_or_neither_bytes or sample.dtype == np.bool_
        ):
            data = f"{spec.obs_shape} {spec.obs_dtype}"
            found = f"{sample.shape[1:]} {space.dtype or sample.dtype}"
            hint = "; D4RL's data need env_kwargs: {layout: d4rl}" if self.keys else ""
            raise InputError(f"{name}: observations {found}, but the data has {data}{hint}")

    def _check_actions(self, name: str) -> None:
        """Raise InputError unless actions are the data's."""
        spec, space = self.spec, self.action_space
        data = f"continuous {spec.action_shape}"
        if spec.n_actions is not None:
            data = f"{spec.n_actions} discrete"
        fits = count_actions(space) == spec.n_actions
        if fits and spec.n_actions is None:
            fits = math.prod(space.shape or ()) == math.prod(spec.action_shape)
        if not fits:
            raise InputError(f"{name}: action space {space}, but the data has {data} actions")
        self._check_numbers(name)

        if not bounded(space) or spec.action_low is not None:
            return
        if not ((space.low == -1).all() and (space.high == 1).all()):
            raise InputError(
                f"{name}: actions from {space.low.min():g} to {space.high.max():g}, and nothing "
                "says in which units the data's are: give the reader action_low and action_high, "
                "the environment's actions at -1 and 1, and action_units: unit if they are in "
                "[-1, 1] already"
            )

    def _check_numbers(self, name: str) -> None:
        """Raise InputError unless the data number discrete actions as the environment does."""
        spec, space = self.spec, self.action_space
        if isinstance(space, gymnasium.spaces.Discrete) and spec.action_start != space.start:
            raise InputError(
                f"{name}: actions from {space.start} on, but the data's from {spec.action_start}; "
                f"give its reader action_start: {space.start}, and action_units: unit if they are "
                "numbered from 0 already"
            )
        if not isinstance(space, gymnasium.spaces.MultiDiscrete):
            return
        counts = tuple(space.nvec.tolist())
        if spec.action_counts != counts:
            raise InputError(
                f"{name}: actions of {list(counts)} choices, and nothing says how the data number "
                f"them; give its reader n_actions: {list(counts)} if they are row-major"
            )


def count_actions(space: Space) -> int | None:
    """Return the number of discrete actions, joint ones of MultiDiscrete; None for a Box.

    Raises:
        InputError: another space, or too many joint actions.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gymnasium.spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return math.prod(joint_counts(space.nvec.tolist()))
    if isinstance(space, gymnasium.spaces.Box):
        return None
    raise InputError(f"action space {space}: expected Discrete, MultiDiscrete or Box")


def obs_keys(space: Space, chosen: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Return the paths of the parts of a Dict space to join, in order; () for another space.

    Args:
        space: of observations.
        chosen: paths, from the data; () takes all, sorted name by name.
        name: of the environment, for the message.
    """
    if not isinstance(space, gymnasium.spaces.Dict):
        _check_readable(space, name)
        return ()
    spaces = dict(leaves(space))
    known = list(spaces)
    for key in chosen:
        if key not in known:
            raise InputError(f"{name}: observations have {known}, but the data {list(chosen)}")
    keys = chosen or tuple(by_name(known))
    for key in keys:
        _check_readable(spaces[key], f"{name}: {key}")
    return keys


def _check_readable(space: Space, name: str) -> None:
    """Raise InputError unless a part of observations is numbers."""
    if not isinstance(space, READABLE):
        expected = ", ".join(kind.__name__ for kind in READABLE)
        raise InputError(f"{name}: observations {space}, expected {expected} or a Dict of them")


def leaves(space: Space, path: str = "") -> list[tuple[str, Space]]:
    """Return the parts of a space with their paths, as `a/b`."""
    if not isinstance(space, gymnasium.spaces.Dict):
        return [(path, space)]
    parts = []
    for key, inner in space.spaces.items():
        parts += leaves(inner, f"{path}/{key}" if path else key)
    return parts


def parts_of(space: Space, keys: tuple[str, ...]) -> dict[str, Space]:
    """Return the parts of an observation by path, in order; the whole as the path "".

    Args:
        space: of one environment.
        keys: from `obs_keys`.
    """
    spaces = dict(leaves(space))
    return {key: spaces[key] for key in keys or ("",)}


def flat_obs(parts: Mapping[str, Space], obs: Any) -> np.ndarray:
    """Make one array of observations, by the rule by which Minari's are read.

    A Discrete observation is one-hot. Parts of a dictionary are flattened and joined in order, as
    float32; a single part keeps its shape.

    Args:
        parts: from `parts_of`.
        obs: of n environments.
    Returns:
        `[n, ...]` float32, uint8 or bool.
    """
    arrays = [_leaf(space, np.asarray(_at(obs, path))) for path, space in parts.items()]
    if len(arrays) == 1:
        return arrays[0]
    flat = [array.reshape(len(array), -1).astype(np.float32) for array in arrays]
    return np.concatenate(flat, axis=1)


def _at(obs: Any, path: str) -> Any:
    """Return a part of nested dictionaries; all of an observation for the path ""."""
    for key in path.split("/") if path else ():
        obs = obs[key]
    return obs


def _leaf(space: Space, obs: np.ndarray) -> np.ndarray:
    """Return the observations of a space that is no dictionary."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[obs.reshape(-1) - space.start]
    if obs.dtype in (np.uint8, np.bool_):
        return obs
    return obs.astype(np.float32, copy=False)


def _batch_of_one(space: Space) -> Any:
    """Return a sample of a space with a leading axis of one, as a vector environment gives it."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: _batch_of_one(inner) for key, inner in space.spaces.items()}
    return np.asarray(space.sample())[None]


def check_spaces(spec: Spec, env: Env | VectorEnv) -> None:
    """Raise InputError when an environment's observations or actions differ from the data's.

    Says what the data leave open: the order of the parts of an observation, and bounds of actions
    beyond the environment's.

    Args:
        spec: of the data set.
        env: a Gymnasium environment, or a vector of them.
    """
    adapter = adapter_of(spec, env)
    name, space = name_of_env(env), adapter.action_space
    if adapter.keys and not spec.obs_keys:
        say(f"{name}: the parts of an observation are joined in the order {list(adapter.keys)}")

    if not bounded(space) or spec.action_low is None or spec.action_high is None:
        return
    low, high = space.low.reshape(-1), space.high.reshape(-1)
    is_within = np.array(spec.action_low) >= low - ROUNDING * (high - low)
    is_within &= np.array(spec.action_high) <= high + ROUNDING * (high - low)
    if not is_within.all():
        say(
            f"{name}: the bounds of the data's actions, {list(spec.action_low)} to "
            f"{list(spec.action_high)}, lie beyond the environment's; actions are clipped",
            logging.WARNING,
        )


def adapter_of(spec: Spec, env: Env | VectorEnv) -> Adapter:
    """Return the adapter of an environment, or of a vector of them; raises what `Adapter` does."""
    obs, action = env.observation_space, env.action_space
    if isinstance(env, gymnasium.vector.VectorEnv):
        obs, action = env.single_observation_space, env.single_action_space
    return Adapter(spec, obs, action, name_of_env(env))


def name_of_env(env: Env | VectorEnv) -> str:
    """Return the id of an environment, or the name of its class."""
    return type(env.unwrapped).__name__ if env.spec is None else env.spec.id


def natural_spec(env: VectorEnv) -> Spec:
    """Describe the data of an environment whose policy was trained on none that we know."""
    obs_space, space = env.single_observation_space, env.single_action_space
    parts = parts_of(obs_space, obs_keys(obs_space, (), ""))
    sample = flat_obs(parts, _batch_of_one(obs_space))
    n_actions = count_actions(space)
    spec = Spec(sample.shape[1:], n_actions, obs_dtype=str(sample.dtype))
    if isinstance(space, gymnasium.spaces.Discrete):
        return replace(spec, action_start=int(space.start))
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return replace(spec, action_counts=tuple(space.nvec.tolist()))
    if n_actions is not None or not isinstance(space, gymnasium.spaces.Box):
        return spec
    size = math.prod(space.shape)
    spec = replace(spec, action_shape=(size,))
    if not bounded(space):
        return spec
    low, high = space.low.reshape(-1), space.high.reshape(-1)
    return replace(spec, action_low=tuple(low.tolist()), action_high=tuple(high.tolist()))
