"""The infinite-width limit that learns features, computed exactly, on tasks that rely on them.

Row 11: Yang, Hu, "Feature Learning in Infinite-Width Neural Networks" (Tensor Programs IV), ICML
2021, arXiv:2011.14522, which computes the limit for linear networks of one hidden layer on Word2Vec
and on few-shot learning; here synthetic few-shot regression stands in for both. In the maximal
update parametrization f(x) = mean_i a_i u_i . x, and gradient descent at rate eta n, with g the
mean of residual times input,

    a_i <- a_i - eta g . u_i,   u_i <- u_i - eta a_i g,

needs the second moments A = mean u u', b = mean a u and c = mean a^2 alone, f(x) = b . x:

    A <- A - eta (b g' + g b') + eta^2 c g g'
    b <- b - eta (A + c) g + eta^2 (b . g) g
    c <- c - 2 eta b . g + eta^2 g' A g.

The limit starts at A = I, b = 0, c = 1, a network of n neurons at the moments of its draw. In the
kernel limit A and c do not move. All are trained on a stream of regressions y = w . x whose w lie
in 3 of 30 dimensions, and then on 5 samples of a new one; the rate of that, one of six, and the
number of its steps are chosen on 40 validation tasks, for each model.

1. Networks trained neuron by neuron approach the formulas as n^-1/2.
2. The limit that learns features outperforms the kernel limit, and networks of finite width, which
   approach it.

Control: draws of one width in the place of many; a stream of tasks without shared directions; a
finite network with the moments of the limit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Curve, Outcome
from rlop.experiments.series import power_law_exponent

D = 30
SHARED = 3  # dimensions of the tasks' directions
STREAM = 300  # tasks of pretraining, one step on each
STREAM_SAMPLES = 30
STREAM_RATE = 0.03
SHOTS = 5
TASKS = 40  # of validation, and of test
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # over the trace of A, of the new task
STEPS = 30

FORMULA_WIDTHS = (64, 256, 1024, 4096)
FORMULA_STEPS = 20
WIDTHS = (8, 16, 32, 64, 256)
NARROW = 16
DRAWS = 6


class Moments(NamedTuple):
    """State of a network in the maximal update parametrization."""

    a: np.ndarray  # A, [D, D]
    b: np.ndarray  # [D]
    c: float


class Tasks(NamedTuple):
    """Few-shot tasks: samples `[T, shots, D]` and the direction `[T, D]` of each."""

    x: np.ndarray
    w: np.ndarray


def limit_moments() -> Moments:
    """Return the moments of infinitely many neurons at the start."""
    return Moments(np.eye(D), np.zeros(D), 1.0)


def moments_of(out: np.ndarray, hidden: np.ndarray) -> Moments:
    """Return the moments of n neurons, output weights `[n]` and hidden ones `[n, D]`."""
    n = len(out)
    return Moments(hidden.T @ hidden / n, out @ hidden / n, float(out @ out / n))


def step(state: Moments, g: np.ndarray, rate: float, learns: bool = True) -> Moments:
    """Take one step of gradient descent.

    Args:
        state: moments before.
        g: mean of residual times input, `[D]`.
        rate: learning rate.
        learns: whether features are learned; if not, A and c stay.
    """
    a, b, c = state
    if not learns:
        return Moments(a, b - rate * (a @ g + c * g), c)

    product = float(b @ g)
    crossed = np.outer(b, g)
    return Moments(
        a - rate * (crossed + crossed.T) + rate**2 * c * np.outer(g, g),
        b - rate * (a @ g + c * g) + rate**2 * product * g,
        float(c - 2 * rate * product + rate**2 * g @ a @ g),
    )


def directions(rng: np.random.Generator, tasks: int, shared: bool, basis: np.ndarray) -> np.ndarray:
    """Draw directions of norm about 1 in the span of `basis`, or anywhere, `[tasks, D]`."""
    if shared:
        return rng.normal(size=(tasks, SHARED)) @ basis / SHARED**0.5
    return rng.normal(size=(tasks, D)) / D**0.5


def pretrain(state: Moments, learns: bool, shared: bool, seed: int) -> Moments:
    """Take one step on each task of the stream, which depends on the seed alone."""
    rng = np.random.default_rng(seed)
    basis = basis_of(seed)
    for w in directions(rng, STREAM, shared, basis):
        x = rng.normal(size=(STREAM_SAMPLES, D))
        g = x.T @ (x @ (state.b - w)) / STREAM_SAMPLES
        state = step(state, g, STREAM_RATE, learns)
    return state


def basis_of(seed: int) -> np.ndarray:
    """Draw the orthonormal basis of the shared directions, `[SHARED, D]`."""
    rng = np.random.default_rng([seed, 1])
    return np.linalg.qr(rng.normal(size=(D, SHARED)))[0].T


def draw_tasks(seed: int, stream_seed: int, shared: bool) -> Tasks:
    """Draw few-shot tasks with the directions of a stream."""
    rng = np.random.default_rng(seed)
    w = directions(rng, TASKS, shared, basis_of(stream_seed))
    return Tasks(rng.normal(size=(TASKS, SHOTS, D)), w)


def few_shot(state: Moments, rate: float, tasks: Tasks, learns: bool) -> np.ndarray:
    """Adapt to every task; return the mean error after each number of steps, `[STEPS + 1]`."""
    courses = []
    for x, w in zip(*tasks):
        now = state
        course = [float((now.b - w) @ (now.b - w))]
        for _ in range(STEPS):
            g = x.T @ (x @ (now.b - w)) / SHOTS
            now = step(now, g, rate / np.trace(state.a), learns)
            course.append(min(float((now.b - w) @ (now.b - w)), 1e3))
        courses.append(course)
    return np.mean(courses, axis=0)


def tuned_error(state: Moments, check: Tasks, test: Tasks, learns: bool) -> float:
    """Choose rate and steps on validation tasks; return the error on the test tasks."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.array([few_shot(state, rate, check, learns) for rate in RATES])
        best = np.unravel_index(np.nanargmin(found), found.shape)
        return float(few_shot(state, RATES[best[0]], test, learns)[best[1]])


