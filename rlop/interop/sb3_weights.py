"""Networks in a zip of Stable-Baselines3, which need not be installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from rlop.collect.sb3_policy import policy_arguments, read_zip
from rlop.interop.parts import Contents, Part, pixel_scale
from rlop.interop.stacks import QuantileMean
from rlop.types import InputError

# Of a critic's outputs: the quantiles of TQC; other algorithms have one output.
_MEAN = (nn.AdaptiveAvgPool1d(1),)
PARTS = (
    Part("q", r"q_net\.(features_extractor|q_net)\."),  # DQN
    Part("q", r"quantile_net\.(features_extractor|quantile_net)\."),  # QR-DQN
    # SAC, TQC, TD3, DDPG: actions in [-1, 1]
    Part("actor", r"actor\.(features_extractor|latent_pi|mu)\.", end=(nn.Tanh(),)),
    # PPO, A2C, TRPO: logits, or means of actions
    Part("actor", r"(features_extractor|mlp_extractor\.policy_net|action_net)\.", nn.Tanh),
    Part("value", r"(vf_features_extractor|mlp_extractor\.value_net|value_net)\.", nn.Tanh),
    *(Part(f"critic_{n + 1}", rf"critic\.qf{n}\.", end=_MEAN, of_pairs=True) for n in range(5)),
)


def read_sb3(path: Path) -> Contents:
    """Read the weights of a zip that `model.save` wrote, without opening the pickles in it.

    Args:
        path: the zip.
    Raises:
        InputError: it is no such zip, or its networks are not those of Stable-Baselines3.
    """
    data, stored = read_zip(path)
    arguments = policy_arguments(path, data)
    weights = dict(stored)
    if data.get("use_sde") and any(name.startswith("actor.latent_pi") for name in weights):
        raise InputError(f"{path}: use_sde = true: a policy that clips its means cannot be rebuilt")

    # Before version 1.7, a zip lists the extractor that policy and values share only once.
    shared = {f"vf_{name}": w for name, w in weights.items() if name.startswith("features_ext")}
    weights = {**shared, **weights}

    parts = tuple(_as_saved(part, arguments, data.get("n_quantiles")) for part in PARTS)
    start = () if arguments.get("normalize_images") is False else pixel_scale(weights)
    return Contents(weights, parts, start)


def _as_saved(part: Part, arguments: dict[str, object], n_quantiles: object) -> Part:
    """Return a part with the activation and the quantiles that the zip names."""
    activation = arguments.get("activation_fn")
    if isinstance(activation, type) and issubclass(activation, nn.Module):
        part = replace(part, activation=activation)

    if "quantile_net" in part.pattern and isinstance(n_quantiles, int):
        return replace(part, end=(QuantileMean(n_quantiles, actions_last=True),))

    return part
