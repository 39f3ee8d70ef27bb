"""VS-loss: on imbalanced classes, weights stop mattering once a model interpolates, scales of the logits do not.

Row 50: Kini, Paraskevas, Oymak and Thrampoulidis, "Label-Imbalanced and Group-Sensitive Classification under
Overparameterization", arXiv:2103.01550, binary form

    w_y log(1 + exp(iota_y - Delta_y y f)),   Delta_y = (N_y / N_max)^gamma

A linear classifier of two Gaussians, 10 points against 90 in 150 dimensions, is trained far beyond zero train error.
Class weights and additive adjustment (iota) end near plain cross-entropy; the factor Delta moves the boundary towards
the majority for good. In CQL and behaviour cloning the classes are the actions of the data set.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

MINORITY, MAJORITY, D, NORM, STEPS, SEEDS, LR = 10, 90, 150, 2.0, 6000, 5, 0.1
RATIO = MAJORITY / MINORITY
ARMS = {  # weight, iota and Delta of the minority; the majority has 1, 0 and 1
    "cross-entropy": (1.0, 0.0, 1.0),
    "weighted": (RATIO, 0.0, 1.0),
    "additive": (1.0, torch.tensor(RATIO).log().item(), 1.0),
    "scaled .2": (1.0, 0.0, RATIO**-0.2),
    "scaled .4": (1.0, 0.0, RATIO**-0.4),
    "scaled .6": (1.0, 0.0, RATIO**-0.6),
}


def run(seed: int = 0) -> Outcome:
    """Train linear classifiers under six losses and give the test error of either class."""
    generator = Generator().manual_seed(seed)
    mean = torch.zeros(D)
    mean[0] = NORM
    y = torch.cat([torch.ones(MINORITY), -torch.ones(MAJORITY)])
    z = torch.randn(SEEDS, len(y), D, generator=generator) + y[:, None] * mean
    x = torch.cat([z, torch.ones(SEEDS, len(y), 1)], -1).repeat(len(ARMS), 1, 1)
    weight, iota, scale = (spread(column, y) for column in zip(*ARMS.values()))
    theta = descend(x, y, weight / weight.sum(-1, keepdim=True), iota, scale)
    f = torch.einsum("rnd,rd->rn", x, theta)
    fitted = (f * y > 0).float().mean().item()
    minority, majority = (errors(theta, sign) for sign in (1.0, -1.0))
    last = len(ARMS) - 1
    measures = (
        Measure("train accuracy", fitted, 1, 1, "interpolates"),
        Measure(
            "minority error, cross-entropy - scaled .6",
            minority[0] - minority[last],
            0.005,
            1,
            "falls",
        ),
        Measure(
            "majority error, scaled .6 - cross-entropy",
            majority[last] - majority[0],
            0.005,
            1,
            "rises",
        ),
        Measure(
            "minority error, scaled .2 - scaled .6",
            minority[3] - minority[last],
            0.002,
            1,
            "more scale, more move",
        ),
        Measure(
            "minority error, weighted - scaled .6",
            minority[1] - minority[last],
            0.002,
            1,
            "weights move less",
        ),
        Measure(
            "minority error / majority error, cross-entropy",
            minority[0] / majority[0],
            2,
            12,
            ".134 / .027 measured",
        ),
    )
    arms = list(range(len(ARMS)))
    curves = {"minority": (arms, minority), "majority": (arms, majority)}
    return Outcome(measures, curves, x="loss: " + ", ".join(ARMS), y="test error")


def spread(minority: tuple[float, ...], y: Tensor) -> Tensor:
    """One value per arm for the minority -> `[R, N]`; the majority has 0 where plain cross-entropy has 0, else 1."""
    value = torch.tensor(minority).repeat_interleave(SEEDS)[:, None]
    return torch.where(y > 0, value, minority[0])


def descend(x: Tensor, y: Tensor, weight: Tensor, iota: Tensor, scale: Tensor) -> Tensor:
    """Gradient descent on the weighted VS-loss of a linear model, `[R, N, D] -> [R, D]`."""
    theta = torch.zeros(x.shape[0], x.shape[-1], 1)
    for _ in range(STEPS):
        margin = (x @ theta)[..., 0] * y * scale
        slope = -weight * scale * y * torch.sigmoid(iota - margin)
        theta -= LR * (x.mT @ slope[..., None])
    return theta[..., 0]


def errors(theta: Tensor, sign: float) -> list[float]:
    """Test error on one class, exact: the output on a Gaussian point is itself Gaussian. Mean over the seeds."""
    w, bias = theta[:, :-1], theta[:, -1]
    margin = (NORM * w[:, 0] + sign * bias) / w.norm(dim=-1)
    return torch.special.ndtr(-margin).view(-1, SEEDS).mean(-1).tolist()
