"""Distributional values (quantiles, categories, ensembles) as pure functions.

A loss takes the distribution of a return as J particles with values `[..., J]` and, unless all are
equally likely, weights `[..., J]`. A Bellman backup moves the particles; each head defines how to
use them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def select_atoms(atoms: Tensor, action: Tensor) -> Tensor:
    """Return the K numbers of one action, or of one action for each number.

    Args:
        atoms: K numbers for each action, `[..., A, K]`.
        action: int64 `[...]`, or `[..., K]` with an action for each number.
    Returns:
        `[..., K]`.
    Raises:
        ValueError: for shapes that do not fit.
    """
    if action.shape == atoms.shape[:-2]:
        action = action.unsqueeze(-1).expand(*action.shape, atoms.shape[-1])
    if action.shape != (*atoms.shape[:-2], atoms.shape[-1]):
        raise ValueError(
            f"action {tuple(action.shape)}: expected [...] or [..., K], "
            f"the atoms are {tuple(atoms.shape)}"
        )
    return atoms.gather(-2, action.unsqueeze(-2)).squeeze(-2)


def convex_weights(uniform: Tensor) -> Tensor:
    """Make random convex combinations of K heads.

    Args:
        uniform: random numbers in [0, 1), `[..., K, C]` for C combinations.
    Returns:
        Weights of the same shape, which sum to 1 over K.
    Reference: Agarwal, Schuurmans, Norouzi, "An Optimistic Perspective on Offline RL", ICML 2020,
        arXiv:1907.04543, random ensemble mixture (REM).
    """
    return uniform / uniform.sum(-2, keepdim=True)


def quantile_huber(quantiles: Tensor, particles: Tensor, kappa: float = 1.0) -> Tensor:
    """Return the quantile Huber loss of K quantiles against J equally likely particles.

        sum_i mean_j |tau_i - 1[u_ij < 0]| huber_kappa(u_ij) / kappa
        u_ij = particle_j - quantile_i,  tau_i = (i + 1/2) / K

    Args:
        quantiles: `[..., K]`.
        particles: `[..., J]`.
        kappa: error at which the square turns linear, > 0.
    Returns:
        `[...]`.
    Reference: Dabney et al., "Distributional RL with Quantile Regression", AAAI 2018,
        arXiv:1710.10044, equation 10.
    """
    if quantiles.shape[:-1] != particles.shape[:-1]:
        raise ValueError(
            f"quantiles {tuple(quantiles.shape)} and particles {tuple(particles.shape)}: "
            "expected [..., K]"
        )
    count = quantiles.shape[-1]
    position = torch.arange(count, dtype=quantiles.dtype, device=quantiles.device)
    tau = (position + 0.5) / count

    u = particles.unsqueeze(-2) - quantiles.unsqueeze(-1)  # [..., K, J]
    huber = F.huber_loss(u, torch.zeros_like(u), reduction="none", delta=kappa)
    is_below = (u.detach() < 0).to(u.dtype)
    weight = (tau.unsqueeze(-1) - is_below).abs()
    return (weight * huber / kappa).mean(-1).sum(-1)


def support(low: float, high: float, n: int, like: Tensor) -> Tensor:
    """Return n evenly spaced values from low to high, `[n]`, of the dtype and device of `like`."""
    return torch.linspace(low, high, n, dtype=like.dtype, device=like.device)


def project_categorical(
    particles: Tensor,
    weights: Tensor,
    low: float,
    high: float,
    n: int,
) -> Tensor:
    """Project particles onto n evenly spaced atoms, and return the atoms' probabilities.

    Each particle's weight goes to its two neighbors, the nearer gets more. Particles outside
    [low, high] count as at the border. The mean is preserved if none is outside.

    Args:
        particles: `[..., J]`.
        weights: `[..., J]`, sum to 1.
        low, high: first and last atom.
        n: number of atoms, at least 2.
    Returns:
        `[..., n]`.
    Reference: Bellemare, Dabney, Munos, "A Distributional Perspective on RL", ICML 2017,
        arXiv:1707.06887, algorithm 1.
    """
    if particles.shape != weights.shape or n < 2:
        raise ValueError(
            f"particles {tuple(particles.shape)}, weights {tuple(weights.shape)}, n = {n}: "
            "expected [..., J]"
        )
    spacing = (high - low) / (n - 1)
    position = (particles.clamp(low, high) - low) / spacing  # in atoms

    atom = torch.arange(n, dtype=position.dtype, device=position.device)
    distance = (position.unsqueeze(-1) - atom).abs()
    share = (1 - distance).clamp_min(0)  # [..., J, n]
    return (weights.unsqueeze(-1) * share).sum(-2)


def hl_gauss(target: Tensor, low: float, high: float, n: int, sigma: float) -> Tensor:
    """Return the probabilities of n bins under a normal distribution around the target.

    The distribution is cut to [low, high].

    Args:
        target: `[...]`; one outside the range counts as at the border.
        low, high: ends of the range.
        n: number of bins.
        sigma: standard deviation, in widths of a bin.
    Returns:
        `[..., n]`, sum to 1.
    Reference: Imani and White, "Improving Regression Performance with Distributional Losses", ICML
        2018, arXiv:1806.04613; as TD loss: Farebrother et al., "Stop Regressing", ICML 2024,
        arXiv:2403.03950, who take sigma 0.75 bins.
    """
    edges = support(low, high, n + 1, target)
    scale = sigma * (high - low) / n * math.sqrt(2)
    center = target.clamp(low, high).unsqueeze(-1)
    cdf = torch.erf((edges - center) / scale)  # up to a factor and a shift, which cancel
    inside = cdf[..., -1:] - cdf[..., :1]
    return cdf.diff(dim=-1) / inside


def bin_centers(low: float, high: float, n: int, like: Tensor) -> Tensor:
    """Return the centers of n bins between low and high, `[n]`: the values of `hl_gauss`'s bins."""
    half = (high - low) / n / 2
    return support(low + half, high - half, n, like)


def cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Return -sum_i p_i log softmax(logits)_i: `[..., n]` twice gives `[...]`."""
    if logits.shape != probabilities.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and probabilities {tuple(probabilities.shape)} differ"
        )
    log_likelihood = probabilities * logits.log_softmax(-1)
    return -log_likelihood.sum(-1)
