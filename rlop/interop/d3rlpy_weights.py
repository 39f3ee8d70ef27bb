"""Networks in a file of d3rlpy 2, which need not be installed."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from rlop.collect.vecnormalize import Reader
from rlop.config.checks import nearest, show
from rlop.config.files import read_whole
from rlop.interop.parts import Contents, Part, read_state_dicts
from rlop.interop.stacks import Affine, QuantileMean
from rlop.types import InputError

Config: TypeAlias = Mapping[str, Any]  # of an algorithm, as the JSON text in its file gives it

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "swish": nn.SiLU,
    "none": nn.Identity,
}
DISCRETE = ("dqn", "double_dqn", "nfq")  # and those named `discrete_*`
# Their policies correct an action that another network proposes.
TWO_STEP = ("bcq", "plas", "plas_with_perturbation")


def read_d3rlpy(path: Path) -> Contents:
    """Read the weights and the configuration of a file that `algo.save("NAME.d3")` wrote.

    Such a file is a pickle; it is read into plain values, executing and importing nothing.

    Args:
        path: the file.
    Raises:
        InputError: it is no such file, or its networks cannot be rebuilt.
    """
    kind, params, stored = _read(path)
    weights = read_state_dicts(path, io.BytesIO(stored))

    q_function = params.get("q_func_factory", {})
    if q_function.get("type") == "iqn":
        raise InputError(f"{path}: q_func_factory = iqn: expected mean or qr, iqn draws quantiles")

    of_critic = params.get("critic_encoder_factory", params.get("encoder_factory", {}))
    of_actor = params.get("actor_encoder_factory", params.get("encoder_factory", {}))
    activation = _activation(path, of_critic)
    average: tuple[nn.Module, ...] = ()
    if q_function.get("type") == "qr":
        average = (QuantileMean(int(q_function["params"]["n_quantiles"])),)

    is_discrete = kind.startswith("discrete_") or kind in DISCRETE
    parts = [Part("value", r"value_func\.", activation)]
    for number, name in enumerate(["q", "q_2"] if is_discrete else ["critic_1", "critic_2"]):
        pattern = rf"q_funcs\.{number}\."
        parts.append(Part(name, pattern, activation, average, of_pairs=not is_discrete))
    if kind not in TWO_STEP:
        pattern = r"(policy|imitator)\.(_encoder|_fc|_mu)\."
        squash: tuple[nn.Module, ...] = () if is_discrete else (nn.Tanh(),)
        parts.append(Part("actor", pattern, _activation(path, of_actor), squash))

    return Contents(weights, tuple(parts), _scaler(path, params.get("observation_scaler", {})))


def _read(path: Path) -> tuple[str, Config, bytes]:
    """Return the type of an algorithm, its parameters, and its weights as saved by torch."""
    expected = 'expected a file that d3rlpy 2 wrote with algo.save("NAME.d3")'
    try:
        content = Reader(io.BytesIO(read_whole(path))).load()
        config = json.loads(content["config"])["config"]
        kind, params, weights = config["type"], config["params"], content["torch"]
        if not (isinstance(kind, str) and isinstance(params, dict) and isinstance(weights, bytes)):
            raise TypeError
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), {expected}") from None
    except Exception:  # a reader of pickles can raise anything on damaged bytes
        raise InputError(
            f"{path}: {expected}; that of algo.save_model has no configuration"
        ) from None
    return kind, params, weights


def _activation(path: Path, encoder: Config) -> type[nn.Module]:
    """Return the activation of an encoder."""
    options = encoder.get("params", {})
    name = options.get("activation", "relu")
    is_plain = not options.get("last_activation") and not options.get("exclude_last_activation")
    if encoder.get("type", "default") not in ("default", "vector", "pixel") or not is_plain:
        raise InputError(f"{path}: encoder {show(encoder)}: expected a plain chain of layers")
    if name not in ACTIVATIONS:
        raise InputError(f"{path}: activation {show(name)}: unknown{nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _scaler(path: Path, scaler: Config) -> tuple[nn.Module, ...]:
    """Return the layer that scales observations as the algorithm does."""
    kind, params = scaler.get("type", "none"), scaler.get("params", {})
    if kind == "none":
        return ()
    if kind == "pixel":
        return (Affine(1 / 255),)

    try:
        if kind == "standard":
            scale = 1 / (torch.tensor(params["std"]) + params["eps"])
            return (Affine(scale, -torch.tensor(params["mean"]) * scale),)
        if kind == "min_max":
            low, high = torch.tensor(params["minimum"]), torch.tensor(params["maximum"])
            return (Affine(2 / (high - low), -2 * low / (high - low) - 1),)
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise InputError(f"{path}: observation_scaler {kind}: expected its statistics") from None
    raise InputError(
        f"{path}: observation_scaler {show(kind)}: unknown; one of none, pixel, standard, min_max"
    )
