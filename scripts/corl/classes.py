"""CORL's classes for PyTorch, made from its configurations as its scripts make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rlop.data.dataset import Dataset
from scripts.corl.checkout import script

MODULES = {
    "BC": "any_percent_bc",
    "TD3BC": "td3_bc",
    "IQL": "iql",
    "CQL": "cql",
    "EDAC": "edac",
}
Config = Any  # a `TrainConfig` of CORL's


class Parts(NamedTuple):
    """A trainer's method that takes one gradient step, and its greedy policy."""

    step: Callable[[list[Tensor]], object]
    greedy: Callable[[Tensor], Tensor]


class TorchRun:
    """One run of a class for PyTorch, on its own replay buffer.

    Args:
        agent: key of `MODULES`.
        data: transformed.
        options: of the agent's `TrainConfig`, as its YAML file has them.
        batch_size: transitions in a minibatch.
        seed: of networks, noise and minibatches.
    """

    def __init__(
        self, agent: str, data: Dataset, options: Mapping[str, Any], batch_size: int, seed: int
    ) -> None:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - its buffer draws from here
        module = script(MODULES[agent])
        sizes = (data.spec.obs_shape[0], data.spec.action_shape[0])
        self.parts = PARTS[agent](module, typed(module.TrainConfig, options), *sizes)
        self.batch_size = batch_size

        self.buffer = module.ReplayBuffer(*sizes, len(data))
        columns = {
            "observations": data.obs,
            "actions": data.action,
            "rewards": data.reward,
            "next_observations": data.next_obs,
            "terminals": data.terminated,
        }
        with redirect_stdout(None):
            self.buffer.load_d4rl_dataset(columns)

    def train(self, updates: int) -> None:
        """Take gradient steps."""
        for _ in range(updates):
            self.parts.step(self.buffer.sample(self.batch_size))

    @torch.no_grad()
    def act(self, obs: Tensor) -> Tensor:
        """Return greedy actions, `[B, S] -> [B, m]`."""
        return self.parts.greedy(obs)


def typed(config: Config, options: Mapping[str, Any]) -> Config:
    """Return a `TrainConfig`; YAML reads numbers such as 3e-4 as words."""
    fields = config.__dataclass_fields__
    return config(
        **{
            name: float(value) if fields[name].type is float else value
            for name, value in options.items()
        }
    )


def adam(network: nn.Module, lr: float) -> torch.optim.Adam:
    """Make the optimizer of one network."""
    return torch.optim.Adam(network.parameters(), lr=lr)


def bc(module: ModuleType, config: Config, n_obs: int, n_actions: int) -> Parts:
    """Make BC; the rate is written in its script."""
    actor = module.Actor(n_obs, n_actions, 1.0)
    trainer = module.BC(1.0, actor, adam(actor, 3e-4), discount=config.discount)
    return Parts(trainer.train, actor)


def td3bc(module: ModuleType, config: Config, n_obs: int, n_actions: int) -> Parts:
    """Make TD3+BC; the rates are written in its script."""
    actor = module.Actor(n_obs, n_actions, 1.0)
    first, second = (module.Critic(n_obs, n_actions) for _ in range(2))
    trainer = module.TD3_BC(
        1.0,
        actor,
        adam(actor, 3e-4),
        first,
        adam(first, 3e-4),
        second,
        adam(second, 3e-4),
        discount=config.discount,
        tau=config.tau,
        policy_noise=config.policy_noise,
        noise_clip=config.noise_clip,
        policy_freq=config.policy_freq,
        alpha=config.alpha,
    )
    return Parts(trainer.train, actor)


def iql(module: ModuleType, config: Config, n_obs: int, n_actions: int) -> Parts:
    """Make IQL; the mean of a Gaussian policy is its greedy action."""
    q, v = module.TwinQ(n_obs, n_actions), module.ValueFunction(n_obs)
    kind = module.DeterministicPolicy if config.iql_deterministic else module.GaussianPolicy
    actor = kind(n_obs, n_actions, 1.0, dropout=config.actor_dropout)
    trainer = module.ImplicitQLearning(
        1.0,
        actor,
        adam(actor, config.actor_lr),
        q,
        adam(q, config.qf_lr),
        v,
        adam(v, config.vf_lr),
        iql_tau=config.iql_tau,
        beta=config.beta,
        max_steps=config.max_timesteps,
        discount=config.discount,
        tau=config.tau,
    )
    return Parts(trainer.train, actor if config.iql_deterministic else lambda obs: actor(obs).mean)


def cql(module: ModuleType, config: Config, n_obs: int, n_actions: int) -> Parts:
    """Make CQL; its script gives the number of layers to the first critic alone."""
    init = config.orthogonal_init
    first = module.FullyConnectedQFunction(n_obs, n_actions, init, config.q_n_hidden_layers)
    second = module.FullyConnectedQFunction(n_obs, n_actions, init)
    actor = module.TanhGaussianPolicy(
        n_obs,
        n_actions,
        1.0,
        log_std_multiplier=config.policy_log_std_multiplier,
        orthogonal_init=init,
    )
    same = (
        "alpha_multiplier",
        "use_automatic_entropy_tuning",
        "backup_entropy",
        "policy_lr",
        "qf_lr",
        "bc_steps",
        "soft_target_update_rate",
        "target_update_period",
        "cql_n_actions",
        "cql_importance_sample",
        "cql_lagrange",
        "cql_target_action_gap",
        "cql_temp",
        "cql_alpha",
        "cql_max_target_backup",
        "cql_clip_diff_min",
        "cql_clip_diff_max",
    )
    trainer = module.ContinuousCQL(
        first,
        adam(first, config.qf_lr),
        second,
        adam(second, config.qf_lr),
        actor,
        adam(actor, config.policy_lr),
        target_entropy=-n_actions,
        discount=config.discount,
        **{name: getattr(config, name) for name in same},
    )
    return Parts(trainer.train, lambda obs: actor(obs, deterministic=True)[0])


def edac(module: ModuleType, config: Config, n_obs: int, n_actions: int) -> Parts:
    """Make EDAC."""
    actor = module.Actor(n_obs, n_actions, config.hidden_dim, config.max_action)
    critic = module.VectorizedCritic(n_obs, n_actions, config.hidden_dim, config.num_critics)
    trainer = module.EDAC(
        actor,
        adam(actor, config.actor_learning_rate),
        critic,
        adam(critic, config.critic_learning_rate),
        gamma=config.gamma,
        tau=config.tau,
        eta=config.eta,
        alpha_learning_rate=config.alpha_learning_rate,
    )
    return Parts(trainer.update, lambda obs: actor(obs, deterministic=True)[0])


PARTS = {"BC": bc, "TD3BC": td3bc, "IQL": iql, "CQL": cql, "EDAC": edac}
