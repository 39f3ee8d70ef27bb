"""Linear layers at the bottleneck of a linear autoencoder find the rank of the data.

Row 41: Sun, Thilak, Littwin, Saremi and Susskind, "Implicit Greedy Rank Learning in Autoencoders
via Overparameterized Linear Networks", arXiv:2107.01301. The abstract says that (1) a linear
sub-network at the bottleneck learns codes of low rank greedily, that (2) an orthogonal start and a
principled adjustment of the learning rate mitigate the sensitivity to the spectrum and the depth,
and (3) that linear autoencoders on synthetic data converge stably to the rank of the true code.

Setting: x in R^24 with 6 directions of standard deviation 1, or from 1 to .6 (a decaying spectrum),
and .2 in all others; encoder, l square maps and decoder without biases, gradient descent on the
population loss. Orthogonal start: orthogonal matrices, scaled so that their product has singular
values .01, and the learning rate is divided by L s^(2 - 2/L), L = l + 2 matrices, s = .5, the speed
of a balanced product. Default start: as `nn.Linear`, one learning rate. The rank is the number of
directions of the code whose standard deviation is above a tenth of the largest.

Control: no linear layers and ten times the steps, and the orthogonal start against itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

DIMENSION = 24
RANK = 6
NOISE = 0.2
LENGTHS = (2, 4, 6)  # linear layers
LAST = {"flat": 1.0, "decaying": 0.6}  # smallest deviation of the signal
PRODUCT = 0.01  # singular values of the product of the orthogonal matrices
LR = 0.1
REFERENCE = 0.5  # singular value at which products of all depths move equally fast
STEPS = 1000
EVERY = 20


def run(seed: int) -> Outcome:
    """Follow the rank for three numbers of layers, two spectra and two starts."""
    orthogonal = ranks(seed, LENGTHS, is_orthogonal=True)
    default = ranks(seed, LENGTHS, is_orthogonal=False)
    shallow = followed(seed, 0, LAST["flat"], True, STEPS)
    deep = followed(seed, LENGTHS[-1], LAST["flat"], True, STEPS)
    steps = [EVERY * (i + 1) for i in range(STEPS // EVERY)]
    curves = {
        "no linear layers": (steps, shallow),
        f"{LENGTHS[-1]} linear layers": (steps, deep),
        "rank of the data": (steps, [float(RANK)] * len(steps)),
    }
    return Outcome(measures(orthogonal, default), curves, x="step", y="rank of the code")


def control(seed: int) -> dict[str, float]:
    """Train long without linear layers."""
    plain = []
    for last in LAST.values():
        plain.append(followed(seed, 0, last, True, 10 * STEPS)[-1])
    return measures(plain, plain)


def measures(orthogonal: Sequence[float], default: Sequence[float]) -> dict[str, float]:
    """Name the numbers; ranks over numbers of layers and spectra."""
    errors = [np.mean([abs(rank - RANK) for rank in found]) for found in (orthogonal, default)]
    return {
        "rank of the code / of the data, linear autoencoder": float(np.mean(orthogonal)) / RANK,
        "mean error of the rank over depths and spectra": float(errors[0]),
        "mean error of the rank, default - orthogonal start": float(errors[1] - errors[0]),
    }


def ranks(seed: int, lengths: Sequence[int], is_orthogonal: bool) -> list[float]:
    """Return the last rank for every number of layers and every spectrum."""
    found = []
    for length in lengths:
        for last in LAST.values():
            found.append(followed(seed, length, last, is_orthogonal, STEPS)[-1])
    return found


def followed(seed: int, length: int, last: float, is_orthogonal: bool, steps: int) -> list[float]:
    """Descend, and return the rank of the code every `EVERY` steps.

    Args:
        seed: of the start.
        length: linear layers between encoder and decoder.
        last: smallest standard deviation of the signal.
        is_orthogonal: which start, and whether the learning rate is adjusted.
        steps: of gradient descent.
    """
    rng = np.random.default_rng(child_seeds(seed, 1)[0])
    deviations = np.full(DIMENSION, NOISE)
    deviations[:RANK] = np.linspace(1, last, RANK)
    variances = deviations**2
    count = length + 2
    matrices = [drawn(rng, count, is_orthogonal) for _ in range(count)]
    rate = LR / adjustment(count) if is_orthogonal else LR

    found = []
    for step in range(1, steps + 1):
        gradients = slopes(matrices, variances)
        matrices = [w - rate * g for w, g in zip(matrices, gradients)]
        if step % EVERY == 0:
            found.append(code_rank(matrices[:-1], deviations))
    return found


def drawn(rng: np.random.Generator, count: int, is_orthogonal: bool) -> np.ndarray:
    """Draw one of `count` square matrices."""
    if is_orthogonal:
        q, r = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))
        return PRODUCT ** (1 / count) * q * np.sign(np.diag(r))
    bound = DIMENSION**-0.5
    return rng.uniform(-bound, bound, (DIMENSION, DIMENSION))


def adjustment(count: int) -> float:
    """Return the speed of a singular value of a balanced product of matrices."""
    return count * REFERENCE ** (2 - 2 / count)


def slopes(matrices: Sequence[np.ndarray], variances: np.ndarray) -> list[np.ndarray]:
    """Differentiate 1/2 E |W_L ... W_1 x - x|^2 by every matrix, for independent inputs.

    Args:
        matrices: W_1 to W_L, all `[d, d]`.
        variances: of the inputs `[d]`.
    """
    before = [np.eye(len(variances))]
    for w in matrices:
        before.append(w @ before[-1])
    error = (before[-1] - np.eye(len(variances))) * variances

    gradients = []
    after = np.eye(len(variances))
    for w, product in zip(reversed(matrices), reversed(before[:-1])):
        gradients.append(after.T @ error @ product.T)
        after = after @ w
    return gradients[::-1]


def code_rank(matrices: Sequence[np.ndarray], deviations: np.ndarray) -> float:
    """Count the directions of the code that deviate by more than a tenth of the largest."""
    code = np.diag(deviations)
    for w in matrices:
        code = w @ code
    values = np.linalg.svd(code, compute_uv=False)
    return float((values > 0.1 * values[0]).sum())
