"""Formulas of the experiments on interpolation and its alternatives, by hand or by simulation."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments import (
    basis_pursuit,
    binary_mixture,
    bottleneck,
    early_stopping,
    feature_coupling,
    fourier_features,
    imbalanced_gmm,
    unseen_devices,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


# --- LASSO


@pytest.mark.parametrize(("b", "t", "a"), [(0.0, 1.0, 1.0), (2.0, 0.7, 1.5), (0.3, 2.0, 0.5)])
def test_the_error_of_shrinkage_is_its_mean_over_noise(b, t, a):
    z = normal(1_000_000)
    x = b + t * z
    shrunk = x.sign() * (x.abs() - a * t).clamp_min(0)
    expected = (shrunk - b).square().mean().item()
    assert basis_pursuit.shrunk_square(b, t, a) == pytest.approx(expected, rel=0.01)


def test_without_shrinkage_the_error_is_the_noise():
    assert basis_pursuit.shrunk_square(3.0, 0.5, 0.0) == pytest.approx(0.25)


def test_the_predicted_error_solves_both_equations():
    p, penalty = 200, 1.0
    t = math.sqrt(basis_pursuit.predicted(p, penalty))
    # At this t, the second equation gives the a that the first one needs.
    low, high = 0.0, 20.0
    for _ in range(60):
        a = (low + high) / 2
        share = basis_pursuit.active_share(p, t, a)
        low, high = (a, high) if a * t * (1 - p / 100 * share) < penalty else (low, a)
    excess = p / basis_pursuit.N * basis_pursuit.shrinkage_error(p, t, a)
    assert t**2 == pytest.approx(basis_pursuit.noise_variance(p) + excess, rel=1e-6)


def test_lasso_is_where_its_optimality_conditions_hold():
    x, y, penalty = normal(1, 20, 30) / 20**0.5, normal(1, 20, seed=1), 0.3
    b = basis_pursuit.lasso_path(x, y, penalty, steps=5000)
    slope = (x.mT @ (y - (x @ b[..., None])[..., 0])[..., None])[..., 0]
    assert slope.abs().max() <= penalty + 1e-6
    active = b != 0
    torch.testing.assert_close(slope[active], penalty * b[active].sign(), atol=1e-6, rtol=0)


# --- mixtures


def test_ridge_interpolates_without_penalty_and_averages_with_much():
    x, y, _ = binary_mixture.draw(80, 2.0, 0)
    least = binary_mixture.ridge(x, y, 0.0)
    torch.testing.assert_close((x @ least[..., None])[..., 0], y.expand(len(x), -1))
    much = binary_mixture.ridge(x, y, 1e12)
    average = binary_mixture.ridge(x, y, torch.inf)
    torch.testing.assert_close(F.normalize(much, dim=1), F.normalize(average, dim=1))


def test_the_error_of_a_known_direction_is_a_normal_tail():
    mean = torch.tensor([2.0, 0.0], dtype=torch.float64)
    w = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    assert binary_mixture.error(w, mean) == pytest.approx(0.02275, abs=1e-5)
    variances = torch.tensor([4.0, 1.0], dtype=torch.float64)
    assert binary_mixture.error(w, mean, variances) == pytest.approx(0.15866, abs=1e-5)


def test_descent_on_the_loss_goes_to_the_margins_of_its_scales():
    """Two points: the one of half the scale gets twice the margin."""
    x = torch.eye(2, dtype=torch.float64)[None]
    y = torch.ones(2, dtype=torch.float64)
    half = torch.full((1, 2), 0.5, dtype=torch.float64)
    scale = torch.tensor([[0.5, 1.0]], dtype=torch.float64)
    theta = imbalanced_gmm.descend(
        torch.zeros(1, 2, 1).double(), x, y, half, 0 * half, scale, 20000
    )
    assert (theta[0, 0] / theta[0, 1]).item() == pytest.approx(2, rel=0.02)


def test_the_scale_of_one_feature_does_not_move_the_other_if_they_share_no_example():
    apart = torch.eye(2, dtype=torch.float64)
    z = feature_coupling.response(apart, (1.0, 0.5), decoupled=False)
    # lambda z / s^2 = sigmoid(-z)
    slope = feature_coupling.DECAY * z / torch.tensor([1.0, 0.25]) - (-z).sigmoid()
    assert slope.abs().max() < 1e-12
    decoupled = feature_coupling.response(apart, (1.0, 0.5), decoupled=True)
    assert decoupled[0].item() == pytest.approx(decoupled[1].item())


# --- early stopping


def test_the_excess_risks_of_the_truth_are_0_and_of_a_half_known():
    p = early_stopping.conditional(early_stopping.GRID, 1.0)
    assert early_stopping.excess(p[None], 1.0).abs().max() < 1e-6
    logistic, error, gap = early_stopping.excess(torch.full((1, len(p)), 0.5), 1.0)[:, 0]
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean()
    assert logistic.item() == pytest.approx(math.log(2) - entropy.item(), abs=1e-5)
    assert gap.item() == pytest.approx((p - 0.5).abs().mean().item())
    # A prediction of a half says "no", which is wrong on the half where p is larger.
    assert error.item() == pytest.approx((2 * p - 1).clamp_min(0).mean().item(), abs=1e-6)


def test_the_nearest_neighbors_error_tends_to_its_limit():
    many = early_stopping.nearest(5000, 1, 0).error
    assert many == pytest.approx(early_stopping.neighbor_limit(), rel=0.15)


# --- kernels and features


def test_the_kernels_of_a_wide_layer_are_those_of_many_random_neurons():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    w = rng.normal(size=(400_000, 3)) / 3**0.5
    hidden_a, hidden_b = np.maximum(a @ w.T, 0), np.maximum(b @ w.T, 0)
    covariance, tangent = bottleneck.block(a, b)
    np.testing.assert_allclose(2 * hidden_a @ hidden_b.T / len(w), covariance, rtol=0.03, atol=0.01)
    both = 2 * (hidden_a > 0).astype(float) @ (hidden_b > 0).T / len(w)
    added = both * (a @ b.T) / 3
    np.testing.assert_allclose(tangent - covariance, added, rtol=0.03, atol=0.01)


def test_the_gradient_of_the_tangent_kernel_is_its_difference_quotient():
    rng = np.random.default_rng(1)
    z, centers, weights = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.normal(size=5)
    gradient = bottleneck.block_gradient(z, centers, weights)
    for k in range(4):
        step = np.zeros(4)
        step[k] = 1e-6
        above, below = (bottleneck.block(z + s * step, centers)[1] @ weights for s in (1, -1))
        np.testing.assert_allclose(gradient[:, k], (above - below) / 2e-6, rtol=1e-5, atol=1e-7)


def test_alignment_of_a_representation_with_its_labels_by_hand():
    y = np.array([1.0, 1.0, -1.0, -1.0])
    assert bottleneck.alignment(3 * y[:, None], y) == pytest.approx(1)
    assert bottleneck.alignment(np.array([[1.0], [-1], [1], [-1]]), y) == pytest.approx(0)


def test_lifted_polynomials_are_orthonormal_and_waves_periodic():
    t = torch.linspace(0, 1, 20001, dtype=torch.float64)
    features = fourier_features.polynomials(t, 8, 1.0, Generator())
    gram = torch.trapezoid(features[:, :, None] * features[:, None], t, dim=0)
    torch.testing.assert_close(gram, torch.eye(8, dtype=torch.float64), atol=1e-4, rtol=0)
    ends = fourier_features.fourier(torch.tensor([0.0, 1.0]).double(), 6, 0.1, Generator())
    torch.testing.assert_close(ends[0], ends[1])


def test_an_adversary_finds_the_flip_next_to_a_point():
    f = fourier_features.truth(fourier_features.GRID)[None].clone()
    assert fourier_features.errors(f) == (0, 0)
    f[0, 500] *= -1  # a quarter of the circle, far from the changes of the sign
    standard, adversarial = fourier_features.errors(f)
    assert adversarial == pytest.approx(standard * (2 * fourier_features.REACH + 1))


# --- devices


def test_width_in_groups_keeps_the_count_of_the_hidden_layer():
    narrow, _, equal, _ = map(unseen_devices.build, unseen_devices.NETS_BY_NAME.values())
    assert unseen_devices.counts(narrow)[1] == unseen_devices.counts(equal)[1]


def test_a_device_is_a_gain_for_each_band_and_a_smear_upwards():
    device = unseen_devices.draw_devices(1, Generator().manual_seed(0))[0]
    assert device.triu(1).count_nonzero() == 0
    assert device.tril(-2).count_nonzero() == 0
    assert (device.diagonal() > 0).all()
