"""Distributional generalization: interpolating classifiers reproduce the labels of each subgroup.

Row 7: Nakkiran and Bansal, "Distributional Generalization: A New Kind of Generalization",
arXiv:2009.08092. Classifiers that fit digits with wrong labels exactly: a network, a kernel machine
without ridge, a decision tree, and the nearest neighbor.

1. If 30 % of a class are mislabeled as another one in training, about 30 % of this class are
   classified as the other one on the test set, and the other classes are unaffected. Five pairs of
   classes; the errors of the other classes are compared with those of the same classifier on clean
   labels.
2. The conjecture (feature calibration): (f(x), L(x)) and (y, L(x)) are close in total variation for
   every partition L of the inputs that can be learned from as many samples. Every class c has its
   own share of wrong labels, c / 18, given to the class c + 1; L is the class.
3. It does not hold for a partition that cannot be learned: of each class only the members of a
   random half are mislabeled, and L says class and half.

Control: classifiers that do not interpolate, kernel machines with a ridge of 30, which average the
wrong labels away; wrong labels in all classes, where the others are affected; for the last clause,
nearest neighbors that have seen the test inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import CLASSES, load_digits
from rlop.experiments.fit import child_seeds, fit, network, orders, predict
from rlop.experiments.outcome import Curve, Outcome
from rlop.optim import Adam

# A classifier: inputs [N, D], labels [R, N], fresh inputs [M, D] -> the classes of these, [R, M].
Classifier: TypeAlias = Callable[[Tensor, Tensor, Tensor, int], Tensor]

RATE = 0.3
RATES = (0.1, 0.3, 0.5)  # for the picture
PAIRS = ((3, 8), (4, 9), (7, 1), (5, 6), (2, 0))  # mislabeled class, and the one it is called
EPOCHS = 100
BANDWIDTH = 2.0  # about half the distance between two digits
RIDGE = 30.0


def mlp(x: Tensor, y: Tensor, fresh: Tensor, seed: int) -> Tensor:
    """Train networks of one hidden layer until they interpolate."""
    runs = len(y)
    *seeds, shuffle = child_seeds(seed, runs + 1)
    net = network(seeds, x.shape[1], (256,), CLASSES)
    optimizer = Adam(net.parameters(), lr=3e-3)
    fit(net, optimizer, x, y, orders(runs, len(x), 50, EPOCHS, shuffle))
    return predict(net, fresh, runs).argmax(-1)


def kernel_machine(x: Tensor, y: Tensor, fresh: Tensor, ridge: float) -> Tensor:
    """Fit the labels, one column per class, by regression in a Gaussian kernel."""
    x, fresh = x.double(), fresh.double()
    gram = torch.exp(-torch.cdist(x, x).square() / (2 * BANDWIDTH**2))
    gram = gram + (ridge + 1e-9) * torch.eye(len(x))
    # One factorization serves all labelings: [N, R, K] as [N, R K].
    targets = torch.nn.functional.one_hot(y.mT, CLASSES).double()
    weights = torch.linalg.solve(gram, targets.flatten(1))
    similarity = torch.exp(-torch.cdist(fresh, x).square() / (2 * BANDWIDTH**2))
    return (similarity @ weights).view(len(fresh), len(y), CLASSES).argmax(-1).mT


def interpolating_kernel(x: Tensor, y: Tensor, fresh: Tensor, seed: int) -> Tensor:
    """Fit kernel machines without ridge."""
    return kernel_machine(x, y, fresh, 0.0)


def ridged_kernel(x: Tensor, y: Tensor, fresh: Tensor, seed: int) -> Tensor:
    """Fit kernel machines that do not interpolate."""
    return kernel_machine(x, y, fresh, RIDGE)


def tree(x: Tensor, y: Tensor, fresh: Tensor, seed: int) -> Tensor:
    """Grow decision trees until every leaf is pure."""
    from sklearn.tree import DecisionTreeClassifier

    found = []
    for labels in y:
        grown = DecisionTreeClassifier(random_state=seed % 2**32).fit(x.numpy(), labels.numpy())
        found.append(torch.as_tensor(grown.predict(fresh.numpy())))
    return torch.stack(found)


def nearest(x: Tensor, y: Tensor, fresh: Tensor, seed: int) -> Tensor:
    """Copy the label of the nearest neighbor."""
    return y[:, torch.cdist(fresh, x).argmin(-1)]


CLASSIFIERS: dict[str, Classifier] = {
    "network": mlp,
    "kernel machine": interpolating_kernel,
    "decision tree": tree,
    "nearest neighbor": nearest,
}


def flip(y: Tensor, pair: tuple[int, int], rate: float, seed: int) -> Tensor:
    """Change the share `rate` of one class into another, `[N] -> [N]`."""
    chance = torch.rand(len(y), generator=Generator().manual_seed(seed))
    return torch.where((y == pair[0]) & (chance < rate), pair[1], y)


def spread(y: Tensor, rate: float, seed: int) -> Tensor:
    """Change the share `rate` of every class into the next one, `[N] -> [N]`."""
    chance = torch.rand(len(y), generator=Generator().manual_seed(seed))
    return torch.where(chance < rate, (y + 1) % CLASSES, y)


def graded(y: Tensor, seed: int) -> Tensor:
    """Give every class c its own share of wrong labels, c / 18, `[N] -> [N]`."""
    chance = torch.rand(len(y), generator=Generator().manual_seed(seed))
    return torch.where(chance < y / 18, (y + 1) % CLASSES, y)


def total_variation(predicted: Tensor, labels: Tensor, part: Tensor) -> float:
    """Measure the distance of the laws of (prediction, part) and of (label, part).

    Args:
        predicted: classes `[M]`.
        labels: labels `[M]`.
        part: part of each input, `[M]`, at least 0.
    """
    size = CLASSES * (int(part.max()) + 1)
    counts = [torch.bincount(part * CLASSES + y, minlength=size) for y in (predicted, labels)]
    return ((counts[0] - counts[1]).abs().sum() / (2 * len(part))).item()


class Reproduced(NamedTuple):
    """What a classifier makes of wrong labels."""

    share: float  # of the test members of a mislabeled class that are called the other one
    rise: float  # of the error on all other classes, over that with clean labels
    distance: float  # of the laws given the class, at graded shares of wrong labels


def reproduced(
    classify: Classifier, seed: int, rate: float = RATE, everywhere: bool = False
) -> Reproduced:
    """Train on clean labels, on graded ones, and with one class after the other mislabeled.

    Args:
        classify: the classifier.
        seed: seed of the split, the labels and the classifier.
        rate: share of a class that is mislabeled.
        everywhere: whether all classes are mislabeled, in the place of one.
    """
    split, grade, grade_test, own, *children = child_seeds(seed, 4 + len(PAIRS))
    data = load_digits(seed=split)
    labelings = [data.y, graded(data.y, grade)]
    for pair, child in zip(PAIRS, children):
        wrong = spread(data.y, rate, child) if everywhere else flip(data.y, pair, rate, child)
        labelings.append(wrong)
    clean, by_class, *by_pair = classify(data.x, torch.stack(labelings), data.x_test, own)

    shares, rises = [], []
    for pair, noisy in zip(PAIRS, by_pair):
        inside, others = data.y_test == pair[0], data.y_test != pair[0]
        shares.append((noisy[inside] == pair[1]).float().mean())
        wrong = (noisy != data.y_test).float() - (clean != data.y_test).float()
        rises.append(wrong[others].mean())

    distance = total_variation(by_class, graded(data.y_test, grade_test), data.y_test)
    return Reproduced(torch.stack(shares).mean().item(), torch.stack(rises).mean().item(), distance)


def half_distance(seed: int, seen: bool) -> float:
    """Measure the distance for random halves of the classes, of which one is mislabeled.

    Args:
        seed: seed of split and halves.
        seen: whether the nearest neighbor is searched among the test inputs themselves, as a
            classifier that could tell the halves would act.
    """
    data = load_digits(seed=seed)
    generator = Generator().manual_seed(seed)
    halves = [torch.randint(2, y.shape, generator=generator) for y in (data.y, data.y_test)]
    labels, labels_test = ((y + half) % CLASSES for y, half in zip((data.y, data.y_test), halves))

    x, y = (data.x_test, labels_test) if seen else (data.x, labels)
    predicted = nearest(x, y[None], data.x_test, seed)[0]
    return total_variation(predicted, labels_test, 2 * data.y_test + halves[1])


def values_of(classifiers: dict[str, Classifier], seed: int, seen: bool) -> dict[str, float]:
    """Measure every clause with the classifiers, by name."""
    values: dict[str, float] = {}
    for name, classify in classifiers.items():
        found = reproduced(classify, seed)
        values[f"{name}: share called the other class, 30 % mislabeled"] = found.share
        values[f"{name}: rise of the error on the other classes"] = found.rise
        values[f"{name}: distance of the laws given the class"] = found.distance
    values["nearest neighbor: distance of the laws given a random half"] = half_distance(seed, seen)
    return values


def run(seed: int) -> Outcome:
    """Train four classifiers that interpolate on digits with wrong labels."""
    curves: dict[str, Curve] = {"mislabeled in training": (RATES, RATES)}
    for name in ("decision tree", "nearest neighbor"):
        shares = [reproduced(CLASSIFIERS[name], seed, rate).share for rate in RATES]
        curves[name] = (RATES, shares)
    values = values_of(CLASSIFIERS, seed, seen=False)
    return Outcome(values, curves, x="share mislabeled in training", y="share on the test set")


def control(seed: int) -> dict[str, float]:
    """Put a classifier that does not interpolate into every place; mislabel all classes."""
    values = values_of(dict.fromkeys(CLASSIFIERS, ridged_kernel), seed, seen=True)
    rise = reproduced(nearest, seed, everywhere=True).rise
    for name in CLASSIFIERS:
        values[f"{name}: rise of the error on the other classes"] = rise
    return values
