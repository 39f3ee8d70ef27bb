"""The update of DQN in JAX: R runs by vmap, many updates by scan, in a process of its own.

    python scripts/bench/gpu/jax_dqn.py ARRAYS.npz FORM

`ARRAYS.npz` holds parameters `p/NAME` `[R, ...]`, columns `c/NAME` `[N, ...]`, rows `[K, R, B]` and
numbers. The first line of the answer is JSON: the losses `[K][R]` on those rows, the seconds of the
first call. Then every line on stdin, a number of seconds, is answered by updates per second.
`FORM` is `xla`, or `im2col` for a convolution as one product of patches. Neither norms nor metrics
but the loss are computed, and no run is ever frozen.
"""

import json
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BETAS, EPS = (0.9, 0.999), 1e-8
CALL = 128  # updates in a scan, which ends with a copy of the target network


def convolution(x, weight, form):
    """Convolve `[B, C, H, W]` with `[O, C, 3, 3]`, without padding."""
    if form == "xla":
        return lax.conv_general_dilated(x, weight, (1, 1), "VALID")
    size = weight.shape[-1]
    height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
    parts = []
    for i in range(size):
        for j in range(size):
            parts.append(x[:, :, i : i + height, j : j + width])
    patches = jnp.stack(parts, 2)  # [B, C, 9, H', W']
    return jnp.einsum("bckhw,ock->bohw", patches, weight.reshape(*weight.shape[:2], -1))


def q_values(params, obs, form):
    """Return Q(s, .) of one run, `[B, ...]` to `[B, A]`."""
    x = obs.astype(jnp.float32)
    if "torso.conv.weight" in params:
        x = convolution(jnp.moveaxis(x, -1, 1), params["torso.conv.weight"], form)
        x = jax.nn.relu(x + params["torso.conv.bias"][:, None, None])
        layers = ["torso.hidden"]
    else:
        layers = [name[: -len(".weight")] for name in params if name.startswith("torso.layers.")]
        layers = sorted({name for name in layers if name + ".weight" in params})

    x = x.reshape(len(x), -1)
    for layer in layers:
        x = jax.nn.relu(x @ params[layer + ".weight"].T + params[layer + ".bias"])
    return x @ params["head.weight"].T + params["head.bias"]


def loss(params, target, batch, gamma, form):
    """Return the mean Huber loss of one run."""
    obs, action, reward, next_obs, terminated, discount = batch
    best = q_values(target, next_obs, form).max(-1)
    goal = lax.stop_gradient(reward + gamma * discount * (1 - terminated) * best)
    q = jnp.take_along_axis(q_values(params, obs, form), action[:, None], 1)[:, 0]
    error = jnp.abs(q - goal)
    return jnp.where(error < 1, error * error / 2, error - 0.5).mean()


def update(carry, rows, columns, gamma, lr, form):
    """Make one update of every run on rows `[R, B]`; return the new state and the losses `[R]`."""
    params, target, means, squares, step = carry
    batch = [column[rows] for column in columns]
    value_and_grad = jax.value_and_grad(partial(loss, gamma=gamma, form=form))
    losses, grads = jax.vmap(value_and_grad)(params, target, batch)

    step = step + 1
    means = jax.tree.map(lambda m, g: m + (1 - BETAS[0]) * (g - m), means, grads)
    squares = jax.tree.map(lambda s, g: BETAS[1] * s + (1 - BETAS[1]) * g * g, squares, grads)
    first, second = 1 - BETAS[0] ** step, jnp.sqrt(1 - BETAS[1] ** step)
    params = jax.tree.map(
        lambda p, m, s: p - lr / first * m / (jnp.sqrt(s) / second + EPS), params, means, squares
    )
    return (params, target, means, squares, step), losses


def main(path, form):
    """Compare, then time whenever a line on stdin asks for it."""
    arrays = np.load(path)
    params = {k[2:]: jnp.asarray(arrays[k]) for k in arrays.files if k.startswith("p/")}
    names = ("obs", "action", "reward", "next_obs", "terminated", "discount")
    columns = [jnp.asarray(arrays[f"c/{name}"]) for name in names]
    rows = jnp.asarray(arrays["rows"].astype(np.int32))
    _, runs, size = rows.shape
    one = partial(
        update,
        columns=columns,
        gamma=float(arrays["gamma"]),
        lr=float(arrays["lr"]),
        form=form,
    )

    def fresh():
        copies = [jax.tree.map(jnp.copy, params), jax.tree.map(jnp.copy, params)]
        zeros = [jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)]
        return (*copies, *zeros, jnp.zeros(()))

    _, losses = jax.jit(lambda carry: lax.scan(one, carry, rows))(fresh())

    @partial(jax.jit, donate_argnums=0)
    def call(carry, key):
        key, now = jax.random.split(key)
        drawn = jax.random.randint(now, (CALL, runs, size), 0, len(columns[0]))
        carry, losses = lax.scan(one, carry, drawn)
        params, _, means, squares, step = carry
        copied = jax.tree.map(jnp.copy, params)
        return (params, copied, means, squares, step), key, losses.sum(0)

    started = time.perf_counter()
    carry, key, total = call(fresh(), jax.random.key(0))
    total.block_until_ready()
    first = time.perf_counter() - started
    device = jax.devices()[0]
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
    answer = {
        "losses": np.asarray(losses).tolist(),
        "first_s": first,
        "peak_mib": peak / 2**20,
        "device": str(device),
        "version": jax.__version__,
    }
    print(json.dumps(answer), flush=True)

    for line in sys.stdin:
        seconds, updates = float(line), 0
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            carry, key, total = call(carry, key)
            total.block_until_ready()
            updates += CALL
        print(json.dumps(updates / (time.perf_counter() - started)), flush=True)


if __name__ == "__main__":
    jax.config.update("jax_default_matmul_precision", "float32")
    main(sys.argv[1], sys.argv[2])
