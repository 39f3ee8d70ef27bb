"""Learning over a network: the test error shows how the features are divided, the train error not.

Row 15: Hellkvist and Ozcelikkale, "Generalization Error and Overparameterization While Learning
over Networks", ICML 2021 workshop; full version arXiv:2101.09001. K nodes hold p_k of the p
features each. In every round, each node adds the least-norm fit of its features to 1/K of the
common residual (CoCoA). n = 100, p = 300, no noise; every number is the median of twelve data
sets, since the mean of the risk is infinite where a node has as many features as samples.

- Unbounded: the risk with p_1 = n over that of one node that holds all, for isotropic regressors
  and for correlated ones (rho^|i-j|, rho = .7). The train error is low everywhere: the largest of
  any partition.
- Exact: the mean risk after one round. Least-norm fits of isotropic features have E A+A = r I with
  r = min(1, n / p_k) and E ||A+ b||^2 = g ||b||^2 / n with g = min(n, p_k) / (|n - p_k| - 1) for b
  independent of A with isotropic direction, so that, per unit of ||w||^2 spread evenly,

      risk = sum_k q_k (1 - (2 / K - 1 / K^2) r_k) + (1 - q_k) g_k / K^2,   q_k = p_k / p.

- Partition: three nodes of 100 features each over nodes of 20, 30 and 250.
- Fast: rounds until the train error is a millionth, p_1 = p_2 = 150. Every node can fit its part
  exactly, so one is enough.

Control. Every node's features are made orthonormal (all singular values equal), so that no least-
norm fit is ill-conditioned: nothing explodes. For the train error and its speed: p = 60 features in
all, fewer than samples, on pure noise, which cannot be fitted.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome

N = 100
P = 300
DRAWS = 12
ROUNDS = 60
CORRELATION = 0.7
SMALL = 1e-6  # of the train error at the start
# Features of the first of two nodes; the second has the others.
FIRST = (20, 50, 70, 90, 98, 100, 102, 110, 130, 150, 170, 190, 198, 200, 202, 210, 230, 250, 280)
EXACT = (50, 130, 150, 230)  # where the risk after one round has a mean and a small variance


def sample(seed: int, rho: float, p: int = P) -> tuple[Tensor, Tensor, Tensor]:
    """Draw regressors `[S, n, p]`, weights of unit norm `[S, p]`, and their covariance `[p, p]`."""
    generator = Generator().manual_seed(seed)
    position = torch.arange(p, dtype=torch.float64)
    covariance = rho ** (position[:, None] - position).abs()
    x = torch.randn(DRAWS, N, p, generator=generator, dtype=torch.float64)
    w = torch.randn(DRAWS, p, generator=generator, dtype=torch.float64)
    x = x @ torch.linalg.cholesky(covariance).mT
    return x, w / w.norm(dim=-1, keepdim=True), covariance


def well_conditioned(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Set all singular values of every node's features to their root mean square."""
    parts = []
    for part in x.split(sizes, dim=-1):
        u, s, vt = torch.linalg.svd(part, full_matrices=False)
        parts.append(u @ vt * s.square().mean(-1).sqrt()[:, None, None])
    return torch.cat(parts, -1)


class Network:
    """Nodes that fit their features of `x` to targets, round by round."""

    def __init__(self, x: Tensor, y: Tensor, sizes: tuple[int, ...]) -> None:
        # All nodes act on the same residual, so one matrix applies a whole round.
        inverses = [torch.linalg.pinv(features) for features in x.split(sizes, dim=-1)]
        self.inverse = torch.cat(inverses, 1) / len(sizes)
        self.x, self.y = x, y
        self.estimate = torch.zeros_like(x[:, 0])

    @property
    def residual(self) -> Tensor:
        """The common residual, `[S, n]`."""
        return self.y - (self.x @ self.estimate[..., None])[..., 0]

    def play(self, rounds: int) -> Network:
        """Run some rounds; return the network."""
        for _ in range(rounds):
            self.estimate = self.estimate + (self.inverse @ self.residual[..., None])[..., 0]
        return self

    def train_error(self) -> Tensor:
        """Mean squared residual over that of zero, `[S]`."""
        return self.residual.square().sum(-1) / self.y.square().sum(-1)

    def risk(self, w: Tensor, covariance: Tensor) -> Tensor:
        """Excess test error, `[S]`."""
        error = self.estimate - w
        return ((error @ covariance) * error).sum(-1)


