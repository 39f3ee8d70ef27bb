"""Block structure: dominant points, their norms, how they differ between runs, and a penalty.

Row 28: Nguyen, Raghu and Kornblith, "On the Origins of the Block Structure Phenomenon in Neural
Network Representations", arXiv:2202.07184.

Claims of the abstract, and what is measured for each on digits, with networks of six layers:

1. Overparameterized models have a block structure, many contiguous layers whose representations are
   alike: the mean CKA between different layers.
2. It is robust to small shifts of the data: the change of that CKA when noise is added
   to the test digits.
3. It arises from a small group of dominant points with very large activation norms: the norm of the
   5 % of the points that are farthest along the first principal component, relative to the median.
4. Dominant points are alike in all layers of a block, and differ between runs: the overlap of these
   5 % between adjacent layers, and between two networks.
5. A penalty removes the block structure: on the share of variance of the first component, from one
   step of power iteration with a vector u that is kept between steps, where it exceeds a threshold,

       strength sum_layers relu(||X^T X u|| / ||X||_F^2 - threshold)

   Measured are the largest share over layers, and the CKA between layers, with and without it.

In TD the same penalty on phi(s, a) counters a collapse of the features directly.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.experiments.digits import CLASSES, Digits, load_digits
from rlop.experiments.fit import child_seeds, cross_entropy, fit, network, orders
from rlop.experiments.outcome import Outcome
from rlop.nets.mlp import MLP
from rlop.optim import Adam
from rlop.probes.cka import cka_matrix
from rlop.probes.rank import singular_values

DEPTH = 6
WIDTH = 128
RUNS = 4  # two plain ones, then two with the penalty
EPOCHS = 30
N = 1000
STRENGTH = 1.0
THRESHOLD = 0.2
SHIFT = 0.1  # standard deviation of the noise on pixels, which are between 0 and 1
DOMINANT = 0.05  # share of the points


def run(seed: int) -> Outcome:
    """Train two plain and two penalized networks, and look into their layers."""
    split, starts, shift = child_seeds(seed, 3)
    data = load_digits(N, split)
    net = trained(data, child_seeds(starts, RUNS), STRENGTH)
    x = data.x_test
    noise = torch.randn(x.shape, generator=Generator().manual_seed(shift))
    hidden = activations(net, x)
    shifted = activations(net, x + SHIFT * noise)

    plain, penalized = first_shares(hidden).view(DEPTH, 2, 2).mean(-1).T.tolist()
    depth = range(1, DEPTH + 1)
    curves = {"plain": (depth, plain), "penalized": (depth, penalized)}
    return Outcome(
        measures(hidden, shifted, dominant(hidden)),
        curves,
        x="layer",
        y="variance share of the first principal component",
    )


def control(seed: int) -> Mapping[str, float]:
    """Leave the penalty out, shuffle the rows of every layer, and call random points dominant.

    Both networks of a pair get the same points, so that these do not differ between runs.
    """
    split, starts, rows = child_seeds(seed, 3)
    data = load_digits(N, split)
    net = trained(data, child_seeds(starts, RUNS), 0.0)
    hidden = activations(net, data.x_test)
    generator = Generator().manual_seed(rows)
    n = len(data.x_test)
    shuffled = [layer[:, torch.randperm(n, generator=generator)] for layer in hidden]
    chosen = torch.rand(DEPTH, 1, n, generator=generator).topk(round(DOMINANT * n)).indices
    points = torch.zeros(DEPTH, 1, n, dtype=torch.bool).scatter(2, chosen, True)
    points = points.expand(-1, RUNS, -1)

    plain = measures(hidden, shuffled, points)
    blocks = "CKA between layers, plain"
    return {**plain, blocks: block(cka_matrix(shuffled)[:2]).mean().item()}


def measures(hidden: list[Tensor], shifted: list[Tensor], points: Tensor) -> dict[str, float]:
    """Compute every measure.

    Args:
        hidden: activations `[R, N, D]` of each layer, two plain runs and two penalized ones.
        shifted: the same for shifted inputs.
        points: dominant points, `[L, R, N]` of bool.
    """
    cka = cka_matrix(hidden)
    change = (cka_matrix(shifted) - cka)[:2].abs()
    blocks = block(cka).view(2, 2).mean(1)
    shares = first_shares(hidden).view(DEPTH, 2, 2).mean(-1).amax(0)

    norms = torch.stack([layer.norm(dim=-1) for layer in hidden])
    ratio = norms[points].view(DEPTH, RUNS, -1).mean(-1) / norms.median(-1).values
    within = overlap(points[1:, :2], points[:-1, :2]).mean()
    between = overlap(points[:, 0], points[:, 1]).mean()
    return {
        "CKA between layers, plain": blocks[0].item(),
        "change of that CKA under a small shift": block(change).mean().item(),
        "norm of dominant points / median norm": ratio[:, :2].mean().item(),
        "overlap of dominant points, adjacent layers - two runs": (within - between).item(),
        "overlap of dominant points, two runs": between.item(),
        "largest share of the first component, penalized / plain": (shares[1] / shares[0]).item(),
        "CKA between layers, plain - penalized": (blocks[0] - blocks[1]).item(),
    }


def block(cka: Tensor) -> Tensor:
    """Average the entries of `[R, L, L]` between different layers, `[R]`."""
    n = cka.shape[-1]
    diagonal = cka.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (cka.sum((-2, -1)) - diagonal) / (n * (n - 1))


def dominant(hidden: list[Tensor]) -> Tensor:
    """Mark the points farthest along the first principal component, `[L, R, N]` of bool."""
    marks = []
    for layer in hidden:
        centered = layer - layer.mean(1, keepdim=True)
        first = torch.linalg.svd(centered, full_matrices=False).Vh[:, 0]
        along = torch.einsum("rnd,rd->rn", centered, first).abs()
        chosen = along.topk(round(DOMINANT * along.shape[1])).indices
        marks.append(torch.zeros_like(along, dtype=torch.bool).scatter(1, chosen, True))
    return torch.stack(marks)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the share of marked points that two equally large markings have in common."""
    return (a & b).sum(-1) / a.sum(-1)


