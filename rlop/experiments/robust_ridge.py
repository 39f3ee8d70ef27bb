"""Ridge beats interpolation in robust risk although the labels carry no noise.

Reference: Donhauser, Tifrea, Aerni, Heckel, Yang, "Interpolation can hurt robust generalization
even when there is no noise", NeurIPS 2021, arXiv:2108.02883 (at the workshop: "Surprising benefits
of ridge regularization for noiseless regression").

Linear regression with Gaussian inputs and a unit-norm target. The robust risk allows perturbations
of size epsilon that are orthogonal to the target, so that they do not change the label. Measured
at d/n = 2 and 4, epsilon .4, on three random data sets for each seed:

- Robust risk: at the best positive ridge over without one (ridge 1e-7). It is below 1; the control
  has epsilon 0, the standard risk, which is best without ridge. No band depends on how much.
- Robust overfitting, by the same numbers over time: the risk of gradient descent when it has
  converged over that at its best time.
- Standard risk: the same quotient is 1 without noise, as the literature says that the abstract
  starts from. The control has noisy labels, where ridge helps.
- The asymptotic closed form, from the Stieltjes transform of the Marchenko-Pastur law, against the
  risk of the random data, n = 600 and 300: the largest relative gap over the ridges. The control
  compares with the closed form for twice the dimension.
- The risk's own formula against its definition: random inputs and the worst perturbation of each,
  found by projected gradient ascent. The control's perturbations are not orthogonal to the target.
"""

from __future__ import annotations

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Curve, Outcome

EPSILON = 0.4
RIDGES = np.logspace(-7, 2, 181)
TIMES = np.logspace(-2, 5, 141)  # of gradient descent, over its rate
CASES = {2: 600, 4: 300}  # d / n -> n
DRAWS = 3
NOISE = 0.5  # standard deviation of the labels' noise in the control


def robust_risk(estimate: np.ndarray, target: np.ndarray, epsilon: float = EPSILON) -> float:
    """Compute the risk of an estimate under perturbations that do not change the label.

    Args:
        estimate: `[d]`.
        target: `[d]`, of unit norm.
        epsilon: size of the perturbations; 0 gives the standard risk.
    """
    error = float(((estimate - target) ** 2).sum())
    # Squared norm of the part that is orthogonal to the target.
    orthogonal = float((estimate**2).sum() - (estimate @ target) ** 2)
    return _combine(error, max(orthogonal, 0.0), epsilon)


def _combine(error: float, orthogonal: float, epsilon: float) -> float:
    cross = np.sqrt(8 * epsilon**2 / np.pi * orthogonal * error)
    return float(error + cross + epsilon**2 * orthogonal)


def attacked_risk(
    estimate: np.ndarray,
    target: np.ndarray,
    rng: np.random.Generator,
    consistent: bool = True,
    inputs: int = 4000,
    steps: int = 20,
) -> float:
    """Estimate the robust risk from its definition, by attacking random inputs.

    Args:
        estimate: `[d]`.
        target: `[d]`, of unit norm.
        rng: generator of the inputs.
        consistent: whether perturbations keep the label, so that they are orthogonal to `target`.
        inputs: number of them.
        steps: steps of projected gradient ascent on the squared error.
    """
    x = rng.normal(size=(inputs, len(target)))
    error = x @ (estimate - target)
    delta = 1e-3 * rng.normal(size=x.shape)

    for _ in range(steps):
        # Of size epsilon: only the direction of the gradient matters.
        delta = delta + (error + delta @ estimate)[:, None] * estimate
        if consistent:
            delta -= (delta @ target)[:, None] * target
        delta *= EPSILON / np.linalg.norm(delta, axis=1, keepdims=True)
    return float(((error + delta @ estimate) ** 2).mean())


def closed_form(g: float, ridge: float, epsilon: float = EPSILON, noise: float = 0.0) -> float:
    """Compute the robust risk of ridge regression in the limit.

    Args:
        g: d / n.
        ridge: lambda > 0 in mean (y - <theta, x>)^2 + lambda ||theta||^2.
        epsilon: size of the perturbations.
        noise: standard deviation of the labels' noise.
    """
    m, slope = stieltjes(g, ridge)
    bias = ridge**2 * slope
    variance = noise**2 * g * (m - ridge * slope)
    return _combine(bias + variance, bias + variance - ridge**2 * m**2, epsilon)


