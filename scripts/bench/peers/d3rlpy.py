"""d3rlpy, end to end as in its `fit`.

Transitions are picked one by one from its buffer, then `algo.update` learns from them.

Differences that remain: continuous CQL subtracts the entropy in the target (`soft_q_backup`; its
other backup draws no action). Discrete CQL is a double DQN and passes the observations through the
network once more for the conservative term. Successors are the next row of the episode.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import d3rlpy
import numpy as np
import structlog

from rlop.data import Dataset
from scripts.bench.problems import CONVOLUTIONS, SAMPLES, TARGET_PERIOD, Problem, channels_first

# It announces every data set and network.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def build(problem: Problem, data: Dataset) -> Callable[[], object]:
    algo = (continuous if problem.kind == "cql" else discrete)(problem).create()
    buffer = d3rlpy.dataset.MDPDataset(
        channels_first(problem, data.obs).astype(
            np.uint8 if problem.network != "mlp" else np.float32, copy=False
        ),
        data.action.reshape(len(data), -1),
        data.reward,
        data.terminated.astype(np.float32),
        data.truncated.astype(np.float32),
    )
    algo.build_with_dataset(buffer)
    return lambda: algo.update(buffer.sample_transition_batch(problem.batch))


def continuous(problem: Problem) -> d3rlpy.algos.CQLConfig:
    encoder = d3rlpy.models.VectorEncoderFactory(list(problem.hidden))
    return d3rlpy.algos.CQLConfig(
        batch_size=problem.batch,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        n_action_samples=SAMPLES,
        soft_q_backup=True,
        alpha_learning_rate=0.0,  # no Lagrange form
        alpha_threshold=0.0,
    )


def discrete(problem: Problem) -> d3rlpy.algos.DQNConfig | d3rlpy.algos.DiscreteCQLConfig:
    config = d3rlpy.algos.DQNConfig if problem.kind == "dqn" else d3rlpy.algos.DiscreteCQLConfig
    common = {"batch_size": problem.batch, "target_update_interval": TARGET_PERIOD}
    if problem.network == "mlp":
        return config(
            encoder_factory=d3rlpy.models.VectorEncoderFactory(list(problem.hidden)), **common
        )
    filters = [
        [filters, kernel, stride] for _, filters, kernel, stride in CONVOLUTIONS[problem.network]
    ]
    encoder = d3rlpy.models.PixelEncoderFactory(filters=filters, feature_size=problem.hidden[-1])
    scaler = d3rlpy.preprocessing.PixelObservationScaler() if problem.network == "nature" else None
    return config(encoder_factory=encoder, observation_scaler=scaler, **common)
