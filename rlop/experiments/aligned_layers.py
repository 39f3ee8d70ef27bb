"""When alignment of linear layers is an invariant of gradient descent, and when it cannot be.

Row 20: Radhakrishnan, Nichani, Bernstein and Uhler, "On Alignment in (Deep) Linear Neural
Networks", arXiv:2003.06340. Two layers are aligned when the left singular vectors of one are the
right singular vectors of the next, W_i = U_i S_i U_{i-1}'.

Claims of the abstract, and what is measured for each on networks of three 6 x 6 layers, 50 samples:

1. The definition extends that for one output (Ji and Telgarsky, 2018), where layers tend to rank 1
   and u_1(W_i) to v_1(W_{i+1}): the score of such a network, trained on separable data, grows.
2. There is always an aligned global minimum: one is built from the singular vectors of the least-
   squares solution, and compared with the least loss.
3. Alignment is an invariant under necessary and sufficient conditions on the data: the outer
   singular vectors of the aligned start must diagonalize X'X and X'Y. With such data it stays, for
   singular values that differ from layer to layer; with other data it does not.
4. Where it is invariant, the dynamics reduce to one scalar recursion for each singular direction,
   whose rate gives linear convergence: the network's singular values follow the recursion, and the
   loss falls by the factor that it predicts.
5. In networks with layer constraints alignment is impossible with large data sets: two convolutions
   of three taps, aligned at the start, lose it with 50 generic samples. With data that two such
   convolutions can diagonalize, they keep it (the control).

A start at which all layers have equal singular values would keep its alignment with any data, since
gradient flow conserves W_{i+1}' W_{i+1} - W_i W_i'; no such start is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import torch

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.probes.alignment import layer_alignment

D = 6
LAYERS = 3
SAMPLES = 50
LR = 0.02
STEPS = 2000
EVERY = 50  # steps between measurements of alignment
FALL = 20  # steps over which the fall of the loss is compared with the recursion's

Matrices: TypeAlias = list[np.ndarray]


class Data(NamedTuple):
    """Samples `[N, D]` and targets `[N, D]`."""

    x: np.ndarray
    y: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """The least-squares map W of y = W x, `[D, D]`."""
        return np.linalg.lstsq(self.x, self.y, rcond=None)[0].T

    def loss(self, weights: Sequence[np.ndarray]) -> float:
        """Return the mean squared error / 2 of a network."""
        return float(((self.x @ product(weights).T - self.y) ** 2).sum() / 2 / len(self.x))


class Course(NamedTuple):
    """What a training went through."""

    alignments: np.ndarray  # every `EVERY` steps
    losses: np.ndarray  # before every step
    weights: Matrices  # after the last step


def run(seed: int) -> Outcome:
    """Train from aligned starts on data that meet the conditions, and on data that do not."""
    rng, conv_rng, output_rng = (np.random.default_rng(s) for s in child_seeds(seed, 3))
    frame = rotations(rng)
    start = aligned(frame, spread_values(rng))
    generic = generic_data(rng)
    matching = matching_data(rng, frame)

    kept = train(start, matching, LR)
    lost = train(start, generic, LR)
    values = {
        **one_output(output_rng, separable=True),
        "aligned network from least squares: loss / least loss": minimum_ratio(generic),
        "data that meet the condition: least alignment": float(kept.alignments.min()),
        "data that do not: least alignment": float(lost.alignments.min()),
        **recursion_measures(start, frame, matching, kept),
        "convolutions, 50 samples: least alignment": convolution(conv_rng, matched=False),
    }

    steps = range(0, STEPS, EVERY)
    curves = {
        "data that meet the condition": (steps, kept.alignments.tolist()),
        "data that do not": (steps, lost.alignments.tolist()),
    }
    return Outcome(values, curves, x="step", y="alignment of adjacent layers")


def control(seed: int) -> Mapping[str, float]:
    """Exchange the data of each measure, and the aligned frame for another one."""
    rng, conv_rng, output_rng = (np.random.default_rng(s) for s in child_seeds(seed, 3))
    frame = rotations(rng)
    start = aligned(frame, spread_values(rng))
    generic = generic_data(rng)
    matching = matching_data(rng, frame)

    kept = train(start, matching, LR)
    lost = train(start, generic, LR)
    other = Data(generic.x, generic.y @ np.linalg.qr(rng.normal(size=(D, D)))[0])
    return {
        **one_output(output_rng, separable=False),
        "aligned network from least squares: loss / least loss": (
            generic.loss([other.best]) / generic.loss([generic.best])
        ),
        "data that meet the condition: least alignment": float(lost.alignments.min()),
        "data that do not: least alignment": float(kept.alignments.min()),
        **recursion_measures(start, frame, generic, lost),
        "convolutions, 50 samples: least alignment": convolution(conv_rng, matched=True),
    }


# --- starts and data


def rotations(rng: np.random.Generator) -> Matrices:
    """Draw the orthogonal U_0, ..., U_L of an aligned network."""
    return [np.linalg.qr(rng.normal(size=(D, D)))[0] for _ in range(LAYERS + 1)]


def spread_values(rng: np.random.Generator) -> np.ndarray:
    """Draw descending singular values that differ between layers, `[L, D]`."""
    scale = rng.permutation([0.6, 1.0, 1.4])[:, None]
    return scale * np.linspace(1.0, 0.5, D)


def aligned(frame: Matrices, values: np.ndarray) -> Matrices:
    """Build W_i = U_i S_i U_{i-1}'."""
    return [after * s @ before.T for (before, after), s in zip(pairwise(frame), values)]


