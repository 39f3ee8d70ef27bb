"""Mixtures of two clouds around mu and -mu, whose training labels are partly flipped."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

Law: TypeAlias = Literal["gaussian", "rademacher"]
Flips: TypeAlias = Literal["random", "adversary"]


class Mixture(NamedTuple):
    """S training sets from one mixture, in float64."""

    x: Tensor  # [S, N, D]
    y: Tensor  # [S, N], -1 or 1, after the flips
    mu: Tensor  # [D]


class Clouds(NamedTuple):
    """The law of a mixture: x = c mu + noise with c = -1 or 1 at random, y = c but for the flips.

    Args:
        n: N, points of a training set.
        d: dimension.
        norm: |mu|.
        flip: share of the labels that are flipped.
        flips: `random` flips each label with that probability; `adversary` flips that share of
            every set, at the points that lie farthest on the side of their class, whose flipped
            labels say the most against mu.
        law: law of the noise's entries, which have variance 1.
        signal: whether the clouds lie around +-mu; without it both lie around 0, and nothing can be
            learned of mu.
    """

    n: int
    d: int
    norm: float
    flip: float = 0.1
    flips: Flips = "random"
    law: Law = "gaussian"
    signal: bool = True


def draw(clouds: Clouds, sets: int, seed: int) -> Mixture:
    """Draw training sets with every coordinate, D = d; all entries of mu are equal."""
    rng = np.random.default_rng(seed)
    shape = (sets, clouds.n, clouds.d)
    is_gaussian = clouds.law == "gaussian"
    noise = rng.normal(size=shape) if is_gaussian else rng.choice((-1.0, 1.0), shape)
    mu = np.full(clouds.d, clouds.norm / clouds.d**0.5)
    return _labeled(noise, mu, clouds, rng)


def draw_reduced(clouds: Clouds, sets: int, seed: int) -> Mixture:
    """Draw Gaussian training sets up to a rotation, D = N + 1 at most, for any d.

    The first coordinate is the one along mu. The noise in the other d - 1 is a Gaussian matrix,
    whose rows are, up to a rotation, those of a lower triangular matrix: standard normal below the
    diagonal, and on it the square roots of chi-square numbers with d - 1, d - 2, ... degrees of
    freedom (Bartlett 1933). What depends on inner products alone has the same law for both.
    """
    if clouds.law != "gaussian":
        raise ValueError(f"law {clouds.law!r}: only Gaussian noise is the same in every direction")
    if clouds.d <= clouds.n:
        raise ValueError(f"d = {clouds.d}: expected more than n = {clouds.n}")

    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(sets, clouds.n, clouds.n + 1))
    others = np.tril(noise[:, :, 1:], -1)
    freedom = clouds.d - 1 - np.arange(clouds.n)
    index = np.arange(clouds.n)
    others[:, index, index] = np.sqrt(rng.chisquare(freedom, (sets, clouds.n)))
    noise[:, :, 1:] = others

    mu = np.zeros(clouds.n + 1)
    mu[0] = clouds.norm
    return _labeled(noise, mu, clouds, rng)


def _labeled(
    noise: np.ndarray, mu: np.ndarray, clouds: Clouds, rng: np.random.Generator
) -> Mixture:
    """Put the noise `[S, N, D]` around the means, and flip labels."""
    c = rng.choice((-1.0, 1.0), noise.shape[:2])
    x = noise + c[..., None] * mu if clouds.signal else noise

    if clouds.flips == "random":
        is_flipped = rng.random(c.shape) < clouds.flip
    else:
        depth = c * (x @ mu)
        place = (-depth).argsort(1).argsort(1)
        is_flipped = place < round(clouds.flip * clouds.n)

    y = np.where(is_flipped, -c, c)
    return Mixture(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(mu))


def clean_error(w: Tensor, mu: Tensor) -> Tensor:
    """Compute the chance that sign(w . x) is not the cloud of a Gaussian x.

        Phi(-w . mu / |w|)

    Args:
        w: `[..., D]`.
        mu: `[D]`.
    """
    return torch.special.ndtr(-(w @ mu) / w.norm(dim=-1))


def train_accuracy(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Compute the share of the points on the side of their given label, `[S]`.

    Args:
        w: `[S, D]`.
        x: `[S, N, D]`.
        y: `[S, N]`.
    """
    return (y * torch.einsum("snd,sd->sn", x, w) > 0).double().mean(1)