def interpolation(g: float, epsilon: float = EPSILON) -> float:
    """Compute the robust risk of the minimum-norm interpolator, g > 1, without noise.

    The row space keeps a share 1/g.
    """
    return _combine(1 - 1 / g, (1 - 1 / g) / g, epsilon)


def stieltjes(g: float, ridge: float) -> tuple[float, float]:
    """Return m(-lambda) and m'(-lambda) of the Marchenko-Pastur law.

    They follow from lambda g m^2 + (1 - g + lambda) m = 1.
    """
    half = 1 - g + ridge
    m = (np.sqrt(half**2 + 4 * g * ridge) - half) / (2 * g * ridge)
    return m, (g * m**2 + m) / (2 * ridge * g * m + half)


def estimates(
    n: int, g: int, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit one random data set.

    Returns:
        The ridge estimates `[L, d]`, those of gradient descent from zero `[T, d]`, the target
        `[d]`.
    """
    d = g * n
    target = np.eye(d)[0]
    x = rng.normal(size=(n, d))
    y = x @ target + noise * rng.normal(size=n)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    along = u.T @ y
    by_ridge = (s / (s**2 + n * RIDGES[:, None]) * along) @ vt
    by_time = (-np.expm1(-np.outer(TIMES, s**2 / n)) / s * along) @ vt
    return by_ridge, by_time, target


def measured(seed: int, epsilon: float, noise: float, factor: int) -> tuple[dict, dict]:
    """Measure everything but the definition, with its curves.

    Args:
        seed: seed of the data.
        epsilon: size of the perturbations in the robust risk.
        noise: standard deviation of the noise on the labels that the standard risk is measured on.
        factor: how many times the closed form's d / n is that of the data.
    """
    values: dict[str, float] = {}
    curves: dict[str, Curve] = {}
    for g, n in CASES.items():
        robust, times, standard = [], [], []
        for child in child_seeds(seed, DRAWS):
            rng = np.random.default_rng(child)
            by_ridge, by_time, target = estimates(n, g, 0.0, rng)
            robust.append([robust_risk(w, target, epsilon) for w in by_ridge])
            times.append([robust_risk(w, target, epsilon) for w in by_time])
            if noise:
                by_ridge, _, target = estimates(n, g, noise, rng)
            standard.append([robust_risk(w, target, 0.0) for w in by_ridge])

        by_lambda, by_time, plain = (np.mean(risks, 0) for risks in (robust, times, standard))
        theory = np.array([closed_form(factor * g, ridge, epsilon) for ridge in RIDGES])
        values[f"d/n {g}: robust risk, best ridge / none"] = by_lambda.min() / by_lambda[0]
        values[f"d/n {g}: robust risk, best time / converged"] = by_time.min() / by_time[-1]
        values[f"d/n {g}: standard risk, best ridge / none"] = plain.min() / plain[0]
        values[f"d/n {g}: largest gap to the closed form"] = np.abs(by_lambda / theory - 1).max()
        curves[f"d/n {g}, closed form"] = (RIDGES, theory)
        curves[f"d/n {g}, n = {n}"] = (RIDGES, by_lambda)
    return values, curves


def definition(seed: int, consistent: bool) -> dict[str, float]:
    """Compare the formula of the risk with its definition, for an interpolator at d/n = 2."""
    rng = np.random.default_rng(child_seeds(seed, DRAWS + 1)[-1])
    by_ridge, _, target = estimates(100, 2, 0.0, rng)
    ratio = attacked_risk(by_ridge[0], target, rng, consistent) / robust_risk(by_ridge[0], target)
    return {"risk by attacks / by formula": ratio}


def run(seed: int) -> Outcome:
    """Measure robust and standard risks of noiseless data, the closed form and the formula."""
    values, curves = measured(seed, EPSILON, 0.0, 1)
    values |= definition(seed, consistent=True)
    return Outcome(values, curves, x="ridge lambda", y="robust risk", log="x")


def control(seed: int) -> dict[str, float]:
    """Measure without attacks, with noise, against another dimension, and inconsistent attacks."""
    values, _ = measured(seed, 0.0, NOISE, 2)
    return values | definition(seed, consistent=False)
