"""Stable-Baselines3: `DQN.train(1)` and what `learn` does at every step.

Differences that remain: gradients are clipped to norm 10, its default, and it has no conservative
term. The replay buffer is filled by hand.
"""

from __future__ import annotations

import gymnasium
import numpy as np
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import configure

from rlop.data import Dataset
from scripts.bench.measure import Update
from scripts.bench.problems import TARGET_PERIOD, Problem


class Idle(gymnasium.Env):
    """An environment with spaces only, which is never stepped."""

    def __init__(self, problem: Problem) -> None:
        if problem.network == "nature":
            box = gymnasium.spaces.Box(0, 255, problem.obs, np.uint8)
        else:
            box = gymnasium.spaces.Box(-np.inf, np.inf, problem.obs, np.float32)
        self.observation_space = box
        self.action_space = gymnasium.spaces.Discrete(problem.actions)


def build(problem: Problem, data: Dataset) -> Update:
    """Return the update of its DQN."""
    is_image = problem.network == "nature"
    model = DQN(
        "CnnPolicy" if is_image else "MlpPolicy",
        Idle(problem),
        buffer_size=len(data),
        batch_size=problem.batch,
        target_update_interval=TARGET_PERIOD,
        policy_kwargs={} if is_image else {"net_arch": list(problem.hidden)},
        device="cpu",
    )
    model.set_logger(configure(None, []))
    fill(model.replay_buffer, data)

    def update() -> None:
        model.train(1, problem.batch)
        model._on_step()  # copies the target network when it is due

    return update


def fill(buffer: ReplayBuffer, data: Dataset) -> None:
    """Fill the buffer, whose arrays have an axis for parallel environments; here it is one."""
    buffer.observations[:, 0] = data.obs
    buffer.next_observations[:, 0] = data.next_obs
    buffer.actions[:, 0, 0] = data.action
    buffer.rewards[:, 0] = data.reward
    buffer.dones[:, 0] = data.terminated
    buffer.full = True