def generic_data(rng: np.random.Generator) -> Data:
    """Draw Gaussian samples, and targets of a random linear map with noise."""
    x = rng.normal(size=(SAMPLES, D))
    y = x @ rng.normal(size=(D, D)).T / np.sqrt(D) + 0.1 * rng.normal(size=(SAMPLES, D))
    return Data(x, y)


def matching_data(rng: np.random.Generator, frame: Matrices) -> Data:
    """Draw data for which U_0 diagonalizes X'X, and U_L and U_0 the map from x to y.

    The coefficients of the samples on U_0 are orthogonal to each other, of distinct sizes.
    """
    basis = np.linalg.qr(rng.normal(size=(SAMPLES, D)))[0]
    sizes = np.sqrt(SAMPLES) * np.linspace(1.2, 0.8, D)
    targets = np.linspace(2.0, 0.8, D)
    x = basis * sizes @ frame[0].T
    return Data(x, x @ frame[0] * targets @ frame[-1].T)


# --- training and measures


def product(weights: Sequence[np.ndarray]) -> np.ndarray:
    """Multiply W_L ... W_1."""
    total = weights[0]
    for w in weights[1:]:
        total = w @ total
    return total


def alignment(weights: Sequence[np.ndarray], top: int | None = None) -> float:
    """Average the score of adjacent layers, of all directions or the first `top`: 1 is aligned."""
    matrices = [torch.from_numpy(np.ascontiguousarray(w)) for w in weights]
    return layer_alignment(matrices, top).mean().item()


def gradients(weights: Matrices, slope: np.ndarray) -> Matrices:
    """Return the gradients of every layer, given that of the product W_L ... W_1."""
    result = []
    for i in range(len(weights)):
        below = product([np.eye(weights[0].shape[1]), *weights[:i]])
        above = product([*weights[i + 1 :], np.eye(len(weights[-1]))])
        result.append(above.T @ slope @ below.T)
    return result


def train(
    weights: Matrices,
    data: Data,
    lr: float,
    project: Callable[[np.ndarray], np.ndarray] = lambda gradient: gradient,
) -> Course:
    """Run gradient descent on the mean squared error / 2.

    Args:
        weights: start.
        data: samples and targets.
        lr: learning rate.
        project: applied to the gradient of every layer, for layers with constraints.
    """
    covariance = data.x.T @ data.x / len(data.x)
    cross = data.y.T @ data.x / len(data.x)
    alignments = []
    losses = []

    for step in range(STEPS):
        losses.append(data.loss(weights))
        if step % EVERY == 0:
            alignments.append(alignment(weights))
        slope = product(weights) @ covariance - cross
        steps = gradients(weights, slope)
        weights = [w - lr * project(g) for w, g in zip(weights, steps)]

    return Course(np.array(alignments), np.array(losses), weights)


