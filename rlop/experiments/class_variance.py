"""Compactness of the classes: while a network learns, the features of one class draw together, and tests improve.

Row 44: Chumachenko, Laakom, Raitoharju, Iosifidis and Gabbouj, on the compactness of the classes and performance (the
exact title was not found). The variance of the features within the classes, relative to that between the class means,
is followed on digits: it falls, on the test part less than on the train part, and it moves with the test accuracy.
A probe of Q: the same ratio with actions or bins of the return in place of the classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.experiments.digits import load_digits
from rlop.experiments.fit import accuracy, fit, network, orders, predict
from rlop.experiments.outcome import Measure, Outcome
from rlop.optim import Adam

RUNS, EPOCHS = 3, 40


def run(seed: int = 0) -> Outcome:
    """Follow the variance ratio of the last hidden layer over 40 epochs."""
    data = load_digits(seed=seed)
    net = network(range(seed, seed + RUNS), 64, (128, 128), 10)
    optimizer = Adam(net.parameters(), lr=1e-3)
    train, test, scores = [], [], []
    for epoch in range(EPOCHS + 1):
        if epoch:
            fit(
                net,
                optimizer,
                data.x,
                data.y.expand(RUNS, -1),
                orders(RUNS, len(data.y), 50, 1, seed + epoch),
            )
        train.append(variance_ratio(predict(net[0], data.x, RUNS), data.y).mean().item())
        test.append(variance_ratio(predict(net[0], data.x_test, RUNS), data.y_test).mean().item())
        scores.append(accuracy(predict(net, data.x_test, RUNS), data.y_test).mean().item())
    correlation = torch.corrcoef(torch.tensor([test, scores]))[0, 1].item()
    measures = (
        Measure(
            "train ratio, last / first", train[-1] / train[0], 0, 0.3, "the classes draw together"
        ),
        Measure("test ratio, last / first", test[-1] / test[0], 0, 0.5, "on unseen digits too"),
        Measure(
            "ratio in the end, test / train",
            test[-1] / train[-1],
            1,
            10,
            "less than on the train part",
        ),
        Measure(
            "correlation of test ratio and test accuracy",
            correlation,
            -1,
            -0.7,
            "they move together",
        ),
    )
    epochs = list(range(EPOCHS + 1))
    curves = {"train": (epochs, train), "test": (epochs, test), "test accuracy": (epochs, scores)}
    return Outcome(measures, curves, x="epoch", y="variance within / between classes")


def variance_ratio(features: Tensor, y: Tensor, classes: int = 10) -> Tensor:
    """Mean squared distance to the class mean over that of the class means to the overall mean.

    Args:
        features: `[R, N, D]`.
        y: labels `[N]`, every class present.
        classes: their number.
    Returns:
        `[R]`.
    """
    member = torch.nn.functional.one_hot(y, classes).to(features.dtype)  # [N, K]
    means = (member.mT @ features) / member.sum(0)[:, None]  # [R, K, D]
    within = (features - means[:, y]).square().sum(-1).mean(-1)
    between = (means[:, y] - features.mean(1, keepdim=True)).square().sum(-1).mean(-1)
    return within / between
