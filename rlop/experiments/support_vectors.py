"""Abundance of support vectors: in high dimension the max-margin classifier is the least-norm interpolator.

Rows 30 and 49: Wang, Muthukumar and Thrampoulidis, "Benign Overfitting in Multiclass Classification: All Roads Lead to
Interpolation", arXiv:2106.10865, and Wang and Thrampoulidis, "Binary Classification of Gaussian Mixtures: Abundance of
Support Vectors, Benign Overfitting and Regularization", arXiv:2011.09148. On a mixture of four Gaussians, the share of
points that are support vectors of the one-against-all classifiers goes to 1 with d / n; from there on the classifier
equals least squares, so cross-entropy (which tends to it) and squared loss end at the same place.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

CLASSES, N, N_TEST, SEEDS, NORM = 4, 40, 1000, 5, 6.0
DIMENSIONS = (60, 120, 250, 500, 1000, 2000)


class Comparison(NamedTuple):
    """The max-margin classifier beside least squares, in one dimension d."""

    support: float  # share of support vectors
    distance: float  # || w_margin - w_least || / || w_least ||
    margin_error: float
    least_error: float


def run(seed: int = 0) -> Outcome:
    """Fit both classifiers in six dimensions, n = 40."""
    rows = [compare(d, seed) for d in DIMENSIONS]
    support, distance, margin, least = (list(column) for column in zip(*rows))
    rises = min(after - before for before, after in pairwise(support))
    measures = (
        Measure("share of support vectors, d / n = 50", support[-1], 0.99, 1, "all of them"),
        Measure("share of support vectors, d / n = 1.5", support[0], 0, 0.9, "not all"),
        Measure("least rise of that share with d", rises, -0.01, 1, "never falls"),
        Measure(
            "distance to least squares, d / n = 50", distance[-1], 0, 0.01, "the same classifier"
        ),
        Measure("distance to least squares, d / n = 1.5", distance[0], 0.1, 10, "not yet the same"),
        Measure(
            "|difference of test errors|, d / n = 50",
            abs(margin[-1] - least[-1]),
            0,
            0.002,
            "coincide",
        ),
    )
    curves = {
        "share of support vectors": (DIMENSIONS, support),
        "distance to least squares": (DIMENSIONS, distance),
        "test error, max margin": (DIMENSIONS, margin),
        "test error, least squares": (DIMENSIONS, least),
    }
    return Outcome(measures, curves, x="dimension, n = 40", log="x")


def compare(d: int, seed: int) -> Comparison:
    """Both classifiers on `SEEDS` mixtures of four Gaussians in d dimensions."""
    generator = Generator().manual_seed(seed)
    means = torch.zeros(CLASSES, d, dtype=torch.float64)
    means[:, :CLASSES] = NORM * torch.eye(CLASSES)
    labels = torch.arange(N + N_TEST) % CLASSES
    x = torch.randn(SEEDS, N + N_TEST, d, generator=generator, dtype=torch.float64) + means[labels]
    train, test = x[:, :N], x[:, N:]
    signs = 2 * F.one_hot(labels[:N], CLASSES).double().mT - 1  # [K, N]
    gram = (train @ train.mT)[:, None]  # [S, 1, N, N]
    alpha = dual(gram * signs[:, :, None] * signs[:, None, :])
    margin = torch.einsum("skn,snd->skd", alpha * signs, train)
    least = torch.einsum("skn,snd->skd", torch.linalg.solve(gram, signs[..., None])[..., 0], train)
    wrong = [
        ((test @ w.mT).argmax(-1) != labels[N:]).double().mean().item() for w in (margin, least)
    ]
    support = (alpha > 1e-6 * alpha.amax(-1, keepdim=True)).double().mean().item()
    return Comparison(support, ((margin - least).norm() / least.norm()).item(), wrong[0], wrong[1])


def dual(q: Tensor, sweeps: int = 300) -> Tensor:
    """Multipliers of hard-margin classifiers without bias: argmin over a >= 0 of a Q a / 2 - sum a, by coordinates.

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
