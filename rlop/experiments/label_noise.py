"""Fresh label noise at every step leads SGD to flat solutions; other noise does not.

Reference: Damian, Ma, Lee, "Label Noise SGD Provably Prefers Flat Global Minimizers", NeurIPS 2021,
arXiv:2106.06530; the model f(x) = <v * v, x> is that of HaoChen, Wei, Lee, Ma, "Shape Matters",
COLT 2021, arXiv:2006.08680.

SGD at rate eta and momentum beta on batches of B with label noise of variance sigma^2 minimizes
L + lambda R,

    lambda = eta sigma^2 / (B (1 - beta)),
    R = -(1 + beta) / (2 eta) tr log(I - eta H / (2 (1 + beta))),   about tr(H) / 4.

1. On one direction of curvature h this says that the variance settles at
   lambda / (2 - eta h / (1 + beta)), which is eta lambda R' / (eta / 2) by its derivative. Measured
   on simulated chains, without and with momentum; and the quotient of two curvatures with eta h 1.6
   and .2, which is 4.5, and would be 1 if R were linear in the curvature.
2. f(x) = <v * v, x> is fitted to fewer samples than inputs, from v = 1. There L + lambda tr(H) / 4
   is a nonnegative lasso in u = v * v, solved by coordinate descent. Measured: the distance of u
   from its solution, averaged over the last tenth of SGD with noise, over that of SGD without; and
   the trace of H, with noise over without. From v = 1, far from the solution, this is global.
3. Classification: labels flipped at random with probability .2 at every step, against the same
   labels smoothed, which have the same expected loss: the trace, flipped over smoothed.

Control: noise of equal total variance that is not of labels: the same kick for every curvature, and
spherical Gaussian steps of the weights. For the quotient: a learning rate ten times smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

# The quadratic, at batch size B = 1.
ETA = 1.0
SIGMA = 0.1
CURVATURES = {0.0: (0.5, 1.0, 1.8), 0.9: (0.5, 1.0, 3.0)}  # momentum -> h
SHARP, FLAT = 1.6, 0.2

# Sparse regression and classification.
N = 40
D = 100
SPARSE = 5
DRAWS = 4
STEPS = 100_000
INTERVAL = 1000  # steps between measurements
REGRESSION_LR, NOISE = 0.002, 2.0
CLASSIFICATION_LR, FLIP = 0.01, 0.2

Slope = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (outputs, labels) -> derivative of loss


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
    h: float,
    beta: float,
    rng: np.random.Generator,
    eta: float = ETA,
    kick: float | None = None,
) -> float:
    """Estimate the same variance by simulating many chains from zero.

    Args:
        h: curvature.
        beta: momentum.
        rng: generator of the noise.
        eta: learning rate.
        kick: standard deviation of the noise of a step; that of label noise by default.
    """
    kick = SIGMA * np.sqrt(h) if kick is None else kick
    x = before = np.zeros(20_000)
    for _ in range(int(400 / eta)):
        noise = kick * rng.standard_normal(len(x))
        x, before = x - eta * (h * x + noise) + beta * (x - before), x
    return float(x.var())


def variances(rng: np.random.Generator, of_labels: bool) -> dict[str, float]:
    """Compare the formula with simulated chains, and a sharp with a flat direction."""
    values: dict[str, float] = {}
    for beta, curvatures in CURVATURES.items():
        gaps = []
        for h in curvatures:
            kick = None if of_labels else SIGMA
            gaps.append(abs(simulated(h, beta, rng, kick=kick) / formula(h, beta) - 1))
        values[f"variance, momentum {beta:g}: largest gap to the formula"] = max(gaps)

    eta = ETA if of_labels else ETA / 10
    sharp, flat = (simulated(h, 0.0, rng, eta) for h in (SHARP, FLAT))
    values["variance of a sharp / of a flat direction, large rate"] = sharp / flat
    return values


class Course(NamedTuple):
    """Measurements of SGD in one arm."""

    trace: np.ndarray  # of the Gauss-Newton matrix without the loss's curvature `[T, S]`
    u: np.ndarray  # v * v, averaged over the last tenth `[S, D]`


def sgd(
    x: np.ndarray,
    labels: np.ndarray,
    slope: Slope,
    lr: float,
    noise: Callable[[np.random.Generator, np.ndarray], np.ndarray],
    sigma: float,
    seed: int,
) -> Course:
    """Run SGD on single samples from v = 1.

    Args:
        x: inputs `[S, N, D]`.
        labels: `[S, N]`.
        slope: derivative of the loss by the output.
        lr: learning rate.
        noise: function of a generator and the labels of a step `[S]`, giving noisy ones.
        sigma: standard deviation of label noise whose total variance spherical steps have; 0 for
            none.
        seed: seed of samples and noise.
    """
    rng = np.random.default_rng(seed)
    each = np.arange(len(x))
    v = np.ones((len(x), D))
    squares = (x**2).mean(1)
    traces: list[np.ndarray] = []
    total = np.zeros_like(v)

    for step in range(STEPS):
        if step % INTERVAL == 0:
            trace = 4 * (squares * v**2).sum(-1)
            traces.append(trace)
            # Random numbers are drawn an interval at a time, for speed.
            samples = rng.integers(N, size=(INTERVAL, len(x)))
            seen = noise(rng, labels[each, samples])
            if sigma:
                kicks = rng.standard_normal((INTERVAL, *v.shape))
                kicks *= lr * sigma * np.sqrt(trace / D)[:, None]

        row = x[each, samples[step % INTERVAL]]
        output = (v * v * row).sum(-1)
        v = v - lr * 2 * slope(output, seen[step % INTERVAL])[:, None] * v * row
        if sigma:
            v = v + kicks[step % INTERVAL]
        if step >= STEPS - STEPS // 10:
            total += v * v

    return Course(np.array(traces), total / (STEPS // 10))


def lasso(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    """Minimize mean (x u - y)^2 / 2 + strength sum_j mean(x_j^2) u_j over u >= 0, `[D]`."""
    squares = (x**2).mean(0)
    u = np.zeros(x.shape[1])
    residual = y.copy()
    for _ in range(300):
        for j in range(len(u)):
            best = max(0.0, u[j] + x[:, j] @ residual / len(y) / squares[j] - strength)
            residual += x[:, j] * (u[j] - best)
            u[j] = best
    return u


def sparse_data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw inputs `[S, N, D]` and outputs of a sparse target `[S, N]`."""
    x = np.random.default_rng(seed).normal(size=(DRAWS, N, D))
    return x, x[..., :SPARSE].sum(-1)


