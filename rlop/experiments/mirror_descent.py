"""Mirror descent picks the interpolator its potential asks for; with a slack per sample it solves ridge regression.

Reference: Azizan, Lale, Hassibi, "Stochastic Mirror Descent on Overparameterized Nonlinear Models", IEEE TNNLS 2022,
arXiv:1906.03830 (SMD), and "Explicit Regularization via Regularizer Mirror Descent", arXiv:2202.10788 (RMD).

1. SMD with potential sum |w_j|^q on an under-determined linear problem ends at the interpolator that is closest to the
   start in the potential's Bregman divergence: near zero, the one with the smallest lq norm.
2. RMD on squared loss. The paper constrains z_i = sqrt(2 L_i); with the signed residual instead, y_i = f_i(w) + z_i,
   it is SMD on a linear system in (w, z) and must end at the ridge solution exactly. The unsigned form stops close to
   it, because residuals that change their sign leave a trace.
"""

from __future__ import annotations

import numpy as np
import torch

from rlop.experiments.outcome import Measure, Outcome
from rlop.optim.smd import smd_

POTENTIALS = {1.1: 0.05 / 1.1, 2.0: 0.05, 3.0: 0.01 / 3}  # q -> learning rate
DECAY = 300  # steps; with q > 2 a weight that crosses zero moves ever faster, so the rate must fall


def interpolate(
    x: np.ndarray, y: np.ndarray, q: float, lr: float, start: np.ndarray, steps: int = 10_000
) -> np.ndarray:
    """Full-batch `rlop.optim.smd_` on the sum of squares / 2, in float64."""
    rows, values, w = (torch.from_numpy(array) for array in (x, y, start[None].copy()))
    power = torch.tensor([q], dtype=w.dtype)
    for step in range(steps):
        rate = lr / (1 + step / DECAY) if q > 2 else lr
        smd_([w], [(w @ rows.mT - values) @ rows], torch.tensor([rate], dtype=w.dtype), power)
    return w[0].numpy()


def outside(x: np.ndarray, w: np.ndarray, start: np.ndarray, q: float) -> float:
    """Share of grad psi(w) - grad psi(start) outside the rows' span: 0 for the Bregman-closest interpolator."""
    move = np.abs(w) ** (q - 1) * np.sign(w) - np.abs(start) ** (q - 1) * np.sign(start)
    return float(
        np.linalg.norm(move - x.T @ np.linalg.solve(x @ x.T, x @ move)) / np.linalg.norm(move)
    )


def rmd(
    x: np.ndarray, y: np.ndarray, lam: float, lr: float, epochs: int, signed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """RMD with psi = ||w||^2 / 2, sample by sample from zero: the algorithm literally, `rlop.optim.RMD` has the tests.

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


def potential_measures(seed: int) -> list[Measure]:
    """Which interpolator each potential picks: n = 20, d = 100, 3-sparse target."""
    rng = np.random.default_rng(seed)
    target = np.zeros(100)
    target[:3] = rng.choice((-1.0, 1.0), 3)
    x = rng.normal(size=(20, 100)) / np.sqrt(20)
    y, start = (
        x @ target,
        1e-4 * rng.standard_normal(100),
    )  # not from zero, where weights with q > 2 jump
    found = {q: interpolate(x, y, q, lr, start) for q, lr in POTENTIALS.items()}
    one, two, three = (
        {q: float(np.linalg.norm(w, p)) for q, w in found.items()} for p in (1, 2, 3)
    )
    residual = max(float(np.abs(x @ w - y).max()) for w in found.values())
    beside = max(outside(x, w, start, q) for q, w in found.items())
    return [
        Measure("SMD: largest residual of any q", residual, 0.0, 1e-9, "0: all interpolate"),
        Measure(
            "SMD: dual step outside the rows' span, any q",
            beside,
            0.0,
            1e-9,
            "0: optimality condition",
        ),
        Measure(
            "l1 norm: q = 2 / q = 1.1",
            one[2.0] / one[1.1],
            1.0,
            np.inf,
            "> 1, measured oracle 1.18",
        ),
        Measure(
            "l2 norm: q = 1.1 / q = 2",
            two[1.1] / two[2.0],
            1.0,
            np.inf,
            "> 1, measured oracle 1.51",
        ),
        Measure("l2 norm: q = 3 / q = 2", two[3.0] / two[2.0], 1.0, np.inf, "> 1"),
        Measure("l3 norm: q = 2 / q = 3", three[2.0] / three[3.0], 1.0, np.inf, "> 1"),
    ]


def run(seed: int = 0) -> Outcome:
    """SMD as above; RMD with n = 50, d = 200 and lambda .3, 3, 30 beside the solved ridge problem."""
    measures = potential_measures(seed)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(50, 200)) / np.sqrt(200)
    y = x @ rng.normal(size=200) + rng.normal(size=50)
    curves = {}
    for lam in (0.3, 3.0, 30.0):
        exact = ridge(x, y, lam)
        for signed, high in ((True, 1e-9), (False, 0.1)):
            w, gaps = rmd(x, y, lam, min(0.5, 0.5 * lam), 500, signed)
            gap, form = (
                float(np.linalg.norm(w - exact) / np.linalg.norm(exact)),
                "signed" if signed else "unsigned",
            )
            source = "0: exact" if signed else "measured oracle 2e-15 to .03"
            measures.append(
                Measure(f"RMD {form}, lambda {lam}: distance from ridge", gap, 0.0, high, source)
            )
            curves[f"{form}, lambda {lam}"] = (range(1, 501), gaps)
    return Outcome(tuple(measures), curves, x="epoch", y="largest |z - residual|", log="xy")
