"""Data structure and loss: logistic loss gains more from structured data than squared loss.

Row 16: d'Ascoli, Gabrie, Sagun and Biroli, "On the Interplay between Data Structure and Loss
Function in Classification Problems", arXiv:2103.05524. Inputs have ten strong directions, of large
variance (the salience), and 90 weak ones; the label is the sign of a projection on the strong
directions (aligned), on the weak ones (misaligned), or on all. ReLU features of random projections
are fitted by both losses with a small ridge.

1. The precise error of squared loss. Given the projections, the second moments M of the features,
   their correlation c with the label and with the projection are integrals of two Gaussians in
   closed form. The fit is (M + k)^-1 c on average, k the effective ridge of `ridge_theory`, and

       E (y - f)^2 = (1 - 2 c'w + w'M w) / (1 - df / n),   w = (M + k)^-1 c,

   so that the output f is Gaussian with known moments. Measured and asymptotic test errors are
   compared at five numbers of features and two saliences.
2. Salience helps if the label is aligned with the strong directions, and harms if it is not.
3. The error of logistic loss falls by more than that of squared loss; so it does on digits, even
   against odd, beside normal numbers of their size.

Control: the formula of unstructured data against structured data; labels of random signs;
unstructured data in the place of structured data and of digits.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Generator, Tensor

from rlop.experiments.digits import load_digits
from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Curve, Outcome
from rlop.experiments.ridge_theory import effective_ridge
from rlop.experiments.series import columns

D = 100
STRONG = 10  # directions
N = 200
N_TEST = 2000
SEEDS = 6
RIDGE = 1e-4
SALIENCE = 100.0  # variance of a strong direction over that of a weak one
SIZES = (50, 100, 200, 400, 800)  # random features
OFFSET = 0.4  # about the mean of a feature

ALIGNED, MISALIGNED, MIXED, RANDOM = "aligned", "misaligned", "mixed", "random"


def scales(salience: float) -> Tensor:
    """Return the standard deviation of every direction, `[D]`; their mean square is 1."""
    scale = torch.ones(D)
    scale[:STRONG] = salience**0.5
    return scale / scale.square().mean().sqrt()


def draw_teachers(alignment: str, generator: Generator) -> Tensor:
    """Draw the directions that the labels depend on, `[S, D, 1]`."""
    teacher = torch.randn(SEEDS, D, 1, generator=generator)
    if alignment == ALIGNED:
        teacher[:, STRONG:] = 0
    if alignment == MISALIGNED:
        teacher[:, :STRONG] = 0
    return teacher


def compare(
    size: int, salience: float, alignment: str, seed: int, theory_salience: float | None = None
) -> tuple[float, float, float]:
    """Compute the test errors of squared loss, of logistic loss, and by the formula.

    Args:
        size: number of random features.
        salience: of the strong directions.
        alignment: which directions the label depends on.
        seed: seed of all draws, over which the errors are means.
        theory_salience: salience that the formula is given, if another one.
    """
    generator = Generator().manual_seed(seed)
    scale = scales(salience)
    x = torch.randn(SEEDS, N + N_TEST, D, generator=generator) * scale
    teacher = draw_teachers(alignment, generator)
    y = (x @ teacher)[..., 0].sign()
    if alignment == RANDOM:
        y = torch.randn(y.shape, generator=generator).sign()

    projection = torch.randn(SEEDS, D, size, generator=generator) / D**0.5
    phi = ((x @ projection).relu() - OFFSET).double() / size**0.5
    square, logistic = errors(phi[:, :N], y[:, :N], phi[:, N:], y[:, N:])

    known = scale if theory_salience is None else scales(theory_salience)
    expected = []
    for one, direction in zip(projection, teacher):
        expected.append(square_error((one.T * known).numpy(), (direction[:, 0] * known).numpy()))
    return square, logistic, float(np.mean(expected))


def errors(phi: Tensor, y: Tensor, fresh: Tensor, truth: Tensor) -> tuple[float, float]:
    """Fit features `[S, n, P]` by both losses; return their errors on fresh ones."""

    def error(w: Tensor) -> float:
        return ((fresh @ w)[..., 0] * truth <= 0).double().mean().item()

    return error(least_squares(phi, y.double())), error(logistic_regression(phi, y.double()))


def square_error(rows: np.ndarray, direction: np.ndarray) -> float:
    """Evaluate the asymptotic test error of squared loss.

    Args:
        rows: projections `[P, D]`, in units in which the inputs are standard normal.
        direction: direction of the label `[D]`, in the same units.
    """
    size = len(rows)
    spread = np.linalg.norm(rows, axis=1)
    cosine = rows @ direction / spread / np.linalg.norm(direction)
    mean = (spread / math.sqrt(2 * math.pi) - OFFSET) / math.sqrt(size)
    moments = relu_moments(rows) - OFFSET * (spread[:, None] + spread) / math.sqrt(2 * math.pi)
    moments = (moments + OFFSET**2) / size

    # E relu(u) sign(v) and E relu(u) v, of u of the given spread and v standard normal
    with_label = spread * cosine / math.sqrt(2 * math.pi * size)
    with_projection = spread * cosine / (2 * math.sqrt(size))

    eigenvalues, vectors = np.linalg.eigh(moments)
    eigenvalues = np.maximum(eigenvalues, 0)
    k = effective_ridge(eigenvalues, N, N * RIDGE)
    w = vectors @ (vectors.T @ with_label / (eigenvalues + k))
    freedom = float(np.sum((eigenvalues / (eigenvalues + k)) ** 2)) / N

    agreement = float(with_label @ w)
    loss = (1 - 2 * agreement + float(w @ moments @ w)) / (1 - freedom)
    squared_output = loss - 1 + 2 * agreement
    return disagreement(float(mean @ w), squared_output, float(with_projection @ w))


def relu_moments(rows: np.ndarray) -> np.ndarray:
    """Return E relu(u_i) relu(u_j) of u = rows z, z standard normal, `[P, D] -> [P, P]`."""
    spread = np.linalg.norm(rows, axis=1)
    product = np.outer(spread, spread)
    cosine = np.clip(rows @ rows.T / product, -1, 1)
    angle = np.arccos(cosine)
    return product * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)


def disagreement(mean: float, square: float, product: float) -> float:
    """Integrate the chance that f and v differ in sign, v standard normal, f Gaussian.

    Args:
        mean: E f.
        square: E f^2.
        product: E f v.
    """
    v = (np.arange(2000) + 0.5) / 2000 * 8  # v > 0; the other half is that of -f
    density = np.exp(-(v**2) / 2)
    rest = math.sqrt(max(square - mean**2 - product**2, 1e-12))
    chances = []
    for sign in (1, -1):
        z = torch.as_tensor((sign * mean + product * v) / rest)
        chances.append(torch.special.ndtr(-z).numpy())
    return float((chances[0] + chances[1]) @ density / density.sum() / 2)


def digit_gain(seed: int, structured: bool) -> float:
    """Divide the error of squared loss by that of logistic loss, even digits against odd ones.

    Args:
        seed: seed of splits and features.
        structured: whether to take the digits, or normal numbers and a random direction.
    """
    found = []
    for child in child_seeds(seed, SEEDS):
        generator = Generator().manual_seed(child)
        if structured:
            data = load_digits(N, child)
            x, fresh = data.x - data.x.mean(0), data.x_test - data.x.mean(0)
            spread = x.square().mean().sqrt()
            x, fresh = x / spread, fresh / spread
            y, truth = 1.0 - 2 * (data.y % 2), 1.0 - 2 * (data.y_test % 2)
        else:
            x, fresh = (torch.randn(n, 64, generator=generator) for n in (N, N_TEST))
            direction = torch.randn(64, generator=generator)
            y, truth = (x @ direction).sign(), (fresh @ direction).sign()

        w = torch.randn(64, SIZES[-1], generator=generator) / 8
        phi, phi_fresh = (
            ((part @ w).relu() - OFFSET).double()[None] / SIZES[-1] ** 0.5 for part in (x, fresh)
        )
        found.append(errors(phi, y[None], phi_fresh, truth[None]))
    square, logistic = columns(found)
    return sum(square) / sum(logistic)


def structure_gain(seed: int, structured: bool) -> float:
    """Divide the ratio of errors on digits, or on data of their size, by that without structure."""
    first, second = child_seeds(seed, 2)
    return digit_gain(first, structured) / digit_gain(second, structured=False)


def values_of(
    gap: float,
    plain: tuple[float, float, float],
    easy: tuple[float, float, float],
    hard: tuple[float, float, float],
    digits: float,
) -> dict[str, float]:
    """Name the measures.

    Args:
        gap: between measured errors and the formula.
        plain: errors of squared and logistic loss without structure.
        easy: with structure and an aligned label.
        hard: with structure and a misaligned label.
        digits: ratio of errors on digits, over that without structure.
    """
    return {
        "squared loss: error - formula, mean distance": gap,
        "aligned, logistic error: salience 100 / 1": easy[1] / plain[1],
        "aligned, squared error: salience 100 / 1": easy[0] / plain[0],
        "salience 100, logistic error: misaligned / aligned": hard[1] / easy[1],
        "squared / logistic error: salience 100 over salience 1": (easy[0] / easy[1])
        / (plain[0] / plain[1]),
        "squared / logistic error: digits over no structure": digits,
    }


def run(seed: int) -> Outcome:
    """Fit 200 samples in 50 to 800 random features; means of six draws."""
    first, second, third, fourth = child_seeds(seed, 4)
    plain = [compare(size, 1.0, MIXED, first) for size in SIZES]
    easy = [compare(size, SALIENCE, ALIGNED, second) for size in SIZES]
    hard = compare(SIZES[-1], SALIENCE, MISALIGNED, third)

    gaps = [abs(square - formula) for square, _, formula in plain + easy]
    values = values_of(
        float(np.mean(gaps)), plain[-1], easy[-1], hard, structure_gain(fourth, structured=True)
    )
    curves: dict[str, Curve] = {}
    for name, rows in (("salience 1", plain), ("salience 100", easy)):
        square, logistic, formula = columns(rows)
        curves[f"squared, {name}"] = (SIZES, square)
        curves[f"formula, {name}"] = (SIZES, formula)
        curves[f"logistic, {name}"] = (SIZES, logistic)
    return Outcome(values, curves, x="random features, n = 200", y="test error", log="x")


def control(seed: int) -> dict[str, float]:
    """Mistake the structure in the formula; take random labels, and data without structure."""
    first, second, third, fourth = child_seeds(seed, 4)
    wrong = [compare(size, SALIENCE, ALIGNED, second, theory_salience=1.0) for size in SIZES]
    gap = float(np.mean([abs(square - formula) for square, _, formula in wrong]))

    random = [
        compare(SIZES[-1], s, RANDOM, child) for s, child in ((1.0, first), (SALIENCE, third))
    ]
    values = values_of(gap, random[0], random[1], random[0], structure_gain(fourth, False))
    plain = [compare(SIZES[-1], 1.0, MIXED, child) for child in (first, second)]
    gain = (plain[0][0] / plain[0][1]) / (plain[1][0] / plain[1][1])
    return {**values, "squared / logistic error: salience 100 over salience 1": gain}


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
