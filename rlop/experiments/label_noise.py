"""Fresh label noise at every step leads SGD to flat solutions; noise that does not come from labels does not.

Reference: Damian, Ma, Lee, "Label Noise SGD Provably Prefers Flat Global Minimizers", NeurIPS 2021, arXiv:2106.06530;
the model f(x) = <v * v, x> is that of HaoChen, Wei, Lee, Ma, "Shape Matters", COLT 2021, arXiv:2006.08680.

1. On one quadratic direction of curvature h, noise of covariance (sigma^2 / B) h settles at the variance
   lambda / (2 - eta h / (1 + beta)), lambda = eta sigma^2 / (B (1 - beta)), beta the momentum. From it follows the
   regularizer that label noise adds, -(1 + beta) / (2 eta) tr log(I - eta H / (2 (1 + beta))), about tr(H) / 4.
2. f(x) = <v * v, x> fitted to fewer samples than inputs, from v = 1: every run interpolates, label noise ends where the
   trace of the Gauss-Newton matrix is small, which for this model is the sparse solution.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.outcome import Measure, Outcome

ETA, SIGMA = 1.0, 0.1  # of the quadratic, B = 1
CURVATURES = (
    (0.0, 0.5),
    (0.0, 1.0),
    (0.0, 1.8),
    (0.9, 0.5),
    (0.9, 1.0),
    (0.9, 3.0),
)  # (momentum, h)
N, D, SPARSE, LR, STEPS = 40, 100, 5, 0.002, 150_000
NOISES = (0.0, 0.5, 1.0)


def stationary(h: float, beta: float, eta: float = ETA, sigma: float = SIGMA) -> float:
    """Variance of heavy-ball SGD with label noise on h x^2 / 2, by solving its 2 x 2 Lyapunov equation."""
    step = np.array([[1 + beta - eta * h, -beta], [1.0, 0.0]])
    noise = np.diag([eta**2 * sigma**2 * h, 0.0])
    return float(np.linalg.solve(np.eye(4) - np.kron(step, step), noise.ravel())[0])


def formula(h: float, beta: float, eta: float = ETA, sigma: float = SIGMA) -> float:
    """The closed form of the same number."""
    return eta * sigma**2 / (1 - beta) / (2 - eta * h / (1 + beta))


def simulated(
    h: float, beta: float, rng: np.random.Generator, chains: int = 20_000, steps: int = 600
) -> float:
    """The same number by simulating many chains from zero."""
    x = before = np.zeros(chains)
    for _ in range(steps):
        kick = SIGMA * np.sqrt(h) * rng.standard_normal(chains)
        x, before = x - ETA * (h * x + kick) + beta * (x - before), x
    return float(x.var())


def variance_measures(rng: np.random.Generator) -> list[Measure]:
    """Formula against the Lyapunov equation to rounding, and against simulation to its standard error."""
    pairs = [(stationary(h, beta), formula(h, beta)) for beta, h in CURVATURES]
    gap = max(abs(a / b - 1) for a, b in pairs)
    found = max(abs(simulated(h, beta, rng) / formula(h, beta) - 1) for beta, h in CURVATURES)
    return [
        Measure(
            "variance: formula against Lyapunov equation, largest relative gap",
            gap,
            0.0,
            1e-9,
            "0: exact",
        ),
        Measure(
            "variance: formula against simulation, largest relative gap",
            found,
            0.0,
            0.05,
            "0, sampling error .01",
        ),
    ]


def sparse_runs(seed: int, seeds: int = 4) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """SGD on single samples, every noise level on the same data and samples.

    Returns:
        steps, then `[T, noise, seed]`: trace of the Gauss-Newton matrix, ||v * v - w*||, largest training residual.
    """
    rng = np.random.default_rng(seed)
    target = np.zeros((seeds, D))
    target[:, :SPARSE] = 1
    x = rng.normal(size=(seeds, N, D))
    y = np.einsum("snd,sd->sn", x, target)
    v = np.ones((len(NOISES), seeds, D))
    noises, each = np.array(NOISES)[:, None], np.arange(seeds)
    steps, seen = [], []
    for step in range(STEPS + 1):
        if step % 1000 == 0:
            residual = np.einsum("snd,ksd->ksn", x, v * v) - y
            trace = 4 * np.einsum("snd,ksd->ks", x**2, v**2) / N
            steps.append(step)
            seen.append((trace, np.linalg.norm(v * v - target, axis=-1), np.abs(residual).max(-1)))
            picks, signs = (
                rng.integers(N, size=(1000, seeds)),
                rng.choice((-1.0, 1.0), (1000, seeds)),
            )
        pick, sign = picks[step % 1000], signs[step % 1000]
        row = x[each, pick]
        error = ((v * v * row).sum(-1) - y[each, pick] + noises * sign)[..., None]
        v = v - LR * 2 * error * v * row
    trace, distance, residual = (np.array(column) for column in zip(*seen))
    return steps, trace, distance, residual


def run(seed: int = 0) -> Outcome:
    """n = 40, d = 100, 5-sparse target, 150,000 steps of batch 1 at rate .002; means of four draws."""
    steps, trace, distance, residual = sparse_runs(seed)
    ends, far = trace[-1].mean(-1), distance[-1].mean(-1)
    measures = (
        *variance_measures(np.random.default_rng(seed)),
        Measure(
            "SGD without noise: largest residual",
            float(residual[-1, 0].max()),
            0.0,
            1e-3,
            "0: it interpolates",
        ),
        Measure(
            "trace of Gauss-Newton, without noise",
            float(ends[0]),
            215 * 0.7,
            215 * 1.3,
            "measured oracle 215",
        ),
        Measure(
            "trace of Gauss-Newton, noise 0.5",
            float(ends[1]),
            128 * 0.7,
            128 * 1.3,
            "measured oracle 128",
        ),
        Measure(
            "trace of Gauss-Newton, noise 1.0",
            float(ends[2]),
            14,
            60,
            "20 where it leads to, measured oracle 46",
        ),
        Measure(
            "error: without noise / noise 1.0",
            float(far[0] / far[2]),
            3.0,
            np.inf,
            "measured oracle 6.1",
        ),
    )
    curves = {f"label noise {s}": (steps, trace[:, k].mean(-1)) for k, s in enumerate(NOISES)}
    return Outcome(measures, curves, x="step", y="trace of Gauss-Newton", log="y")
