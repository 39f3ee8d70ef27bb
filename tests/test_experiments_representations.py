"""Formulas of the experiments on what networks represent, by hand or by a second way."""

import math

import numpy as np
import pytest
import torch
from torch import Generator

from rlop.experiments import (
    class_variance,
    contrastive,
    decay_rank,
    greedy_rank,
    implicit_rank,
    polynomial_ridge,
    siblings,
)
from rlop.experiments.fit import network, weight_matrices
from rlop.nets import masks
from rlop.probes.kernel import predicted_risk, signal_capture_threshold


def test_the_mean_distance_within_a_class_by_hand():
    """Points 0, 3, 4 of a line are 3, 4 and 1 apart; in the other run twice as far."""
    y = torch.arange(10).repeat_interleave(3)
    features = torch.tensor([0.0, 3.0, 4.0]).repeat(10)[None, :, None]
    distances = class_variance.class_distances(torch.cat([features, 2 * features]), y)
    assert distances[0].tolist() == pytest.approx([8 / 3] * 10)
    assert distances[1].tolist() == pytest.approx([16 / 3] * 10)


def test_combined_masks_have_the_density_that_was_asked_for():
    weights = {"a": torch.randn(4, 20, 30, generator=Generator().manual_seed(0))}
    joint = siblings.combined(weights, 4, masks.union)
    common = siblings.combined(weights, 4, masks.intersection)
    for result in (joint, common):
        assert masks.density(result).item() == pytest.approx(siblings.FINAL_DENSITY, abs=0.005)
    # A weight that all four runs prune is in no union, one that all keep in every intersection.
    smallest = weights["a"].abs().amax(0).flatten().argmin()
    largest = weights["a"].abs().amin(0).flatten().argmax()
    assert not joint["a"].flatten()[smallest]
    assert common["a"].flatten()[largest]


def test_the_overlap_of_equal_and_of_disjoint_runs_by_hand():
    size = torch.arange(10.0).view(1, 2, 5)
    assert siblings.overlap({"w": torch.cat([size, -size])}) == pytest.approx(1)
    assert siblings.overlap({"w": torch.cat([size, size.flip(1, 2)])}) == pytest.approx(0)


def test_the_contrastive_loss_by_hand():
    """Two objects, all views but one equal.

    The codes are e1, e1 and e1, e2: for three views one of three others, or all, are as near as the
    partner.
    """
    a, b = torch.eye(2)[[0, 0]][None], torch.eye(2)[[0, 1]][None]
    near = math.exp(1 / contrastive.TEMPERATURE)
    # First view of the first object: partner e1, others e1 and e2; and so on.
    losses = [
        math.log((2 * near + 1) / near),
        math.log(2 * near + 1),
        math.log((2 * near + 1) / near),
        math.log(3),
    ]
    assert contrastive.nt_xent(a, b).item() == pytest.approx(sum(losses) / 4, rel=1e-5)


def test_an_object_whose_views_lie_apart_is_missed():
    codes = torch.eye(3)[None]
    turned = codes[:, [1, 0, 2]]
    missed = contrastive.missed(torch.nn.Identity(), [codes, turned], None)
    assert missed.tolist() == [[1, 1, 0]]
    labels = torch.tensor([0, 1, 0])
    missed = contrastive.missed(torch.nn.Identity(), [codes, turned], labels)
    assert missed.tolist() == [[0.5, 0.5, 1]]


def test_the_distance_of_distributions_by_hand():
    assert contrastive.distance(torch.tensor([0.0, 1]), torch.tensor([0.0, 1])) == 0
    assert contrastive.distance(torch.tensor([0.0, 1]), torch.tensor([2.0, 3])) == 1
    assert contrastive.distance(torch.tensor([0.0, 2]), torch.tensor([1.0, 3])) == 0.5


