"""Small environments whose optimal values are known exactly; importing this registers them with Gymnasium."""

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


def chain_env(**kwargs: Any) -> TabularEnv:
    """`rlop/Chain-v0`; arguments of `chain`."""
    return TabularEnv(chain(**kwargs))


def chain_vector_env(
    num_envs: int = 1, max_episode_steps: int = 20, **kwargs: Any
) -> TabularVectorEnv:
    """`rlop/Chain-v0`, many copies; further arguments of `chain`."""
    return TabularVectorEnv(chain(**kwargs), num_envs, max_episode_steps)


def gridworld_env(**kwargs: Any) -> TabularEnv:
    """`rlop/GridWorld-v0`; arguments of `gridworld`."""
    return TabularEnv(gridworld(**kwargs))


def gridworld_vector_env(
    num_envs: int = 1, max_episode_steps: int = 50, **kwargs: Any
) -> TabularVectorEnv:
    """`rlop/GridWorld-v0`, many copies; further arguments of `gridworld`."""
    return TabularVectorEnv(gridworld(**kwargs), num_envs, max_episode_steps)


for _name, _build, _limit in (("Chain", "chain", 20), ("GridWorld", "gridworld", 50)):
    gymnasium.register(
        f"rlop/{_name}-v0",
        entry_point=f"rlop.envs:{_build}_env",
        vector_entry_point=f"rlop.envs:{_build}_vector_env",
        max_episode_steps=_limit,
    )
