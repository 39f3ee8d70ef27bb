"""Compare updates in JAX with ours, then time them: R runs by vmap, many updates by scan.

    python -m scripts.bench.jaxed.process ARRAYS.npz KIND FORM UPDATES

`ARRAYS.npz` is written by `scripts.bench.arrays`. KIND is `dqn` or `cql`; FORM is `xla`, or
`im2col` for a convolution as one product of patches; UPDATES are in one call. The first line of the
answer is JSON, with the losses on the rows of the arrays; then every line on stdin, a number of
seconds, is answered by what an update takes. Norms, metrics other than the losses, and the freezing
of runs that diverge are left out.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from scripts.bench.jaxed import cql, dqn
from scripts.bench.measure import first_call, serve

BETAS, EPS = (0.9, 0.999), 1e-8
LOSSES = {"dqn": dqn.losses, "cql": cql.losses}
DRAWS = {"uniform": jax.random.uniform, "normal": jax.random.normal}


def named(arrays, prefix):
    """Return the arrays of one kind by the rest of their names."""
    start = prefix + "/"
    return {name[len(start) :]: arrays[name] for name in arrays.files if name.startswith(start)}


def by_learner(parameters):
    """Return `LEARNER/NAME -> array` as nested mappings of JAX arrays."""
    nested = {}
    for path, value in parameters.items():
        learner, _, name = path.partition("/")
        nested.setdefault(learner, {})[name] = jnp.asarray(value)
    return nested


def start(params):
    """Return the state of a training: nothing in it is shared, since a call takes it over."""
    copies, zeros = partial(jax.tree.map, jnp.copy), partial(jax.tree.map, jnp.zeros_like)
    state = {"params": copies(params), "target": copies(params)}
    return {**state, "means": zeros(params), "squares": zeros(params), "step": jnp.zeros(())}


def adam(state, grads, rates):
    """Return parameters and moments after a step of Adam, with a rate for each learner."""
    step = state["step"] + 1
    means = jax.tree.map(lambda m, g: m + (1 - BETAS[0]) * (g - m), state["means"], grads)
    squares = jax.tree.map(
        lambda s, g: BETAS[1] * s + (1 - BETAS[1]) * g * g, state["squares"], grads
    )
    first, second = 1 - BETAS[0] ** step, jnp.sqrt(1 - BETAS[1] ** step)

    params = {}
    for name, rate in rates.items():
        params[name] = jax.tree.map(
            lambda p, m, s, rate=rate: p - rate / first * m / (jnp.sqrt(s) / second + EPS),
            state["params"][name],
            means[name],
            squares[name],
        )
    return {**state, "params": params, "means": means, "squares": squares, "step": step}


def update(state, drawn, columns, losses, rates, tau):
    """Make one update of every run on rows `[R, B]`; return the new state and losses `[L, R]`."""
    rows, noise = drawn
    batch = {name: column[rows] for name, column in columns.items()}

    def total(params, target, batch, noise):
        parts = losses(params, target, batch, noise)
        return sum(parts.values()), jnp.stack(list(parts.values()))

    gradient = jax.vmap(jax.grad(total, has_aux=True))
    grads, values = gradient(state["params"], state["target"], batch, noise)
    state = adam(state, grads, rates)
    if tau < 1:
        move = partial(jax.tree.map, lambda old, new: old + tau * (new - old))
        state = {**state, "target": move(state["target"], state["params"])}
    return state, values.T


def updates(state, rows, noise, period, one, copies):
    """Make K updates; return the new state and the losses `[K, L, R]`.

    Where the target is copied, it is after the last of them, if that ends a period.
    """
    state, losses = lax.scan(one, state, (rows, noise))
    if copies:
        due = state["step"] % period == 0
        move = partial(jax.tree.map, lambda old, new: jnp.where(due, new, old))
        state = {**state, "target": move(state["target"], state["params"])}
    return state, losses


def main(path, kind, form, count):
    """Compare, then time whenever a line on stdin asks for it."""
    arrays = np.load(path)
    params = by_learner(named(arrays, "parameters"))
    rates = {name: float(rate) for name, rate in named(arrays, "rates").items()}
    numbers = {name: float(value) for name, value in named(arrays, "numbers").items()}
    columns = {name: jnp.asarray(column) for name, column in named(arrays, "columns").items()}
    rows = arrays["rows"].astype(np.int32)
    kinds = {}
    noise = {}
    for path, values in named(arrays, "noise").items():
        how, _, name = path.partition("/")
        kinds[name], noise[name] = how, values

    one = partial(
        update,
        columns=columns,
        losses=partial(LOSSES[kind], numbers=numbers, form=form),
        rates={name: rates[name] for name in params},
        tau=numbers["tau"],
    )
    many = jax.jit(partial(updates, one=one, copies=numbers["tau"] == 1), donate_argnums=0)

    @jax.jit
    def draw(key):
        key, *keys = jax.random.split(key, 2 + len(noise))
        shape = (count, *rows.shape[1:])
        drawn = jax.random.randint(keys[0], shape, 0, len(columns["reward"]), jnp.int32)
        numbers = {}
        for name, own in zip(noise, keys[1:]):
            numbers[name] = DRAWS[kinds[name]](own, (count, *noise[name].shape[1:]))
        return key, drawn, numbers

    # The program that is compared is the one that is timed.
    def part(at):
        taken = {name: jnp.asarray(values[at : at + count]) for name, values in noise.items()}
        return jnp.asarray(rows[at : at + count]), taken

    state, period = start(params), jnp.asarray(numbers["compared_period"])
    program, seconds = first_call(lambda: many.lower(state, *part(0), period).compile())

    losses = []
    for at in range(0, len(rows), count):
        state, values = program(state, *part(at), period)
        losses.append(np.asarray(values))

    period = jnp.asarray(numbers["target_period"])
    carried = {"state": state, "key": jax.random.key(0)}

    def turn():
        carried["key"], drawn, numbers = draw(carried["key"])
        carried["state"], values = program(carried["state"], drawn, numbers, period)
        values.block_until_ready()
        return count

    device = jax.devices()[0]
    answer = {"losses": np.concatenate(losses).tolist(), **seconds}
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
    answer |= {"device_mib": peak / 2**20, "about": f"JAX {jax.__version__} on {device}"}
    serve(turn, answer)


if __name__ == "__main__":
    jax.config.update("jax_default_matmul_precision", "float32")
    path, kind, form, count = sys.argv[1:]
    main(path, kind, form, int(count))
