"""Block structure: in an oversized network one direction dominates many layers; penalising its share prevents it.

Row 28: Nguyen, Raghu and Kornblith, "On the Origins of the Block Structure Phenomenon in Neural Network
Representations", arXiv:2202.07184. For the centred activations X of a batch, the share of variance of the first
principal component is found by one step of power iteration with a vector that is kept between steps, and what exceeds
a threshold is penalised, layer by layer:

    strength sum_layers relu(||X^T X u|| / ||X||_F^2 - threshold)

On digits, the share grows from layer to layer, to a third of the variance; the penalty brings it down at no cost in
accuracy. In TD the same penalty on phi(s, a) counters a collapse of the features directly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlop.experiments.digits import load_digits
from rlop.experiments.fit import accuracy, cross_entropy, fit, network, orders, predict
from rlop.experiments.outcome import Measure, Outcome
from rlop.nets.mlp import MLP
from rlop.optim import Adam
from rlop.probes.rank import singular_values

DEPTH, WIDTH, SEEDS, EPOCHS, N = 6, 128, 2, 30, 1000
STRENGTH, THRESHOLD = 1.0, 0.2


def run(seed: int = 0) -> Outcome:
    """Train with and without the penalty, two seeds each, and compare the shares by layer."""
    data = load_digits(N, seed)
    runs = 2 * SEEDS
    net = network([seed + i % SEEDS for i in range(runs)], 64, [WIDTH] * DEPTH, 10)
    for p in (
        net[0].parameters()
    ):  # He's scale: with the default start, a stack so deep gives one output for all inputs
        p.data.mul_(6**0.5 if p.ndim == 3 else 0)
    strength = torch.tensor([0.0, STRENGTH]).repeat_interleave(SEEDS)
    directions = [F.normalize(torch.ones(runs, WIDTH, 1), dim=1) for _ in range(DEPTH)]

    def loss(_: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        hidden = layers(net[0], x)
        excess = torch.zeros(runs)
        for i, activations in enumerate(hidden):
            share, directions[i] = first_share(activations, directions[i])
            excess = excess + (share - THRESHOLD).relu()
        return cross_entropy(net[1](hidden[-1]), y) + strength * excess

    batches = orders(runs, N, 100, EPOCHS, seed)
    fit(net, Adam(net.parameters(), lr=1e-3), data.x, data.y.expand(runs, -1), batches, loss)
    with torch.no_grad():
        hidden = layers(net[0], data.x_test.expand(runs, -1, -1))
    spectra = [singular_values(h, center=True).square() for h in hidden]
    shares = (
        torch.stack([s[:, 0] / s.sum(-1) for s in spectra]).unflatten(1, (2, SEEDS)).mean(-1)
    )  # [layers, 2]
    test = accuracy(predict(net, data.x_test, runs), data.y_test).view(2, SEEDS).mean(-1)
    plain, penalised = shares.T.tolist()
    measures = (
        Measure(
            "share in the last layer / in the first, plain",
            plain[-1] / plain[0],
            1.3,
            10,
            "grows with depth",
        ),
        Measure(
            "largest share, penalised / plain", max(penalised) / max(plain), 0, 0.75, "brought down"
        ),
        Measure(
            "mean share over layers, penalised / plain",
            sum(penalised) / sum(plain),
            0,
            0.75,
            "brought down",
        ),
        Measure(
            "test accuracy, penalised - plain", (test[1] - test[0]).item(), -0.02, 1, "at no cost"
        ),
    )
    depth = list(range(1, DEPTH + 1))
    curves = {"plain": (depth, plain), "penalised": (depth, penalised)}
    return Outcome(measures, curves, x="layer", y="variance share of the first principal component")


def layers(torso: nn.Module, x: Tensor) -> list[Tensor]:
    """Activations `[R, B, D]` of every hidden layer."""
    assert isinstance(torso, MLP)
    hidden = []
    for layer in torso.layers:
        x = layer(x).relu()
        hidden.append(x)
    return hidden


def first_share(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Share of the first component by one power step, `[R]`, and the direction for the next step.

    Args:
        x: activations `[R, B, D]`.
        u: unit vectors `[R, D, 1]`; no gradient flows through them.
    """
    x = x - x.mean(1, keepdim=True)
    image = x.mT @ (x @ u)
    norm = image.norm(dim=(1, 2))
    share = norm / x.square().sum((1, 2)).clamp_min(1e-12)
    return share, (image / norm.clamp_min(1e-12)[:, None, None]).detach()