def network_gap(width: int, seed: int) -> float:
    """Train n neurons one by one, and measure the distance of their b to that of the limit."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=D) / D**0.5
    out, hidden = rng.normal(size=width), rng.normal(size=(width, D))
    state = limit_moments()

    for _ in range(FORMULA_STEPS):
        # Both follow their own residual, on inputs without end: g = b - w.
        g = out @ hidden / width - w
        out, hidden = out - 0.1 * hidden @ g, hidden - 0.1 * np.outer(out, g)
        state = step(state, state.b - w, 0.1)
    return float(np.linalg.norm(out @ hidden / width - state.b))


def gap_exponent(widths: tuple[int, ...], seed: int) -> float:
    """Return the power of the width with which networks approach the formulas."""
    gaps = []
    for i, child in enumerate(child_seeds(seed, len(widths))):
        draws = [network_gap(widths[i], s) for s in child_seeds(child, 8)]
        gaps.append(np.mean(draws))
    # The exponent is that of the nominal widths; the control draws all from one.
    return power_law_exponent(FORMULA_WIDTHS, np.array(gaps))


class Results(NamedTuple):
    """Few-shot errors."""

    limit: float
    kernel: float
    widths: list[float]  # at each of `WIDTHS`


def results(seed: int, shared: bool, widths: tuple[int, ...]) -> Results:
    """Pretrain and adapt the limit, the kernel limit and networks of finite width."""
    stream, check_seed, test_seed, draw_seed = child_seeds(seed, 4)
    check = draw_tasks(check_seed, stream, shared)
    test = draw_tasks(test_seed, stream, shared)

    limit = tuned_error(pretrain(limit_moments(), True, shared, stream), check, test, True)
    kernel = tuned_error(pretrain(limit_moments(), False, shared, stream), check, test, False)

    by_width = []
    rng = np.random.default_rng(draw_seed)
    for width in widths:
        found = []
        for _ in range(DRAWS):
            start = moments_of(rng.normal(size=width), rng.normal(size=(width, D)))
            found.append(tuned_error(pretrain(start, True, shared, stream), check, test, True))
        by_width.append(float(np.mean(found)))
    return Results(limit, kernel, by_width)


def values_of(exponent: float, found: Results, narrow: float) -> dict[str, float]:
    """Name the measures."""
    return {
        "distance of networks to the formulas: exponent of the width": exponent,
        "few-shot error: feature-learning limit / kernel limit": found.limit / found.kernel,
        "few-shot error: 16 neurons / feature-learning limit": narrow / found.limit,
    }


def run(seed: int) -> Outcome:
    """Pretrain on 300 tasks of three shared dimensions, and adapt to 40 new ones."""
    found = results(seed, shared=True, widths=WIDTHS)
    narrow = found.widths[WIDTHS.index(NARROW)]
    values = values_of(gap_exponent(FORMULA_WIDTHS, seed), found, narrow)
    curves: dict[str, Curve] = {
        "finite width": (WIDTHS, found.widths),
        "feature-learning limit": (WIDTHS, [found.limit] * len(WIDTHS)),
        "kernel limit": (WIDTHS, [found.kernel] * len(WIDTHS)),
    }
    return Outcome(values, curves, x="width", y="few-shot error", log="xy")


def control(seed: int) -> dict[str, float]:
    """Draw one width; pretrain on tasks that share nothing; take the limit for a network."""
    found = results(seed, shared=False, widths=())
    return values_of(gap_exponent((256,) * len(FORMULA_WIDTHS), seed), found, found.limit)
