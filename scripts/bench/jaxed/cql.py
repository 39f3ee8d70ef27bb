"""The losses of continuous CQL(H) for one run, as `rlop.agents.CQL` computes them by default."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from scripts.bench.jaxed.networks import critics, mlp

LOG_STD = (-20.0, 2.0)


def policy(params, obs):
    """Return mean and log standard deviation, `[B, m]` each."""
    mean, log_std = jnp.split(mlp(params, obs), 2, -1)
    return mean, jnp.clip(log_std, *LOG_STD)


def sample(moments, normal):
    """Draw K actions `[B, K, m]` from normal numbers; return them and log-densities `[B, K]`."""
    mean, log_std = (moment[:, None] for moment in moments)
    raw = mean + jnp.exp(log_std) * normal
    log_slope = 2 * (math.log(2) - raw - jax.nn.softplus(-2 * raw))
    log_normal = -0.5 * normal * normal - log_std - 0.5 * math.log(2 * math.pi)
    return jnp.tanh(raw), (log_normal - log_slope).sum(-1)


def losses(params, target, batch, noise, numbers, form):
    """Return the losses of critics, policy and entropy weight, each of its own network alone."""
    obs, next_obs = batch["obs"], batch["next_obs"]
    fixed = lax.stop_gradient(params)
    moments = policy(params["policy"], obs)
    next_moments = policy(fixed["policy"], next_obs)

    next_action, _ = sample(next_moments, noise["backup"])
    next_q = critics(target["critics"], next_obs, next_action)[..., 0].min(0)
    kept = numbers["gamma"] * batch["discount"] * (1 - batch["terminated"])
    goal = lax.stop_gradient(batch["reward"] + kept * next_q)
    q = critics(params["critics"], obs, batch["action"][:, None])[..., 0]  # [E, B]
    td = jnp.square(q - goal).mean(-1).sum()

    uniform = 2 * noise["random"] - 1
    log_uniform = jnp.full(uniform.shape[:-1], -uniform.shape[-1] * math.log(2))
    here, log_here = lax.stop_gradient(sample(moments, noise["here"]))
    there, log_there = sample(next_moments, noise["there"])
    actions = jnp.concatenate([uniform, here, there], 1)
    log_density = jnp.concatenate([log_uniform, log_here, log_there], 1)
    q_values = critics(params["critics"], obs, actions)  # [E, B, 3N]
    gap = jax.nn.logsumexp(q_values - log_density, -1) - q

    action, log_pi = sample(moments, noise["policy"][:, None])
    policy_q = critics(fixed["critics"], obs, action).min(0)
    log_coef = params["entropy"]["log"][0]
    coef = jnp.exp(fixed["entropy"]["log"][0])
    error = lax.stop_gradient(log_pi).mean() + numbers["target_entropy"] * action.shape[-1]
    return {
        "critics": td + numbers["alpha"] * gap.mean(-1).sum(),
        "policy": (coef * log_pi - policy_q).mean(),
        "entropy": -log_coef * error,
    }
