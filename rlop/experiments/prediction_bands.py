"""Prediction bands by a semidefinite program cover fresh points and follow the noise.

Row 5: Liang, "Universal Prediction Band via Semi-Definite Programming", arXiv:2103.17203 (J. R.
Stat. Soc. B, 2022). The half-width of the band is the root of a sum of squares that is at least
every squared residual, with the least trace:

    min tr B,   B positive semidefinite,   p(x_i)' B p(x_i) >= (y_i - m(x_i))^2   for all i.

The model m may be given, or be found by the same program as m(x) = q(x)' b. Here p are 4 and q 6
Legendre polynomials on [-1, 1]; the mean is sin(3 x), the standard deviation .1 + .5 |x|, and the
noise uniform, Gaussian or Laplace.

1. Coverage. A convex program with k unknowns and n independent constraints leaves a fresh
   constraint violated with probability k / (n + 1) at most, whatever the law of the data (Campi and
   Garatti, "The exact feasibility of randomized solutions of uncertain convex programs", SIAM J.
   Optim. 19, 2008). With a given model k = 10, without one k = 16, so that the bound is a number.
2. The band follows the noise: correlation of its width with the standard deviation.
3. It is a standard convex program: the multipliers of the constraints certify the optimum, as sum_i
   a_i r_i^2 of any a >= 0 with sum_i a_i p p' <= I is a lower bound for it.

Control: a variance function fitted to the squared residuals by least squares, as heteroskedastic
regression does, so that it does not dominate them; noise of constant size; equal multipliers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rlop.experiments.outcome import Outcome
from rlop.types import InputError

if TYPE_CHECKING:
    import cvxpy

SAMPLES = (50, 100, 200, 400)
N = 200
VARIANCE_TERMS = 4
MEAN_TERMS = 6
UNKNOWNS = VARIANCE_TERMS * (VARIANCE_TERMS + 1) // 2
TOLERANCE = 1e-6
TEST = 4000
DRAWS = 6  # of each law
NOISES = ("uniform", "Gaussian", "Laplace")


class Data(NamedTuple):
    """Points of a regression with noise of varying size."""

    x: np.ndarray  # [n]
    y: np.ndarray  # [n]


class Band(NamedTuple):
    """A band around a mean, in Legendre coefficients."""

    mean: np.ndarray  # [q]
    spread: np.ndarray  # B, [p, p]
    certificate: float  # lower bound for the trace of B by the multipliers, over the trace

    def center(self, x: np.ndarray) -> np.ndarray:
        """Evaluate the mean."""
        return legendre(x, len(self.mean)) @ self.mean

    def half_width(self, x: np.ndarray) -> np.ndarray:
        """Evaluate half the width of the band."""
        p = legendre(x, len(self.spread))
        return np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", p, self.spread, p), 0))

    def coverage(self, data: Data) -> float:
        """Count the share of points in the band."""
        inside = np.abs(data.y - self.center(data.x)) <= self.half_width(data.x)
        return float(inside.mean())


def legendre(x: np.ndarray, terms: int) -> np.ndarray:
    """Evaluate the normalized Legendre polynomials, `[n] -> [n, terms]`."""
    return np.polynomial.legendre.legvander(x, terms - 1) * np.sqrt(2 * np.arange(terms) + 1)


def deviation(x: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the noise where it varies."""
    return 0.1 + 0.5 * np.abs(x)


def draw(rng: np.random.Generator, n: int, noise: str, varies: bool) -> Data:
    """Draw points whose noise has the law `noise` with variance 1, times its size."""
    x = rng.uniform(-1, 1, n)
    samples = {
        "uniform": rng.uniform(-(3**0.5), 3**0.5, n),
        "Gaussian": rng.normal(size=n),
        "Laplace": rng.laplace(scale=0.5**0.5, size=n),
    }
    size = deviation(x) if varies else 0.35
    return Data(x, np.sin(3 * x) + size * samples[noise])


def least_squares(data: Data) -> np.ndarray:
    """Fit the coefficients of the mean, `[q]`."""
    return np.linalg.lstsq(legendre(data.x, MEAN_TERMS), data.y, rcond=None)[0]


