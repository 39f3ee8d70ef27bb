"""Compactness of the classes: while a network learns, the features of one class draw together.

Row 44: Chumachenko, Laakom, Raitoharju, Iosifidis and Gabbouj, on the compactness of the classes
and performance (the exact title was not found). The variance of the features within the classes,
relative to that between the class means, is followed on digits: it falls, on the test part less
than on the train part, and it moves with the test accuracy. A probe of Q: the same ratio with
actions or bins of the return in place of the classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rlop.experiments.digits import CLASSES, load_digits
from rlop.experiments.fit import accuracy, fit, network, orders, predict
from rlop.experiments.outcome import Outcome
from rlop.optim import Adam

RUNS = 3
EPOCHS = 40


def run(seed: int) -> Outcome:
    """Follow the variance ratio of the last hidden layer over 40 epochs."""
    data = load_digits(seed=seed)
    labels = data.y.expand(RUNS, -1)
    net = network(range(seed, seed + RUNS), 64, (128, 128), 10)
    optimizer = Adam(net.parameters(), lr=1e-3)

    train: list[float] = []
    test: list[float] = []
    accuracies: list[float] = []

    for epoch in range(EPOCHS + 1):
        if epoch > 0:  # the first measurement is before training
            batches = orders(RUNS, len(data.y), 50, 1, seed + epoch)
            fit(net, optimizer, data.x, labels, batches)
        train_features = predict(net[0], data.x, RUNS)
        test_features = predict(net[0], data.x_test, RUNS)
        test_logits = predict(net, data.x_test, RUNS)
        train.append(variance_ratio(train_features, data.y).mean().item())
        test.append(variance_ratio(test_features, data.y_test).mean().item())
        accuracies.append(accuracy(test_logits, data.y_test).mean().item())

    correlation = torch.corrcoef(torch.tensor([test, accuracies]))[0, 1].item()

    values = {
        "train ratio, last / first": train[-1] / train[0],
        "test ratio, last / first": test[-1] / test[0],
        "ratio in the end, test / train": test[-1] / train[-1],
        "correlation of test ratio and test accuracy": correlation,
    }

    epochs = list(range(EPOCHS + 1))
    curves = {
        "train": (epochs, train),
        "test": (epochs, test),
        "test accuracy": (epochs, accuracies),
    }

    return Outcome(values, curves, x="epoch", y="variance within / between classes")


def variance_ratio(features: Tensor, y: Tensor, classes: int = CLASSES) -> Tensor:
    """Divide the variance within classes by the variance of the class means.

    Args:
        features: `[R, N, D]`.
        y: labels `[N]`, every class present.
        classes: number of classes.
    Returns:
        `[R]`.
    """
    member = F.one_hot(y, classes).to(features.dtype)  # [N, K]
    means = (member.mT @ features) / member.sum(0)[:, None]  # [R, K, D]
    own_mean = means[:, y]  # [R, N, D]

    within = (features - own_mean).square().sum(-1).mean(-1)
    between = (own_mean - features.mean(1, keepdim=True)).square().sum(-1).mean(-1)
    return within / between
