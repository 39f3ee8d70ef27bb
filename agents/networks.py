"""The networks that the shared options describe."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from rlop.nets import MLP, Critics, DiscreteCritics, QNetwork, make_torso, reset_runs, with_layers
from rlop.nets.torso import Torso
from rlop.types import Spec

from .critic_heads import CriticHead
from .option_groups import NetworkOptions


def make_q_network(
    spec: Spec, config: NetworkOptions, n_outputs: int, seeds: Sequence[int], network: str = "auto"
) -> QNetwork:
    """Build a network from observations to outputs, each run drawn from its own seed.

    Args:
        spec: of the data set.
        config: options of the agent.
        n_outputs: outputs for each observation, one an action for Q(s, .).
        seeds: one per run.
        network: kind of network, see `rlop.nets.make_torso`.
    Raises:
        InputError: for options that this network cannot follow.
    """
    torso = torso_of(spec, config, len(seeds), network)
    drawn = with_layers(QNetwork(torso, n_outputs, len(seeds)), config.layers)
    reset_runs(drawn, seeds)
    return drawn


def torso_of(spec: Spec, config: NetworkOptions, runs: int, network: str) -> Torso:
    """Build the torso of `make_q_network`, without `layers`; its parameters are not drawn yet."""
    return make_torso(
        spec, runs, network, config.hidden, config.activation, config.layer_norm, config.precision
    )


def make_critics(
    spec: Spec, config: NetworkOptions, runs: int, n_critics: int, head: CriticHead
) -> Critics:
    """Build Q_e(s, a) of vectors of actions; its parameters are not drawn yet.

    Args:
        spec: of the data set.
        config: options of the agent.
        runs: R.
        n_critics: E.
        head: of the critics.
    Raises:
        InputError: for options that these networks cannot follow.
    """
    critics = Critics(
        flat_size(spec),
        spec.action_shape[0],
        (runs, n_critics),
        config.hidden,
        config.activation,
        config.layer_norm,
        config.precision,
        head.n,
        head.mean,
    )
    return with_layers(critics, config.layers)


def make_discrete_critics(
    spec: Spec, config: NetworkOptions, runs: int, n_critics: int
) -> DiscreteCritics:
    """Build Q_e(s, a) of discrete actions; see `make_critics`."""
    assert spec.n_actions is not None
    critics = DiscreteCritics(
        flat_size(spec),
        spec.n_actions,
        (runs, n_critics),
        config.hidden,
        config.activation,
        config.layer_norm,
        config.precision,
    )
    return with_layers(critics, config.layers)


def make_second_torso(spec: Spec, config: NetworkOptions, hidden: Sequence[int], runs: int) -> MLP:
    """Build the torso of a network beside the critics, as a policy's; not drawn yet.

    It shares activation and precision with the critics, not their normalization and layers.

    Args:
        spec: of the data set.
        config: options of the agent.
        hidden: widths.
        runs: R.
    """
    return MLP((runs,), flat_size(spec), hidden, config.activation, precision=config.precision)


def flat_size(spec: Spec) -> int:
    """Numbers in one observation."""
    return max(1, math.prod(spec.obs_shape))


def make_log_weight(start: float, runs: int) -> nn.Module:
    """Return one trained number a run, the logarithm of a weight: parameter `log`, `[R, 1]`.

    Args:
        start: its value at initialization.
        runs: R.
    """
    return nn.ParameterDict({"log": nn.Parameter(torch.full((runs, 1), start))})
