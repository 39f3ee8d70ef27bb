"""Disagreement of two runs as an estimate of their test error, which needs no labels.

Row 42: Jiang, Nagarajan, Baek and Kolter, "Assessing Generalization of SGD via Disagreement",
arXiv:2106.13799. If the ensemble over seeds is calibrated class by class, then the rate at which
two of its members disagree on test points equals their test error. Kirsch and Gal,
arXiv:2202.01851, note that the condition cannot be checked without labels. Small networks on
digits, with the same data and different seeds, are not calibrated: they disagree far less than they
err, so the number serves to compare, not to estimate. Report only, but judged by the paper's claim.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import CLASSES, corrupt, load_digits
from rlop.experiments.fit import accuracy, fit, network, orders, predict
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import columns
from rlop.optim import Adam

SETTINGS = {  # digits, share of labels that are random
    "n = 100": (100, 0.0),
    "n = 300": (300, 0.0),
    "n = 1000, 30 % noise": (1000, 0.3),
}
RUNS = 4


def run(seed: int) -> Outcome:
    """Measure test error, disagreement and calibration gap of four networks in three settings."""
    rows = [compare(n, noise, seed) for n, noise in SETTINGS.values()]
    errors, disagreements, gaps = columns(rows)

    values: dict[str, float] = {}
    for name, error, disagreement in zip(SETTINGS, errors, disagreements):
        ratio = disagreement / error
        values[f"disagreement / test error, {name}"] = ratio

    same_order = ranking(errors) == ranking(disagreements)
    values["settings in the same order by both"] = float(same_order)

    settings = list(range(len(SETTINGS)))
    curves = {
        "test error": (settings, errors),
        "disagreement": (settings, disagreements),
        "calibration gap": (settings, gaps),
    }
    axis = "setting: " + ", ".join(SETTINGS)
    return Outcome(values, curves, x=axis, y="rate")


def ranking(values: list[float]) -> list[int]:
    """Return the positions of the values from the smallest to the largest."""
    return sorted(range(len(values)), key=values.__getitem__)


def compare(n: int, noise: float, seed: int) -> tuple[float, float, float]:
    """Train four networks and compare them.

    Args:
        n: digits in the train part.
        noise: share of labels that are drawn at random.
        seed: seed of the data; the runs take this seed and the next ones.
    Returns:
        Mean test error, mean disagreement of the pairs, calibration gap of the ensemble.
    """
    data = load_digits(n, seed)
    labels = corrupt(data.y, noise, Generator().manual_seed(seed)).expand(RUNS, -1)
    net = network(range(seed, seed + RUNS), 64, (128,), 10)
    epochs = max(100, 30000 // n)
    batches = orders(RUNS, n, 50, epochs, seed)
    fit(net, Adam(net.parameters(), lr=2e-3), data.x, labels, batches)

    logits = predict(net, data.x_test, RUNS)
    predicted = logits.argmax(-1)
    error = 1 - accuracy(logits, data.y_test).mean().item()
    rates = [(a != b).float().mean() for a, b in combinations(predicted, 2)]

    return error, torch.stack(rates).mean().item(), calibration_gap(predicted, data.y_test)


def calibration_gap(predicted: Tensor, y: Tensor) -> float:
    """Average |P(y = k | a share q of the runs votes k) - q| over q, classes k pooled.

    Each q is weighted by how often it occurs.

    Args:
        predicted: classes `[R, N]`.
        y: true classes `[N]`.
    """
    classes = torch.arange(CLASSES)
    votes = (predicted[..., None] == classes).float().mean(0)  # [N, K]
    truth = (y[:, None] == classes).float()

    gaps = []
    for q in votes.unique():
        at = votes == q
        gap = (truth[at] - votes[at]).mean().abs() * at.sum()
        gaps.append(gap.item())

    return sum(gaps) / len(y)
