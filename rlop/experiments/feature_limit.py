"""The infinite-width limit that learns features, computed exactly, on tasks that rely on them.

Row 11: Yang, Hu, "Feature Learning in Infinite-Width Neural Networks" (Tensor Programs IV), ICML
2021, arXiv:2011.14522, which computes the limit for linear networks of one hidden layer on Word2Vec
and on few-shot learning; here pretraining on synthetic regressions, and transfer to new ones from
few samples, stands in for both. In the maximal update parametrization f(x) = mean_i a_i u_i . x
with K outputs, and gradient descent at rate eta n, with G the mean of residual times input `[K,
D]`,

    a_i <- a_i - eta G u_i,   u_i <- u_i - eta G' a_i,

needs the second moments A = mean u u', B = mean a u' and C = mean a a' alone, f(x) = B x:

    A <- A - eta (B' G + G' B) + eta^2 G' C G
    B <- B - eta (G A + C G) + eta^2 G B' G
    C <- C - eta (G B' + B G') + eta^2 G A G'.

The limit starts at A = I, B = 0, C = I, a network of n neurons at the moments of its draw. In the
kernel limit A and C do not move. All are trained on ten regressions whose directions lie in 3 of 30
dimensions; then a new output of random weights, B = 0 and C = 1 in the limit, is trained with the
features on 5 samples of a new direction of these dimensions; the rate of that, one of six, and the
number of its steps are chosen on 40 validation tasks, for each model.

1. Networks trained neuron by neuron approach the formulas as n^-1/2, from widths on that are large
   beside the dimension.
2. The limit that learns features outperforms the kernel limit, and networks of finite width, which
   approach it.

Control: draws of one width in the place of many; tasks without shared directions; a finite network
with the moments of the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Curve, Outcome
from rlop.experiments.series import power_law_exponent

D = 30
SHARED = 3  # dimensions of the tasks' directions
OUTPUTS = 10  # regressions of pretraining
LENGTH = 3.0  # of their directions; the network starts at 1
PRETRAINING_STEPS = 1000
PRETRAINING_RATE = 0.02
SHOTS = 5
TASKS = 40  # of validation, and of test
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # over the trace of A, of the new task
STEPS = 30
DIVERGED = 10.0  # ten times the error of not learning; more, or NaN, counts as this

FORMULA_WIDTHS = (512, 2048, 8192, 32768)
FORMULA_STEPS = 20
WIDTHS = (8, 16, 32, 64, 256)
NARROW = 16
DRAWS = 6


class Moments(NamedTuple):
    """State of a network with K outputs in the maximal update parametrization."""

    a: np.ndarray  # A, [D, D]
    b: np.ndarray  # B, [K, D]
    c: np.ndarray  # C, [K, K]


Step: TypeAlias = Callable[[Moments, np.ndarray, float], Moments]


class Tasks(NamedTuple):
    """Few-shot tasks: samples `[T, shots, D]` and the direction `[T, D]` of each."""

    x: np.ndarray
    w: np.ndarray


def limit_moments(outputs: int) -> Moments:
    """Return the moments of infinitely many neurons at the start."""
    return Moments(np.eye(D), np.zeros((outputs, D)), np.eye(outputs))


def drawn_moments(outputs: int, width: int, rng: np.random.Generator) -> Moments:
    """Return the moments of n neurons at the start."""
    out = rng.normal(size=(width, outputs))
    hidden = rng.normal(size=(width, D))
    return Moments(hidden.T @ hidden / width, out.T @ hidden / width, out.T @ out / width)


def step(state: Moments, g: np.ndarray, rate: float) -> Moments:
    """Take one step of gradient descent.

    Args:
        state: moments before.
        g: mean of residual times input, `[K, D]`.
        rate: learning rate.
    """
    a, b, c = state
    features, outputs = b.T @ g, b @ g.T
    return Moments(
        a - rate * (features + features.T) + rate**2 * g.T @ c @ g,
        b - rate * (g @ a + c @ g) + rate**2 * g @ features,
        c - rate * (outputs + outputs.T) + rate**2 * g @ a @ g.T,
    )


def kernel_step(state: Moments, g: np.ndarray, rate: float) -> Moments:
    """Take one step in the kernel limit, in which the features stay."""
    a, b, c = state
    return Moments(a, b - rate * (g @ a + c @ g), c)


def directions(rng: np.random.Generator, tasks: int, shared: bool, basis: np.ndarray) -> np.ndarray:
    """Draw directions of norm about 1 in the span of `basis`, or anywhere, `[tasks, D]`."""
    if shared:
        return rng.normal(size=(tasks, SHARED)) @ basis / SHARED**0.5
    return rng.normal(size=(tasks, D)) / D**0.5


def pretrain(state: Moments, shared: bool, seed: int) -> Moments:
    """Fit ten regressions, on inputs without end: their gradient is B - W."""
    w = LENGTH * directions(np.random.default_rng(seed), OUTPUTS, shared, basis_of(seed))
    for _ in range(PRETRAINING_STEPS):
        state = step(state, state.b - w, PRETRAINING_RATE)
    return state


def new_output(state: Moments, width: int, rng: np.random.Generator) -> Moments:
    """Replace the outputs of n neurons by one of random weights.

    Of the weights a, the part z in the span of the features gives b = A^(1/2) z / sqrt(n).
    """
    values, vectors = np.linalg.eigh(state.a)
    rank = min(width, D)
    z = rng.normal(size=rank)
    others = rng.chisquare(width - rank) if width > rank else 0.0
    root = np.sqrt(values[-rank:].clip(0)) * vectors[:, -rank:]
    return Moments(state.a, (root @ z)[None] / width**0.5, np.array([[(z @ z + others) / width]]))


def basis_of(seed: int) -> np.ndarray:
    """Draw the orthonormal basis of the shared directions, `[SHARED, D]`."""
    rng = np.random.default_rng([seed, 1])
    return np.linalg.qr(rng.normal(size=(D, SHARED)))[0].T


def draw_tasks(seed: int, stream_seed: int, shared: bool) -> Tasks:
    """Draw few-shot tasks with the directions of a pretraining."""
    rng = np.random.default_rng(seed)
    w = directions(rng, TASKS, shared, basis_of(stream_seed))
    return Tasks(rng.normal(size=(TASKS, SHOTS, D)), w)


def few_shot(state: Moments, rate: float, tasks: Tasks, move: Step) -> np.ndarray:
    """Adapt to every task; return the mean error after each number of steps, `[STEPS + 1]`."""
    courses = []
    for x, w in zip(*tasks):
        now = state
        course = [error(now, w)]
        for _ in range(STEPS):
            g = (now.b - w) @ x.T @ x / SHOTS
            now = move(now, g, rate / np.trace(state.a))
            course.append(min(DIVERGED, error(now, w)))
        courses.append(course)
    return np.mean(courses, axis=0)


def error(state: Moments, w: np.ndarray) -> float:
    """Return the expected squared error on a task."""
    return float(np.square(state.b - w).sum())


def tuned_error(state: Moments, check: Tasks, test: Tasks, move: Step = step) -> float:
    """Choose rate and steps on validation tasks; return the error on the test tasks."""
    with np.errstate(over="ignore", invalid="ignore"):
        courses = np.array([few_shot(state, rate, check, move) for rate in RATES])
        best = np.unravel_index(np.nanargmin(courses), courses.shape)
        return float(few_shot(state, RATES[best[0]], test, move)[best[1]])


def network_gap(width: int, seed: int) -> float:
    """Train n neurons one by one, and measure the distance of their b to that of the limit."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=D) / D**0.5
    out, hidden = rng.normal(size=width), rng.normal(size=(width, D))
    state = limit_moments(1)

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

    features = pretrain(limit_moments(OUTPUTS), shared, stream).a
    start = limit_moments(1)
    limit = tuned_error(start._replace(a=features), check, test)
    # Pretraining moves no feature of the kernel limit: a new output starts at the start.
    kernel = tuned_error(start, check, test, kernel_step)

    by_width = []
    rng = np.random.default_rng(draw_seed)
    for width in widths:
        errors = []
        for _ in range(DRAWS):
            trained = pretrain(drawn_moments(OUTPUTS, width, rng), shared, stream)
            errors.append(tuned_error(new_output(trained, width, rng), check, test))
        by_width.append(float(np.mean(errors)))
    return Results(limit, kernel, by_width)


def values_of(exponent: float, found: Results, narrow: float) -> dict[str, float]:
    """Name the measures."""
    return {
        "distance of networks to the formulas: exponent of the width": exponent,
        "few-shot error: feature-learning limit / kernel limit": found.limit / found.kernel,
        "few-shot error: 16 neurons / feature-learning limit": narrow / found.limit,
    }


def run(seed: int) -> Outcome:
    """Pretrain on ten tasks of three shared dimensions, and adapt to 40 new ones."""
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
