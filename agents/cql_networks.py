"""What continuous CQL trains: critics, policy and two weights, each with its optimizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rlop.losses import td
from rlop.nets import MLP, Critics, GaussianPolicy, Layers, reinit_runs, reset_runs, with_layers
from rlop.optim import Adam, optimizer_maker, optimizer_options
from rlop.optim.learner import Learner
from rlop.regularizers.penalties import Terms
from rlop.types import Spec

from .cql_config import CQLConfig

Noise = dict[str, Tensor]  # name -> [R, *shape], see `noise_of`
Moments = tuple[Tensor, Tensor]  # mean and log std of the policy at B states, [R, B, m] each


def make_learners(
    spec: Spec, config: CQLConfig, terms: Terms, device: torch.device
) -> dict[str, Learner]:
    """Learners by name: `critics` (with target network), `policy`, `entropy`, and `multiplier` with a Lagrange form.

    Args:
        spec: of the data set.
        config: of the agent.
        terms: its run axis.
        device: where the parameters live.
    """
    runs, hyper = len(terms.runs), terms.hyper
    adam: dict[str, Any] = {"betas": config.adam_betas, "eps": config.adam_eps}
    learner = partial(Learner, make=partial(Adam, **adam), max_grad_norm=config.max_grad_norm)
    critics, policy = make_networks(spec, config, terms.runs.seeds)
    terms.attach(critics, str(critics.torso.activation))
    make = optimizer_maker(optimizer_options(config.optimizer), hyper, **adam)
    learners = {
        "critics": learner(
            critics.to(device),
            lr=hyper["lr"],
            tau=hyper["tau"],
            make=make,
            projections=terms.projections,
        ),
        "policy": learner(policy.to(device), lr=hyper["policy_lr"]),
        "entropy": learner(
            log_weight(math.log(config.entropy_coef), runs).to(device), lr=hyper["entropy_lr"]
        ),
    }
    if config.lagrange != "off":
        start = td.LAGRANGES[config.lagrange].log_initial
        learners["multiplier"] = learner(log_weight(start, runs).to(device), lr=hyper["alpha_lr"])
    return learners


def make_networks(
    spec: Spec, config: CQLConfig, seeds: Sequence[int]
) -> tuple[Critics, GaussianPolicy]:
    """Critics and policy, every run drawn from its own seed."""
    obs_size, n_dims, runs = max(1, math.prod(spec.obs_shape)), spec.action_shape[0], len(seeds)
    lead = (runs, config.n_critics)
    critics = Critics(
        obs_size,
        n_dims,
        lead,
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
    reset_runs(
        nn.ModuleList([critics, policy]), seeds
    )  # together, so that they do not start from the same numbers
    reinit_runs(
        [(critics, config.init), (policy, config.init.replace("orthogonal", "small_head"))], seeds
    )
    return critics, policy


def log_weight(start: float, runs: int) -> nn.Module:
    """One trained number a run, a weight's logarithm: parameter `log`, `[R, 1]`."""
    return nn.ParameterDict({"log": nn.Parameter(torch.full((runs, 1), start))})


def noise_of(config: CQLConfig, n_dims: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Random numbers of one update, name -> (kind, shape): for candidates, policy's loss, backup, target."""
    many, one = (config.batch_size, config.action_samples, n_dims), (config.batch_size, n_dims)
    noise: dict[str, tuple[str, tuple[int, ...]]] = {}
    noise |= {"random": ("uniform", many), "here": ("normal", many), "there": ("normal", many)}
    noise["policy"] = ("normal", one)
    if config.backup != "mean":
        draws = 1 if config.backup == "sample" else config.backup_samples
        noise["backup"] = ("normal", (config.batch_size, draws, n_dims))
    return noise | (config.target_noise.draws(config.batch_size) if config.target_noise else {})
