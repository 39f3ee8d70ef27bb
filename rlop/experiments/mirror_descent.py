"""Regularizer mirror descent reaches the optimum of loss plus regularizer, on linear models.

Row 14: Azizan, Lale and Hassibi, "Explicit Regularization via Regularizer Mirror Descent",
arXiv:2202.10788; SMD as in their "Stochastic Mirror Descent on Overparameterized Nonlinear Models",
IEEE TNNLS 2022, arXiv:1906.03830. This module holds the abstract's statements about optimization;
`label_corruption` holds those about generalization and cost.

The cost is, with any convex regularizer psi,

    lambda sum_i L_i(w) + psi(w)

1. RMD converges to a point close to the optimum of this cost. The paper constrains
   z_i = sqrt(2 L_i). With the signed residual instead, y_i = f_i(w) + z_i, it is mirror descent on
   a linear system in (w, z), and the point is the optimum exactly; the paper's unsigned form stops
   close to it, because residuals that change their sign have a lasting effect.
2. SGD regularizes implicitly for the l2 norm: from zero it ends at the least-norm interpolator.
3. RMD can keep the weights close to a desired vector, which takes the place of zero in psi.

Setting: 50 samples, 200 dimensions, noise of the size of the signal. For psi = |w|^2 / 2 the
optimum is ridge regression, solved directly. For psi = sum |w_j|^1.5 / 1.5 there is no closed form,
and the measure is how far the optimality condition grad psi(w) = lambda X' (y - X w) is from
holding, relative to its sides.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlop.experiments.outcome import Curve, Outcome

N = 50
D = 200
LAMBDAS = (0.3, 3.0)
EPOCHS = 500
POWER = 1.5  # q of the regularizer that is not the l2 norm
POWER_RATE = 0.2
POWER_LAMBDA = 3.0


def run(seed: int) -> Outcome:
    """Run RMD, and SGD, sample by sample, next to the solved problems."""
    x, y, desired = problem(seed)
    values: dict[str, float] = {}
    curves: dict[str, Curve] = {}

    for lam in LAMBDAS:
        exact = ridge(x, y, lam)
        lr = min(0.5, 0.5 * lam)
        for form in ("signed", "unsigned"):
            w, gaps = rmd(x, y, lam, lr, signed=form == "signed")
            values[f"RMD {form}, lambda {lam:g}: distance from ridge"] = distance(w, exact)
            curves[f"{form}, lambda {lam:g}"] = (range(1, EPOCHS + 1), gaps)

    w, _ = rmd(x, y, POWER_LAMBDA, POWER_RATE, q=POWER)
    values["RMD, l1.5 norm: violation of optimality"] = violation(x, y, w)

    w, _ = rmd(x, y, np.inf, 0.5)
    values["SGD: distance from the least-norm interpolator"] = distance(w, ridge(x, y, np.inf))

    w, _ = rmd(x, y, 1.0, 0.5, center=desired)
    values["RMD around a desired vector: distance from the optimum"] = distance(
        w, desired + ridge(x, y - x @ desired, 1.0)
    )
    return Outcome(values, curves, x="epoch", y="largest |z - residual|", log="xy")


def control(seed: int) -> Mapping[str, float]:
    """Withhold the slack from RMD, which leaves SGD, and the start at zero from SGD.

    The potential of the l1.5 norm, and the desired vector, are exchanged for those of ridge.
    """
    x, y, desired = problem(seed)
    w, _ = rmd(x, y, np.inf, 0.5)
    values: dict[str, float] = {}

    for lam in LAMBDAS:
        for form in ("signed", "unsigned"):
            name = f"RMD {form}, lambda {lam:g}: distance from ridge"
            values[name] = distance(w, ridge(x, y, lam))

    values["RMD, l1.5 norm: violation of optimality"] = violation(x, y, w)
    moved, _ = rmd(x, y, np.inf, 0.5, center=desired)
    least = ridge(x, y, np.inf)
    values["SGD: distance from the least-norm interpolator"] = distance(moved, least)
    plain, _ = rmd(x, y, 1.0, 0.5)
    optimum = desired + ridge(x, y - x @ desired, 1.0)
    values["RMD around a desired vector: distance from the optimum"] = distance(plain, optimum)
    return values


def problem(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw samples `[N, D]`, noisy labels `[N]` and a desired vector `[D]`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, D)) / np.sqrt(D)
    y = x @ rng.normal(size=D) + rng.normal(size=N)
    return x, y, rng.normal(size=D)


def rmd(
    x: np.ndarray,
    y: np.ndarray,
    lam: float,
    lr: float,
    signed: bool = True,
    q: float = 2.0,
    center: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Run RMD with psi = sum |w_j - c_j|^q / q, sample by sample from c.

    It follows the algorithm step by step; the unit tests are those of `rlop.optim.RMD`.

    Args:
        x: samples `[N, d]`.
        y: labels `[N]`.
        lam: weight of the fit against the potential; infinity leaves every slack at zero.
        lr: learning rate.
        signed: whether a slack stands for the residual, and not for its absolute value.
        q: power of the potential.
        center: c, `[d]`; None for zero.
    Returns:
        w after the last epoch `[d]`, and after each epoch the largest distance of a slack from the
        residual that it stands for.
    """
    center = np.zeros(x.shape[1]) if center is None else center
    w = center.copy()
    dual = np.zeros_like(w)
    z = np.zeros(len(x))
    gaps = np.zeros(EPOCHS)

    for epoch in range(EPOCHS):
        for i in range(len(x)):
            residual = y[i] - x[i] @ w
            size = residual if signed else abs(residual)
            direction = 1.0 if signed else np.sign(residual)
            move = lr * (size - z[i])
            dual += move * direction * x[i]
            w = center + np.sign(dual) * np.abs(dual) ** (1 / (q - 1))
            z[i] += move / lam

        residuals = y - x @ w
        sizes = residuals if signed else np.abs(residuals)
        gaps[epoch] = np.abs(sizes - z).max()

    return w, gaps


def ridge(x: np.ndarray, y: np.ndarray, lam: float) -> np.ndarray:
    """Solve argmin lam ||y - x w||^2 / 2 + ||w||^2 / 2, `[d]`; infinity interpolates."""
    return x.T @ np.linalg.solve(x @ x.T + np.eye(len(x)) / lam, y)


def distance(w: np.ndarray, exact: np.ndarray) -> float:
    """Return ||w - exact|| / ||exact||."""
    return float(np.linalg.norm(w - exact) / np.linalg.norm(exact))


def violation(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """Return the relative distance of the sides of the l1.5 problem's optimality condition."""
    slope = np.sign(w) * np.abs(w) ** (POWER - 1)
    pull = POWER_LAMBDA * x.T @ (y - x @ w)
    return float(np.linalg.norm(slope - pull) / np.linalg.norm(slope))
