"""D4RL's own behavior policies, read from the files of its data sets.

Files of gym MuJoCo (medium and expert, v1 and v2) and of adroit (expert-v1, cloned-v1) hold one
under `metadata/policy`. It gives as many new transitions of the file's level as one likes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import h5py
import numpy as np

from rlop.collect.acting import Act
from rlop.config.checks import check_known
from rlop.data.formats.d4rl import find
from rlop.data.formats.own_arrays import open_hdf5
from rlop.data.scores import PREFIX, sources
from rlop.envs.layouts import from_unit
from rlop.envs.spaces import Env
from rlop.types import InputError

GROUP = "metadata/policy"
WIDTHS = "infos/action_log_std"
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
}
DISTRIBUTIONS = ("tanh_gaussian", "gaussian", "deterministic")

LOG_STD_RANGE = (-20.0, 2.0)  # of tanh_gaussian
EDGE = 0.999999  # stored actions are this far from the ends of [-1, 1] before artanh
EPSILON = 1e-6  # in the density of tanh_gaussian
LARGEST = 10_000_000  # numbers in one weight; the largest known has 65,536


class Layer(NamedTuple):
    """One linear map, x -> x weight + bias.

    Args:
        weight: `[in, out]` float64.
        bias: `[out]` float64.
    """

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class StoredPolicy:
    """A policy as a file of D4RL holds it.

    Args:
        hidden: hidden layers.
        mean: last layer, m.
        log_std: another last layer, log sigma; None for the deterministic policies. Its weight is 0
            where sigma does not depend on the observation.
        nonlinearity: a key of `ACTIVATIONS`.
        distribution: one of `DISTRIBUTIONS`.
        n_obs: entries of an observation.
    """

    hidden: tuple[Layer, ...]
    mean: Layer
    log_std: Layer | None
    nonlinearity: str
    distribution: str
    n_obs: int


# ---- formulas


def outputs(policy: StoredPolicy, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Compute what the network puts out.

        h0 = g(fc0 s), h1 = g(fc1 h0), m = last_fc h1, log sigma = last_fc_log_std h1

    log sigma of a tanh_gaussian is clipped to [-20, 2].

    Args:
        policy: of a file.
        obs: `[n, S]`.

    Returns:
        m and log sigma, `[n, A]` float64 each; None for log sigma if there is none.

    Reference: checked against `infos/action_mean`, `infos/action_log_std` and
        `infos/action_log_probs` of the published files.
    """
    activate = ACTIVATIONS[policy.nonlinearity]
    h = np.asarray(obs, np.float64)
    for layer in policy.hidden:
        h = activate(h @ layer.weight + layer.bias)

    mean = h @ policy.mean.weight + policy.mean.bias
    if policy.log_std is None:
        return mean, None

    log_std = h @ policy.log_std.weight + policy.log_std.bias
    if policy.distribution == "tanh_gaussian":
        log_std = np.clip(log_std, *LOG_STD_RANGE)
    return mean, log_std