def exact_risk(sizes: tuple[int, ...]) -> float:
    """Compute the mean risk after one round by the formula above; weights of unit norm."""
    count, total = len(sizes), 0.0
    for p_k in sizes:
        share = p_k / sum(sizes)
        kept = min(1.0, N / p_k)
        spread = min(N, p_k) / (abs(N - p_k) - 1)
        total += share * (1 - (2 / count - 1 / count**2) * kept)
        total += (1 - share) * spread / count**2
    return total


def trained(seed: int, rho: float, sizes: tuple[int, ...], spoiled: bool) -> tuple[float, float]:
    """Return the median risk and the largest train error after all rounds.

    Args:
        seed: seed of the data.
        rho: correlation of neighboring regressors.
        sizes: features of each node; they sum to p.
        spoiled: whether the nodes' features are made well-conditioned, for the control.
    """
    x, w, covariance = sample(seed, rho)
    x = well_conditioned(x, sizes) if spoiled else x
    network = Network(x, (x @ w[..., None])[..., 0], sizes).play(ROUNDS)
    return network.risk(w, covariance).median().item(), network.train_error().max().item()


def risks(seed: int, rho: float, spoiled: bool) -> tuple[list[float], float, float]:
    """Return the risk by p_1, that of one node, and the largest train error of two nodes."""
    results = [trained(seed, rho, (first, P - first), spoiled) for first in FIRST]
    central, _ = trained(seed, rho, (P,), spoiled)
    return [risk for risk, _ in results], central, max(error for _, error in results)


def one_round(seed: int, spoiled: bool) -> float:
    """Return the mean risk after one round over the exact one, the farthest from 1."""
    ratios = []
    x, w, covariance = sample(seed, 0.0)
    for first in EXACT:
        sizes = (first, P - first)
        features = well_conditioned(x, sizes) if spoiled else x
        network = Network(features, (features @ w[..., None])[..., 0], sizes).play(1)
        ratios.append(network.risk(w, covariance).mean().item() / exact_risk(sizes))
    return max(ratios, key=lambda ratio: abs(ratio - 1))


def fitting(seed: int, p: int) -> tuple[float, float]:
    """Return the largest train error in the end, and the median of the rounds to a small one.

    Args:
        seed: seed of the data.
        p: features of two nodes that share them evenly; below n the targets are noise.
    """
    x, w, _ = sample(seed, 0.0, p)
    y = (x @ w[..., None])[..., 0]
    if p < N:
        y = torch.randn(y.shape, generator=Generator().manual_seed(seed), dtype=y.dtype)

    network = Network(x, y, (p // 2, p - p // 2))
    rounds = torch.zeros(DRAWS)
    for _ in range(ROUNDS):
        rounds += network.train_error() > SMALL
        network.play(1)
    return network.train_error().max().item(), rounds.median().item()


def measured(seed: int, spoiled: bool) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Measure all but the speed; return the values, and the risks by p_1."""
    values: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    for name, rho in (("isotropic", 0.0), ("correlated", CORRELATION)):
        by_first, central, _ = risks(seed, rho, spoiled)
        values[f"{name}: risk with p_1 = n / of one node"] = by_first[FIRST.index(N)] / central
        values[f"{name}: risk with p_2 = n / of one node"] = by_first[FIRST.index(P - N)] / central
        curves[name] = by_first
        curves[f"{name}, one node"] = [central] * len(FIRST)

    equal, _ = trained(seed, 0.0, (100, 100, 100), spoiled)
    uneven, _ = trained(seed, 0.0, (20, 30, 250), spoiled)
    values["risk of three nodes, 100 each / 20, 30, 250"] = equal / uneven
    values["mean risk after one round / exact"] = one_round(seed, spoiled)
    return values, curves


def run(seed: int) -> Outcome:
    """Sweep the share of the first of two nodes, and compare two partitions over three nodes."""
    values, by_first = measured(seed, spoiled=False)
    _, _, train_error = risks(seed, 0.0, spoiled=False)
    values["largest train error of any partition / at the start"] = train_error
    values["rounds to a train error of a millionth"] = fitting(seed, P)[1]
    curves = {name: (FIRST, numbers) for name, numbers in by_first.items()}
    return Outcome(
        values, curves, x="features of the first of two nodes", y="risk, median", log="y"
    )


def control(seed: int) -> dict[str, float]:
    """Measure well-conditioned nodes, and too few features to fit noise with."""
    values, _ = measured(seed, spoiled=True)
    train_error, rounds = fitting(seed, 60)
    return {
        **values,
        "largest train error of any partition / at the start": train_error,
        "rounds to a train error of a millionth": rounds,
    }
