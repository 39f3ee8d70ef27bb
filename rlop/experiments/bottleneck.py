"""A finite bottleneck in an infinitely wide network: acceleration and features.

Row 36: Littwin, Saremi, Zhai, Thilak, Goh, Susskind and Yang, "Implicit Acceleration and Feature
Learning in Infinitely Wide Neural Networks with Bottlenecks", arXiv:2107.00364. The abstract says
that a bottleneck in an otherwise infinitely wide network (1) learns features of the data, unlike
the tangent-kernel limit, (2) dramatically accelerates training, (3) improves the performance, and
(4) that the acceleration is seen in wide linear networks as well, where theory explains it.

The blocks are exact. x -> infinite ReLU layer -> k numbers z: z starts as a draw of the Gaussian
process with covariance K1 and moves with the tangent kernel T1 of this block. z -> infinite ReLU
layer -> f: from a draw f0 of the process on z (4,096 random neurons) the function moves with the
tangent kernel T2 on z, which stays as it is. With slopes l_j = (f_j - y_j) / n,

    df(z)/dt = - sum_j T2(z, z_j) l_j,   dz_i/dt = - sum_j T1(x_i, x_j) l_j grad f(z_j),

so f is f0 plus a sum over all past positions of the z_j. For k to infinity this is the limit
without bottleneck, which descends with one kernel, T = K2 + T1 k0. The linear analogue replaces
both kernels by scalar products: f = b A x, dA/dt = -b (X^T l)^T, db/dt = -A X^T l / k, against
dw/dt = -2 X^T l. Time is that of the gradient flow, the same for all. Setting: 40 digits, 4 against
9, k = 8.

Control: the limit itself in place of the bottleneck, and a first block that does not move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rlop.experiments.digits import load_digits
from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

N = 60
N_TEST = 200
CLASSES = (4, 9)
BOTTLENECKS = (8, 16, 64)
JUDGED = 8
DRAWS = 4  # of the judged bottleneck
NEURONS = 4096  # that draw f0
STEPS = 400
STEP = 0.2  # of the flow, in units of the inverse largest eigenvalue
TARGET = 0.1  # of the first loss


class Data(NamedTuple):
    """Points of norm sqrt(d), labels +-1; the train part first."""

    x: np.ndarray  # [N + N_TEST, d]
    y: np.ndarray


class Flow(NamedTuple):
    """A training: time, loss at that time, and what it led to."""

    times: list[float]
    losses: list[float]
    test_loss: float  # where the train loss reaches the target
    alignment: tuple[float, float]  # of the representation with the labels, first and last

    @property
    def duration(self) -> float:
        """Time to the target, or the whole time if it was missed."""
        return self.times[-1]


def run(seed: int) -> Outcome:
    """Follow the gradient flow with bottlenecks of 8, 16 and 64, and without."""
    data_seed, *seeds = child_seeds(seed, 1 + len(BOTTLENECKS))
    data = points(data_seed)
    limit = without_bottleneck(data)
    curves = {"no bottleneck": (limit.times, limit.losses)}

    for k, draw_seed in zip(BOTTLENECKS, seeds):
        draws = DRAWS if k == JUDGED else 1
        flows = [with_bottleneck(data, k, s) for s in child_seeds(draw_seed, draws)]
        curves[f"bottleneck of {k}"] = (flows[0].times, flows[0].losses)
        if k == JUDGED:
            judged = flows

    linear = [linear_flow(data, JUDGED, s) for s in child_seeds(seeds[0], DRAWS)]
    values = measures(judged, limit, linear, linear_flow(data, None, 0))
    return Outcome(values, curves, x="time of the flow", y="train loss", log="y")


def control(seed: int) -> dict[str, float]:
    """Compare the limit with itself, and hold the first block still."""
    data_seed, *seeds = child_seeds(seed, 1 + len(BOTTLENECKS))
    data = points(data_seed)
    limit = without_bottleneck(data)
    still = with_bottleneck(data, JUDGED, seeds[0], moves=False, steps=10)
    linear = linear_flow(data, None, 0)
    same = limit._replace(alignment=still.alignment)
    return measures([same], limit, [linear], linear)


def measures(
    flows: list[Flow], limit: Flow, linear: list[Flow], linear_limit: Flow
) -> dict[str, float]:
    """Name the numbers."""
    duration = float(np.mean([flow.duration for flow in flows]))
    test = float(np.mean([flow.test_loss for flow in flows]))
    linear_duration = float(np.mean([flow.duration for flow in linear]))
    growth = [flow.alignment[1] - flow.alignment[0] for flow in flows]
    return {
        "growth of the alignment of the bottleneck with the labels": float(np.mean(growth)),
        "time to a tenth of the loss, bottleneck of 8 / none": duration / limit.duration,
        "test loss there, bottleneck of 8 / none": test / limit.test_loss,
        "time of linear networks, bottleneck of 8 / none": linear_duration / linear_limit.duration,
    }


def points(seed: int) -> Data:
    """Draw digits of two classes, equally many in the train part."""
    digits = load_digits(0, seed)
    of_class = [digits.x_test[digits.y_test == label].double().numpy() for label in CLASSES]
    half, half_test = N // 2, N_TEST // 2
    parts = [x[:half] for x in of_class] + [x[half : half + half_test] for x in of_class]
    x = np.concatenate(parts)
    x = x - x[:N].mean(0)
    x *= np.sqrt(x.shape[1]) / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.repeat([1.0, -1.0, 1.0, -1.0], [half, half, half_test, half_test])
    return Data(x, y)


def k0(u: np.ndarray) -> np.ndarray:
    """Evaluate the arc-cosine kernel of degree 0, 1 at u = 1."""
    return 1 - np.arccos(u) / np.pi


def k1(u: np.ndarray) -> np.ndarray:
    """Evaluate the arc-cosine kernel of degree 1, 1 at u = 1; its derivative is `k0`."""
    return np.sqrt(1 - u**2) / np.pi + u * k0(u)


def cosine(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return norms `[n, 1]` and `[1, m]` and the cosines `[n, m]` of two sets of rows."""
    norm_a = np.linalg.norm(a, axis=1)[:, None]
    norm_b = np.linalg.norm(b, axis=1)[None]
    return norm_a, norm_b, np.clip(a @ b.T / (norm_a * norm_b), -1 + 1e-9, 1 - 1e-9)