def draw(policy: StoredPolicy, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw actions as the policy did when D4RL's rows were made.

        tanh_gaussian   tanh(m + sigma eps)
        gaussian        m + sigma eps, clipped to [-1, 1]
        deterministic   tanh(m)

    Args:
        policy: of a file.
        obs: `[n, S]`.
        rng: source of eps; one number per entry of an action.

    Returns:
        `[n, A]` float64 in [-1, 1].
    """
    mean, log_std = outputs(policy, obs)
    if log_std is None:
        return np.tanh(mean)

    drawn = mean + np.exp(log_std) * rng.standard_normal(mean.shape)
    if policy.distribution == "tanh_gaussian":
        return np.tanh(drawn)
    return np.clip(drawn, -1.0, 1.0)


def log_probs(policy: StoredPolicy, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Compute the log density of actions.

        gaussian        sum_j [-(u - m)^2 / (2 sigma^2) - log sigma - log(2 pi) / 2],  u = a
        tanh_gaussian   the same with u = artanh a, a clipped to +-0.999999,
                        minus sum_j log(1 - a^2 + 1e-6)

    Args:
        policy: of a file.
        obs: `[n, S]`.
        action: `[n, A]` in [-1, 1].

    Returns:
        `[n]` float64, as `infos/action_log_probs`.

    Raises:
        InputError: a deterministic policy, which has no density.
    """
    mean, log_std = outputs(policy, obs)
    if log_std is None:
        raise InputError("a deterministic policy has no density")

    squash = np.zeros(len(mean))
    u = np.asarray(action, np.float64)
    if policy.distribution == "tanh_gaussian":
        inside = np.clip(u, -EDGE, EDGE)
        squash = np.log(1 - inside**2 + EPSILON).sum(1)
        u = np.arctanh(inside)

    distance = (u - mean) / np.exp(log_std)
    terms = -0.5 * distance**2 - log_std - 0.5 * np.log(2 * np.pi)
    return terms.sum(1) - squash


# ---- files


def load_d4rl(name: str, env: Env) -> tuple[Act, StoredPolicy, Path]:
    """Load the policy of a D4RL file to act in an environment.

    Args:
        name: a file, or the name of a data set whose file is on disk.
        env: gives the spaces.

    Returns:
        The function that draws actions in the environment's units, the policy, and its file.

    Raises:
        InputError: no such file, no policy in it, or one for other observations or actions.
    """
    path = file_of(name)
    policy = read_policy(path)
    space = env.action_space

    n_actions = len(policy.mean.bias)
    fits = isinstance(space, gymnasium.spaces.Box) and space.shape == (n_actions,)
    if not fits or env.observation_space.shape != (policy.n_obs,):
        raise InputError(
            f"{path}: its policy maps observations ({policy.n_obs},) to actions ({n_actions},), "
            f"the environment has observations {env.observation_space.shape} and actions {space}"
        )

    def act(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return from_unit(draw(policy, obs, rng).astype(np.float32), space)

    return act, policy, path


def file_of(name: str) -> Path:
    """Return a file by its path, or that of a data set of D4RL by its name.

    Raises:
        InputError: neither exists.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path

    data_set = name.removesuffix(".hdf5")
    if data_set in sources():
        return find(data_set, download=False)
    raise InputError(
        f"policy '{PREFIX}{name}': no such file, and {data_set!r} is no data set of D4RL"
    )


def read_policy(path: Path) -> StoredPolicy:
    """Read the policy in a file of D4RL.

    The weights of deterministic policies are `[in, out]`, those of the others `[out, in]`.

    In adroit's expert files `last_fc_log_std` is a copy of `last_fc` by mistake. Sigma is the same
    for every observation there, and is read from `infos/action_log_std`.

    Raises:
        InputError: no such file, no policy in it, one of an unknown kind, or weights that do not
            fit each other.
    """
    with open_hdf5(path) as file:
        group = _inside(file, GROUP)
        if not isinstance(group, h5py.Group):
            raise InputError(
                f"{path}: no {GROUP}, expected a file of D4RL with a policy: medium-v2 or "
                f"expert-v2 of gym MuJoCo, expert-v1 or cloned-v1 of adroit"
            )
        distribution = _text(group, path, "output_distribution", DISTRIBUTIONS)
        nonlinearity = _text(group, path, "nonlinearity", tuple(ACTIVATIONS))

        is_transposed = distribution != "deterministic"
        hidden: list[Layer] = []
        while f"fc{len(hidden)}" in group:
            hidden.append(_layer(group, path, f"fc{len(hidden)}", is_transposed))
        mean = _layer(group, path, "last_fc", is_transposed)
        log_std = None
        if distribution != "deterministic":
            log_std = _layer(group, path, "last_fc_log_std", is_transposed)
        if distribution == "gaussian":
            log_std = _true_log_std(file, path, mean, log_std)

    n_obs = len([*hidden, mean][0].weight)
    policy = StoredPolicy(tuple(hidden), mean, log_std, nonlinearity, distribution, n_obs)
    _check_chain(policy, path)
    return policy


def _true_log_std(file: h5py.File, path: Path, mean: Layer, log_std: Layer | None) -> Layer:
    """Return the layer of log sigma, from the stored rows if the file has it wrong."""
    is_copy = log_std is not None and np.array_equal(log_std.weight, mean.weight)
    if log_std is not None and not is_copy:
        return log_std

    rows = _inside(file, WIDTHS)
    is_table = isinstance(rows, h5py.Dataset) and rows.ndim == 2 and rows.dtype.kind == "f"
    if not is_table or len(rows) == 0 or rows.shape[1] != len(mean.bias):
        raise InputError(
            f"{path}: {GROUP}/last_fc_log_std is a copy of last_fc, and there is no {WIDTHS} "
            f"of {len(mean.bias)} columns, expected one to know how wide the policy is"
        )
    first, last = rows[0].astype(np.float64), rows[-1].astype(np.float64)
    if not np.array_equal(first, last) or not np.isfinite(first).all():
        raise InputError(f"{path}: {WIDTHS}: rows differ or are not finite, expected one sigma")
    return Layer(np.zeros_like(mean.weight), first)


def _inside(group: h5py.Group, key: str) -> Any:
    """Return what a key holds in this very file; None for nothing, and for what lies elsewhere."""
    item: Any = group
    for name in key.split("/"):
        is_here = isinstance(item, h5py.Group) and isinstance(
            item.get(name, getlink=True), h5py.HardLink
        )
        item = item[name] if is_here else None

    if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
        return None
    return item


def _text(group: h5py.Group, path: Path, key: str, known: tuple[str, ...]) -> str:
    """Read one of a few words."""
    item = _inside(group, key)
    value = item[()] if isinstance(item, h5py.Dataset) and item.shape == () else None
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    check_known(f"{path}: {GROUP}/{key}", text, known)
    return text


def _layer(group: h5py.Group, path: Path, name: str, is_transposed: bool) -> Layer:
    """Read one linear map, as `[in, out]`."""
    weight = _array(group, path, f"{name}/weight", 2)
    bias = _array(group, path, f"{name}/bias", 1)
    if is_transposed:
        weight = weight.T
    if weight.shape[1] != len(bias):
        raise InputError(
            f"{path}: {GROUP}/{name}: {weight.shape[1]} outputs and {len(bias)} biases, "
            f"expected as many"
        )
    return Layer(np.ascontiguousarray(weight), bias)


def _array(group: h5py.Group, path: Path, key: str, ndim: int) -> np.ndarray:
    """Read one array of finite floats, as float64."""
    item = _inside(group, key)
    where = f"{path}: {GROUP}/{key}"
    if not isinstance(item, h5py.Dataset):
        raise InputError(f"{where}: missing, expected an array of {ndim} axes")
    if item.ndim != ndim or item.dtype.kind != "f" or not 0 < item.size <= LARGEST:
        raise InputError(
            f"{where}: {item.dtype} of shape {item.shape}, expected floats of {ndim} axes"
        )
    array = item[()].astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"{where}: holds NaN or infinity, expected numbers")
    return array


def _check_chain(policy: StoredPolicy, path: Path) -> None:
    """Refuse layers of which one does not fit the next."""
    ends = [layer for layer in (policy.mean, policy.log_std) if layer is not None]
    width = policy.n_obs
    for layer in policy.hidden:
        if len(layer.weight) != width:
            raise InputError(
                f"{path}: {GROUP}: a layer of {len(layer.weight)} inputs after {width} outputs"
            )
        width = len(layer.bias)

    for layer in ends:
        if layer.weight.shape != (width, len(policy.mean.bias)):
            raise InputError(
                f"{path}: {GROUP}: a last layer {layer.weight.shape}, expected "
                f"({width}, {len(policy.mean.bias)})"
            )
