"""In the linear regime a wide network learns polynomials degree by degree as samples grow.

Row 4: Montanari's talk at the workshop; Mei, Misiakiewicz, Montanari, "Generalization error of
random features and kernel methods", arXiv:2101.10588; Montanari and Zhong, "The interpolation phase
transition in neural networks: memorization and generalization under lazy training",
arXiv:2007.12826. Inputs are uniform on the unit sphere in d = 20 dimensions. The tangent features
of the first layer of N ReLU neurons,

    f(x) = (2 / N)^1/2 sum_i <a_i, x> 1{w_i . x > 0},

make a random kernel of rank N d; as N grows it becomes h(t) = t (pi - arccos t) / pi of t = <x,
x'>.

1. The precise error: for targets of pure degree 1 and 2 the measured error of the minimum-norm
   interpolant is compared with the formula of `ridge_theory`, whose eigenvalues are integrals of h,
   at eight sample sizes; and the staircase that follows from it: n between d and d^2 samples give
   the linear part alone, more than d^2 the quadratic one too.
2. The same staircase in the number of parameters N d, at n fixed.
3. The kernel has rank N d, and ridge regression in the features equals that in the kernel along the
   whole path of ridges.

Control: targets whose values are shuffled between the inputs, so that there is no polynomial to
learn; kernels that belong to other neurons.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlop.experiments.outcome import Outcome
from rlop.experiments.ridge_theory import ridge_error, sphere_eigenvalues, spherical_harmonics

D = 20
SAMPLES = (20, 40, 89, 160, 280, 500, 900, 1789)
FEW = 89  # about d^1.5: between d and the d (d + 1) / 2 quadratic polynomials
MANY = 1789  # d^2.5
TEST = 2000
DRAWS = 2000  # of samples, all together, at each n: small sets vary more
DEGREES = 16  # the rest of the kernel acts as a ridge
NARROW = 4  # neurons: N d = 80 parameters
WIDE = 500
RANK_NEURONS = 6
RANK_SAMPLES = 200
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
JITTER = 1e-9  # on the diagonal of an interpolating kernel matrix


class Sample(NamedTuple):
    """Inputs on the sphere, with a target of degree 1 and one of degree 2, of variance 1."""

    x: np.ndarray  # [n, d]
    targets: np.ndarray  # [n, 2]


def draw(rng: np.random.Generator, n: int, shuffled: bool) -> Sample:
    """Draw inputs and targets; shuffled targets belong to no input."""
    x = rng.normal(size=(n, D))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    linear = x[:, 0] * np.sqrt(D)
    quadratic = x[:, 0] * x[:, 1] * np.sqrt(D * (D + 2))
    targets = np.stack([linear, quadratic], axis=1)
    return Sample(x, rng.permutation(targets) if shuffled else targets)


def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Evaluate the tangent kernel of infinitely many neurons, `[n, d], [m, d] -> [n, m]`."""
    return profile(np.clip(a @ b.T, -1, 1))


def profile(t: np.ndarray) -> np.ndarray:
    """Evaluate the same kernel as a function of the inner product."""
    return t * (np.pi - np.arccos(t)) / np.pi


