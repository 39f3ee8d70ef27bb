"""Disagreement of two runs as an estimate of their test error, which needs no labels.

Row 42: Jiang, Nagarajan, Baek and Kolter, "Assessing Generalization of SGD via Disagreement", arXiv:2106.13799. If the
ensemble over seeds is calibrated class by class, then the rate at which two of its members disagree on test points
equals their test error. Kirsch and Gal, arXiv:2202.01851, note that the condition cannot be checked without labels.
Small networks on digits, same data and another seed, are not calibrated: they disagree far less than they err, so the
number serves to compare, not to estimate. Reported, and judged by the paper's claim.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Generator, Tensor

from rlop.experiments.digits import load_digits
from rlop.experiments.fit import accuracy, fit, network, orders, predict
from rlop.experiments.outcome import Measure, Outcome
from rlop.optim import Adam

SETTINGS = {"n = 100": (100, 0.0), "n = 300": (300, 0.0), "n = 1000, 30 % noise": (1000, 0.3)}
RUNS = 4


def run(seed: int = 0) -> Outcome:
    """Test error, disagreement and calibration gap of four networks in three settings."""
    rows = [compare(n, noise, seed) for n, noise in SETTINGS.values()]
    error, disagreement, gap = (list(column) for column in zip(*rows))
    ranked = sorted(range(len(rows)), key=error.__getitem__) == sorted(
        range(len(rows)), key=disagreement.__getitem__
    )
    measures = [
        Measure(f"disagreement / test error, {name}", dis / err, 0.8, 1.25, "1 under calibration")
        for name, err, dis in zip(SETTINGS, error, disagreement)
    ]
    measures.append(
        Measure("settings in the same order by both", float(ranked), 1, 1, "a relative probe")
    )
    settings = list(range(len(SETTINGS)))
    curves = {
        "test error": (settings, error),
        "disagreement": (settings, disagreement),
        "calibration gap": (settings, gap),
    }
    return Outcome(
        tuple(measures), curves, x="setting: " + ", ".join(SETTINGS), y="rate", report_only=True
    )


def compare(n: int, noise: float, seed: int) -> tuple[float, float, float]:
    """Mean test error of the runs, mean disagreement of their pairs, and the calibration gap of their ensemble."""
    data = load_digits(n, seed)
    generator = Generator().manual_seed(seed)
    random = torch.randint(10, data.y.shape, generator=generator)
    labels = torch.where(torch.rand(n, generator=generator) < noise, random, data.y).expand(
        RUNS, -1
    )
    net = network(range(seed, seed + RUNS), 64, (128,), 10)
    fit(
        net,
        Adam(net.parameters(), lr=2e-3),
        data.x,
        labels,
        orders(RUNS, n, 50, max(100, 30000 // n), seed),
    )
    logits = predict(net, data.x_test, RUNS)
    predicted = logits.argmax(-1)
    pairs = [(predicted[a] != predicted[b]).float().mean() for a, b in combinations(range(RUNS), 2)]
    error = 1 - accuracy(logits, data.y_test).mean().item()
    return error, torch.stack(pairs).mean().item(), calibration_gap(predicted, data.y_test)


def calibration_gap(predicted: Tensor, y: Tensor) -> float:
    """Mean over q of |P(y = k | q of the runs say k) - q|, k pooled over the classes, weighted by how often q occurs.

    Args:
        predicted: classes `[R, N]`.
        y: true classes `[N]`.
    """
    classes = torch.arange(10)
    votes = (predicted[..., None] == classes).float().mean(0)  # [N, K]
    truth = (y[:, None] == classes).float()
    levels = [votes == q for q in votes.unique()]
    return sum(((truth[at] - votes[at]).mean().abs() * at.sum()).item() for at in levels) / len(y)
