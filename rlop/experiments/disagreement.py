"""Disagreement of two runs as an estimate of their test error, which needs no labels.

Row 42: Jiang, Nagarajan, Baek and Kolter, "Assessing Generalization of SGD via Disagreement",
arXiv:2106.13799. The abstract says that (1) the test error equals the rate at which two runs of SGD
on one train set disagree, (2) a stronger form of Nakkiran and Bansal's observation, where the
second run has a train set of its own, and (3) that this arises from the calibration of the ensemble
of runs. Kirsch and Gal, arXiv:2202.01851, note that the condition cannot be checked without labels.

Setting: networks 64-64-64-64-10 on 100 or 400 digits, from PyTorch's start times 1, 2, 4 or 8; six
runs differ in start and order. The gap is the class-aggregated calibration error of their votes.
Clause (1) is measured at PyTorch's start, and at the start that has the least gap (relative to the
error) on one half of the test digits, measured on the other half; clause (3) over all settings.

Control: six copies of one run, which never disagree; and gaps that belong to other settings.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rlop.experiments.digits import CLASSES, load_digits
from rlop.experiments.fit import child_seeds, fit, network, orders, predict
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import rank_correlation
from rlop.optim import Adam
from rlop.probes.agreement import disagreement

RUNS = 6
HIDDEN = (64, 64, 64)
STARTS = (1.0, 2.0, 4.0, 8.0)  # factors of PyTorch's start
SIZES = (100, 400)
STEPS = 400
BATCH = 50
FRESH_SIZE = SIZES[0]  # digits of a run that has a train set of its own


class Rates(NamedTuple):
    """What a group of runs does on some digits."""

    error: float
    disagreement: float  # of two different runs
    gap: float  # calibration error of the votes

    @property
    def ratio(self) -> float:
        """Disagreement / error."""
        return self.disagreement / self.error

    @property
    def relative_gap(self) -> float:
        """Gap / error."""
        return self.gap / self.error


Halves: TypeAlias = tuple[Rates, Rates]
Predictions: TypeAlias = tuple[Tensor, Tensor]  # of R runs [R, N], true classes [N]


def run(seed: int) -> Outcome:
    """Compare disagreement, error and calibration gap of six runs over sizes and starts."""
    trained, trained_apart = trained_grid(seed)
    grid = {setting: halves(*predictions) for setting, predictions in trained.items()}
    fresh = {start: halves(*predictions) for start, predictions in trained_apart.items()}
    gaps = [second.relative_gap for _, second in grid.values()]
    values = measures(grid, fresh, gaps)

    curves = {}
    for size in SIZES:
        rows = [grid[size, start][1] for start in STARTS]
        curves[f"test error, n = {size}"] = (STARTS, [row.error for row in rows])
        curves[f"disagreement, n = {size}"] = (STARTS, [row.disagreement for row in rows])
        curves[f"calibration gap, n = {size}"] = (STARTS, [row.gap for row in rows])
    return Outcome(values, curves, x="factor of PyTorch's start", y="rate", log="x")


def control(seed: int) -> dict[str, float]:
    """Measure copies of one run, and pair the settings with gaps that are not theirs."""
    trained, trained_apart = trained_grid(seed)
    fresh = {start: halves(*predictions) for start, predictions in trained_apart.items()}
    copies, grid = {}, {}
    for setting, (predicted, y) in trained.items():
        copies[setting] = halves(predicted[:1].expand(RUNS, -1), y)
        grid[setting] = halves(predicted, y)
    values = measures(copies, fresh, [0.0] * len(copies))

    gaps = [second.relative_gap for _, second in grid.values()]
    half = len(STARTS) // 2
    moved = torch.tensor(gaps).view(-1, len(STARTS)).roll(half, 1).flatten().tolist()
    name = "rank correlation of |ratio - 1| and gap / error"
    return {**values, name: measures(grid, fresh, moved)[name]}


def measures(
    grid: dict[tuple[int, float], Halves], fresh: dict[float, Halves], gaps: list[float]
) -> dict[str, float]:
    """Name the numbers."""
    values = {}
    for size in SIZES:
        plain = grid[size, STARTS[0]][1]
        values[f"disagreement / error, n = {size}, PyTorch's start"] = plain.ratio
        calibrated = min(STARTS, key=lambda start: grid[size, start][0].relative_gap)
        chosen = grid[size, calibrated][1]
        values[f"disagreement / error, n = {size}, best calibrated start"] = chosen.ratio
        if size == FRESH_SIZE:
            own = fresh[calibrated][1]
            values["disagreement, one train set / two"] = chosen.disagreement / own.disagreement

    distances = [abs(second.ratio - 1) for _, second in grid.values()]
    values["rank correlation of |ratio - 1| and gap / error"] = rank_correlation(
        torch.tensor(distances), torch.tensor(gaps)
    )
    return values


def trained_grid(
    seed: int,
) -> tuple[dict[tuple[int, float], Predictions], dict[float, Predictions]]:
    """Train six runs in every setting.

    Returns:
        (size, start) -> predictions of six runs with one train set; start -> the same, with a train
        set for each run.
    """
    settings = list(product(SIZES, STARTS))
    *seeds, fresh_seed = child_seeds(seed, len(settings) + 1)
    trained = {}
    for (size, start), setting_seed in zip(settings, seeds):
        trained[size, start] = predictions(size, start, setting_seed, fresh=False)

    apart = {}
    for start, setting_seed in zip(STARTS, child_seeds(fresh_seed, len(STARTS))):
        apart[start] = predictions(FRESH_SIZE, start, setting_seed, fresh=True)
    return trained, apart


def predictions(size: int, start: float, seed: int, fresh: bool) -> Predictions:
    """Train six runs; return their predictions of the test digits and the true classes."""
    data_seed, net_seed, order_seed = child_seeds(seed, 3)
    data = load_digits(RUNS * size if fresh else size, data_seed)
    x = data.x.view(RUNS, size, -1) if fresh else data.x.expand(RUNS, size, -1)
    y = data.y.view(RUNS, size) if fresh else data.y.expand(RUNS, size)

    net = network(child_seeds(net_seed, RUNS), 64, HIDDEN, CLASSES)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(start)
    batches = orders(RUNS, size, BATCH, STEPS * BATCH // size, order_seed)
    fit(net, Adam(net.parameters(), lr=2e-3), x, y, batches)
    return predict(net, data.x_test, RUNS).argmax(-1), data.y_test


def halves(predicted: Tensor, y: Tensor) -> Halves:
    """Measure predictions `[R, N]` of classes `[N]` on either half of the digits."""
    half = len(y) // 2
    return rates(predicted[:, :half], y[:half]), rates(predicted[:, half:], y[half:])


def rates(predicted: Tensor, y: Tensor) -> Rates:
    """Compute error, disagreement and calibration gap of predictions `[R, N]` of labels `[N]`."""
    error = (predicted != y).float().mean().item()
    pairs = len(predicted) * (len(predicted) - 1)
    different = disagreement(predicted).sum().item() / pairs
    return Rates(error, different, calibration_gap(predicted, y))


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