def squared(output: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Differentiate half the squared error."""
    return output - label


def logistic(output: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Differentiate the cross-entropy, labels in [0, 1]."""
    return 1 / (1 + np.exp(-output)) - label


def keep(_: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Return the labels as they are."""
    return labels


def signs(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Add or subtract `NOISE`."""
    return labels + NOISE * rng.choice((-1.0, 1.0), labels.shape)


def flips(rng: np.random.Generator, smooth: np.ndarray) -> np.ndarray:
    """Draw a label for each probability of 1."""
    return (rng.random(smooth.shape) < smooth).astype(float)


def regression(seed: int, of_labels: bool) -> tuple[Course, Course, float]:
    """Fit with and without noise; return both, and the quotient of distances from the lasso."""
    x, y = sparse_data(seed)
    plain = sgd(x, y, squared, REGRESSION_LR, keep, 0.0, seed)
    noise, sigma = (signs, 0.0) if of_labels else (keep, NOISE)
    noisy = sgd(x, y, squared, REGRESSION_LR, noise, sigma, seed)

    strength = REGRESSION_LR * NOISE**2
    solution = np.stack([lasso(x[i], y[i], strength) for i in range(DRAWS)])
    far, near = (np.linalg.norm(course.u - solution) for course in (plain, noisy))
    return plain, noisy, float(near / far)


def classification(seed: int, of_labels: bool) -> tuple[Course, Course]:
    """Fit smoothed labels, and the same with noise."""
    x, y = sparse_data(seed)
    smooth = np.where(y > 0, 1 - FLIP, FLIP)
    plain = sgd(x, smooth, logistic, CLASSIFICATION_LR, keep, 0.0, seed)
    noise, sigma = (flips, 0.0) if of_labels else (keep, np.sqrt(FLIP * (1 - FLIP)))
    return plain, sgd(x, smooth, logistic, CLASSIFICATION_LR, noise, sigma, seed)


def measured(seed: int, of_labels: bool) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Measure the three parts; return the values, and traces by arm `[T]`."""
    first, second, third = child_seeds(seed, 3)
    plain, noisy, distance = regression(second, of_labels)
    smoothed, flipped = classification(third, of_labels)

    def ratio(with_noise: Course, without: Course) -> float:
        return float(with_noise.trace[-1].mean() / without.trace[-1].mean())

    values = {
        **variances(np.random.default_rng(first), of_labels),
        "distance from the minimum of L + lambda R, noise / none": distance,
        "regression: trace of the Hessian, noise / none": ratio(noisy, plain),
        "classification: trace of the Hessian, flipped / smoothed": ratio(flipped, smoothed),
    }
    arms = {
        "regression": plain,
        "regression, label noise": noisy,
        "classification, smoothed": smoothed,
        "classification, flipped": flipped,
    }
    return values, {name: course.trace.mean(-1) for name, course in arms.items()}


def run(seed: int) -> Outcome:
    """Measure label noise."""
    values, traces = measured(seed, of_labels=True)
    steps = range(0, STEPS, INTERVAL)
    curves = {name: (steps, trace) for name, trace in traces.items()}
    return Outcome(values, curves, x="step", y="trace of Gauss-Newton", log="y")


def control(seed: int) -> dict[str, float]:
    """Measure noise that is not of labels."""
    return measured(seed, of_labels=False)[0]
