"""Early stopping on noisy labels: risk and calibration become optimal, local interpolation never.

Row 51: Ji, Li and Telgarsky, "Early-stopped neural networks are consistent", arXiv:2106.05932. The
abstract says that for binary labels of any conditional probability p(x), gradient descent on the
logistic loss with early stopping comes arbitrarily close to the optimal (1) logistic and (2)
misclassification risk, and (3) its sigmoid to p; (4) the iterations, samples and neurons that it
needs grow with the complexity of p; (5) a univariate classifier that interpolates locally is
inconsistent.

Setting: x uniform on [-2, 2], p = sigmoid(2 sin(w x)), w = 2; for (4) w = 1 (simple) against w = 4
(complex), means over 16 draws. A network of 128 ReLU, output weights from 0, follows full-batch
gradient descent on three quarters of n = 50, 200 or 800 points, and is stopped at the least
logistic loss of the others. Population risks are integrals over a grid. In one dimension a local
interpolator is the nearest neighbor; its excess error tends to E 2 p (1 - p) - E min(p, 1 - p)
(Cover and Hart, 1967).

Control: for (1) to (3) the nearest neighbor's label as a probability of .05 or .95; for (4) the
simple p in place of the complex one, on other draws; for (5) the vote of 2 sqrt(n) neighbors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import columns, power_law_exponent

SIZES = (50, 200, 800)
WIDTH = 128
NARROW = 8
DRAWS = 4
COMPARED_DRAWS = 16  # of two complexities, whose stops vary much
STEPS = 2000
EVERY = 20  # steps between two looks at the validation loss
LR = 4.0
SIMPLE, MIDDLE, COMPLEX = 1.0, 2.0, 4.0
GRID = torch.linspace(-2, 2, 401)


class Excess(NamedTuple):
    """Population risks above the optimal ones, means over the draws."""

    logistic: float
    error: float
    gap: float  # E |q - p|
    step: float  # at which descent stopped


def run(seed: int) -> Outcome:
    """Stop descent early at three sizes; vary the complexity of p; compare with the neighbor."""
    size_seed, wide_seed, narrow_seed, near_seed = child_seeds(seed, 4)
    stopped = []
    neighbor = []
    for n, draw_seed in zip(SIZES, child_seeds(size_seed, len(SIZES))):
        stopped.append(stopped_early(n, MIDDLE, WIDTH, draw_seed))
    for n, draw_seed in zip(SIZES, child_seeds(near_seed, len(SIZES))):
        neighbor.append(nearest(n, 1, draw_seed).error)

    wide = compared((COMPLEX, SIMPLE), WIDTH, child_seeds(wide_seed, 2))
    narrow = compared((COMPLEX, SIMPLE), NARROW, child_seeds(narrow_seed, 2))

    logistic, error, gap, _ = columns(stopped)
    curves = {
        "early-stopped: excess logistic loss": (SIZES, logistic),
        "early-stopped: excess error": (SIZES, error),
        "early-stopped: E |q - p|": (SIZES, gap),
        "nearest neighbor: excess error": (SIZES, neighbor),
        "its limit": (SIZES, [neighbor_limit()] * len(SIZES)),
    }
    values = measures(stopped, wide, narrow, neighbor[-1])
    return Outcome(values, curves, x="labeled points n", y="above the optimum", log="xy")


def control(seed: int) -> dict[str, float]:
    """Interpolate instead of stopping, compare two simple p, and vote instead of interpolating."""
    size_seed, wide_seed, narrow_seed, near_seed = child_seeds(seed, 4)
    interpolated = []
    for n, draw_seed in zip(SIZES, child_seeds(size_seed, len(SIZES))):
        interpolated.append(nearest(n, 1, draw_seed))

    wide = compared((SIMPLE, SIMPLE), WIDTH, child_seeds(wide_seed, 2))
    narrow = compared((SIMPLE, SIMPLE), NARROW, child_seeds(narrow_seed, 2))
    voted = nearest(SIZES[-1], round(2 * SIZES[-1] ** 0.5), near_seed)
    return measures(interpolated, wide, narrow, voted.error)


def compared(frequencies: Sequence[float], width: int, seeds: Sequence[int]) -> list[Excess]:
    """Stop descent early on 200 points of two complexities."""
    pairs = zip(frequencies, seeds)
    return [stopped_early(SIZES[1], w, width, seed, COMPARED_DRAWS) for w, seed in pairs]


def measures(
    by_size: list[Excess], wide: list[Excess], narrow: list[Excess], neighbor: float
) -> dict[str, float]:
    """Name the numbers; `wide` and `narrow` hold a complex and a simple p."""
    logistic, error, gap, _ = columns(by_size)
    return {
        "exponent in n of the excess logistic loss": power_law_exponent(SIZES, logistic),
        "exponent in n of the excess error": power_law_exponent(SIZES, error),
        "exponent in n of E |q - p|": power_law_exponent(SIZES, gap),
        "steps to the stop, complex / simple": wide[0].step / wide[1].step,
        "excess loss of 200 points, complex / simple": wide[0].logistic / wide[1].logistic,
        "excess loss of 8 neurons, complex / simple": narrow[0].logistic / narrow[1].logistic,
        "nearest neighbor, n = 800: excess error / its limit": neighbor / neighbor_limit(),
    }


def conditional(x: Tensor, frequency: float) -> Tensor:
    """Evaluate p(x), the probability of label 1."""
    return (2 * (frequency * x).sin()).sigmoid()


def draw(n: int, frequency: float, draws: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw points and their labels 0 or 1, both `[draws, n]`."""
    x = 4 * torch.rand(draws, n, generator=generator) - 2
    y = torch.rand(draws, n, generator=generator) < conditional(x, frequency)
    return x, y.float()


