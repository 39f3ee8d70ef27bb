"""Block structure: in an oversized network one direction dominates many layers.

Row 28: Nguyen, Raghu and Kornblith, "On the Origins of the Block Structure Phenomenon in Neural
Network Representations", arXiv:2202.07184. Penalizing the share of that direction prevents it. For
the centered activations X of a batch, the share of variance of the first principal component comes
from one step of power iteration with a vector u that is kept between steps, and what exceeds a
threshold is penalized, layer by layer:

    strength sum_layers relu(||X^T X u|| / ||X||_F^2 - threshold)

On digits, the share grows from layer to layer, to a third of the variance; the penalty lowers it at
no cost in accuracy. In TD the same penalty on phi(s, a) counters a collapse of the features
directly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlop.experiments.digits import Digits, load_digits
from rlop.experiments.fit import accuracy, cross_entropy, fit, network, orders, predict
from rlop.experiments.outcome import Outcome
from rlop.nets.mlp import MLP
from rlop.optim import Adam
from rlop.probes.rank import singular_values

DEPTH = 6
WIDTH = 128
SEEDS = 2
RUNS = 2 * SEEDS  # the plain ones first, then the penalized ones
EPOCHS = 30
N = 1000
STRENGTH = 1.0
THRESHOLD = 0.2


def run(seed: int) -> Outcome:
    """Train with and without the penalty, two seeds each, and compare the shares by layer."""
    data = load_digits(N, seed)
    net = trained(data, seed)

    shares = first_shares(net, data.x_test)
    plain, penalized = shares.T.tolist()
    test = accuracy(predict(net, data.x_test, RUNS), data.y_test)
    accuracies = test.view(2, SEEDS).mean(-1)

    values = {
        "share in the last layer / in the first, plain": plain[-1] / plain[0],
        "largest share, penalized / plain": max(penalized) / max(plain),
        "mean share over layers, penalized / plain": sum(penalized) / sum(plain),
        "test accuracy, penalized - plain": (accuracies[1] - accuracies[0]).item(),
    }

    depth = list(range(1, DEPTH + 1))
    curves = {"plain": (depth, plain), "penalized": (depth, penalized)}
    return Outcome(values, curves, x="layer", y="variance share of the first principal component")


def trained(data: Digits, seed: int) -> nn.Sequential:
    """Train the runs, the second half with the penalty."""
    seeds = [seed + i % SEEDS for i in range(RUNS)]
    net = network(seeds, 64, [WIDTH] * DEPTH, 10)
    # He's scale: with the default initialization, a network of this depth gives one output for all
    # inputs.
    for p in net[0].parameters():
        p.data.mul_(6**0.5 if p.ndim == 3 else 0)

    strength = torch.tensor([0.0, STRENGTH]).repeat_interleave(SEEDS)
    directions = [F.normalize(torch.ones(RUNS, WIDTH, 1), dim=1) for _ in range(DEPTH)]

    def loss(_: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        hidden = layers(net[0], x)
        excess = torch.zeros(RUNS)
        for i, activations in enumerate(hidden):
            share, directions[i] = first_share(activations, directions[i])
            excess = excess + (share - THRESHOLD).relu()
        return cross_entropy(net[1](hidden[-1]), y) + strength * excess

    batches = orders(RUNS, N, 100, EPOCHS, seed)
    fit(net, Adam(net.parameters(), lr=1e-3), data.x, data.y.expand(RUNS, -1), batches, loss)
    return net


@torch.no_grad()
def first_shares(net: nn.Sequential, x: Tensor) -> Tensor:
    """Compute the share of the first component by layer, plain and penalized, `[layers, 2]`."""
    shares = []
    for hidden in layers(net[0], x.expand(RUNS, -1, -1)):
        variances = singular_values(hidden, center=True).square()
        shares.append(variances[:, 0] / variances.sum(-1))
    return torch.stack(shares).unflatten(1, (2, SEEDS)).mean(-1)


def layers(torso: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the activations `[R, B, D]` of every hidden layer."""
    assert isinstance(torso, MLP)
    hidden = []
    for layer in torso.layers:
        x = layer(x).relu()
        hidden.append(x)
    return hidden


def first_share(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the share of the first component by one power step.

    Args:
        x: activations `[R, B, D]`.
        u: unit vectors `[R, D, 1]`; no gradient flows through them.
    Returns:
        The share `[R]`, and the direction for the next step.
    """
    x = x - x.mean(1, keepdim=True)
    image = x.mT @ (x @ u)
    norm = image.norm(dim=(1, 2))

    share = norm / x.square().sum((1, 2)).clamp_min(1e-12)
    direction = image / norm.clamp_min(1e-12)[:, None, None]
    return share, direction.detach()
