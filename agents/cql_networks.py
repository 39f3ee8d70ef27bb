"""The networks that continuous CQL trains: critics, policy and two single weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlop.nets import MLP, Critics, GaussianPolicy, Layers, reinit_runs, reset_runs, with_layers
from rlop.types import Spec

from .cql_config import CQLConfig

Moments = tuple[Tensor, Tensor]  # mean and log std of the policy at B states, [R, B, m] each


def make_networks(
    spec: Spec, config: CQLConfig, seeds: Sequence[int]
) -> tuple[Critics, GaussianPolicy]:
    """Build critics and policy, each run drawn from its own seed.

    Args:
        spec: of the data set.
        config: of the agent.
        seeds: one per run.
    """
    obs_size = max(1, math.prod(spec.obs_shape))
    (n_dims,) = spec.action_shape
    runs = len(seeds)

    critics = Critics(
        obs_size,
        n_dims,
        (runs, config.n_critics),
        config.hidden,
        config.activation,
        config.layer_norm,
        config.precision,
    )
    critics = with_layers(critics, config.layers)
    critics.plain = config.layers == Layers()

    torso = MLP(
        (runs,), obs_size, config.policy_hidden, config.activation, precision=config.precision
    )
    policy = GaussianPolicy(torso, n_dims, runs, config.log_std_range, config.log_std_affine)

    # Both are drawn from one stream, so that they do not start from the same numbers.
    reset_runs(nn.ModuleList([critics, policy]), seeds)
    policy_init = "small_head" if config.init == "orthogonal" else config.init
    reinit_runs([(critics, config.init), (policy, policy_init)], seeds)
    return critics, policy


def log_weight(start: float, runs: int) -> nn.Module:
    """Return one trained number a run, the logarithm of a weight: parameter `log`, `[R, 1]`.

    Args:
        start: its value at initialization.
        runs: R.
    """
    return nn.ParameterDict({"log": nn.Parameter(torch.full((runs, 1), start))})
