"""Data structure and loss: the easier the task, the more logistic loss gains over squared loss.

Row 16: d'Ascoli, Gabrie, Sagun and Biroli, "On the Interplay between Data Structure and Loss Function in Classification
Problems", arXiv:2103.05524. Inputs have a few strong directions, of large variance, and many weak ones; the label is
the sign of a projection. Random features are fitted by both losses with a trace of ridge. Far beyond interpolation, the
error of either falls as the strong directions grow and carry the label, that of logistic loss by more.
An argument for cross-entropy, not squared loss, on values of structured states.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rlop.experiments.outcome import Measure, Outcome

D, STRONG, N, N_TEST, SEEDS, RIDGE = 100, 10, 200, 2000, 6, 1e-4
SALIENCE = (1.0, 10.0, 100.0)  # variance of a strong direction over that of a weak one
SIZES = (50, 100, 200, 400, 800)


def run(seed: int = 0) -> Outcome:
    """Test errors of both losses against the number of random features, for four saliences."""
    table = {r: [compare(p, r, seed) for p in SIZES] for r in SALIENCE}
    square = [table[r][-1][0] for r in SALIENCE]
    logistic = [table[r][-1][1] for r in SALIENCE]
    gain = [a / b for a, b in zip(square, logistic)]
    measures = (
        Measure(
            "logistic error, salience 100 / 1",
            logistic[-1] / logistic[0],
            0,
            0.6,
            "structure helps",
        ),
        Measure(
            "square error, salience 100 / 1", square[-1] / square[0], 0, 0.8, "structure helps"
        ),
        Measure(
            "square / logistic error, salience 100",
            gain[-1],
            1.02,
            torch.inf,
            "logistic wins on the easy task",
        ),
        Measure(
            "the same ratio, salience 100 / 1",
            gain[-1] / gain[0],
            1.02,
            torch.inf,
            "and by more than on the hard",
        ),
    )
    curves = {}
    for r in (SALIENCE[0], SALIENCE[-1]):
        for i, name in enumerate(("square", "logistic")):
            curves[f"{name}, salience {r:g}"] = (SIZES, [row[i] for row in table[r]])
    return Outcome(measures, curves, x="random features, n = 200", y="test error", log="x")


def compare(size: int, salience: float, seed: int) -> tuple[float, float]:
    """Mean test error of squared and of logistic loss on `size` random features."""
    generator = Generator().manual_seed(seed)
    scale = torch.ones(D)
    scale[:STRONG] = salience**0.5
    scale = scale / scale.square().mean().sqrt()
    x = torch.randn(SEEDS, N + N_TEST, D, generator=generator) * scale
    teacher = torch.randn(SEEDS, D, 1, generator=generator)
    y = (x @ teacher)[..., 0].sign()
    projection = torch.randn(SEEDS, D, size, generator=generator) / D**0.5
    phi = ((x @ projection).relu() - 0.4).double() / size**0.5  # about centred
    train, test = phi[:, :N], phi[:, N:]
    fitted = (least_squares(train, y[:, :N].double()), logistic(train, y[:, :N].double()))
    wrong = [((test @ w)[..., 0] * y[:, N:] <= 0).double().mean().item() for w in fitted]
    return wrong[0], wrong[1]


def least_squares(phi: Tensor, y: Tensor) -> Tensor:
    """Ridge regression on the labels, `[S, n, P] -> [S, P, 1]`."""
    gram = phi @ phi.mT + N * RIDGE * torch.eye(N, dtype=phi.dtype)
    return phi.mT @ torch.linalg.solve(gram, y[..., None])


def logistic(phi: Tensor, y: Tensor) -> Tensor:
    """Ridge-regularized logistic regression by damped Newton steps in the span of the data, `[S, n, P] -> [S, P, 1]`.

    With w = phi^T a / (n ridge), the optimum has a_i = y_i sigmoid(-y_i f_i) and f = G a, G = phi phi^T / (n ridge).
    """
    gram = phi @ phi.mT / (N * RIDGE)
    identity = torch.eye(N, dtype=phi.dtype)
    f = torch.zeros_like(y)
    for _ in range(60):
        slope = y * torch.sigmoid(-y * f)
        curvature = torch.sigmoid(f) * torch.sigmoid(-f)
        target = (gram @ (slope + curvature * f)[..., None])[..., 0]
        f = f + 0.5 * (torch.linalg.solve(identity + gram * curvature[..., None, :], target) - f)
    return phi.mT @ (y * torch.sigmoid(-y * f))[..., None] / (N * RIDGE)
