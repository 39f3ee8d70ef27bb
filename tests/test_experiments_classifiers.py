"""Perceptron, phase retrieval, random networks and labels by group, against numbers by hand."""

import math

import numpy as np
import pytest
import torch

from rlop.experiments import flip_radius, flip_rate, perceptron, phase_retrieval, random_features


def test_the_bayes_error_falls_like_a_known_constant_over_the_samples():
    # .442 / alpha is the asymptote of the Bayes classifier (Gyorgyi and Tishby, 1990).
    assert 60 * perceptron.bayes_error(60.0) == pytest.approx(0.442, rel=0.03)
    assert perceptron.bayes_error(1e-6) == pytest.approx(0.5, abs=1e-3)


def test_squared_loss_without_ridge_has_the_overlap_of_least_squares():
    # n = 2 d: risk (1 - 2 / pi) (1/2) / (1 - 1/2) = 1 - 2 / pi around sqrt(2 / pi) w, so that
    # |v|^2 = 1 and the cosine is sqrt(2 / pi).
    expected = math.acos(math.sqrt(2 / math.pi)) / math.pi
    assert perceptron.square_error(2.0, 1e-9) == pytest.approx(expected, abs=1e-6)


def test_the_best_ridge_is_best_in_the_formula():
    ridge = perceptron.best_ridge(1.5)
    best = perceptron.square_error(1.5, ridge)
    assert best < perceptron.square_error(1.5, 0.8 * ridge)
    assert best < perceptron.square_error(1.5, 1.2 * ridge)


def test_logistic_regression_ends_where_the_gradient_is_zero():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 50))
    y = np.sign(x[:, 0])
    v = perceptron.fit_logistic(x, y, 0.01)
    share = 1 / (1 + np.exp(y * (x @ v)))
    assert x.T @ (y * share) / 30 == pytest.approx(0.01 * v, abs=1e-6)


def test_the_threshold_is_where_half_of_the_trials_succeed():
    assert phase_retrieval.threshold((1.0, 2.0, 4.0), [0.0, 0.25, 0.75]) == pytest.approx(3)
    assert phase_retrieval.threshold((1.0, 2.0), [0.6, 1.0]) == 1.0
    assert phase_retrieval.threshold((1.0, 2.0), [0.0, 0.2]) == 2.0


def test_the_error_of_a_student_is_the_distance_of_its_matrix():
    problem, _ = phase_retrieval.draw(0, 1, 3.0, 4)
    weights = 2 * problem.w[:, None]  # its matrix is 4 w w'
    assert phase_retrieval.errors(problem, weights).item() == pytest.approx(9, rel=1e-5)
    assert phase_retrieval.descend(problem, -problem.w[:, None], 3) == pytest.approx(
        -problem.w[:, None]
    )


def test_the_parts_of_tanh_add_up_to_its_variance():
    slope, rest = random_features.moments()
    z = np.random.default_rng(0).normal(size=400_000)
    assert slope == pytest.approx(np.mean(z * np.tanh(z)), abs=5e-3)  # E z f(z) = E f'(z)
    assert slope**2 + rest**2 == pytest.approx(np.var(np.tanh(z)), abs=2e-3)


def test_the_rise_of_an_error_is_measured_from_the_least_before():
    found = np.array([[3.0, 1.0], [2.0, 0.5], [5.0, 0.4], [4.0, 0.2]])
    assert random_features.rises(found) == pytest.approx([3.0, 0.0])


def test_the_interpolant_of_clean_labels_finds_the_strong_directions():
    clean = flip_radius.interpolate(weak=2000, noise=0.0, seed=3)
    assert clean.norm == pytest.approx(1, abs=0.1)
    assert flip_radius.interpolate(weak=2000, noise=0.5, seed=3).norm > 2


def test_total_variation_counts_what_differs():
    predicted = torch.tensor([0, 1, 1, 2])
    labels = torch.tensor([1, 0, 1, 3])
    part = torch.tensor([0, 0, 1, 1])
    # The first part holds one 0 and one 1 in both; in the second, 2 stands for 3.
    assert flip_rate.total_variation(predicted, labels, part) == pytest.approx(0.25)


def test_wrong_labels_stay_in_their_class():
    y = torch.arange(10).repeat(200)
    flipped = flip_rate.flip(y, (3, 8), 0.3, seed=0)
    assert (flipped[y != 3] == y[y != 3]).all()
    assert (flipped[y == 3] == 8).float().mean() == pytest.approx(0.3, abs=0.1)
    assert (flip_rate.spread(y, 0.5, seed=0) == y).float().mean() == pytest.approx(0.5, abs=0.05)
