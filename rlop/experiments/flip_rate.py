"""Distributional generalization: flip a share of the 3s into 8s, and as large a share of the test 3s comes out as 8.

Row 7: Nakkiran and Bansal, "Distributional Generalization: A New Kind of Generalization", arXiv:2009.08092. A
classifier that fits its train set does not average label noise away but copies its distribution, class by class: a
network and the nearest neighbour alike. In reinforcement learning: a greedy policy that interpolates imitates the
mixture of actions.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import Digits, load_digits
from rlop.experiments.fit import accuracy, fit, network, orders, predict
from rlop.experiments.outcome import Measure, Outcome
from rlop.optim import Adam

RATES = (0.1, 0.3, 0.5)
SEEDS = 3
FROM, TO = 3, 8


def run(seed: int = 0) -> Outcome:
    """Fit MLPs and 1-NN to digits of which a share of class 3 is called 8, and count the 8s among the test 3s."""
    data = load_digits(seed=seed)
    rates = torch.tensor(RATES).repeat_interleave(SEEDS)
    labels = flip(data.y, rates, seed)
    net = network(range(seed, seed + len(rates)), 64, (256,), 10)
    batches = orders(len(rates), len(data.y), batch=50, epochs=250, seed=seed)
    fit(net, Adam(net.parameters(), lr=2e-3), data.x, labels, batches)
    mlp = predict(net, data.x_test, len(rates)).argmax(-1)
    nearest = labels[:, torch.cdist(data.x_test, data.x).argmin(-1)]
    shares = {"MLP": flipped(mlp, data), "1-NN": flipped(nearest, data)}
    measures = [
        Measure(
            f"{name}: test 3s called 8, {rate:g} flipped",
            share,
            rate - 0.1,
            rate + 0.1,
            f"{rate:g} +- 0.1",
        )
        for name, per_rate in shares.items()
        for rate, share in zip(RATES, per_rate)
    ]
    others = data.y_test != FROM
    error = (mlp != data.y_test)[:, others].float().mean().item()
    measures.append(
        Measure(
            "MLP: test error on the other classes", error, 0, 0.06, "the noise stays in its class"
        )
    )
    fitted = accuracy(predict(net, data.x, len(rates)), labels).min().item()
    measures.append(Measure("MLP: train accuracy", fitted, 0.99, 1, "interpolates"))
    curves = {
        "flipped in training": (RATES, RATES),
        **{name: (RATES, share) for name, share in shares.items()},
    }
    return Outcome(
        tuple(measures),
        curves,
        x="share of the 3s called 8 in training",
        y="share of the test 3s called 8",
    )


def flip(y: Tensor, rates: Tensor, seed: int) -> Tensor:
    """Labels `[R, N]` in which the share `rates[r]` of class 3 has become 8."""
    chance = torch.rand(len(rates), len(y), generator=Generator().manual_seed(seed))
    return torch.where((y == FROM) & (chance < rates[:, None]), TO, y)


def flipped(predicted: Tensor, data: Digits) -> list[float]:
    """Share of the test 3s that come out as 8, mean over the seeds of each rate."""
    share = (predicted[:, data.y_test == FROM] == TO).float().mean(-1)
    return share.view(len(RATES), SEEDS).mean(-1).tolist()
