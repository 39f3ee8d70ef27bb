"""Mirror descent picks the interpolator its potential asks for; with a slack per sample it solves ridge regression.

Reference: Azizan, Lale, Hassibi, "Stochastic Mirror Descent on Overparameterized Nonlinear Models", IEEE TNNLS 2022,
arXiv:1906.03830 (SMD), and "Explicit Regularization via Regularizer Mirror Descent", arXiv:2202.10788 (RMD).

1. SMD with potential sum |w_j|^q on an under-determined linear problem, from near zero: the norm that q stands for
   comes out smallest among the runs.
2. RMD on squared loss. The paper constrains z_i = sqrt(2 L_i); with the signed residual instead, y_i = f_i(w) + z_i,
   it is SMD on a linear system in (w, z) and must end at the ridge solution exactly. The unsigned form stops close to
   it, because residuals that change their sign leave a trace.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.outcome import Measure, Outcome

POTENTIALS = {1.1: 0.001, 2.0: 0.005, 3.0: 0.001}  # q -> learning rate


def smd_step(w: np.ndarray, gradient: np.ndarray, lr: float, q: float) -> np.ndarray:
    """w after grad psi(w) <- grad psi(w) - lr gradient, psi(w) = sum |w_j|^q; any shapes that agree."""
    dual = q * np.abs(w) ** (q - 1) * np.sign(w) - lr * gradient
    return np.sign(dual) * (np.abs(dual) / q) ** (1 / (q - 1))


def interpolate(x: np.ndarray, y: np.ndarray, q: float, lr: float, rng: np.random.Generator, steps: int) -> np.ndarray:
    """Full-batch SMD on the sum of squares / 2, from near zero (exact zeros jump when q > 2)."""
    w = 1e-4 * rng.standard_normal(x.shape[1])
    for _ in range(steps):
        w = smd_step(w, x.T @ (x @ w - y), lr, q)
    return w


def rmd(x: np.ndarray, y: np.ndarray, lam: float, lr: float, epochs: int, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """RMD with psi = ||w||^2 / 2, sample by sample from zero.

    Returns:
        w after the last epoch `[d]`, and the distance of z from the residuals it stands for after each epoch.
    """
    w, z, gaps = np.zeros(x.shape[1]), np.zeros(len(x)), np.zeros(epochs)
    for epoch in range(epochs):
        for i in range(len(x)):
            residual = y[i] - x[i] @ w
            size = residual if signed else abs(residual)
            move = lr * (size - z[i])
            w = w + move * x[i] * (1.0 if signed else np.sign(residual))
            z[i] += move / lam
        left = y - x @ w
        gaps[epoch] = np.abs((left if signed else np.abs(left)) - z).max()
    return w, gaps


def ridge(x: np.ndarray, y: np.ndarray, lam: float) -> np.ndarray:
    """argmin lam ||y - x w||^2 / 2 + ||w||^2 / 2, `[d]`."""
    return x.T @ np.linalg.solve(x @ x.T + np.eye(len(x)) / lam, y)


def potential_measures(seed: int) -> tuple[list[Measure], dict]:
    """Norms of the interpolators: n = 20, d = 100, 3-sparse target."""
    rng = np.random.default_rng(seed)
    target = np.zeros(100)
    target[:3] = rng.choice((-1.0, 1.0), 3)
    x = rng.normal(size=(20, 100)) / np.sqrt(20)
    y = x @ target
    found = {q: interpolate(x, y, q, lr, rng, 20_000) for q, lr in POTENTIALS.items()}
    least = np.linalg.lstsq(x, y, rcond=None)[0]
    one, two, three = ({q: float(np.linalg.norm(w, p)) for q, w in found.items()} for p in (1, 2, 3))
    residual = max(float(np.abs(x @ w - y).max()) for w in found.values())
    gap = float(np.linalg.norm(found[2.0] - least) / np.linalg.norm(least))
    measures = [
        Measure("SMD: largest residual of any q", residual, 0.0, 1e-6, "0: all interpolate"),
        Measure("SMD q = 2: distance from the least-norm interpolator", gap, 0.0, 1e-2, "0, but for the start at 1e-4"),
        Measure("l1 norm: q = 2 / q = 1.1", one[2.0] / one[1.1], 1.0, np.inf, "> 1, measured oracle 1.18"),
        Measure("l2 norm: q = 1.1 / q = 2", two[1.1] / two[2.0], 1.0, np.inf, "> 1, measured oracle 1.51"),
        Measure("l2 norm: q = 3 / q = 2", two[3.0] / two[2.0], 1.0, np.inf, "> 1"),
        Measure("l3 norm: q = 2 / q = 3", three[2.0] / three[3.0], 1.0, np.inf, "> 1"),
    ]
    return measures, found


def run(seed: int = 0) -> Outcome:
    """SMD as above; RMD with n = 50, d = 200 and lambda .3, 3, 30 beside the solved ridge problem."""
    measures, _ = potential_measures(seed)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(50, 200)) / np.sqrt(200)
    y = x @ rng.normal(size=200) + rng.normal(size=50)
    curves = {}
    for lam in (0.3, 3.0, 30.0):
        exact = ridge(x, y, lam)
        for signed, high, epochs in ((True, 1e-9, 1500), (False, 0.1, 1500)):
            w, gaps = rmd(x, y, lam, min(0.5, 0.5 * lam), epochs, signed)
            gap, form = float(np.linalg.norm(w - exact) / np.linalg.norm(exact)), "signed" if signed else "unsigned"
            source = "0: exact" if signed else "near 0, measured oracle 2e-15 to 3e-2"
            measures.append(Measure(f"RMD {form}, lambda {lam}: distance from ridge", gap, 0.0, high, source))
            curves[f"{form}, lambda {lam}"] = (range(1, epochs + 1), gaps)
    return Outcome(tuple(measures), curves, x="epoch", y="largest |z - residual|", log="xy")
