"""VS-loss: once a model interpolates, class weights stop mattering, scales of the logits do not.

Row 50: Kini, Paraskevas, Oymak and Thrampoulidis, "Label-Imbalanced and Group-Sensitive
Classification under Overparameterization", arXiv:2103.01550, binary form

    w_y log(1 + exp(iota_y - Delta_y y f)),   Delta_y = (N_y / N_max)^gamma

A linear classifier of two Gaussians, 10 points against 90 in 150 dimensions, is trained far beyond
zero train error. Class weights and additive adjustment (iota) end near plain cross-entropy; the
factor Delta moves the boundary towards the majority permanently. In CQL and behavior cloning the
classes are the actions of the data set.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Outcome
from rlop.experiments.series import seed_means

MINORITY = 10
MAJORITY = 90
RATIO = MAJORITY / MINORITY
D = 150
NORM = 2.0  # of the mean of either class
STEPS = 6000
SEEDS = 5
LR = 0.1


class Arm(NamedTuple):
    """Settings of the minority; the majority has weight 1, iota 0 and Delta 1."""

    weight: float = 1.0
    iota: float = 0.0
    scale: float = 1.0  # Delta


ARMS = {
    "cross-entropy": Arm(),
    "weighted": Arm(weight=RATIO),
    "additive": Arm(iota=torch.tensor(RATIO).log().item()),
    "scaled .2": Arm(scale=RATIO**-0.2),
    "scaled .4": Arm(scale=RATIO**-0.4),
    "scaled .6": Arm(scale=RATIO**-0.6),
}


def run(seed: int) -> Outcome:
    """Train linear classifiers under six losses and compute the test error of either class."""
    generator = Generator().manual_seed(seed)
    mean = torch.zeros(D)
    mean[0] = NORM
    y = torch.cat([torch.ones(MINORITY), -torch.ones(MAJORITY)])
    z = torch.randn(SEEDS, len(y), D, generator=generator) + y[:, None] * mean
    with_bias = torch.cat([z, torch.ones(SEEDS, len(y), 1)], -1)
    x = with_bias.repeat(len(ARMS), 1, 1)

    weight = spread([arm.weight for arm in ARMS.values()], y, majority=1.0)
    iota = spread([arm.iota for arm in ARMS.values()], y, majority=0.0)
    scale = spread([arm.scale for arm in ARMS.values()], y, majority=1.0)
    theta = descend(x, y, weight / weight.sum(-1, keepdim=True), iota, scale)

    f = torch.einsum("rnd,rd->rn", x, theta)
    train_accuracy = (f * y > 0).float().mean().item()
    minority = dict(zip(ARMS, errors(theta, 1.0)))
    majority = dict(zip(ARMS, errors(theta, -1.0)))

    values = {
        "train accuracy": train_accuracy,
        "minority error, cross-entropy - scaled .6": minority["cross-entropy"]
        - minority["scaled .6"],
        "majority error, scaled .6 - cross-entropy": majority["scaled .6"]
        - majority["cross-entropy"],
        "minority error, scaled .2 - scaled .6": minority["scaled .2"] - minority["scaled .6"],
        "minority error, weighted - scaled .6": minority["weighted"] - minority["scaled .6"],
        "minority error / majority error, cross-entropy": minority["cross-entropy"]
        / majority["cross-entropy"],
    }

    arms = list(range(len(ARMS)))
    curves = {
        "minority": (arms, list(minority.values())),
        "majority": (arms, list(majority.values())),
    }
    return Outcome(values, curves, x="loss: " + ", ".join(ARMS), y="test error")


def spread(minority: list[float], y: Tensor, majority: float) -> Tensor:
    """Give every point of every run its value, `[R, N]`.

    Args:
        minority: the minority's value, one per arm.
        y: labels `[N]`, 1 for the minority.
        majority: the majority's value, in all arms.
    """
    values = torch.tensor(minority).repeat_interleave(SEEDS)[:, None]
    return torch.where(y > 0, values, majority)


def descend(x: Tensor, y: Tensor, weight: Tensor, iota: Tensor, scale: Tensor) -> Tensor:
    """Run gradient descent on the weighted VS-loss of a linear model, `[R, N, D] -> [R, D]`."""
    theta = torch.zeros(x.shape[0], x.shape[-1], 1)
    for _ in range(STEPS):
        margin = (x @ theta)[..., 0] * y * scale
        slope = -weight * scale * y * torch.sigmoid(iota - margin)
        theta -= LR * (x.mT @ slope[..., None])
    return theta[..., 0]


def errors(theta: Tensor, sign: float) -> list[float]:
    """Compute the exact test error on one class, averaged over seeds, for each arm.

    The output on a Gaussian point is itself Gaussian.
    """
    w, bias = theta[:, :-1], theta[:, -1]
    margin = (NORM * w[:, 0] + sign * bias) / w.norm(dim=-1)
    return seed_means(torch.special.ndtr(-margin), SEEDS)
