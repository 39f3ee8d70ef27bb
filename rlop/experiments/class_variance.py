"""Compactness of the classes: while a network learns, the features of one class spread out.

Row 44: Chumachenko, Laakom, Raitoharju, Iosifidis and Gabbouj, on the compactness of the classes
and the performance of over-parameterized networks (ICML 2021 workshop; the exact title was not
found). The abstract says that the variance of the features within the classes grows during
training, that the representation becomes less compact and more outspread, and that models whose
features are more invariant within the classes do not necessarily perform better.

Setting: networks 64-128-128-10 on digits, features of the last hidden layer on the test part. The
variance is the mean squared distance to the mean of the class, the outspread the distance between
two digits of one class. For the last clause twelve architectures, three networks each, are ranked
by invariance (variance within the classes / between their means, which no scale of the features
changes) and by test accuracy. The variance relative to that between the classes is in the picture:
it falls, a fact of which the abstract does not speak.

Control: the hidden layers stay as drawn and the head alone learns; the twelve models differ by the
share of wrong labels they saw, which spoils compactness and accuracy together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Generator, Tensor, nn

from rlop.experiments.digits import CLASSES, Digits, corrupt, load_digits
from rlop.experiments.fit import accuracy, child_seeds, fit, network, orders, predict
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import rank_correlation
from rlop.optim import Adam
from rlop.probes.learning import class_variance

RUNS = 3
EPOCHS = 40
BATCH = 50
WIDTHS = (16, 32, 64, 128)
DEPTHS = (1, 2, 3)
NOISES = [share / 12 for share in range(12)]


def run(seed: int) -> Outcome:
    """Follow the spread of three networks over 40 epochs; compare twelve architectures."""
    data_seed, followed_seed, models_seed = child_seeds(seed, 3)
    data = load_digits(seed=data_seed)
    net = network(child_seeds(followed_seed, RUNS), 64, (128, 128), CLASSES)
    within, outspread, relative, scores = followed(net, list(net.parameters()), data, followed_seed)

    models = []
    architectures = list(product(WIDTHS, DEPTHS))
    for (width, depth), model_seed in zip(architectures, child_seeds(models_seed, 12)):
        models.append(compared(data, data.y, [width] * depth, model_seed))

    epochs = range(EPOCHS + 1)
    curves = {
        "variance within classes / start": (epochs, [value / within[0] for value in within]),
        "within / between classes": (epochs, relative),
        "test accuracy": (epochs, scores),
    }
    values = measures(within, outspread, models)
    return Outcome(values, curves, x="epoch", y="spread of the features, test digits", log="y")


def control(seed: int) -> dict[str, float]:
    """Measure the same where the features do not learn, and where noise spoils both rankings."""
    data_seed, followed_seed, models_seed = child_seeds(seed, 3)
    data = load_digits(seed=data_seed)
    net = network(child_seeds(followed_seed, RUNS), 64, (128, 128), CLASSES)
    within, outspread, _, _ = followed(net, list(net[1].parameters()), data, followed_seed)

    models = []
    for share, label_seed in zip(NOISES, child_seeds(models_seed, len(NOISES))):
        labels = corrupt(data.y, share, Generator().manual_seed(label_seed))
        models.append(compared(data, labels, (128, 128), label_seed))

    return measures(within, outspread, models)


def measures(
    within: Sequence[float], outspread: Sequence[float], models: Sequence[tuple[float, float]]
) -> dict[str, float]:
    """Name the numbers; `models` holds (invariance, accuracy)."""
    invariances, scores = torch.tensor(models).T
    return {
        "variance within classes, last / first": within[-1] / within[0],
        "distance within the most compact class, last / first": outspread[-1] / outspread[0],
        "rank correlation of invariance and accuracy, 12 models": rank_correlation(
            invariances, scores
        ),
    }


def followed(
    net: nn.Sequential, learned: list[nn.Parameter], data: Digits, seed: int
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Train some of the parameters, and measure the features after each epoch.

    Returns:
        Variance within the classes, least distance within a class, variance within / between, test
        accuracy; one number per epoch, the first before training.
    """
    labels = data.y.expand(RUNS, -1)
    optimizer = Adam(learned, lr=1e-3)
    within, outspread, relative, scores = [], [], [], []

    for epoch, epoch_seed in enumerate(child_seeds(seed, EPOCHS + 1)):
        if epoch > 0:
            fit(net, optimizer, data.x, labels, orders(RUNS, len(data.y), BATCH, 1, epoch_seed))
        features = predict(net[0], data.x_test, RUNS)
        spread = class_variance(features, data.y_test.expand(RUNS, -1), CLASSES)
        within.append(spread.within.mean().item())
        relative.append(spread.ratio.mean().item())
        outspread.append(class_distances(features, data.y_test).mean(0).min().item())
        scores.append(accuracy(predict(net, data.x_test, RUNS), data.y_test).mean().item())

    return within, outspread, relative, scores


def compared(data: Digits, labels: Tensor, hidden: Sequence[int], seed: int) -> tuple[float, float]:
    """Train three networks of one model; return their mean invariance and test accuracy.

    The invariance is minus the logarithm of the variance within / between the classes.
    """
    net = network(child_seeds(seed, RUNS), 64, hidden, CLASSES)
    optimizer = Adam(net.parameters(), lr=3e-3)
    batches = orders(RUNS, len(labels), BATCH, EPOCHS // 2, seed)
    fit(net, optimizer, data.x, labels.expand(RUNS, -1), batches)

    features = predict(net[0], data.x_test, RUNS)
    spread = class_variance(features, data.y_test.expand(RUNS, -1), CLASSES)
    score = accuracy(predict(net, data.x_test, RUNS), data.y_test).mean()
    return -spread.ratio.log().mean().item(), score.item()


def class_distances(features: Tensor, y: Tensor) -> Tensor:
    """Average the distance between two examples of one class.

    Args:
        features: `[R, N, D]`.
        y: labels `[N]`, at least two examples of every class.
    Returns:
        `[R, K]`.
    """
    means = []
    for label in range(CLASSES):
        members = features[:, y == label]
        n = members.shape[1]
        means.append(torch.cdist(members, members).sum((1, 2)) / (n * (n - 1)))
    return torch.stack(means, 1)
