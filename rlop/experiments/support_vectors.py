"""Abundance of support vectors: in high dimension max margin is least-norm interpolation.

Rows 30 and 49: Wang, Muthukumar and Thrampoulidis, "Benign Overfitting in Multiclass
Classification: All Roads Lead to Interpolation", arXiv:2106.10865, and Wang and Thrampoulidis,
"Binary Classification of Gaussian Mixtures: Abundance of Support Vectors, Benign Overfitting and
Regularization", arXiv:2011.09148. On a mixture of four Gaussians, the share of points that are
support vectors of the one-against-all classifiers goes to 1 with d / n; from there on the
classifier equals least squares, so cross-entropy (which tends to it) and squared loss end at the
same place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome
from rlop.experiments.series import columns, differences

CLASSES = 4
N = 40
N_TEST = 1000
SEEDS = 5
NORM = 6.0  # of the class means
DIMENSIONS = (60, 120, 250, 500, 1000, 2000)


class Comparison(NamedTuple):
    """The max-margin classifier compared with least squares, in one dimension d."""

    support: float  # share of support vectors
    distance: float  # || w_margin - w_least || / || w_least ||
    margin_error: float
    least_error: float


def run(seed: int) -> Outcome:
    """Fit both classifiers in six dimensions, n = 40."""
    support, distance, margin, least = columns([compare(d, seed) for d in DIMENSIONS])

    values = {
        "share of support vectors, d / n = 50": support[-1],
        "share of support vectors, d / n = 1.5": support[0],
        "least rise of that share with d": min(differences(support)),
        "distance to least squares, d / n = 50": distance[-1],
        "distance to least squares, d / n = 1.5": distance[0],
        "|difference of test errors|, d / n = 50": abs(margin[-1] - least[-1]),
    }

    curves = {
        "share of support vectors": (DIMENSIONS, support),
        "distance to least squares": (DIMENSIONS, distance),
        "test error, max margin": (DIMENSIONS, margin),
        "test error, least squares": (DIMENSIONS, least),
    }

    return Outcome(values, curves, x="dimension, n = 40", log="x")


def compare(d: int, seed: int) -> Comparison:
    """Fit both classifiers to `SEEDS` mixtures of four Gaussians in d dimensions."""
    generator = Generator().manual_seed(seed)
    means = torch.zeros(CLASSES, d, dtype=torch.float64)
    means[:, :CLASSES] = NORM * torch.eye(CLASSES)
    labels = torch.arange(N + N_TEST) % CLASSES
    noise = torch.randn(SEEDS, N + N_TEST, d, generator=generator, dtype=torch.float64)
    x = noise + means[labels]
    train, test = x[:, :N], x[:, N:]

    signs = 2 * F.one_hot(labels[:N], CLASSES).double().mT - 1  # [K, N]
    gram = (train @ train.mT)[:, None]  # [S, 1, N, N]
    multipliers = dual(gram * signs[:, :, None] * signs[:, None, :])
    coefficients = torch.linalg.solve(gram, signs[..., None])[..., 0]
    margin = torch.einsum("skn,snd->skd", multipliers * signs, train)
    least = torch.einsum("skn,snd->skd", coefficients, train)

    def error(w: Tensor) -> float:
        return ((test @ w.mT).argmax(-1) != labels[N:]).double().mean().item()

    is_support = multipliers > 1e-6 * multipliers.amax(-1, keepdim=True)
    distance = (margin - least).norm() / least.norm()
    return Comparison(
        support=is_support.double().mean().item(),
        distance=distance.item(),
        margin_error=error(margin),
        least_error=error(least),
    )


def dual(q: Tensor, sweeps: int = 300) -> Tensor:
    """Solve for the multipliers of hard-margin classifiers without bias, coordinate by coordinate.

        argmin over a >= 0 of  a Q a / 2 - sum a

    Args:
        q: `[..., N, N]`, the Gram matrix with the signs of the labels multiplied in.
        sweeps: passes over the coordinates.
    Returns:
        `[..., N]`.
    """
    alpha = torch.zeros(q.shape[:-1], dtype=q.dtype)
    for _ in range(sweeps):
        for i in range(q.shape[-1]):
            slope = (q[..., i, :] * alpha).sum(-1) - 1
            alpha[..., i] = (alpha[..., i] - slope / q[..., i, i]).clamp_min(0)
    return alpha
