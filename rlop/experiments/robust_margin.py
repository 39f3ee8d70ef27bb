"""Adversarial training of a linear classifier fits flipped labels robustly and stays near optimal.

Row 24: Chen, Cao and Gu, "Benign Overfitting in Adversarially Robust Linear Classification",
arXiv:2112.15250. An adversary may move every input by eps in the l_p norm. For a linear classifier
the worst case is known, with q the dual of p, so that adversarial training descends

    mean log(1 + exp(-(y w . x - eps |w|_q)))

Claims of the abstract: on a mixture of sub-Gaussian clouds, under moderate perturbations, the
classifier (1) overfits the noisy training data and still has (2) a near-optimal standard risk and
(3) a near-optimal adversarial risk, for l_p perturbations.

Setting: 50 points, 10 % of the labels flipped, |mu| = 1.2 d^.375 as in row 43, p = 2 and infinity,
eps 15 % of the mean in that norm. Both errors on clean Gaussian labels are exact: the robust one is
Phi(-(w . mu - eps |w|_q) / |w|_2), and the best possible is Phi(-(1 - .15) |mu|) for both norms,
since all entries of mu are equal.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.max_margin_noise import growing
from rlop.experiments.mixtures import Clouds, Mixture, clean_error, draw
from rlop.experiments.outcome import Curve, Outcome

N = 50
FLIP = 0.1
SETS = 4
DIMENSIONS = (200, 1000, 4000)
HIGH = DIMENSIONS[-1]
SHARE = 0.15  # eps, as a share of the norm of mu
STEPS = 1500
DUAL = {"l2": 2, "linf": 1}  # name of the perturbation's norm -> q


def run(seed: int) -> Outcome:
    """Train against both kinds of perturbation in three dimensions."""
    values: dict[str, float] = {}
    curves: dict[str, Curve] = {}

    for name, child in zip(DUAL, child_seeds(seed, len(DUAL))):
        seeds = child_seeds(child, len(DIMENSIONS))
        results = [measure(name, d, s, signal=True) for d, s in zip(DIMENSIONS, seeds)]
        fitted, standard, robust = results[-1]
        values |= named(name, fitted, standard, robust)
        curves[f"{name}: standard error"] = (DIMENSIONS, [result[1] for result in results])
        curves[f"{name}: robust error above the best"] = (DIMENSIONS, [r[2] for r in results])

    return Outcome(values, curves, x="dimension, n = 50", y="error on clean data", log="x")


def control(seed: int) -> Mapping[str, float]:
    """Train on clouds around 0 for the errors, and in 20 dimensions for the fitted labels.

    Without a signal no classifier knows mu; with fewer dimensions than points not all labels can be
    fitted.
    """
    values: dict[str, float] = {}
    for name, child in zip(DUAL, child_seeds(seed, len(DUAL))):
        low, high = child_seeds(child, 2)
        fitted, _, _ = measure(name, 20, low, signal=True)
        _, standard, robust = measure(name, HIGH, high, signal=False)
        values |= named(name, fitted, standard, robust)
    return values


def named(name: str, fitted: float, standard: float, robust: float) -> dict[str, float]:
    """Name the three measures of one kind of perturbation."""
    return {
        f"{name}: robust train accuracy, d 4000": fitted,
        f"{name}: standard error, d 4000": standard,
        f"{name}: robust error above the best possible, d 4000": robust,
    }


def measure(name: str, d: int, seed: int, signal: bool) -> tuple[float, float, float]:
    """Train on `SETS` mixtures in d dimensions.

    Args:
        name: norm of the perturbation.
        d: dimension.
        seed: of the training sets.
        signal: whether the clouds lie around +-mu.
    Returns:
        Robust accuracy on the given labels, the least of the sets; standard error on clean data;
        robust error on clean data above the best possible.
    """
    data = draw(Clouds(N, d, growing(d), FLIP, signal=signal), SETS, seed)
    q = DUAL[name]
    size = data.mu.abs().max() if q == 1 else data.mu.norm()
    eps = SHARE * size.item()

    w = train(data, eps, q)
    robust_margin = margins(w, data, eps, q)
    fitted = (robust_margin > 0).double().mean(1).min().item()

    best = torch.special.ndtr(-(1 - SHARE) * data.mu.norm())
    above = (robust_error(w, data.mu, eps, q) - best).mean().item()
    return fitted, clean_error(w, data.mu).mean().item(), above


def margins(w: Tensor, data: Mixture, eps: float, q: int) -> Tensor:
    """Compute y w . x - eps |w|_q, the margin under the worst perturbation, `[S, N]`."""
    return data.y * torch.einsum("snd,sd->sn", data.x, w) - eps * w.norm(q, -1)[:, None]


def robust_error(w: Tensor, mu: Tensor, eps: float, q: int) -> Tensor:
    """Compute the chance that a Gaussian point can be moved to the wrong side, `[S]`."""
    worst = w @ mu - eps * w.norm(q, -1)
    return torch.special.ndtr(-worst / w.norm(dim=-1))


def train(data: Mixture, eps: float, q: int) -> Tensor:
    """Run gradient descent on the robust logistic loss, with steps divided by the loss, `[S, d]`.

    The division changes the speed along the path of descent, which plain steps follow for ever more
    slowly.
    """
    signed = data.x * data.y[..., None]
    rate = 1 / signed.square().sum(-1).amax(1, keepdim=True)
    w = rate * signed.mean(1)  # at 0 the norm has no gradient

    for _ in range(STEPS):
        # sigmoid(-margin) relative to its sum, without underflow at large margins.
        weight = F.logsigmoid(-margins(w, data, eps, q)).softmax(1)
        pull = torch.einsum("sn,snd->sd", weight, signed)
        norm_gradient = w.sign() if q == 1 else F.normalize(w, dim=-1)
        w = w + rate * (pull - eps * norm_gradient)

    return w
