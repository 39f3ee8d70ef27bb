"""CORL's ReBRAC, whose functions are for JAX, made and trained as its script does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import Tensor

from rlop.data.dataset import Dataset
from scripts.corl.checkout import script

METRICS = ("critic_loss", "q_min", "actor_loss", "bc_mse_policy", "bc_mse_random", "action_mse")
# Names of its options in its update.
SAME = ("gamma", "tau", "policy_noise", "noise_clip", "actor_bc_coef", "critic_bc_coef")
Carry = dict[str, Any]


class JaxRun:
    """One run of ReBRAC. Args: as in `classes.TorchRun`; `agent` is not read."""

    def __init__(
        self, agent: str, data: Dataset, options: Mapping[str, Any], batch_size: int, seed: int
    ) -> None:
        self.module = module = script("rebrac")
        self.config = module.Config(**options)
        self.batch_size = batch_size
        self.columns = columns(data)
        self.carry = self.start(jax.random.PRNGKey(seed))
        self.many = jax.jit(self.loop)
        self.greedy = jax.jit(self.carry["actor"].apply_fn)

    def start(self, key: Any) -> Carry:
        """Make the networks and their optimizers."""
        module, config = self.module, self.config
        key, actor_key, critic_key = jax.random.split(key, 3)
        obs, action = self.columns["states"][:1], self.columns["actions"][:1]

        actor = module.DetActor(
            action_dim=action.shape[-1],
            hidden_dim=config.hidden_dim,
            layernorm=config.actor_ln,
            n_hiddens=config.actor_n_hiddens,
        )
        critic = module.EnsembleCritic(
            hidden_dim=config.hidden_dim,
            num_critics=2,
            layernorm=config.critic_ln,
            n_hiddens=config.critic_n_hiddens,
        )
        return {
            "key": key,
            "actor": module.ActorTrainState.create(
                apply_fn=actor.apply,
                params=actor.init(actor_key, obs),
                target_params=actor.init(actor_key, obs),
                tx=optax.adam(config.actor_learning_rate),
            ),
            "critic": module.CriticTrainState.create(
                apply_fn=critic.apply,
                params=critic.init(critic_key, obs, action),
                target_params=critic.init(critic_key, obs, action),
                tx=optax.adam(config.critic_learning_rate),
            ),
            "metrics": module.Metrics.create(METRICS),
        }

    def loop(self, carry: Carry, updates: Any) -> Carry:
        """Take gradient steps."""
        return jax.lax.fori_loop(0, updates, self.step, carry)

    def step(self, index: Any, carry: Carry) -> Carry:
        """Take one gradient step; that of the policy at even indices."""
        config, columns = self.config, self.columns
        key, batch_key = jax.random.split(carry["key"])
        rows = jax.random.randint(batch_key, (self.batch_size,), 0, len(columns["rewards"]))
        given = {
            **carry,
            "key": key,
            "batch": {name: column[rows] for name, column in columns.items()},
            **{name: getattr(config, name) for name in SAME},
        }
        both = partial(self.module.update_td3, **given, normalize_q=config.normalize_q)
        critics = partial(self.module.update_td3_no_targets, **given)
        made = jax.lax.cond(index % config.policy_freq == 0, both, critics)
        return dict(zip(("key", "actor", "critic", "metrics"), made, strict=True))

    def train(self, updates: int) -> None:
        """Take gradient steps."""
        self.carry = jax.block_until_ready(self.many(self.carry, updates))

    def act(self, obs: Tensor) -> Tensor:
        """Return greedy actions, `[B, S] -> [B, m]`."""
        actions = self.greedy(self.carry["actor"].params, obs.numpy())
        return torch.from_numpy(np.asarray(actions).copy())


def columns(data: Dataset) -> dict[str, Any]:
    """Return the arrays of its buffer; rows without a next action are left out, as there."""
    data = data.with_next_action()
    arrays = {
        "states": data.obs,
        "actions": data.action,
        "rewards": data.reward,
        "next_states": data.next_obs,
        "next_actions": data.extra["next_action"],
        "dones": data.terminated,
    }
    return {name: jnp.asarray(array, dtype=jnp.float32) for name, array in arrays.items()}
