"""Fresh label noise at every step leads SGD to flat solutions; other noise does not.

Reference: Damian, Ma, Lee, "Label Noise SGD Provably Prefers Flat Global Minimizers", NeurIPS 2021,
arXiv:2106.06530; the model f(x) = <v * v, x> is that of HaoChen, Wei, Lee, Ma, "Shape Matters",
COLT 2021, arXiv:2006.08680.

1. On one quadratic direction of curvature h, noise of covariance (sigma^2 / B) h settles at the
   variance

       lambda / (2 - eta h / (1 + beta)),   lambda = eta sigma^2 / (B (1 - beta)),

   beta the momentum. From it follows the regularizer that label noise adds,

       -(1 + beta) / (2 eta) tr log(I - eta H / (2 (1 + beta))),   about tr(H) / 4.

2. f(x) = <v * v, x> fitted to fewer samples than inputs, from v = 1: every run interpolates, label
   noise ends where the trace of the Gauss-Newton matrix is small, which for this model is the
   sparse solution.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlop.experiments.outcome import Curve, Outcome

# The quadratic, at batch size B = 1.
ETA = 1.0
SIGMA = 0.1
CURVATURES = (  # (momentum, h)
    (0.0, 0.5),
    (0.0, 1.0),
    (0.0, 1.8),
    (0.9, 0.5),
    (0.9, 1.0),
    (0.9, 3.0),
)

# The sparse regression.
N = 40
D = 100
SPARSE = 5
LR = 0.002
STEPS = 150_000
INTERVAL = 1000  # steps between measurements
SEEDS = 4
NOISES = (0.0, 0.5, 1.0)


def stationary(h: float, beta: float, eta: float = ETA, sigma: float = SIGMA) -> float:
    """Solve for the variance of heavy-ball SGD with label noise on h x^2 / 2.

    Its covariance solves a 2 x 2 Lyapunov equation in (x_t, x_{t-1}).
    """
    step = np.array([[1 + beta - eta * h, -beta], [1.0, 0.0]])
    noise = np.diag([eta**2 * sigma**2 * h, 0.0])
    return float(np.linalg.solve(np.eye(4) - np.kron(step, step), noise.ravel())[0])


def formula(h: float, beta: float, eta: float = ETA, sigma: float = SIGMA) -> float:
    """Evaluate the closed form of the same variance."""
    return eta * sigma**2 / (1 - beta) / (2 - eta * h / (1 + beta))


def simulated(
    h: float, beta: float, rng: np.random.Generator, chains: int = 20_000, steps: int = 600
) -> float:
    """Estimate the same variance by simulating many chains from zero."""
    x = before = np.zeros(chains)
    for _ in range(steps):
        kick = SIGMA * np.sqrt(h) * rng.standard_normal(chains)
        x, before = x - ETA * (h * x + kick) + beta * (x - before), x
    return float(x.var())


def variance_measures(rng: np.random.Generator) -> dict[str, float]:
    """Compare the formula with the Lyapunov equation and with simulation."""
    exact_gap = 0.0
    simulated_gap = 0.0
    for beta, h in CURVATURES:
        expected = formula(h, beta)
        exact_gap = max(exact_gap, abs(stationary(h, beta) / expected - 1))
        simulated_gap = max(simulated_gap, abs(simulated(h, beta, rng) / expected - 1))

    return {
        "variance: formula against Lyapunov equation, largest relative gap": exact_gap,
        "variance: formula against simulation, largest relative gap": simulated_gap,
    }


class SparseRuns(NamedTuple):
    """Measurements of SGD at several noise levels, `[T, noise, seed]` each, except the steps."""

    steps: list[int]
    trace: np.ndarray  # of the Gauss-Newton matrix
    distance: np.ndarray  # ||v * v - w*||
    residual: np.ndarray  # the largest on the train set


def sparse_runs(seed: int) -> SparseRuns:
    """Run SGD on single samples, every noise level on the same data and samples."""
    rng = np.random.default_rng(seed)
    target = np.zeros((SEEDS, D))
    target[:, :SPARSE] = 1
    x = rng.normal(size=(SEEDS, N, D))
    y = np.einsum("snd,sd->sn", x, target)

    v = np.ones((len(NOISES), SEEDS, D))
    noises = np.array(NOISES)[:, None]
    each = np.arange(SEEDS)
    steps: list[int] = []
    traces: list[np.ndarray] = []
    distances: list[np.ndarray] = []
    residuals: list[np.ndarray] = []

    for step in range(STEPS + 1):
        within = step % INTERVAL
        if within == 0:
            residual = np.einsum("snd,ksd->ksn", x, v * v) - y
            steps.append(step)
            traces.append(4 * np.einsum("snd,ksd->ks", x**2, v**2) / N)
            distances.append(np.linalg.norm(v * v - target, axis=-1))
            residuals.append(np.abs(residual).max(-1))
            # Random numbers are drawn an interval at a time, for speed.
            samples = rng.integers(N, size=(INTERVAL, SEEDS))
            signs = rng.choice((-1.0, 1.0), (INTERVAL, SEEDS))

        sample = samples[within]
        row = x[each, sample]
        noise = noises * signs[within]
        error = ((v * v * row).sum(-1) - y[each, sample] + noise)[..., None]
        v = v - LR * 2 * error * v * row

    return SparseRuns(steps, np.array(traces), np.array(distances), np.array(residuals))


def run(seed: int) -> Outcome:
    """Fit n = 40 samples of a 5-sparse target in d = 100; means of four draws.

    150,000 steps of batch size 1 at rate .002.
    """
    runs = sparse_runs(seed)
    last_trace = runs.trace[-1].mean(-1)
    last_distance = runs.distance[-1].mean(-1)

    values = {
        **variance_measures(np.random.default_rng(seed)),
        "SGD without noise: largest residual": float(runs.residual[-1, 0].max()),
        "trace of Gauss-Newton, without noise": float(last_trace[0]),
        "trace of Gauss-Newton, noise 0.5": float(last_trace[1]),
        "trace of Gauss-Newton, noise 1.0": float(last_trace[2]),
        "error: without noise / noise 1.0": float(last_distance[0] / last_distance[2]),
    }

    curves: dict[str, Curve] = {}
    for k, noise in enumerate(NOISES):
        curves[f"label noise {noise}"] = (runs.steps, runs.trace[:, k].mean(-1))

    return Outcome(values, curves, x="step", y="trace of Gauss-Newton", log="y")