def test_no_augmentation_changes_nothing_and_a_shift_moves_pixels():
    images = torch.rand(3, 8, 8, generator=Generator().manual_seed(0))
    zero = torch.zeros(3, 1, 1)
    torch.testing.assert_close(contrastive.moved(images, zero, zero + 1, zero, zero), images)
    shifted = contrastive.moved(images, zero, zero + 1, zero + 1, zero)
    torch.testing.assert_close(shifted[:, :, :-1], images[:, :, 1:])
    quarter = contrastive.moved(images, zero + math.pi / 2, zero + 1, zero, zero)
    torch.testing.assert_close(quarter, images.rot90(1, (1, 2)), atol=1e-5, rtol=0)


def test_the_threshold_solves_its_equation_and_meets_the_library():
    for gamma in (0.3, 1.0, 3.0):
        for ridge in (0.01, 0.5):
            t = polynomial_ridge.threshold(gamma, ridge)
            assert t == pytest.approx(ridge + gamma * t / (1 + t))
            ones = torch.ones(round(100 * gamma))
            assert t == pytest.approx(signal_capture_threshold(ones, 100, ridge).item())


def test_the_coefficients_of_the_absolute_value_by_hand():
    """1/2 for the constant; for degree 2 sqrt(5) times the integral of x (3 x^2 - 1) / 2."""
    c = polynomial_ridge.coefficients(200)
    assert c[:4].tolist() == pytest.approx([1 / 2, 0, 5**0.5 / 8, 0])
    assert (c**2).sum() == pytest.approx(1 / 3, abs=1e-6)  # the mean of x^2


def test_the_predicted_risk_is_that_of_the_library():
    size, ridge = 50, 0.1
    c = torch.from_numpy(polynomial_ridge.coefficients(2 * max(polynomial_ridge.SIZES)))
    noise = (polynomial_ridge.NOISE**2 + c[size:].square().sum()).item() ** 0.5
    expected = predicted_risk(torch.ones(size), c[:size], polynomial_ridge.N, ridge, noise)
    assert polynomial_ridge.closed_form(size, ridge)[1] == pytest.approx(expected.item())


def test_a_classifier_of_separated_codes_is_right():
    y = torch.arange(10).repeat(4)
    codes = torch.eye(10)[y][None]
    assert implicit_rank.classified(codes, y, codes, y) == 1


def test_the_slopes_of_a_linear_autoencoder_are_those_of_its_loss():
    rng = np.random.default_rng(0)
    matrices = [rng.normal(size=(3, 3)) for _ in range(3)]
    variances = np.array([1.0, 0.5, 0.1])
    parts = [torch.tensor(w, requires_grad=True) for w in matrices]
    error = parts[2] @ parts[1] @ parts[0] - torch.eye(3, dtype=torch.float64)
    loss = (error.square() * torch.from_numpy(variances)).sum() / 2
    expected = torch.autograd.grad(loss, parts)
    for slope, other in zip(greedy_rank.slopes(matrices, variances), expected):
        np.testing.assert_allclose(slope, other.numpy(), atol=1e-12)


def test_the_rank_of_a_code_counts_its_large_directions():
    deviations = np.array([1.0, 0.5, 0.05])
    assert greedy_rank.code_rank([np.eye(3)], deviations) == 2
    assert greedy_rank.code_rank([np.diag([1.0, 0.1, 1.0])], deviations) == 1


def test_a_balanced_product_of_one_matrix_moves_at_speed_1():
    assert greedy_rank.adjustment(1) == 1
    assert greedy_rank.adjustment(2) == pytest.approx(2 * greedy_rank.REFERENCE)


def test_active_neurons_by_hand():
    """A neuron whose outgoing weights are 0 is not active."""
    net = network([0], 2, (2, 2), 1)
    weights = list(weight_matrices(net).values())
    with torch.no_grad():
        for weight in weights:
            weight.fill_(1.0)
        weights[1][:, :, 0] = 0.0
    assert decay_rank.active_share(net).tolist() == [0.75]
