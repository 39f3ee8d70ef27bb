"""Linear layers inside an autoencoder of digits: they lower the rank of its code, at what price?

Row 41: Sun, Thilak, Littwin, Saremi and Susskind, "Implicit Greedy Rank Learning in Autoencoders
via Overparameterized Linear Networks", arXiv:2107.01301; the layers are those of Jing, Zbontar and
LeCun, "Implicit Rank-Minimizing Autoencoder", arXiv:2010.00679. The layers add no function that one
matrix could not express, yet descent through them learns few directions. The abstract says that
nonlinear autoencoders converge to ranks that are optimal for classification.

Setting: 64-128-32, l linear maps 32-32 from an orthogonal start, 32-128-64, two networks of each;
Adam for 40 epochs at .003 / (l + 2), as the speed of a product grows with its length. The effective
rank is that of the test codes. Their use for classification is the test accuracy of ridge
regression on the codes of 100 labeled digits.

Control: no linear layers, against itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlop.experiments.digits import CLASSES, Digits, load_digits
from rlop.experiments.fit import child_seeds, fit, orders
from rlop.experiments.outcome import Outcome
from rlop.nets.linear import Linear, reset_runs
from rlop.nets.mlp import MLP
from rlop.nets.stack import LinearStack
from rlop.optim import Adam
from rlop.probes.rank import effective_rank, singular_values

LENGTHS = (0, 2, 6)
CODE = 32
HIDDEN = 128
RUNS = 2
N = 800
EPOCHS = 40
BATCH = 50
LR = 3e-3
LABELED = 100
RIDGE = 0.01


class Autoencoder(nn.Module):
    """64 - 128 - 32, `length` linear layers 32 - 32 without activation, 32 - 128 - 64."""

    def __init__(self, length: int) -> None:
        super().__init__()
        lead = (RUNS,)
        self.encoder = nn.Sequential(MLP(lead, 64, (HIDDEN,)), Linear(lead, HIDDEN, CODE))
        self.stack = LinearStack(lead, CODE, length, "orthogonal")
        self.decoder = nn.Sequential(MLP(lead, CODE, (HIDDEN,)), Linear(lead, HIDDEN, 64))

    def code(self, x: Tensor) -> Tensor:
        """Encode, `[R, B, 64] -> [R, B, 32]`."""
        codes: Tensor = self.stack(self.encoder(x))
        return codes

    def forward(self, x: Tensor) -> Tensor:
        """Encode and decode, `[R, B, 64] -> [R, B, 64]`."""
        images: Tensor = self.decoder(self.code(x))
        return images


def run(seed: int) -> Outcome:
    """Fit autoencoders with 0, 2 and 6 linear layers; measure the rank and use of the codes."""
    data_seed, *seeds = child_seeds(seed, 1 + len(LENGTHS))
    data = load_digits(N, data_seed)
    pairs = [measured(length, data, s) for length, s in zip(LENGTHS, seeds)]
    ranks, accuracies = zip(*pairs)
    curves = {
        "effective rank / 32": (LENGTHS, [rank / CODE for rank in ranks]),
        "accuracy of a linear classifier": (LENGTHS, accuracies),
    }
    values = measures(pairs[0], pairs[-1])
    return Outcome(values, curves, x="linear layers between encoder and decoder")


def control(seed: int) -> dict[str, float]:
    """Compare autoencoders without linear layers with themselves."""
    data_seed, net_seed = child_seeds(seed, 2)
    plain = measured(0, load_digits(N, data_seed), net_seed)
    return measures(plain, plain)


def measures(plain: tuple[float, float], stacked: tuple[float, float]) -> dict[str, float]:
    """Name the numbers; each pair is (rank, accuracy)."""
    name = "accuracy of a linear classifier of the code, 6 linear layers - none"
    return {
        "effective rank of the code, 6 linear layers / none": stacked[0] / plain[0],
        name: stacked[1] - plain[1],
    }


def measured(length: int, data: Digits, seed: int) -> tuple[float, float]:
    """Fit autoencoders with `length` linear layers; return rank and accuracy, means of the runs."""
    start_seed, order_seed = child_seeds(seed, 2)
    net = Autoencoder(length)
    reset_runs(net, child_seeds(start_seed, RUNS))
    images = data.x.expand(RUNS, *data.x.shape)
    optimizer = Adam(net.parameters(), lr=LR / (length + 2))
    batches = orders(RUNS, len(data.x), BATCH, EPOCHS, order_seed)
    fit(net, optimizer, data.x, images, batches, reconstruction)

    with torch.no_grad():
        train = net.code(images[:, :LABELED])
        test = net.code(data.x_test.expand(RUNS, *data.x_test.shape))
    spectrum = singular_values(test, center=True)
    score = classified(train, data.y[:LABELED], test, data.y_test)
    return effective_rank(spectrum).mean().item(), score


def reconstruction(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Compute the mean squared error of every run, `[R]`."""
    return (net(x) - y).square().mean((-1, -2))


def classified(train: Tensor, y: Tensor, test: Tensor, y_test: Tensor) -> float:
    """Return the accuracy of ridge regression of the classes on codes.

    Args:
        train: codes `[R, N, D]`.
        y: their classes `[N]`.
        test: codes `[R, M, D]`.
        y_test: their classes `[M]`.
    """
    mean = train.mean(1, keepdim=True)
    scale = (train - mean).square().sum(-1).mean(-1).sqrt()[:, None, None]
    x, x_test = (train - mean) / scale, (test - mean) / scale
    targets = F.one_hot(y, CLASSES).to(x.dtype)
    covariance = x.mT @ x / len(y) + RIDGE * torch.eye(x.shape[-1])
    weights = torch.linalg.solve(covariance, x.mT @ (targets - targets.mean(0)) / len(y))
    predicted = (x_test @ weights + targets.mean(0)).argmax(-1)
    return (predicted == y_test).float().mean().item()
