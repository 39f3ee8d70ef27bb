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
   random half are mislabeled, and L says which half.

Control: classifiers that do not interpolate, kernel machines with a ridge of 30, which average the
wrong labels away; wrong labels in all classes, where the others are affected; for the last clause,
nearest neighbors that have seen the test inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import CLASSES, Digits, load_digits
from rlop.experiments.fit import child_seeds, fit, network, orders, predict
from rlop.experiments.outcome import Outcome
from rlop.optim import Adam

# A classifier: inputs, labels and test inputs to the classes of these; the integer is its seed.
Classifier: TypeAlias = Callable[[Tensor, Tensor, Tensor, int], Tensor]

RATE = 0.3
RATES = (0.1, 0.3, 0.5)  # for the picture
PAIRS = ((3, 8), (4, 9), (7, 1), (5, 6), (2, 0))  # mislabeled class, and the one it is called
EPOCHS = 60
BANDWIDTH = 2.0  # about half the distance between two digits
RIDGE = 30.0


def mlp(x: Tensor, y: Tensor, fresh: Tensor, seed: int) -> Tensor:
    """Train a network of one hidden layer until it interpolates."""
    net = network([seed], 64, (256,), CLASSES)
    optimizer = Adam(net.parameters(), lr=3e-3)
    fit(net, optimizer, x, y[None], orders(1, len(y), 50, EPOCHS, seed))
    return predict(net, fresh, 1)[0].argmax(-1)


def kernel_machine(x: Tensor, y: Tensor, fresh: Tensor, ridge: float) -> Tensor:
    """Fit the labels, one column per class, by regression in a Gaussian kernel."""
    x, fresh = x.double(), fresh.double()
    gram = torch.exp(-torch.cdist(x, x).square() / (2 * BANDWIDTH**2))
    gram = gram + (ridge + 1e-9) * torch.eye(len(x))
    targets = torch.nn.functional.one_hot(y, CLASSES).double()
    similarity = torch.exp(-torch.cdist(fresh, x).square() / (2 * BANDWIDTH**2))
    return (similarity @ torch.linalg.solve(gram, targets)).argmax(-1)


def interpolating_kernel(x: Tensor, y: Tensor, fresh: Tensor, seed: int) -> Tensor:
    """Fit a kernel machine without ridge."""
    return kernel_machine(x, y, fresh, 0.0)


def ridged_kernel(x: Tensor, y: Tensor, fresh: Tensor, seed: int) -> Tensor:
    """Fit a kernel machine that does not interpolate."""
    return kernel_machine(x, y, fresh, RIDGE)


def tree(x: Tensor, y: Tensor, fresh: Tensor, seed: int) -> Tensor:
    """Grow a decision tree until every leaf is pure."""
    from sklearn.tree import DecisionTreeClassifier

    grown = DecisionTreeClassifier(random_state=seed % 2**32).fit(x.numpy(), y.numpy())
    return torch.as_tensor(grown.predict(fresh.numpy()))


def nearest(x: Tensor, y: Tensor, fresh: Tensor, seed: int) -> Tensor:
    """Copy the label of the nearest neighbor."""
    return y[torch.cdist(fresh, x).argmin(-1)]


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


def reproduced(
    classify: Classifier, seed: int, rate: float = RATE, everywhere: bool = False
) -> tuple[float, float]:
    """Mislabel one class at a time, or all of them.

    Returns:
        Share of the test members of the mislabeled class that are classified as the other one; by
        how much the error on all other classes rises over that with clean labels. Means over the
        pairs.
    """
    shares, rises = [], []
    for pair, child in zip(PAIRS, child_seeds(seed, len(PAIRS))):
        data = load_digits(seed=child)
        labels = spread(data.y, rate, child) if everywhere else flip(data.y, pair, rate, child)
        noisy = classify(data.x, labels, data.x_test, child)
        clean = classify(data.x, data.y, data.x_test, child)

        inside, others = data.y_test == pair[0], data.y_test != pair[0]
        shares.append((noisy[inside] == pair[1]).float().mean())
        wrong = (noisy != data.y_test).float() - (clean != data.y_test).float()
        rises.append(wrong[others].mean())
    return torch.stack(shares).mean().item(), torch.stack(rises).mean().item()


def graded(data: Digits, seed: int) -> tuple[Tensor, Tensor]:
    """Give every class its own share of wrong labels; return those of train and test, `[N], [M]`."""
    labels = []
    for y, child in zip((data.y, data.y_test), child_seeds(seed, 2)):
        chance = torch.rand(len(y), generator=Generator().manual_seed(child))
        labels.append(torch.where(chance < y / 18, (y + 1) % CLASSES, y))
    return labels[0], labels[1]


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


def class_distance(classify: Classifier, seed: int) -> float:
    """Measure the distance for the partition into classes, at graded shares of wrong labels."""
    data = load_digits(seed=seed)
    labels, labels_test = graded(data, seed)
    predicted = classify(data.x, labels, data.x_test, seed)
    return total_variation(predicted, labels_test, data.y_test)


def half_distance(classify: Classifier, seed: int, seen: bool) -> float:
    """Measure the distance for a partition into random halves, of which one is mislabeled.

    Args:
        classify: the classifier.
        seed: seed of split and halves.
        seen: whether the classifier is trained on the test inputs, as a classifier that could tell
            the halves would be.
    """
    data = load_digits(seed=seed)
    generator = Generator().manual_seed(seed)
    halves = [torch.randint(2, y.shape, generator=generator) for y in (data.y, data.y_test)]
    wrong = [(y + half) % CLASSES for y, half in zip((data.y, data.y_test), halves)]

    x, y = (data.x_test, wrong[1]) if seen else (data.x, wrong[0])
    predicted = classify(x, y, data.x_test, seed)
    return total_variation(predicted, wrong[1], halves[1])


def values_of(classifiers: dict[str, Classifier], seed: int, seen: bool) -> dict[str, float]:
    """Measure every clause with the classifiers, by name."""
    values: dict[str, float] = {}
    for name, classify in classifiers.items():
        share, rise = reproduced(classify, seed)
        values[f"{name}: share called the other class, 30 % mislabeled"] = share
        values[f"{name}: rise of the error on the other classes"] = rise
        values[f"{name}: distance of the laws given the class"] = class_distance(classify, seed)
    values["nearest neighbor: distance of the laws given a random half"] = half_distance(
        nearest, seed, seen
    )
    return values


def run(seed: int) -> Outcome:
    """Train four classifiers that interpolate on digits with wrong labels."""
    curves = {"mislabeled in training": (RATES, RATES)}
    for name in ("decision tree", "nearest neighbor"):
        shares = [reproduced(CLASSIFIERS[name], seed, rate)[0] for rate in RATES]
        curves[name] = (RATES, tuple(shares))
    values = values_of(CLASSIFIERS, seed, seen=False)
    return Outcome(values, curves, x="share mislabeled in training", y="share on the test set")


def control(seed: int) -> dict[str, float]:
    """Put a classifier that does not interpolate into every place; mislabel all classes."""
    values = values_of(dict.fromkeys(CLASSIFIERS, ridged_kernel), seed, seen=True)
    rise = reproduced(nearest, seed, everywhere=True)[1]
    for name in CLASSIFIERS:
        values[f"{name}: rise of the error on the other classes"] = rise
    return values
