"""Data structure and loss: the easier the task, the more logistic loss gains over squared loss.

Row 16: d'Ascoli, Gabrie, Sagun and Biroli, "On the Interplay between Data Structure and Loss
Function in Classification Problems", arXiv:2103.05524. Inputs have a few strong directions, of
large variance, and many weak ones; the label is the sign of a projection. Random features are
fitted by both losses with a small ridge. Far beyond interpolation, the error of either falls as the
strong directions grow and carry the label, that of logistic loss by more. An argument for
cross-entropy, not squared loss, on values of structured states.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Curve, Outcome
from rlop.experiments.series import columns

D = 100
STRONG = 10  # directions
N = 200
N_TEST = 2000
SEEDS = 6
RIDGE = 1e-4
SALIENCE = (1.0, 10.0, 100.0)  # variance of a strong direction over that of a weak one
SIZES = (50, 100, 200, 400, 800)  # random features


def run(seed: int) -> Outcome:
    """Measure test errors of both losses against the number of features, for three saliences."""
    curves: dict[str, Curve] = {}
    last_square: list[float] = []
    last_logistic: list[float] = []

    for salience in SALIENCE:
        square, logistic = columns([compare(size, salience, seed) for size in SIZES])
        last_square.append(square[-1])
        last_logistic.append(logistic[-1])
        if salience in (SALIENCE[0], SALIENCE[-1]):
            curves[f"square, salience {salience:g}"] = (SIZES, square)
            curves[f"logistic, salience {salience:g}"] = (SIZES, logistic)

    hard_gain = last_square[0] / last_logistic[0]
    easy_gain = last_square[-1] / last_logistic[-1]

    values = {
        "logistic error, salience 100 / 1": last_logistic[-1] / last_logistic[0],
        "square error, salience 100 / 1": last_square[-1] / last_square[0],
        "square / logistic error, salience 100": easy_gain,
        "the same ratio, salience 100 / 1": easy_gain / hard_gain,
    }

    return Outcome(values, curves, x="random features, n = 200", y="test error", log="x")


def compare(size: int, salience: float, seed: int) -> tuple[float, float]:
    """Compute the mean test error of squared and of logistic loss on `size` random features."""
    generator = Generator().manual_seed(seed)
    scale = torch.ones(D)
    scale[:STRONG] = salience**0.5
    scale = scale / scale.square().mean().sqrt()
    x = torch.randn(SEEDS, N + N_TEST, D, generator=generator) * scale
    teacher = torch.randn(SEEDS, D, 1, generator=generator)
    y = (x @ teacher)[..., 0].sign()

    projection = torch.randn(SEEDS, D, size, generator=generator) / D**0.5
    phi = ((x @ projection).relu() - 0.4).double() / size**0.5  # about centered
    train, test = phi[:, :N], phi[:, N:]
    y_train, y_test = y[:, :N].double(), y[:, N:]

    def error(w: Tensor) -> float:
        return ((test @ w)[..., 0] * y_test <= 0).double().mean().item()

    return error(least_squares(train, y_train)), error(logistic_regression(train, y_train))


def least_squares(phi: Tensor, y: Tensor) -> Tensor:
    """Fit ridge regression on the labels, `[S, n, P] -> [S, P, 1]`."""
    gram = phi @ phi.mT + N * RIDGE * torch.eye(N, dtype=phi.dtype)
    return phi.mT @ torch.linalg.solve(gram, y[..., None])


def logistic_regression(phi: Tensor, y: Tensor) -> Tensor:
    """Fit logistic regression with ridge by damped Newton steps, `[S, n, P] -> [S, P, 1]`.

    The steps are in the span of the data: with w = phi^T a / (n ridge), the optimum has

        a_i = y_i sigmoid(-y_i f_i),   f = G a,   G = phi phi^T / (n ridge).
    """
    gram = phi @ phi.mT / (N * RIDGE)
    identity = torch.eye(N, dtype=phi.dtype)
    f = torch.zeros_like(y)

    for _ in range(60):
        slope = y * torch.sigmoid(-y * f)
        curvature = torch.sigmoid(f) * torch.sigmoid(-f)
        target = (gram @ (slope + curvature * f)[..., None])[..., 0]
        newton = torch.linalg.solve(identity + gram * curvature[..., None, :], target)
        f = f + 0.5 * (newton - f)

    return phi.mT @ (y * torch.sigmoid(-y * f))[..., None] / (N * RIDGE)