def block(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the kernels of one infinite ReLU layer with a linear output, rows in R^d.

    Returns:
        Covariance of the outputs at the start |a| |b| k1 / d, and tangent kernel, which adds
        a.b k0 / d; `[n, m]`.
    """
    norm_a, norm_b, u = cosine(a, b)
    scale = norm_a * norm_b / a.shape[1]
    covariance = scale * k1(u)
    return covariance, covariance + scale * u * k0(u)


def block_gradient(z: np.ndarray, centers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Differentiate sum_h weights_h T(z_i, centers_h) by z_i, for the tangent kernel of `block`.

    Args:
        z: `[n, k]`.
        centers: `[H, k]`.
        weights: `[H]`.
    Returns:
        `[n, k]`.
    """
    norm_z, norm_c, u = cosine(z, centers)
    sine = np.sqrt(1 - u**2)
    slope = u / (np.pi * sine)  # of u k0(u), without k0 itself
    along_center = (2 * k0(u) + slope) * weights
    along_z = (sine / np.pi - slope * u) * (norm_c * weights)
    return (along_center @ centers + along_z.sum(1, keepdims=True) * z / norm_z) / z.shape[1]


def flow(
    y: np.ndarray,
    state: Callable[[], tuple[np.ndarray, np.ndarray]],
    move: Callable[[np.ndarray], None],
    steps: int = STEPS,
) -> tuple[list[float], list[float]]:
    """Follow the flow by Euler's method until the loss has fallen to the target.

    Args:
        y: labels `[N]`.
        state: returns outputs `[N]` and the whole tangent kernel `[N, N]`.
        move: makes a step, given slopes times the length of the step `[N]`.
        steps: most steps.
    Returns:
        Times and losses.
    """
    times, losses = [0.0], []
    for _ in range(steps):
        f, kernel = state()
        losses.append(float(np.mean((f - y) ** 2) / 2))
        if losses[-1] <= TARGET * losses[0]:
            return times, losses
        length = STEP / np.linalg.eigvalsh(kernel / N)[-1]
        move(length * (f - y) / N)
        times.append(times[-1] + float(length))
    return times[:-1], losses


def without_bottleneck(data: Data) -> Flow:
    """Descend in the infinitely wide limit of the same layers, from f = 0."""
    covariance, tangent = block(data.x, data.x)
    scale = np.sqrt(np.diag(covariance))
    u = np.clip(covariance / np.outer(scale, scale), -1, 1)
    kernel = np.outer(scale, scale) * k1(u) + tangent * k0(u)

    f = np.zeros(len(data.y))

    def state() -> tuple[np.ndarray, np.ndarray]:
        return f[:N], kernel[:N, :N]

    def move(step: np.ndarray) -> None:
        f[:] -= kernel[:, :N] @ step

    times, losses = flow(data.y[:N], state, move)
    return Flow(times, losses, held_out_loss(f, data), (0.0, 0.0))


def with_bottleneck(data: Data, k: int, seed: int, moves: bool = True, steps: int = STEPS) -> Flow:
    """Descend with k numbers between the infinite blocks.

    Args:
        data: train and test points.
        k: width of the bottleneck.
        seed: of z and f0.
        moves: whether the first block learns.
        steps: most steps of the flow.
    """
    rng = np.random.default_rng(seed)
    covariance, tangent = block(data.x, data.x)
    values, vectors = np.linalg.eigh(covariance)
    z = vectors * np.sqrt(values.clip(0)) @ rng.normal(size=(len(values), k))
    w = rng.normal(size=(NEURONS, k)) / np.sqrt(k)
    v = rng.normal(size=NEURONS) * np.sqrt(2 / NEURONS)
    centers: list[np.ndarray] = []
    weights: list[np.ndarray] = []

    def outputs(at: np.ndarray) -> np.ndarray:
        f = np.maximum(at @ w.T, 0) @ v
        if centers:
            f = f + block(at, np.concatenate(centers))[1] @ np.concatenate(weights)
        return f

    def gradient() -> np.ndarray:
        slope = ((z[:N] @ w.T > 0) * v) @ w
        if centers:
            slope = slope + block_gradient(z[:N], np.concatenate(centers), np.concatenate(weights))
        return slope

    start = outputs(z)  # subtracted, so that all trainings start from 0
    slopes = gradient()
    first = alignment(z[:N], data.y[:N])

    def state() -> tuple[np.ndarray, np.ndarray]:
        nonlocal slopes
        slopes = gradient()
        kernel = block(z[:N], z[:N])[1] + moves * (slopes @ slopes.T) * tangent[:N, :N]
        return outputs(z[:N]) - start[:N], kernel

    def move(step: np.ndarray) -> None:
        centers.append(z[:N].copy())
        weights.append(-step)
        if moves:
            z[:] -= tangent[:, :N] @ (step[:, None] * slopes)

    times, losses = flow(data.y[:N], state, move, steps)
    last = alignment(z[:N], data.y[:N])
    return Flow(times, losses, held_out_loss(outputs(z) - start, data), (first, last))


def linear_flow(data: Data, k: int | None, seed: int) -> Flow:
    """Descend in infinitely wide linear blocks, with a bottleneck of k or none."""
    x, y = data.x / np.sqrt(data.x.shape[1]), data.y
    d = x.shape[1]
    rng = np.random.default_rng(seed)
    if k is None:
        first, last = np.eye(d), np.zeros(d)
    else:
        first, last = rng.normal(size=(k, d)), rng.normal(size=k) / np.sqrt(k)
    start = last @ first
    gram = x[:N] @ x[:N].T

    def state() -> tuple[np.ndarray, np.ndarray]:
        f = x[:N] @ (last @ first - start)
        if k is None:
            return f, 2 * gram
        hidden = x[:N] @ first.T
        return f, hidden @ hidden.T / k + last @ last * gram

    def move(step: np.ndarray) -> None:
        pull = step @ x[:N]
        if k is None:
            last[:] -= 2 * pull
            return
        last_step = first @ pull / k
        first[:] -= np.outer(last, pull)
        last[:] -= last_step

    times, losses = flow(y[:N], state, move)
    return Flow(times, losses, held_out_loss(x @ (last @ first - start), data), (0.0, 0.0))


def alignment(z: np.ndarray, y: np.ndarray) -> float:
    """Return the centered alignment of the Gram matrix of z `[N, k]` with that of the labels."""
    z = z - z.mean(0)
    y = y - y.mean()
    gram = z @ z.T
    return float(y @ gram @ y / (np.linalg.norm(gram) * (y @ y)))


def held_out_loss(f: np.ndarray, data: Data) -> float:
    """Compute the mean squared error / 2 on the test part."""
    return float(np.mean((f[N:] - data.y[N:]) ** 2) / 2)