def trained(data: Digits, seeds: list[int], penalty: float) -> nn.Sequential:
    """Train a run for each seed, the second half with the penalty of this strength."""
    net = network(seeds, 64, [WIDTH] * DEPTH, CLASSES)
    # He's scale: with the default initialization, a network of this depth gives one output for all
    # inputs.
    for p in net[0].parameters():
        p.data.mul_(6**0.5 if p.ndim == 3 else 0)

    strength = torch.tensor([0.0, penalty]).repeat_interleave(RUNS // 2)
    directions = [F.normalize(torch.ones(RUNS, WIDTH, 1), dim=1) for _ in range(DEPTH)]

    def loss(_: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        hidden = layers(net[0], x)
        excess = torch.zeros(RUNS)
        for i, activations in enumerate(hidden):
            share, directions[i] = first_share(activations, directions[i])
            excess = excess + (share - THRESHOLD).relu()
        return cross_entropy(net[1](hidden[-1]), y) + strength * excess

    batches = orders(RUNS, N, 100, EPOCHS, seeds[0])
    fit(net, Adam(net.parameters(), lr=1e-3), data.x, data.y.expand(RUNS, -1), batches, loss)
    return net


@torch.no_grad()
def activations(net: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Return the activations `[R, N, D]` of every hidden layer on shared inputs `[N, 64]`."""
    return layers(net[0], x.expand(RUNS, -1, -1))


def first_shares(hidden: list[Tensor]) -> Tensor:
    """Compute the variance share of the first component by layer and run, `[L, R]`."""
    shares = []
    for layer in hidden:
        variances = singular_values(layer, center=True).square()
        shares.append(variances[:, 0] / variances.sum(-1))
    return torch.stack(shares)


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