def fit_band(data: Data, mean: np.ndarray | None) -> Band:
    """Solve the program.

    Args:
        data: points to cover.
        mean: coefficients of the user's model; None finds them in the same program.
    Raises:
        InputError: when cvxpy is not installed, or finds no solution.
    """
    cp = solver()
    p, q = legendre(data.x, VARIANCE_TERMS), legendre(data.x, MEAN_TERMS)
    spread = cp.Variable((VARIANCE_TERMS, VARIANCE_TERMS), PSD=True)
    unknown = cp.Variable(MEAN_TERMS)
    residual = data.y - q @ (unknown if mean is None else mean)

    covers = cp.sum(cp.multiply(p @ spread, p), axis=1) >= cp.square(residual)
    problem = cp.Problem(cp.Minimize(cp.trace(spread)), [covers])
    tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), TOLERANCE)
    problem.solve(solver=cp.CLARABEL, **tolerances)
    if problem.status != "optimal":
        raise InputError(f"prediction band: solver says {problem.status!r}, expected 'optimal'")

    found = unknown.value if mean is None else mean
    squares = (data.y - q @ found) ** 2
    bound = certificate(p, squares, covers.dual_value)
    return Band(found, spread.value, bound / float(np.trace(spread.value)))


def solver() -> cvxpy:
    """Import cvxpy, an optional package."""
    try:
        import cvxpy as package
    except ImportError as error:
        raise InputError("prediction bands: need cvxpy, pip install 'rlop[bands]'") from error
    return package


def certificate(p: np.ndarray, squares: np.ndarray, multipliers: np.ndarray) -> float:
    """Bound the trace of every band around a given mean from below.

    Args:
        p: terms of the variance, `[n, p]`.
        squares: squared residuals `[n]`.
        multipliers: of the constraints `[n]`, at least 0; scaled to be feasible.
    """
    multipliers = np.maximum(multipliers, 0)
    largest = np.linalg.eigvalsh((p * multipliers[:, None]).T @ p)[-1]
    return float(multipliers @ squares / largest)


def regressed_band(data: Data, mean: np.ndarray) -> Band:
    """Fit the squared residuals by least squares, which does not dominate them."""
    p = legendre(data.x, VARIANCE_TERMS)
    squares = (data.y - legendre(data.x, MEAN_TERMS) @ mean) ** 2
    products = (p[:, :, None] * p[:, None, :]).reshape(len(p), -1)
    spread = np.linalg.lstsq(products, squares, rcond=None)[0]

    bound = certificate(p, squares, np.ones(len(p)))
    spread = spread.reshape(VARIANCE_TERMS, VARIANCE_TERMS)
    return Band(mean, spread, bound / float(np.trace(spread)))


class Averages(NamedTuple):
    """Measures of bands, averaged over laws of the noise and draws."""

    coverage: float
    correlation: float  # of the half-width with the standard deviation where it varies
    certificate: float


def averages(seed: int, n: int, given: bool, varies: bool, regressed: bool) -> Averages:
    """Fit a band to each draw and test it on fresh points.

    Args:
        seed: seed of the data.
        n: number of points to cover.
        given: whether the model comes from other data, or from the program itself.
        varies: whether the size of the noise varies with x.
        regressed: whether least squares stands in for the program.
    """
    rng = np.random.default_rng([seed, n])
    grid = np.linspace(-1, 1, 201)
    rows = []
    for noise in NOISES:
        for _ in range(DRAWS):
            data, other, fresh = (draw(rng, size, noise, varies) for size in (n, n, TEST))
            mean = least_squares(other)
            if regressed:
                band = regressed_band(data, mean)
            else:
                band = fit_band(data, mean if given else None)

            correlation = np.corrcoef(band.half_width(grid), deviation(grid))[0, 1]
            rows.append((band.coverage(fresh), correlation, band.certificate))
    return Averages(*np.mean(rows, axis=0).tolist())


def values_of(given: Averages, joint: Averages, follows: Averages) -> dict[str, float]:
    """Name the measures."""
    return {
        "coverage, given model, n = 200": given.coverage,
        "coverage, model by the program, n = 200": joint.coverage,
        "correlation of the width with the noise, given model": follows.correlation,
        "lower bound by the multipliers / optimum, given model": given.certificate,
    }


def run(seed: int) -> Outcome:
    """Cover 50 to 400 points under three laws of the noise; test on 4000."""
    given = {n: averages(seed, n, given=True, varies=True, regressed=False) for n in SAMPLES}
    joint = averages(seed, N, given=False, varies=True, regressed=False)
    bound = [1 - UNKNOWNS / (n + 1) for n in SAMPLES]
    curves = {
        "coverage, given model": (SAMPLES, [given[n].coverage for n in SAMPLES]),
        "bound, 1 - 10 / (n + 1)": (SAMPLES, bound),
    }
    values = values_of(given[N], joint, given[N])
    return Outcome(values, curves, x="points", y="coverage of fresh points", log="x")


def control(seed: int) -> dict[str, float]:
    """Fit the variance by least squares; cover points whose noise has one size."""
    regressed = averages(seed, N, given=True, varies=True, regressed=True)
    even = averages(seed, N, given=True, varies=False, regressed=False)
    return values_of(regressed, regressed, even)
