"""Mirror descent finds the interpolator that its potential selects; with slacks it solves ridge.

Reference: Azizan, Lale, Hassibi, "Stochastic Mirror Descent on Overparameterized Nonlinear Models",
IEEE TNNLS 2022, arXiv:1906.03830 (SMD), and "Explicit Regularization via Regularizer Mirror
Descent", arXiv:2202.10788 (RMD).

1. SMD with potential sum |w_j|^q on an under-determined linear problem ends at the interpolator
   that is closest to the start in the potential's Bregman divergence: near zero, the one with the
   smallest lq norm.
2. RMD on squared loss. The paper constrains z_i = sqrt(2 L_i); with the signed residual instead,
   y_i = f_i(w) + z_i, it is SMD on a linear system in (w, z) and must end at the ridge solution
   exactly. The unsigned form stops close to it, because residuals that change their sign have a
   lasting effect.
"""

from __future__ import annotations

import numpy as np
import torch

from rlop.experiments.outcome import Curve, Outcome
from rlop.optim.smd import smd_

POTENTIALS = {1.1: 0.05 / 1.1, 2.0: 0.05, 3.0: 0.01 / 3}  # q -> learning rate
DECAY = 300  # steps; with q > 2 a weight that crosses zero moves ever faster, so the rate must fall
LAMBDAS = (0.3, 3.0, 30.0)  # of RMD
EPOCHS = 500  # of RMD


def interpolate(
    x: np.ndarray, y: np.ndarray, q: float, lr: float, start: np.ndarray, steps: int = 10_000
) -> np.ndarray:
    """Run full-batch `rlop.optim.smd_` on the sum of squares / 2, in float64."""
    rows = torch.from_numpy(x)
    values = torch.from_numpy(y)
    w = torch.from_numpy(start[None].copy())
    power = torch.tensor([q], dtype=w.dtype)

    for step in range(steps):
        rate = lr / (1 + step / DECAY) if q > 2 else lr
        gradient = (w @ rows.mT - values) @ rows
        smd_([w], [gradient], torch.tensor([rate], dtype=w.dtype), power)
    return w[0].numpy()


def outside(x: np.ndarray, w: np.ndarray, start: np.ndarray, q: float) -> float:
    """Compute the share of grad psi(w) - grad psi(start) outside the span of the rows of x.

    It is 0 for the interpolator that is closest in the Bregman divergence.
    """
    dual = np.abs(w) ** (q - 1) * np.sign(w)
    start_dual = np.abs(start) ** (q - 1) * np.sign(start)
    move = dual - start_dual
    inside = x.T @ np.linalg.solve(x @ x.T, x @ move)
    return float(np.linalg.norm(move - inside) / np.linalg.norm(move))


def rmd(
    x: np.ndarray, y: np.ndarray, lam: float, lr: float, epochs: int, signed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Run RMD with psi = ||w||^2 / 2, sample by sample from zero.

    It follows the algorithm step by step; the unit tests are those of `rlop.optim.RMD`.

    Args:
        x: samples `[N, d]`.
        y: labels `[N]`.
        lam: weight of the fit against the potential.
        lr: learning rate.
        epochs: passes over the samples.
        signed: whether a slack stands for the residual, and not for its absolute value.
    Returns:
        w after the last epoch `[d]`, and after each epoch the largest distance of a slack from the
        residual that it stands for.
    """
    w = np.zeros(x.shape[1])
    z = np.zeros(len(x))
    gaps = np.zeros(epochs)

    for epoch in range(epochs):
        for i in range(len(x)):
            residual = y[i] - x[i] @ w
            size = residual if signed else abs(residual)
            direction = 1.0 if signed else np.sign(residual)
            move = lr * (size - z[i])
            w = w + move * x[i] * direction
            z[i] += move / lam

        residuals = y - x @ w
        sizes = residuals if signed else np.abs(residuals)
        gaps[epoch] = np.abs(sizes - z).max()

    return w, gaps


def ridge(x: np.ndarray, y: np.ndarray, lam: float) -> np.ndarray:
    """Solve argmin lam ||y - x w||^2 / 2 + ||w||^2 / 2, `[d]`."""
    return x.T @ np.linalg.solve(x @ x.T + np.eye(len(x)) / lam, y)


def potential_measures(seed: int) -> dict[str, float]:
    """Check which interpolator each potential picks: n = 20, d = 100, 3-sparse target."""
    rng = np.random.default_rng(seed)
    target = np.zeros(100)
    target[:3] = rng.choice((-1.0, 1.0), 3)
    x = rng.normal(size=(20, 100)) / np.sqrt(20)
    y = x @ target
    start = 1e-4 * rng.standard_normal(100)  # not zero, where weights with q > 2 jump

    residual = 0.0
    outside_span = 0.0
    norms: dict[tuple[float, int], float] = {}  # (q, p) -> lp norm

    for q, lr in POTENTIALS.items():
        w = interpolate(x, y, q, lr, start)
        residual = max(residual, float(np.abs(x @ w - y).max()))
        outside_span = max(outside_span, outside(x, w, start, q))
        for p in (1, 2, 3):
            norms[q, p] = float(np.linalg.norm(w, p))

    return {
        "SMD: largest residual of any q": residual,
        "SMD: dual step outside the rows' span, any q": outside_span,
        "l1 norm: q = 2 / q = 1.1": norms[2.0, 1] / norms[1.1, 1],
        "l2 norm: q = 1.1 / q = 2": norms[1.1, 2] / norms[2.0, 2],
        "l2 norm: q = 3 / q = 2": norms[3.0, 2] / norms[2.0, 2],
        "l3 norm: q = 2 / q = 3": norms[2.0, 3] / norms[3.0, 3],
    }


def run(seed: int) -> Outcome:
    """Run SMD as above, and RMD with n = 50, d = 200 next to the solved ridge problem."""
    values = potential_measures(seed)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(50, 200)) / np.sqrt(200)
    y = x @ rng.normal(size=200) + rng.normal(size=50)

    curves: dict[str, Curve] = {}
    for lam in LAMBDAS:
        exact = ridge(x, y, lam)
        lr = min(0.5, 0.5 * lam)
        for signed in (True, False):
            w, gaps = rmd(x, y, lam, lr, EPOCHS, signed)
            distance = float(np.linalg.norm(w - exact) / np.linalg.norm(exact))
            form = "signed" if signed else "unsigned"
            values[f"RMD {form}, lambda {lam}: distance from ridge"] = distance
            curves[f"{form}, lambda {lam}"] = (range(1, EPOCHS + 1), gaps)

    return Outcome(values, curves, x="epoch", y="largest |z - residual|", log="xy")
