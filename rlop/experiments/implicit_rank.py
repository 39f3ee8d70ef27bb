"""Implicit greedy rank learning: linear layers inside an autoencoder lower the rank of its code.

Row 41: Sun, Thilak, Littwin, Saremi and Susskind, "Implicit Greedy Rank Learning in Autoencoders
via Overparameterized Linear Networks", arXiv:2107.01301; the layers with their default
initialization as in Jing, Zbontar and LeCun, "Implicit Rank-Minimizing Autoencoder",
arXiv:2010.00679. The layers add no function that one matrix could not express, yet gradient descent
through l of them learns few directions: the effective rank of the code falls with l.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlop.experiments.digits import Digits, load_digits
from rlop.experiments.fit import fit, orders, predict
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import ratios
from rlop.nets.linear import Linear, reset_runs
from rlop.nets.mlp import MLP
from rlop.optim import Adam
from rlop.probes.rank import effective_rank, pca_rank, singular_values

DEPTHS = (0, 2, 4, 8)
CODE = 32
HIDDEN = 128
RUNS = 2
# Linear layers -> entropy rank, measured beforehand with an independent script.
ORACLE = {0: 21.8, 2: 12.9, 4: 8.0, 8: 4.2}


class Autoencoder(nn.Module):
    """64 - 128 - 32, `depth` linear layers 32 - 32 without activation, 32 - 128 - 64."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        lead = (RUNS,)
        self.encoder = nn.Sequential(MLP(lead, 64, (HIDDEN,)), Linear(lead, HIDDEN, CODE))
        self.stack = nn.Sequential(*(Linear(lead, CODE, CODE) for _ in range(depth)))
        self.decoder = nn.Sequential(MLP(lead, CODE, (HIDDEN,)), Linear(lead, HIDDEN, 64))

    def code(self, x: Tensor) -> Tensor:
        """Encode, `[R, B, 64] -> [R, B, 32]`."""
        return self.stack(self.encoder(x))

    def forward(self, x: Tensor) -> Tensor:
        """Encode and decode, `[R, B, 64] -> [R, B, 64]`."""
        return self.decoder(self.code(x))


def run(seed: int) -> Outcome:
    """Fit autoencoders with 0 to 8 linear layers to digits; measure the rank of the test codes."""
    data = load_digits(seed=seed)
    images = data.x_test.expand(RUNS, *data.x_test.shape)
    ranks: list[float] = []
    components: list[float] = []
    errors: list[float] = []

    for depth in DEPTHS:
        net = trained(depth, data, seed)
        with torch.no_grad():
            spectrum = singular_values(net.code(images), center=True)
        ranks.append(effective_rank(spectrum).mean().item())
        components.append(pca_rank(spectrum).mean().item())
        errors.append(F.mse_loss(predict(net, data.x_test, RUNS), images).item())

    values: dict[str, float] = {}
    for depth, rank in zip(DEPTHS, ranks):
        values[f"effective rank, {depth} layers"] = rank
    values["rank after / before adding layers, at most"] = max(ratios(ranks))
    values["test error of 8 layers / of none"] = errors[-1] / errors[0]

    curves = {
        "effective rank": (DEPTHS, ranks),
        "components for 99 % of the variance": (DEPTHS, components),
    }
    return Outcome(
        values, curves, x="linear layers between encoder and decoder", y="rank of the code"
    )


def trained(depth: int, data: Digits, seed: int) -> Autoencoder:
    """Fit autoencoders with `depth` linear layers to the train part."""
    net = Autoencoder(depth)
    reset_runs(net, range(seed, seed + RUNS))
    images = data.x.expand(RUNS, *data.x.shape)
    batches = orders(RUNS, len(data.x), 50, 60, seed)
    fit(net, Adam(net.parameters(), lr=1e-3), data.x, images, batches, reconstruction)
    return net


def reconstruction(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Compute the mean squared error of every run, `[R]`."""
    return (net(x) - y).square().mean((-1, -2))