def features(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Compute the tangent features of N neurons, `[n, d], [N, d] -> [n, N d]`."""
    active = (x @ w.T > 0) * np.sqrt(2 / len(w))
    return (active[:, :, None] * x[:, None, :]).reshape(len(x), -1)


def errors(train: Sample, test: Sample) -> np.ndarray:
    """Measure the error of the interpolant of each target, `[2]`."""
    gram = kernel(train.x, train.x) + JITTER * np.eye(len(train.x))
    predicted = kernel(test.x, train.x) @ np.linalg.solve(gram, train.targets)
    return ((predicted - test.targets) ** 2).mean(0)


def expected(n: int) -> np.ndarray:
    """Evaluate the formula for the error of each target, `[2]`."""
    nodes = np.linspace(-1, 1, 200_001)
    eigenvalues = sphere_eigenvalues(profile(nodes), nodes, D, DEGREES)
    counts = spherical_harmonics(D, DEGREES)
    rest = 1.0 - float(counts @ eigenvalues)  # h(1) = 1 is the sum over all degrees

    values = []
    for degree in (1, 2):
        target = np.eye(DEGREES)[degree]
        values.append(ridge_error(eigenvalues, target, 0.0, n, rest, counts))
    return np.array(values)


def finite_error(neurons: int, train: Sample, test: Sample, rng: np.random.Generator) -> float:
    """Measure the error of N neurons on the quadratic target, by least squares of least norm."""
    w = rng.normal(size=(neurons, D))
    phi, phi_test = features(train.x, w), features(test.x, w)
    y = train.targets[:, 1]

    if phi.shape[1] < len(y):
        predicted = phi_test @ np.linalg.lstsq(phi, y, rcond=None)[0]
    else:
        gram = phi @ phi.T + JITTER * np.eye(len(y))
        predicted = phi_test @ (phi.T @ np.linalg.solve(gram, y))
    return float(((predicted - test.targets[:, 1]) ** 2).mean())


def rank_share(x: np.ndarray, w: np.ndarray) -> float:
    """Count the rank of the tangent kernel matrix in units of N d."""
    phi = features(x, w)
    return float(np.linalg.matrix_rank(phi @ phi.T, tol=1e-9)) / w.size


def path_gap(sample: Sample, w: np.ndarray, kernel_w: np.ndarray) -> float:
    """Compare ridge regression in features with that in a kernel, at every ridge.

    Returns:
        The largest relative difference between their predictions on the samples.
    """
    phi = features(sample.x, w)
    phi_kernel = features(sample.x, kernel_w)
    gram = phi_kernel @ phi_kernel.T
    y = sample.targets.sum(1)

    gaps = []
    for ridge in RIDGES:
        theta = np.linalg.solve(phi.T @ phi + ridge * np.eye(phi.shape[1]), phi.T @ y)
        dual = gram @ np.linalg.solve(gram + ridge * np.eye(len(y)), y)
        gaps.append(np.linalg.norm(phi @ theta - dual) / np.linalg.norm(dual))
    return float(max(gaps))


def measured(seed: int, shuffled: bool) -> np.ndarray:
    """Measure the errors of both targets at every sample size, `[len(SAMPLES), 2]`."""
    rng = np.random.default_rng(seed)
    test = draw(rng, TEST, shuffled=False)
    means = []
    for n in SAMPLES:
        repeats = [errors(draw(rng, n, shuffled), test) for _ in range(max(1, DRAWS // n))]
        means.append(np.mean(repeats, axis=0))
    return np.array(means)


def values_of(seed: int, staircase: np.ndarray, shuffled: bool) -> dict[str, float]:
    """Collect the measures of real or of shuffled targets."""
    rng = np.random.default_rng([seed, 1])
    test = draw(rng, TEST, shuffled=False)
    train = draw(rng, MANY, shuffled)
    narrow = finite_error(NARROW, train, test, rng)
    wide = finite_error(WIDE, train, test, rng)

    few = staircase[SAMPLES.index(FEW)]
    many = staircase[SAMPLES.index(MANY)]
    formula = np.array([expected(n) for n in SAMPLES])
    return {
        "error of either degree - formula, largest gap over n": float(
            np.abs(staircase - formula).max()
        ),
        "n = d^1.5: error of the quadratic - of the linear target": float(few[1] - few[0]),
        "n = d^2.5: error of the quadratic target": float(many[1]),
        "n = d^2.5: error of the quadratic target, N d = 4 d - N d = 500 d": narrow - wide,
    }


def run(seed: int) -> Outcome:
    """Fit polynomials of degree 1 and 2 with 20 to 1789 samples, and with 4 and 500 neurons."""
    staircase = measured(seed, shuffled=False)
    rng = np.random.default_rng([seed, 2])
    sample = draw(rng, RANK_SAMPLES, shuffled=False)
    w = rng.normal(size=(RANK_NEURONS, D))

    values = values_of(seed, staircase, shuffled=False)
    values["rank of the kernel matrix / N d"] = rank_share(sample.x, w)
    values["ridge path: features against kernel, largest relative gap"] = path_gap(sample, w, w)

    formula = np.array([expected(n) for n in SAMPLES])
    curves = {
        "degree 1": (SAMPLES, staircase[:, 0]),
        "degree 1, formula": (SAMPLES, formula[:, 0]),
        "degree 2": (SAMPLES, staircase[:, 1]),
        "degree 2, formula": (SAMPLES, formula[:, 1]),
    }
    return Outcome(values, curves, x="samples, d = 20", y="test error", log="x")


def control(seed: int) -> dict[str, float]:
    """Measure the same without polynomials, and with a kernel of as many samples as its rank."""
    rng = np.random.default_rng([seed, 2])
    sample = draw(rng, RANK_SAMPLES, shuffled=False)
    w, others = rng.normal(size=(2, RANK_NEURONS, D))

    values = values_of(seed, measured(seed, shuffled=True), shuffled=True)
    many_neurons = features(sample.x, rng.normal(size=(WIDE, D)))
    full_rank = np.linalg.matrix_rank(many_neurons @ many_neurons.T)
    values["rank of the kernel matrix / N d"] = float(full_rank) / w.size
    values["ridge path: features against kernel, largest relative gap"] = path_gap(
        sample, w, others
    )
    return values
