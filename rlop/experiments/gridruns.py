"""Small offline trainings on the gridworld that the experiments on feature alignment and rank share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rlop.data import load_dataset
from rlop.logs.logger import History
from rlop.training.names import agent_class
from rlop.training.loop import train

DATA = "gridworld?observation=random&steps=2000&epsilon=0.1,0.5"
STEPS = 3000
SEEDS = 2


def offline_dqn(seed: int, steps: int = STEPS, **options: Any) -> History:
    """Train DQN on little data and many updates, where bootstrapping does the most harm.

    Args:
        seed: of the first run; another `SEEDS - 1` follow.
        steps: gradient steps.
        options: of `DQN`, beside the ones set here.
    """
    torch.set_flush_denormal(True)
    data = load_dataset(DATA)
    fixed = {
        "hidden": (128, 128),
        "gamma": 0.97,
        "lr": 1e-3,
        "batch_size": 32,
        "target_period": 100,
    }
    agent = agent_class("DQN")(
        data.spec, seeds=[seed * SEEDS + i for i in range(SEEDS)], **fixed, **options
    )
    return train(agent, data, steps, probe_every=steps // 12, log_every=steps // 12, progress=False)


def mean(history: History, name: str) -> np.ndarray:
    """A metric's mean over runs at every time it was taken, `[T]`."""
    return history.get(name)[1].mean(1)


def curves(histories: Mapping[str, History], name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """label -> (steps, mean over runs) of one metric."""
    return {
        label: (history.get(name)[0], mean(history, name)) for label, history in histories.items()
    }
