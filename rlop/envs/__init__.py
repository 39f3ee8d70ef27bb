"""Small environments whose optimal values are known exactly; importing it registers them."""

from __future__ import annotations

from typing import Any

import gymnasium

from rlop.envs.chain import chain
from rlop.envs.gridworld import GridWorld, ascii_map, gridworld
from rlop.envs.stepping import TabularEnv, TabularVectorEnv
from rlop.envs.tabular import (
    TabularMDP,
    epsilon_greedy,
    greedy_policy,
    occupancy,
    optimal_q,
    policy_q,
    policy_return,
    policy_return_undiscounted,
    state_index,
)

__all__ = [
    "GridWorld",
    "TabularEnv",
    "TabularMDP",
    "TabularVectorEnv",
    "ascii_map",
    "chain",
    "epsilon_greedy",
    "greedy_policy",
    "gridworld",
    "occupancy",
    "optimal_q",
    "policy_q",
    "policy_return",
    "policy_return_undiscounted",
    "state_index",
]

# Steps after which Gymnasium cuts an episode.
CHAIN_LIMIT = 20
GRIDWORLD_LIMIT = 50


def chain_env(**kwargs: Any) -> TabularEnv:
    """Make one `rlop/Chain-v0` with the arguments of `chain`."""
    return TabularEnv(chain(**kwargs))


def chain_vector_env(
    num_envs: int = 1,
    max_episode_steps: int = CHAIN_LIMIT,
    **kwargs: Any,
) -> TabularVectorEnv:
    """Make copies of `rlop/Chain-v0`; further arguments are those of `chain`."""
    return TabularVectorEnv(chain(**kwargs), num_envs, max_episode_steps)


def gridworld_env(**kwargs: Any) -> TabularEnv:
    """Make one `rlop/GridWorld-v0` with the arguments of `gridworld`."""
    return TabularEnv(gridworld(**kwargs))


def gridworld_vector_env(
    num_envs: int = 1,
    max_episode_steps: int = GRIDWORLD_LIMIT,
    **kwargs: Any,
) -> TabularVectorEnv:
    """Make copies of `rlop/GridWorld-v0`; further arguments are those of `gridworld`."""
    return TabularVectorEnv(gridworld(**kwargs), num_envs, max_episode_steps)


gymnasium.register(
    "rlop/Chain-v0",
    entry_point="rlop.envs:chain_env",
    vector_entry_point="rlop.envs:chain_vector_env",
    max_episode_steps=CHAIN_LIMIT,
)
gymnasium.register(
    "rlop/GridWorld-v0",
    entry_point="rlop.envs:gridworld_env",
    vector_entry_point="rlop.envs:gridworld_vector_env",
    max_episode_steps=GRIDWORLD_LIMIT,
)