def minimum_ratio(data: Data) -> float:
    """Divide the loss of an aligned network, built from least squares, by the least loss."""
    left, values, right = np.linalg.svd(data.best)
    root = values ** (1 / LAYERS)
    frame = [right.T, *rotations(np.random.default_rng(0))[1:LAYERS], left]
    return data.loss(aligned(frame, np.tile(root, (LAYERS, 1)))) / data.loss([data.best])


def recursion_measures(
    start: Matrices, frame: Matrices, data: Data, course: Course
) -> dict[str, float]:
    """Compare a training with the scalar recursion of every singular direction.

        s_i <- s_i - lr c (s_1 ... s_L - t) prod_{j != i} s_j

    Here c is the size of the samples and t that of the map along the direction.

    Returns:
        The largest distance of the singular values after the last step from the recursion's; and
        the fall of the log loss over the last `FALL` steps before it reaches 1e-16, relative to
        that at the recursion's rate, 1 - lr c sum_i prod_{j != i} s_j^2, of the slowest direction.
    """
    samples = data.x @ frame[0]
    c = (samples**2).mean(0)
    t = np.diag(frame[-1].T @ data.best @ frame[0])
    s = np.stack([np.diag(u.T @ w @ v) for w, (v, u) in zip(start, pairwise(frame))])

    for _ in range(STEPS):
        others = s.prod(0) / s
        s = s - LR * c * (s.prod(0) - t) * others

    measured = np.stack([np.linalg.svd(w)[1] for w in course.weights])
    gap = float(np.abs(np.sort(np.abs(s)) - np.sort(measured)).max())
    rate = 1 - LR * (c * ((s.prod(0) / s) ** 2).sum(0)).min()
    end = int((course.losses > 1e-16).sum()) - 1
    fall = np.log(course.losses[end] / course.losses[end - FALL])
    return {
        "largest distance of the singular values from the recursion": gap,
        "fall of log loss / that of the recursion": float(fall / (2 * FALL * np.log(rate))),
    }


def one_output(rng: np.random.Generator, separable: bool) -> dict[str, float]:
    """Train three layers with one output on the logistic loss; score their first directions.

    Without separable data there is a finite minimum, and the layers need not align.
    """
    x = rng.normal(size=(20 if separable else 2000, D))
    y = np.sign(x @ rng.normal(size=D)) if separable else rng.choice((-1.0, 1.0), len(x))
    weights = [rng.normal(size=(D, D)) / np.sqrt(D) for _ in range(LAYERS - 1)]
    weights.append(rng.normal(size=(1, D)) / np.sqrt(D))

    for _ in range(STEPS):
        output = x @ product(weights)[0]
        slope = -(y / (1 + np.exp(y * output)) @ x / len(x))[None]
        weights = [w - 0.2 * g for w, g in zip(weights, gradients(weights, slope))]
    return {"one output, separable data: alignment at the end": alignment(weights, top=1)}


# --- convolutions


def taps(gradient: np.ndarray) -> np.ndarray:
    """Average each of the three middle diagonals, and set the rest to zero.

    It is the projection onto convolutions of three taps with zero padding, as matrices.
    """
    result = np.zeros_like(gradient)
    for offset in (-1, 0, 1):
        result += np.diag(np.full(D - abs(offset), np.diag(gradient, offset).mean()), offset)
    return result


def convolution(rng: np.random.Generator, matched: bool) -> float:
    """Train two convolutions from an aligned start, and return their least alignment.

    Symmetric ones have the same singular vectors, sines, and are aligned. Samples along these, and
    a map that they diagonalize, keep the gradients symmetric; other samples do not.
    """
    shift = np.diag(np.ones(D - 1), 1)
    start = [np.eye(D) + 0.3 * (shift + shift.T), 0.6 * np.eye(D) + 0.15 * (shift + shift.T)]
    _, sines = np.linalg.eigh(start[0])
    if matched:
        basis = np.linalg.qr(rng.normal(size=(SAMPLES, D)))[0]
        x = np.sqrt(SAMPLES) * basis @ sines.T
        data = Data(x, x @ sines * np.linspace(0.2, 2.0, D) @ sines.T)
    else:
        data = generic_data(rng)
    return float(train(start, data, LR, taps).alignments.min())
