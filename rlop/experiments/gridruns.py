"""Small offline trainings on gridworlds, for the experiments on feature alignment and rank.

Every seed of an experiment has a gridworld, data and networks of its own. No observation repeats:
noise is added to each, as in an image no two frames are alike. On observations that repeat, an
action drawn from the behavior policy is nearly always one that the data took there, and not out of
sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rlop.data import Dataset, load_dataset
from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Curve
from rlop.logs.logger import History
from rlop.training.evaluate import make_evaluator
from rlop.training.names import agent_class
from rlop.training.session import train

DATA = "gridworld?observation=random&steps={rows}&epsilon={epsilon}&noise=0.3&seed={seed}"
ROWS = 1000
EPSILON = "0.5"
STEPS = 2400
NETWORKS = 2
POINTS = 12  # of a curve

OPTIONS: dict[str, Any] = {
    "hidden": (64, 64),
    "gamma": 0.97,
    "lr": 1e-3,
    "batch_size": 32,
    "target_period": 100,
}


def data_of(seed: int, rows: int = ROWS, epsilon: str = EPSILON) -> Dataset:
    """Roll out the gridworld of a seed."""
    return load_dataset(DATA.format(rows=rows, epsilon=epsilon, seed=seed))


def offline_dqn(
    seed: int,
    data: Dataset,
    steps: int = STEPS,
    networks: int = NETWORKS,
    plays: bool = False,
    **options: Any,
) -> History:
    """Train DQN on little data and many updates, where bootstrapping does the most harm.

    Args:
        seed: of the networks, from which each gets one of its own.
        data: from `data_of`.
        steps: gradient steps.
        networks: for each variant.
        plays: whether exact returns are computed, as often as features are measured.
        options: options of `DQN`, in addition to `OPTIONS`.
    """
    seeds = child_seeds(seed, networks)
    agent = agent_class("DQN")(data.spec, seeds=seeds, **{**OPTIONS, **options})
    evaluate = None
    if plays:
        evaluate = make_evaluator(agent, data.spec.env_id, data.spec.env_kwargs, 1)

    every = steps // POINTS
    return train(
        agent,
        data,
        steps,
        evaluate=evaluate,
        probe_every=every,
        log_every=every,
        eval_every=every,
        compile=False,
        progress=False,
    )


def part(history: History, runs: slice) -> History:
    """Return the metrics of some of the runs."""
    metrics = {name: (steps, values[:, runs]) for name, (steps, values) in history.metrics.items()}
    return replace(
        history, metrics=metrics, labels=history.labels[runs], hparams=history.hparams[runs]
    )


def mean(history: History, metric: str) -> np.ndarray:
    """Average a metric over the runs, at every step at which it was logged, `[T]`."""
    _, values = history.get(metric)
    return values.mean(1)


def last(history: History, metric: str) -> float:
    """Return the last value of a metric, averaged over the runs."""
    return float(mean(history, metric)[-1])


def growth(history: History, metric: str) -> float:
    """Divide the last value of a metric by that at half of the training."""
    values = mean(history, metric)
    return float(values[-1] / values[len(values) // 2])


def curves(histories: Mapping[str, History], metric: str) -> dict[str, Curve]:
    """Return label -> (steps, mean over runs) of one metric."""
    result: dict[str, Curve] = {}
    for label, history in histories.items():
        steps, _ = history.get(metric)
        result[label] = (steps, mean(history, metric))
    return result
