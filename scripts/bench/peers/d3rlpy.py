"""d3rlpy, end to end as in its `fit`: transitions picked one by one, then `algo.update`.

Differences that remain: continuous CQL subtracts the entropy in the target (`soft_q_backup`; its
other backup draws no action). Discrete CQL is a double DQN and passes the observations through the
network a second time for the conservative term. Successors are the next row of the episode.
"""

from __future__ import annotations

import logging

import d3rlpy
import numpy as np
import structlog

from rlop.data import Dataset
from scripts.bench.measure import Update
from scripts.bench.problems import (
    ACTORS,
    CONVOLUTIONS,
    SAMPLES,
    TARGET_PERIOD,
    Problem,
    channels_first,
)

# It announces every data set and network.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def build(problem: Problem, data: Dataset) -> Update:
    """Return d3rlpy's update on its replay buffer."""
    config = make_config(problem)
    algo = config.create()
    obs_dtype = np.float32 if problem.network == "mlp" else np.uint8
    buffer = d3rlpy.dataset.MDPDataset(
        channels_first(problem, data.obs).astype(obs_dtype, copy=False),
        data.action.reshape(len(data), -1),
        data.reward,
        data.terminated.astype(np.float32),
        data.truncated.astype(np.float32),
    )
    algo.build_with_dataset(buffer)

    return lambda: algo.update(buffer.sample_transition_batch(problem.batch))


def make_config(problem: Problem) -> d3rlpy.base.LearnableConfig:
    """Configure the agent of a problem."""
    if problem.kind == "cql":
        return continuous(problem)
    if problem.kind in ACTORS:
        return with_actor(problem)
    return discrete(problem)


def with_actor(problem: Problem) -> d3rlpy.base.LearnableConfig:
    """Configure BC, TD3+BC, ReBRAC, whose critics have no layer normalization here, or IQL."""
    names = {"td3bc": "TD3PlusBCConfig", "rebrac": "ReBRACConfig", "iql": "IQLConfig"}
    encoder = d3rlpy.models.VectorEncoderFactory(list(problem.hidden))
    if problem.kind == "bc":
        return d3rlpy.algos.BCConfig(batch_size=problem.batch, encoder_factory=encoder)

    encoders = {"actor_encoder_factory": encoder, "critic_encoder_factory": encoder}
    if problem.kind == "iql":
        encoders["value_encoder_factory"] = encoder
    return getattr(d3rlpy.algos, names[problem.kind])(batch_size=problem.batch, **encoders)


def continuous(problem: Problem) -> d3rlpy.algos.CQLConfig:
    """Configure continuous CQL without its Lagrange form."""
    encoder = d3rlpy.models.VectorEncoderFactory(list(problem.hidden))
    return d3rlpy.algos.CQLConfig(
        batch_size=problem.batch,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        n_action_samples=SAMPLES,
        soft_q_backup=True,
        alpha_learning_rate=0.0,
        alpha_threshold=0.0,
    )


def discrete(problem: Problem) -> d3rlpy.algos.DQNConfig | d3rlpy.algos.DiscreteCQLConfig:
    """Configure DQN or discrete CQL."""
    config = d3rlpy.algos.DQNConfig if problem.kind == "dqn" else d3rlpy.algos.DiscreteCQLConfig
    common = {"batch_size": problem.batch, "target_update_interval": TARGET_PERIOD}
    if problem.network == "mlp":
        encoder = d3rlpy.models.VectorEncoderFactory(list(problem.hidden))
        return config(encoder_factory=encoder, **common)

    filters = []
    for _, n_filters, kernel, stride in CONVOLUTIONS[problem.network]:
        filters.append([n_filters, kernel, stride])

    encoder = d3rlpy.models.PixelEncoderFactory(filters=filters, feature_size=problem.hidden[-1])
    scaler = d3rlpy.preprocessing.PixelObservationScaler() if problem.network == "nature" else None
    return config(encoder_factory=encoder, observation_scaler=scaler, **common)
