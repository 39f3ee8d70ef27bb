"""The distribution of actions in (-1, 1): a = tanh(u), u Gaussian with independent coordinates."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rlop.types import InputError

LARGEST = 1 - 1e-6  # actions on the bound have no finite log-density, and data sets hold many
ROUNDING = 1e-6  # by which an action of a data set may exceed the bound


def sample(mean: Tensor, log_std: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """Draw actions with their log-densities, with gradient through both.

        a = tanh(u),  u = mean + std z
        log pi(a) = sum_i [ log N(z_i; 0, 1) - log std_i - log(1 - a_i^2) ]

    Args:
        mean: mean of u, `[*lead, m]`.
        log_std: log standard deviation of u, same shape.
        normal: z, standard normal, `[*lead, m]`, or `[*lead, N, m]` for N actions from each
            distribution.
    Returns:
        Actions, shaped like `normal`, and log-densities without its last axis.
    Raises:
        ValueError: when shapes do not fit.
    Reference: Haarnoja et al., "Soft Actor-Critic", ICML 2018, arXiv:1801.01290, appendix C.
    Differs from: rlkit, which adds 1e-6 inside the last logarithm; here it is exact for every u.
    """
    _check_same_shape(mean, log_std)
    if normal.ndim == mean.ndim + 1:
        mean = mean.unsqueeze(-2)
        log_std = log_std.unsqueeze(-2)

    fits = normal.ndim == mean.ndim and all(
        size in (1, drawn) for size, drawn in zip(mean.shape, normal.shape)
    )
    if not fits:
        raise ValueError(
            f"normal {tuple(normal.shape)}: expected the shape of mean, or [*lead, N, m]"
        )

    raw = mean + log_std.exp() * normal
    return torch.tanh(raw), _log_density(normal, log_std, raw)


def log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Return the log-density of given actions.

        log pi(a) = sum_i [ log N(u_i; mean_i, std_i^2) - log(1 - a_i^2) ],  u = atanh(a)

    Actions at or beyond the bounds count as lying 1e-6 inside.

    Args:
        mean: mean of u, `[*lead, m]`.
        log_std: log standard deviation of u, same shape.
        action: same shape, in [-1, 1].
    Returns:
        `[*lead]`.
    Raises:
        ValueError: when shapes differ.
    """
    _check_same_shape(mean, log_std)
    _check_same_shape(mean, action)
    raw = torch.atanh(action.clamp(-LARGEST, LARGEST))
    normal = (raw - mean) * torch.exp(-log_std)
    return _log_density(normal, log_std, raw)


def check_actions(action: np.ndarray, name: str) -> None:
    """Raise InputError unless all actions of a data set lie in [-1, 1], the range of tanh.

    Args:
        action: `[N, *A]`.
        name: name of the data set in the message.
    """
    low = float(action.min())
    high = float(action.max())
    is_inside = low >= -1 - ROUNDING and high <= 1 + ROUNDING  # False for NaN
    if not is_inside:
        raise InputError(
            f"{name}: actions from {low:.8g} to {high:.8g}, expected [-1, 1]; "
            "bring them there by the reader's action_low and action_high, the environment's "
            "bounds, or by transforms: {scale_actions: {low: LOW, high: HIGH}}"
        )


def _log_density(normal: Tensor, log_std: Tensor, raw: Tensor) -> Tensor:
    """Return log pi(tanh(u)), `[*lead]`, for u = `raw` and z = `normal`."""
    # log(1 - tanh(u)^2), without the cancellation at large |u|
    log_slope = 2 * (math.log(2) - raw - F.softplus(-2 * raw))
    log_normal = -0.5 * normal * normal - log_std - 0.5 * math.log(2 * math.pi)
    return (log_normal - log_slope).sum(-1)


def _check_same_shape(mean: Tensor, other: Tensor) -> None:
    """Raise ValueError when two shapes differ."""
    if mean.shape != other.shape:
        raise ValueError(f"shapes differ: mean {tuple(mean.shape)} and {tuple(other.shape)}")
