"""Small offline trainings on the gridworld, for the experiments on feature alignment and rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rlop.data import load_dataset
from rlop.experiments.outcome import Curve
from rlop.logs.logger import History
from rlop.training.names import agent_class
from rlop.training.session import train

DATA = "gridworld?observation=random&steps=2000&epsilon=0.1,0.5"
STEPS = 3000
SEEDS = 2

OPTIONS: dict[str, Any] = {
    "hidden": (128, 128),
    "gamma": 0.97,
    "lr": 1e-3,
    "batch_size": 32,
    "target_period": 100,
}


def offline_dqn(seed: int, steps: int = STEPS, **options: Any) -> History:
    """Train DQN on little data and many updates, where bootstrapping does the most harm.

    Args:
        seed: seed of the experiment; the runs take seeds from `SEEDS * seed` on.
        steps: gradient steps.
        options: options of `DQN`, in addition to `OPTIONS`.
    """
    torch.set_flush_denormal(True)
    data = load_dataset(DATA)
    seeds = list(range(seed * SEEDS, (seed + 1) * SEEDS))
    agent = agent_class("DQN")(data.spec, seeds=seeds, **OPTIONS, **options)

    twelfth = steps // 12
    return train(agent, data, steps, probe_every=twelfth, log_every=twelfth, progress=False)


def mean(history: History, metric: str) -> np.ndarray:
    """Average a metric over the runs, at every step at which it was logged, `[T]`."""
    _, values = history.get(metric)
    return values.mean(1)


def curves(histories: Mapping[str, History], metric: str) -> dict[str, Curve]:
    """Return label -> (steps, mean over runs) of one metric."""
    result: dict[str, Curve] = {}
    for label, history in histories.items():
        steps, _ = history.get(metric)
        result[label] = (steps, mean(history, metric))
    return result