def excess(q: Tensor, frequency: float) -> Tensor:
    """Compare predicted probabilities on the grid with p.

    Args:
        q: `[R, G]`, inside (0, 1).
        frequency: w of p.
    Returns:
        Excess logistic loss, excess error and mean |q - p|, `[3, R]`.
    """
    p = conditional(GRID, frequency)
    divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    wrong_side = (q > 0.5) != (p > 0.5)
    error = wrong_side * (2 * p - 1).abs()
    return torch.stack([divergence.mean(-1), error.mean(-1), (q - p).abs().mean(-1)])


def neighbor_limit(frequency: float = MIDDLE) -> float:
    """Integrate the nearest neighbor's excess error for many points."""
    p = conditional(GRID, frequency)
    return (2 * p * (1 - p) - torch.minimum(p, 1 - p)).mean().item()


def nearest(n: int, votes: int, seed: int) -> Excess:
    """Predict by the mean label of the nearest points, kept within [.05, .95]."""
    x, y = draw(n, MIDDLE, DRAWS, Generator().manual_seed(seed))
    closest = (GRID[:, None] - x[:, None]).abs().topk(votes, largest=False).indices
    labels = y[:, None].expand(-1, len(GRID), -1).gather(2, closest)
    logistic, error, gap = excess(labels.mean(-1).clamp(0.05, 0.95), MIDDLE).mean(1).tolist()
    return Excess(logistic, error, gap, 0.0)


def stopped_early(n: int, frequency: float, width: int, seed: int, draws: int = DRAWS) -> Excess:
    """Descend on three quarters of the points, and stop at the least loss of the others.

    f(x) = sum_k v_k relu(w_k x + b_k) / sqrt(width),  v = 0, w ~ N(0, 1), b ~ N(0, 1) at start
    """
    generator = Generator().manual_seed(seed)
    x, y = draw(n, frequency, draws, generator)
    w = torch.randn(draws, width, 1, generator=generator)
    b = torch.randn(draws, width, 1, generator=generator)
    v = torch.zeros(draws, 1, width)
    n_train = 3 * n // 4
    train, held_out = x[:, None, :n_train], x[:, None, n_train:]
    scale = width**-0.5

    least = torch.full((draws,), torch.inf)
    found = torch.zeros(4, draws)
    for step in range(STEPS):
        if step % EVERY == 0:
            f = scale * (v @ (w * held_out + b).relu())[:, 0]
            loss = F.binary_cross_entropy_with_logits(f, y[:, n_train:], reduction="none").mean(-1)
            q = (scale * (v @ (w * GRID + b).relu())[:, 0]).sigmoid()
            now = torch.cat([excess(q, frequency), torch.full((1, draws), float(step))])
            found = torch.where(loss < least, now, found)
            least = torch.minimum(loss, least)

        hidden = (w * train + b).relu()  # [R, width, n]
        f = scale * (v @ hidden)
        slope = (f.sigmoid() - y[:, None, :n_train]) * (scale / n_train)  # [R, 1, n]
        at_neuron = v.mT * slope * (hidden > 0)
        v_step = slope @ hidden.mT
        w -= LR * (at_neuron * train).sum(-1, keepdim=True)
        b -= LR * at_neuron.sum(-1, keepdim=True)
        v -= LR * v_step

    return Excess(*found.mean(1).tolist())
