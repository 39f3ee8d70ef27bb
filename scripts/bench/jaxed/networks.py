"""Networks of one run, on parameters named as ours are; `jax.vmap` makes R runs of them."""

import jax
import jax.numpy as jnp
from jax import lax


def affine(params, name, x):
    """Map `[..., I]` to `[..., O]` by the layer of this name."""
    return x @ params[name + ".weight"].T + params[name + ".bias"]


def hidden_layers(params):
    """Return the names of the hidden layers, from the input on."""
    names = {name.rpartition(".")[0] for name in params if name.startswith("torso.layers.")}
    return sorted(names)


def mlp(params, x):
    """Map `[..., I]` to the outputs of the head, `[..., O]`."""
    for name in hidden_layers(params):
        x = jax.nn.relu(affine(params, name, x))
    return affine(params, "head", x)


def convolution(x, weight, form):
    """Convolve `[B, C, H, W]` with `[O, C, k, k]`, without padding.

    Args:
        form: `xla`, or `im2col` for one product of patches.
    """
    if form == "xla":
        return lax.conv_general_dilated(x, weight, (1, 1), "VALID")

    size = weight.shape[-1]
    height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
    parts = []
    for i in range(size):
        for j in range(size):
            parts.append(x[:, :, i : i + height, j : j + width])
    patches = jnp.stack(parts, 2)  # [B, C, k k, H', W']
    return jnp.einsum("bckhw,ock->bohw", patches, weight.reshape(*weight.shape[:2], -1))


def q_network(params, obs, form):
    """Return Q(s, .), `[B, ...]` to `[B, A]`; with MinAtar's torso if the parameters have it."""
    x = obs.astype(jnp.float32)
    if "torso.conv.weight" not in params:
        return mlp(params, x.reshape(len(x), -1))

    images = jnp.moveaxis(x, -1, 1)
    filtered = convolution(images, params["torso.conv.weight"], form)
    filtered = jax.nn.relu(filtered + params["torso.conv.bias"][:, None, None])
    features = jax.nn.relu(affine(params, "torso.hidden", filtered.reshape(len(x), -1)))
    return affine(params, "head", features)


def critic(params, obs, actions):
    """Evaluate K actions at each observation: `[B, S]` and `[B, K, m]` to `[B, K]`.

    The observation's part of the first product is shared by its K actions.
    """
    first, *others = hidden_layers(params)
    size = obs.shape[-1]
    weight = params[first + ".weight"]
    at_obs = obs @ weight[:, :size].T + params[first + ".bias"]
    x = jax.nn.relu(at_obs[:, None] + actions @ weight[:, size:].T)
    for name in others:
        x = jax.nn.relu(affine(params, name, x))
    return affine(params, "head", x)[..., 0]


critics = jax.vmap(critic, (0, None, None))  # E critics, [E, B, K]
