"""The environment of a policy: what its user gives, what the data name, or what they recorded."""

from __future__ import annotations

import gymnasium
import numpy as np

from rlop.data.adapter import Adapter
from rlop.data.native import action_box
from rlop.envs.given import Given, name_of, spaces_of
from rlop.envs.spaces import Space
from rlop.logs.messages import say
from rlop.types import InputError, Spec


def adapter_for(
    spec: Spec,
    env: Given | None = None,
    observation_space: Space | None = None,
    action_space: Space | None = None,
) -> Adapter:
    """Return the adapter of a policy's environment.

    Args:
        spec: of the data set that the agent was trained on.
        env: the environment; None is the one that the data name. Where that cannot be made here,
            the spaces are those that the data recorded.
        observation_space: in place of the environment's.
        action_space: the same.
    Raises:
        InputError: an environment that does not fit the data, or a space that nothing says.
    """
    name, spaces = "the policy", None
    if env is not None:
        name = name_of(env)
        spaces = spaces_of(env, spec.env_kwargs if env == spec.env_id else {})
    elif spec.env_id is not None and None in (observation_space, action_space):
        spaces = _named(spec)
        name = name if spaces is None else spec.env_id

    if observation_space is None:
        observation_space = spaces[0] if spaces else recorded_obs_space(spec)
    if action_space is None:
        action_space = spaces[1] if spaces else recorded_action_space(spec)
    return Adapter(spec, observation_space, action_space, name)


def _named(spec: Spec) -> tuple[Space, Space] | None:
    """Return the spaces of the environment that the data name; None where it cannot be made."""
    assert spec.env_id is not None
    try:
        return spaces_of(spec.env_id, spec.env_kwargs)
    except Exception:  # not installed, or whatever the constructor raises
        say(f"{spec.env_id} cannot be made here: its spaces are those that the data recorded")
        return None


def recorded_obs_space(spec: Spec) -> Space:
    """Return the space of the observations that a policy takes without its environment.

    Raises:
        InputError: the data joined parts of dictionaries, whose shapes they do not record.
    """
    if spec.obs_keys:
        raise InputError(
            f"observations are dictionaries of {list(spec.obs_keys)}, and nothing here says of "
            f"which shapes; give env, or observation_space{_named_in(spec)}"
        )
    dtype = np.dtype(spec.obs_dtype)
    low, high = (-np.inf, np.inf) if dtype.kind == "f" else (0, 1)
    if dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return gymnasium.spaces.Box(low, high, spec.obs_shape, dtype.type)


def recorded_action_space(spec: Spec) -> Space:
    """Return the space of the environment's actions, from what the data recorded.

    Raises:
        InputError: continuous actions whose bounds nothing says.
    """
    if spec.action_counts is not None:
        return gymnasium.spaces.MultiDiscrete(list(spec.action_counts))
    if spec.n_actions is not None:
        return gymnasium.spaces.Discrete(spec.n_actions, start=spec.action_start)
    if spec.action_low is None or spec.action_high is None:
        raise InputError(
            "nothing here says the environment's lowest and highest actions; give env, or "
            f"action_space{_named_in(spec)}"
        )
    box = action_box(spec.action_low, spec.action_high, spec.action_layout or spec.action_shape)
    low, high = box.low.astype(np.float32), box.high.astype(np.float32)
    return gymnasium.spaces.Box(low, high, dtype=np.float32)


def _named_in(spec: Spec) -> str:
    """Say which environment the data name, though it cannot be made here."""
    return "" if spec.env_id is None else f" ({spec.env_id!r} cannot be made here)"
