"""Max margin on a mixture fits flipped labels, and its risk falls as the theorem's exponent says.

Row 17: Chatterji and Long, "Finite-sample Analysis of Interpolating Linear Classifiers in the
Overparameterized Regime", arXiv:2004.12019. Row 43: Cao, Gu and Belkin, "Risk Bounds for
Over-parameterized Maximum Margin Classification on Sub-Gaussian Mixtures", arXiv:2104.13628.

Claims of the abstracts:

1. The maximum margin classifier is the limit of gradient descent on the logistic loss.
2. With enough over-parameterization it comes near the best population risk although it fits the
   noisy labels, also where an adversary chooses which labels are wrong, up to a share of them.
3. Its risk on a mixture of two sub-Gaussian clouds is bounded tightly: with n points in d
   dimensions, -log risk is between two multiples of

       E = n |mu|^4 / (n |mu|^2 + d)

   which says exactly when overfitting is benign, and improves on earlier bounds, |mu|^4 / d.

Setting: 50 points, 10 % of the labels flipped, d up to 10,000; every number is an average over 30
training sets. The error on clean Gaussian data is exact, Phi(-z) with z = w . mu / |w|, and
-log Phi(-z) is of the order of z^2, so that z^2 must follow E with exponent 1 as |mu| or n vary,
and stay where d and |mu| grow together such that E stays. Two paths through the settings separate
benign from harmful overfitting: |mu| = 1.2 d^.375, where E grows with d, and |mu| = 6, where E
falls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.mixtures import (
    Clouds,
    Flips,
    Mixture,
    clean_error,
    draw,
    draw_reduced,
    train_accuracy,
)
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import power_law_exponent
from rlop.experiments.support_vectors import dual

N = 50
FLIP = 0.1
SETS = 30
DIMENSIONS = (200, 500, 1000, 2000, 5000, 10_000)
HIGH = DIMENSIONS[-1]
FIXED = 6.0  # |mu| on the path where overfitting ends up harmful
STEPS = 5000  # of gradient descent
TEST_SETS = 4  # with non-Gaussian noise, where all coordinates are drawn and errors are counted
N_TEST = 300

LEVEL_DIMENSIONS = (2000, 6000, 20_000, 60_000)
LEVEL = 8.0  # E on the path where it neither grows nor falls

# Settings between which E grows more than tenfold.
BY_NORM = [Clouds(N, HIGH, norm) for norm in (3.0, 4.5, 6.75, 10.0)]
BY_N = [Clouds(n, 60_000, FIXED) for n in (20, 40, 80, 160)]


def growing(d: int) -> float:
    """Return |mu| on the path where overfitting is benign: |mu|^4 grows faster than d."""
    return 1.2 * d**0.375


def level(d: int) -> float:
    """Return the |mu| at which E = `LEVEL` with `N` points; it grows as d^.25 in the end."""
    return ((LEVEL + (LEVEL**2 + 4 * LEVEL * d / N) ** 0.5) / 2) ** 0.5


def risk_exponent(clouds: Clouds) -> float:
    """Return E, the exponent of the risk bound."""
    square = clouds.norm**2
    return clouds.n * square**2 / (clouds.n * square + clouds.d)


def run(seed: int) -> Outcome:
    """Train on mixtures as above."""
    return measure(seed, signal=True)


def control(seed: int) -> Mapping[str, float]:
    """Train on clouds that lie around 0; count fitted labels in 20 dimensions, with 50 points.

    Without a signal no classifier knows mu, with fewer dimensions than points not all labels can be
    fitted, and gradient descent gets the labels of another set.
    """
    return measure(seed, signal=False).values


def measure(seed: int, signal: bool) -> Outcome:
    """Compute every measure, with or without a signal in the inputs."""
    seeds = iter(child_seeds(seed, 100))

    def path(norms: Sequence[float], flips: Flips = "random") -> list[float]:
        errors = []
        for d, norm in zip(DIMENSIONS, norms):
            clouds = Clouds(N, d, norm, FLIP, flips, signal=signal)
            errors.append(error(draw_reduced(clouds, SETS, next(seeds))))
        return errors

    def squares(settings: Sequence[Clouds]) -> list[float]:
        means = []
        for clouds in settings:
            data = draw_reduced(clouds._replace(signal=signal), SETS, next(seeds))
            means.append(squared_score(data))
        return means

    def exponent(settings: Sequence[Clouds]) -> float:
        bounds = [risk_exponent(clouds) for clouds in settings]
        return power_law_exponent(bounds, squares(settings))

    def accuracy(flips: Flips) -> float:
        clouds = Clouds(N, HIGH if signal else 20, growing(HIGH), FLIP, flips)
        return least_accuracy(draw(clouds, TEST_SETS, next(seeds)))

    increasing = [growing(d) for d in DIMENSIONS]
    fixed = path([FIXED] * len(DIMENSIONS))
    random = path(increasing)
    adversary = path(increasing, "adversary")

    benign = Clouds(N, HIGH, growing(HIGH), FLIP, signal=signal)
    cosine = limit_cosine(draw_reduced(Clouds(N, 200, FIXED), SETS, next(seeds)), signal)
    reduced = draw_reduced(benign, SETS, next(seeds))
    descended = clean_error(descend(reduced.x, reduced.y), reduced.mu).mean().item()
    rademacher = benign._replace(law="rademacher")
    counted = counted_error(
        draw(rademacher, TEST_SETS, next(seeds)),
        draw(rademacher._replace(n=N_TEST, flip=0.0), TEST_SETS, next(seeds)),
    )

    steady = squares([Clouds(N, d, level(d)) for d in LEVEL_DIMENSIONS])

    excess = 1 - 2 * FLIP  # risk on noisy labels above the best, for each unit of error on clean
    values = {
        "cosine of logistic descent and max margin, d 200": cosine,
        "train accuracy, 10 % random flips, d 10,000": accuracy("random"),
        "train accuracy, 10 % adversarial flips, d 10,000": accuracy("adversary"),
        "risk above the best, random flips, d 10,000": excess * random[-1],
        "risk above the best, adversarial flips, d 10,000": excess * adversary[-1],
        "exponent of z^2 in d, where E stays 8": power_law_exponent(LEVEL_DIMENSIONS, steady),
        "exponent of z^2 in E, as |mu| varies": exponent(BY_NORM),
        "exponent of z^2 in E, as n varies": exponent(BY_N),
        "error at |mu| = 6, d 10,000 - d 1000": fixed[-1] - fixed[2],
        "error at |mu| = 1.2 d^.375, d 10,000": random[-1],
        "error at |mu| = 1.2 d^.375, Rademacher noise, d 10,000": counted,
        "error of logistic descent, |mu| = 1.2 d^.375, d 10,000": descended,
    }

    curves = {
        "|mu| = 6": (DIMENSIONS, fixed),
        "|mu| = 1.2 d^.375": (DIMENSIONS, random),
        "|mu| = 1.2 d^.375, adversarial flips": (DIMENSIONS, adversary),
    }
    return Outcome(values, curves, x="dimension, n = 50", y="error on clean data", log="x")


def max_margin(data: Mixture) -> Tensor:
    """Find the hard-margin classifier without bias of every training set, `[S, d]`."""
    signed = data.x * data.y[..., None]
    return torch.einsum("sn,snd->sd", dual(signed @ signed.mT), signed)


def error(data: Mixture) -> float:
    """Return the exact error of max margin on clean Gaussian data, averaged over the sets."""
    return clean_error(max_margin(data), data.mu).mean().item()


def squared_score(data: Mixture) -> float:
    """Return z^2 = (w . mu)^2 / |w|^2 of max margin, averaged over the sets."""
    w = max_margin(data)
    return ((w @ data.mu) / w.norm(dim=-1)).square().mean().item()


def least_accuracy(data: Mixture) -> float:
    """Return the accuracy of max margin on its training set, the least of all sets."""
    return train_accuracy(max_margin(data), data.x, data.y).min().item()


def counted_error(train: Mixture, test: Mixture) -> float:
    """Return the share of fresh points that max margin puts on the wrong side."""
    return 1 - train_accuracy(max_margin(train), test.x, test.y).mean().item()


def limit_cosine(data: Mixture, same_labels: bool) -> float:
    """Return the mean cosine of logistic descent and max margin.

    Args:
        data: sets in few enough dimensions that not every point is a support vector.
        same_labels: False gives descent the labels of another set.
    """
    labels = data.y if same_labels else data.y.roll(1, 0)
    descended = descend(data.x, labels)
    return torch.cosine_similarity(descended, max_margin(data), dim=-1).mean().item()


def descend(x: Tensor, y: Tensor) -> Tensor:
    """Run gradient descent on the logistic loss, with steps divided by the loss.

    The division changes the speed along the path of descent, which plain steps follow for ever more
    slowly. The iterate stays in the span of the rows, so that the Gram matrix is enough.

    Args:
        x: `[S, N, d]`.
        y: `[S, N]`.
    Returns:
        w `[S, d]`.
    """
    signed = x * y[..., None]
    gram = signed @ signed.mT
    rate = 1 / gram.diagonal(dim1=1, dim2=2).amax(1, keepdim=True)
    alpha = torch.zeros_like(y)

    for _ in range(STEPS):
        margin = torch.einsum("snm,sm->sn", gram, alpha)
        # sigmoid(-margin) relative to its sum, without underflow at large margins.
        alpha = alpha + rate * F.logsigmoid(-margin).softmax(1)

    return torch.einsum("sn,snd->sd", alpha, signed)
