"""Distributional generalization: an interpolating classifier reproduces the label noise it saw.

Row 7: Nakkiran and Bansal, "Distributional Generalization: A New Kind of Generalization",
arXiv:2009.08092. A classifier that fits its train set does not average label noise away but copies
its distribution, class by class: a network and the nearest neighbor alike. If a share of the 3s is
labeled 8 in training, the same share of the test 3s is classified as 8. In reinforcement learning:
a greedy policy that interpolates imitates the mixture of actions.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import Digits, load_digits
from rlop.experiments.fit import accuracy, fit, network, orders, predict
from rlop.experiments.outcome import Curve, Outcome
from rlop.experiments.series import seed_means
from rlop.optim import Adam

RATES = (0.1, 0.3, 0.5)
SEEDS = 3
RUNS = len(RATES) * SEEDS
FROM = 3
TO = 8


def run(seed: int) -> Outcome:
    """Fit MLPs and 1-NN to digits of which a share of class 3 is called 8; count the test 8s."""
    data = load_digits(seed=seed)
    labels = flip(data.y, torch.tensor(RATES).repeat_interleave(SEEDS), seed)
    net = network(range(seed, seed + RUNS), 64, (256,), 10)
    batches = orders(RUNS, len(data.y), batch=50, epochs=250, seed=seed)
    fit(net, Adam(net.parameters(), lr=2e-3), data.x, labels, batches)

    mlp = predict(net, data.x_test, RUNS).argmax(-1)
    nearest = labels[:, torch.cdist(data.x_test, data.x).argmin(-1)]
    shares = {"MLP": flipped(mlp, data), "1-NN": flipped(nearest, data)}

    values: dict[str, float] = {}
    for name, shares_by_rate in shares.items():
        for rate, share in zip(RATES, shares_by_rate):
            values[f"{name}: test 3s called 8, {rate:g} flipped"] = share

    others = data.y_test != FROM
    error = (mlp != data.y_test)[:, others].float().mean().item()
    values["MLP: test error on the other classes"] = error

    train_accuracy = accuracy(predict(net, data.x, RUNS), labels).min().item()
    values["MLP: train accuracy"] = train_accuracy

    curves: dict[str, Curve] = {"flipped in training": (RATES, RATES)}
    for name, shares_by_rate in shares.items():
        curves[name] = (RATES, shares_by_rate)

    return Outcome(
        values, curves, x="share of the 3s called 8 in training", y="share of the test 3s called 8"
    )


def flip(y: Tensor, rates: Tensor, seed: int) -> Tensor:
    """Change the share `rates[r]` of class 3 into 8; labels `[N] -> [R, N]`."""
    chance = torch.rand(len(rates), len(y), generator=Generator().manual_seed(seed))
    return torch.where((y == FROM) & (chance < rates[:, None]), TO, y)


def flipped(predicted: Tensor, data: Digits) -> list[float]:
    """Return the share of the test 3s classified as 8 at each rate, averaged over seeds."""
    shares = (predicted[:, data.y_test == FROM] == TO).float().mean(-1)
    return seed_means(shares, SEEDS)
