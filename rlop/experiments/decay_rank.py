"""Weight decay on a deep ReLU network: fewer neurons stay active, and the matrices lose rank.

Row 35: Parhi, Wolf and Nowak, "On the Sparsity of Deep Neural Networks in the Overparameterized
Regime: An Empirical Study", ICML 2021 workshop; theory arXiv:2105.03361. Deep ReLU networks solve
problems in compositions of RBV2 spaces, and weight decay is their norm: it sums |v_k| |w_k| over
the neurons, which selects neurons, and the products of a neuron's weights in and out leave matrices
of low rank.

Setting: networks 64-256-256-10 on 500 digits, cross-entropy with (mu / 2) ||W||^2 over all weight
matrices, mu = .001, Adam, three networks, against the same without decay. A neuron is active if the
product of its norms in and out is above a hundredth of the layer's largest; the rank is the
entropy rank of the matrix between the hidden layers.

Control: the comparison of two trainings without decay, from other starts.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from rlop.experiments.digits import CLASSES, Digits, load_digits
from rlop.experiments.fit import (
    child_seeds,
    cross_entropy,
    fit,
    network,
    orders,
    weight_matrices,
)
from rlop.experiments.outcome import Outcome
from rlop.optim import Adam
from rlop.probes.rank import effective_rank, singular_values

RUNS = 3
WIDTH = 256
N = 500
EPOCHS = 60
BATCH = 50
LR = 3e-3
DECAY = 1e-3


def run(seed: int) -> Outcome:
    """Train with and without decay; compare active neurons, rank and accuracy."""
    data_seed, decay_seed, plain_seed = child_seeds(seed, 3)
    data = load_digits(N, data_seed)
    decayed = trained(data, DECAY, decay_seed)
    plain = trained(data, 0.0, plain_seed)

    curves = {}
    for name, net in (("with decay", decayed), ("without", plain)):
        spectrum = singular_values(middle(net)).mean(0)
        relative = (spectrum / spectrum[0]).clamp_min(1e-6)
        curves[name] = (list(range(1, WIDTH + 1)), relative.tolist())
    return Outcome(
        measures(decayed, plain), curves, x="number", y="singular value / largest", log="xy"
    )


def control(seed: int) -> dict[str, float]:
    """Compare two trainings without decay."""
    data_seed, decay_seed, plain_seed = child_seeds(seed, 3)
    data = load_digits(N, data_seed)
    return measures(trained(data, 0.0, decay_seed), trained(data, 0.0, plain_seed))


def measures(decayed: nn.Module, plain: nn.Module) -> dict[str, float]:
    """Name the numbers."""
    ranks = [effective_rank(singular_values(middle(net))).mean() for net in (decayed, plain)]
    active = [active_share(net).mean() for net in (decayed, plain)]
    return {
        "active neurons of a deep network, decay / none": (active[0] / active[1]).item(),
        "effective rank of a deep network's matrix, decay / none": (ranks[0] / ranks[1]).item(),
    }


def trained(data: Digits, decay: float, seed: int) -> nn.Module:
    """Train three networks with a quadratic penalty on their matrices."""
    start_seed, order_seed = child_seeds(seed, 2)
    net = network(child_seeds(start_seed, RUNS), 64, (WIDTH, WIDTH), CLASSES)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        squares = [w.square().sum((-1, -2)) for w in weight_matrices(net).values()]
        return cross_entropy(net(x), y) + decay / 2 * torch.stack(squares).sum(0)

    batches = orders(RUNS, N, BATCH, EPOCHS, order_seed)
    fit(net, Adam(net.parameters(), lr=LR), data.x, data.y.expand(RUNS, -1), batches, loss)
    return net


def middle(net: nn.Module) -> Tensor:
    """Return the matrix between the hidden layers, `[R, WIDTH, WIDTH]`."""
    return list(weight_matrices(net).values())[1].detach()


def active_share(net: nn.Module) -> Tensor:
    """Return the share of hidden neurons that are active, `[R]`, both layers together."""
    matrices = [w.detach() for w in weight_matrices(net).values()]
    shares = []
    for incoming, outgoing in pairwise(matrices):
        path = incoming.norm(dim=-1) * outgoing.norm(dim=-2)
        shares.append((path > 0.01 * path.amax(-1, keepdim=True)).float().mean(-1))
    return torch.stack(shares).mean(0)
