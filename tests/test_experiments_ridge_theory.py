"""The asymptotic formulas of ridge regression, and the kernels they are applied to."""

import numpy as np
import pytest

from rlop.experiments import lazy_interpolant, ridge_theory, tangent_staircase


def test_ridgeless_regression_with_fewer_features_than_samples_has_the_known_variance():
    # p = 50 isotropic features, n = 100, noise 1: p / n / (1 - p / n) = 1.
    error = ridge_theory.ridge_error(np.ones(50), np.zeros(50), 1.0, n=100, ridge=1e-9)
    assert error == pytest.approx(1, rel=1e-6)


def test_ridgeless_regression_with_more_features_than_samples_has_the_known_bias():
    # p = 200, n = 100, |target| = 1, no noise: 1 - n / p = 1/2.
    error = ridge_theory.ridge_error(np.ones(200), np.ones(200) / 200, 0.0, n=100, ridge=0)
    assert error == pytest.approx(0.5, rel=1e-6)


def test_the_formula_of_ridge_regression_agrees_with_simulation():
    rng = np.random.default_rng(0)
    eigenvalues, target = np.linspace(0.2, 2, 100), rng.normal(size=100)
    simulated = []
    for _ in range(20):
        x = rng.normal(size=(150, 100)) * np.sqrt(eigenvalues)
        y = x @ target + rng.normal(size=150)
        found = np.linalg.solve(x.T @ x + 30 * np.eye(100), x.T @ y)
        simulated.append(np.sum(eigenvalues * (found - target) ** 2))

    formula = ridge_theory.ridge_error(eigenvalues, eigenvalues * target**2, 1.0, n=150, ridge=30)
    assert np.mean(simulated) == pytest.approx(formula, rel=0.03)


def test_harmonics_are_counted_as_polynomials():
    assert ridge_theory.spherical_harmonics(3, 5) == pytest.approx([1, 3, 5, 7, 9])
    # In d dimensions the quadratic ones are d (d + 1) / 2 - 1.
    assert ridge_theory.spherical_harmonics(20, 3)[2] == pytest.approx(209)


def test_the_eigenvalue_of_a_linear_kernel_is_1_over_d():
    nodes = np.linspace(-1, 1, 100_001)
    values = ridge_theory.sphere_eigenvalues(nodes, nodes, d=7, degrees=4)
    assert values == pytest.approx([0, 1 / 7, 0, 0], abs=1e-6)


def test_the_infinite_kernel_is_the_mean_over_neurons():
    rng = np.random.default_rng(0)
    x = tangent_staircase.draw(rng, 4, shuffled=False).x
    phi = tangent_staircase.features(x, rng.normal(size=(20_000, tangent_staircase.D)))
    assert phi @ phi.T == pytest.approx(tangent_staircase.kernel(x, x), abs=0.02)


def test_the_sparse_norm_finds_the_one_coefficient_and_interpolates():
    phi = np.random.default_rng(0).normal(size=(10, 40))
    y = 2 * phi[:, 7]
    found = lazy_interpolant.least_norm(phi, y, p=1.05)
    assert phi @ found == pytest.approx(y, abs=1e-6)
    assert found == pytest.approx(2 * np.eye(40)[7], abs=0.05)
    assert np.linalg.norm(found, 1) < np.linalg.norm(lazy_interpolant.least_norm(phi, y, 2), 1)
