"""Multiclass SVM, one-vs-all SVM and least squares are one classifier in high dimension.

Row 30: Wang, Muthukumar and Thrampoulidis, "Benign Overfitting in Multiclass Classification: All
Roads Lead to Interpolation", arXiv:2106.10865.

Claims of the abstract, on separable data from Gaussian mixtures:

1. Cross-entropy converges to the multiclass SVM, and squared loss to the least-norm interpolator.
2. Under a simple sufficient condition, enough dimensions, these two and the one-vs-all SVM
   interpolate the training data and are equally accurate.
3. All three overfit benignly with sufficient over-parameterization.
4. SVMs generalize well beyond the realm of margin-based bounds (not tested).

Setting: four classes with orthogonal means of length 1.2 d^.375, 40 points, averages over three
training sets with 500 test points each. Both SVMs are solved to the end in their duals. The
multiclass one equals least squares on simplex labels (1 - 1/4 for the own class, -1/4 for others)
where all its constraints are active; the one-vs-all SVM then equals least squares on labels of +-1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.experiments.support_vectors import dual

CLASSES = 4
N = 40
N_TEST = 500
SETS = 3
DIMENSIONS = (60, 250, 1000, 3000)
HIGH = DIMENSIONS[-1]
STEPS = 5000


class Sets(NamedTuple):
    """Training and test points around the same means."""

    x: Tensor  # [S, N, d]
    test: Tensor  # [S, N_TEST, d]
    labels: Tensor  # [N]
    test_labels: Tensor  # [N_TEST]


class Classifiers(NamedTuple):
    """Weights by road, `[S, K, d]` each."""

    multiclass: Tensor
    one_vs_all: Tensor
    least_squares: Tensor


class Comparison(NamedTuple):
    """The three roads in one dimension."""

    distance: float  # of both SVMs from their least squares, the larger one, relative
    disagreement: float  # share of test points on which the three do not agree
    errors: list[float]  # on test points, in the order of `Classifiers`
    accuracy: float  # on training points, the least of the three


def run(seed: int) -> Outcome:
    """Compare the three classifiers in four dimensions."""
    limits, *seeds = child_seeds(seed, 1 + len(DIMENSIONS))
    results = [compare(sample(d, length(d), s)) for d, s in zip(DIMENSIONS, seeds)]
    values = named(limit(sample(60, length(60), limits), same_labels=True), results[-1])

    curves = {"distance from least squares": (DIMENSIONS, [r.distance for r in results])}
    for i, name in enumerate(Classifiers._fields):
        errors = [result.errors[i] for result in results]
        curves[f"test error, {name.replace('_', ' ')}"] = (DIMENSIONS, errors)
    return Outcome(values, curves, x="dimension, n = 40", log="x")


def control(seed: int) -> Mapping[str, float]:
    """Leave the regime of the theorem in every direction.

    Cross-entropy gets other labels; 60 dimensions are too few for the SVMs to equal least squares;
    20 dimensions are fewer than the points; and classes without means have no error below chance.
    """
    limits, low, few, none = child_seeds(seed, 4)
    cosines = limit(sample(60, length(60), limits), same_labels=False)
    values = named(cosines, compare(sample(60, length(60), low)))
    accuracy = compare(sample(20, 0.0, few)).accuracy
    errors = compare(sample(HIGH, 0.0, none)).errors
    return {
        **values,
        "least train accuracy, d 3000": accuracy,
        "largest test error, d 3000": max(errors),
    }


def named(limits: tuple[float, float], high: Comparison) -> dict[str, float]:
    """Name the measures."""
    cross_entropy, squared = limits
    return {
        "cosine of cross-entropy descent and multiclass SVM, d 60": cross_entropy,
        "cosine of squared-loss descent and least-norm interpolator, d 60": squared,
        "distance of the SVMs from least squares, d 3000": high.distance,
        "least train accuracy, d 3000": high.accuracy,
        "share of test points on which the three disagree, d 3000": high.disagreement,
        "largest test error, d 3000": max(high.errors),
    }


def length(d: int) -> float:
    """Return the length of the means."""
    return 1.2 * d**0.375


def sample(d: int, norm: float, seed: int) -> Sets:
    """Draw mixtures of four Gaussians whose means are `norm` times the first unit vectors."""
    generator = Generator().manual_seed(seed)
    means = torch.zeros(CLASSES, d, dtype=torch.float64)
    means[:, :CLASSES] = norm * torch.eye(CLASSES)
    labels = torch.arange(N + N_TEST) % CLASSES
    noise = torch.randn(SETS, N + N_TEST, d, generator=generator, dtype=torch.float64)
    x = noise + means[labels]
    return Sets(x[:, :N], x[:, N:], labels[:N], labels[N:])


def solve(x: Tensor, labels: Tensor) -> Classifiers:
    """Find all three classifiers of every set, `[S, N, d]` and `[N]`."""
    gram = x @ x.mT
    one_hot = F.one_hot(labels, CLASSES).double()

    signs = 2 * one_hot.T - 1  # [K, N]
    multipliers = dual(gram[:, None] * signs[:, :, None] * signs[:, None, :])
    one_vs_all = (multipliers * signs) @ x

    least_squares = torch.linalg.pinv(gram) @ (one_hot - 1 / CLASSES)
    return Classifiers(multiclass_svm(x, labels), one_vs_all, least_squares.mT @ x)


def multiclass_svm(x: Tensor, labels: Tensor) -> Tensor:
    """Minimize |W|^2 with a margin of 1 over every other class, `[S, K, d]`.

    There is one multiplier for each point and other class, of the direction e_own - e_other.
    """
    own = F.one_hot(labels, CLASSES).double()[:, None]
    directions = own - torch.eye(CLASSES, dtype=torch.float64)  # [N, K, K], zero for the own class
    is_other = labels[:, None] != torch.arange(CLASSES)
    directions = directions[is_other]  # [N (K - 1), K]
    points = x.repeat_interleave(CLASSES - 1, 1)

    multipliers = dual((points @ points.mT) * (directions @ directions.T))
    return torch.einsum("sm,mk,smd->skd", multipliers, directions, points)


def compare(data: Sets) -> Comparison:
    """Compare the three classifiers."""
    roads = solve(data.x, data.labels)
    simplex = roads.least_squares
    # Labels of +-1 are 2 (simplex labels) - 1/2: twice the simplex solution, and a part that is the
    # same for all classes.
    common = least_norm(data.x, torch.full((N,), 2 / CLASSES - 1, dtype=torch.float64))
    gaps = (
        relative(roads.multiclass, simplex),
        relative(roads.one_vs_all, 2 * simplex + common[:, None]),
    )

    predictions = torch.stack([(data.test @ w.mT).argmax(-1) for w in roads])
    fitted = torch.stack([(data.x @ w.mT).argmax(-1) for w in roads])
    errors = (predictions != data.test_labels).double().mean((1, 2)).tolist()
    return Comparison(
        distance=max(gaps),
        disagreement=(predictions != predictions[0]).any(0).double().mean().item(),
        errors=errors,
        accuracy=(fitted == data.labels).double().mean((1, 2)).min().item(),
    )


def least_norm(x: Tensor, y: Tensor) -> Tensor:
    """Interpolate y `[N]` with the least norm, `[S, d]`."""
    return torch.einsum("snd,sn->sd", x, torch.linalg.pinv(x @ x.mT) @ y)


def relative(a: Tensor, b: Tensor) -> float:
    """Return |a - b| / |b|."""
    return ((a - b).norm() / b.norm()).item()


def limit(data: Sets, same_labels: bool) -> tuple[float, float]:
    """Run gradient descent on both losses from zero; return the cosines with their limits.

    Args:
        data: sets in few enough dimensions that the limits differ.
        same_labels: False gives descent the labels of other points.
    """
    gram = data.x @ data.x.mT
    labels = data.labels if same_labels else data.labels.roll(1)
    one_hot = F.one_hot(labels, CLASSES).double()
    is_own = one_hot.bool()
    rate = 1 / torch.linalg.matrix_norm(gram, 2)[:, None, None]
    entropy = torch.zeros(SETS, N, CLASSES, dtype=torch.float64)
    squared = torch.zeros_like(entropy)

    for _ in range(STEPS):
        # Division by the loss keeps the speed; the path is that of plain descent. The probabilities
        # of the wrong classes become too small for 1 - softmax, so that their logarithms are used.
        wrong = (gram @ entropy).log_softmax(-1).masked_fill(is_own, -torch.inf)
        share = wrong.flatten(1).softmax(-1).view_as(wrong)
        residual = one_hot * share.sum(-1, keepdim=True) - share
        entropy = entropy + N / 2 * rate * residual
        squared = squared + rate * (one_hot - 1 / CLASSES - gram @ squared)

    roads = solve(data.x, data.labels)
    cosines = []
    for coefficients, road in ((entropy, roads.multiclass), (squared, roads.least_squares)):
        w = coefficients.mT @ data.x
        cosines.append(F.cosine_similarity(w.flatten(1), road.flatten(1)).mean().item())
    return cosines[0], cosines[1]
