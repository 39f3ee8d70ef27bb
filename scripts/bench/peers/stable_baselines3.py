"""Stable-Baselines3: `DQN.train(1)` and what `learn` does at every step.

The replay buffer is filled by hand.

Differences that remain: gradients are clipped to norm 10, its default, and it has no conservative
term.
"""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
from stable_baselines3 import DQN
from stable_baselines3.common.logger import configure

from rlop.data import Dataset
from scripts.bench.problems import TARGET_PERIOD, Problem


class Idle(gymnasium.Env):
    """Spaces only: nobody steps it."""

    def __init__(self, problem: Problem) -> None:
        image = problem.network == "nature"
        low, high, dtype = (0, 255, np.uint8) if image else (-np.inf, np.inf, np.float32)
        self.observation_space = gymnasium.spaces.Box(low, high, problem.obs, dtype)
        self.action_space = gymnasium.spaces.Discrete(problem.actions)


def build(problem: Problem, data: Dataset) -> Callable[[], object]:
    model = DQN(
        "CnnPolicy" if problem.network == "nature" else "MlpPolicy",
        Idle(problem),
        buffer_size=len(data),
        batch_size=problem.batch,
        target_update_interval=TARGET_PERIOD,
        policy_kwargs={} if problem.network == "nature" else {"net_arch": list(problem.hidden)},
        device="cpu",
    )
    model.set_logger(configure(None, []))
    fill(model.replay_buffer, data)

    def update() -> None:
        model.train(1, problem.batch)
        model._on_step()  # copies the target network when it is due

    return update


def fill(buffer: object, data: Dataset) -> None:
    """The buffer's arrays have an axis for parallel environments; here there is one."""
    buffer.observations[:, 0], buffer.next_observations[:, 0] = data.obs, data.next_obs
    buffer.actions[:, 0, 0], buffer.rewards[:, 0] = data.action, data.reward
    buffer.dones[:, 0] = data.terminated
    buffer.full = True
