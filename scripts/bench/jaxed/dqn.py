"""The loss of DQN, and of discrete CQL, for one run."""

import jax
import jax.numpy as jnp
from jax import lax

from scripts.bench.jaxed.networks import q_network


def losses(params, target, batch, noise, numbers, form):
    """Return the mean Huber loss, plus alpha times the conservative gap if alpha is not 0."""
    gamma, alpha = numbers["gamma"], numbers["alpha"]
    best = q_network(target["q"], batch["next_obs"], form).max(-1)
    kept = gamma * batch["discount"] * (1 - batch["terminated"])
    goal = lax.stop_gradient(batch["reward"] + kept * best)

    q_values = q_network(params["q"], batch["obs"], form)
    q = jnp.take_along_axis(q_values, batch["action"][:, None], 1)[:, 0]
    error = jnp.abs(q - goal)
    loss = jnp.where(error < 1, error * error / 2, error - 0.5).mean()
    if alpha:
        gap = jax.nn.logsumexp(q_values, -1) - q
        loss = loss + alpha * gap.mean()
    return {"q": loss}
